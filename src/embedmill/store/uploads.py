"""Multipart uploads on S3 that nobody completed or aborted: found and aborted, which obstore cannot.

Embedmill's own objects are single PUTs (decision 0008). Only a copy within the bucket is a multipart upload,
of one part; one whose process dies in between stays for ever, costs what its part costs, and no listing of
objects shows it.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html, `API_ListParts` and
`API_AbortMultipartUpload` say what is asked and answered. Ages are told by the service's own clock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from embedmill.errors import StoreDenied, StoreError
from embedmill.store.base import Leftovers
from embedmill.store.s3_requests import Answer, S3Requests

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from embedmill.store.cloud_config import Place

PAGE = 1_000
GONE = {"NoSuchUpload", "NoSuchKey"}
NOT_OFFERED = {405, 501}
PERMISSIONS = {
    "list": "s3:ListBucketMultipartUploads on the bucket",
    "parts": "s3:ListMultipartUploadParts on the objects",
    "abort": "s3:AbortMultipartUpload on the objects",
}


@dataclass(frozen=True)
class Upload:
    """An upload to the object `path` of the bucket, and how old it was when it was listed."""

    path: str
    upload_id: str
    age_s: float


class Uploads:
    """The unfinished uploads below a place in a bucket, and no others."""

    def __init__(self, place: Place, timeout_s: float, *, page: int = PAGE) -> None:
        """Ask nothing yet; `page` is how many an answer may list.

        Raises:
            SpecError: The environment names an endpoint or a profile that cannot be used.
            StoreDenied: Its credentials are none that requests can be signed with here.
        """
        self._place, self._page = place, page
        self._below = f"{place.prefix}/" if place.prefix else ""
        self._requests = S3Requests(place, timeout_s)

    def sweep(self, older_than_s: float, *, dry_run: bool) -> Leftovers:
        """Abort those that began, and got their last part, longer ago than that; `dry_run` only counts.

        Raises:
            StoreDenied: The identity may not do this; the hint names the permission.
            StoreUnavailable: There was no answer. What was aborted is right; the rest is for the next call.
            StoreError: The service does not know of such uploads.
        """
        objects = size_bytes = 0
        for upload in [each for each in self.listed() if each.age_s >= older_than_s]:
            size = self._idle_bytes(upload, older_than_s)
            if size is not None and (dry_run or self._abort(upload)):
                objects, size_bytes = objects + 1, size_bytes + size
        return Leftovers(objects, size_bytes)

    def listed(self) -> Iterator[Upload]:
        """All uploads below the place, page by page."""
        markers: dict[str, str] = {}
        while True:
            query = {"uploads": "", "prefix": self._below, "max-uploads": str(self._page), **markers}
            answer = self._asked("GET", "", query, "list")
            page = answer.document()
            for each in page.iterfind("{*}Upload"):
                # A service that does not know prefixes must not cost others their uploads.
                if _text(each, "Key").startswith(self._below):
                    age_s = _age_s(answer, each, "Initiated")
                    yield Upload(_text(each, "Key"), _text(each, "UploadId"), age_s)
            following = {
                "key-marker": _text(page, "NextKeyMarker"),
                "upload-id-marker": _text(page, "NextUploadIdMarker"),
            }
            if _text(page, "IsTruncated").lower() != "true" or following == markers:
                return
            markers = following

    def _idle_bytes(self, upload: Upload, older_than_s: float) -> int | None:
        """Bytes of its parts; None if the newest is too young, or the upload has ended."""
        size, marker = 0, ""
        while True:
            query = {"uploadId": upload.upload_id, **({"part-number-marker": marker} if marker else {})}
            answer = self._asked("GET", upload.path, query, "parts")
            if answer.code in GONE:
                return None
            page = answer.document()
            for part in page.iterfind("{*}Part"):
                if _age_s(answer, part, "LastModified") < older_than_s:
                    return None
                size += int(_text(part, "Size") or 0)
            following = _text(page, "NextPartNumberMarker")
            if _text(page, "IsTruncated").lower() != "true" or following == marker:
                return size
            marker = following

    def _abort(self, upload: Upload) -> bool:
        """Whether it was there to be aborted."""
        answer = self._asked("DELETE", upload.path, {"uploadId": upload.upload_id}, "abort")
        return answer.code not in GONE

    def _asked(self, method: str, path: str, query: Mapping[str, str], what: str) -> Answer:
        """The answer, if it is a good one or says that the upload is gone."""
        about = f"unfinished uploads in {self._place.url}"
        answer = self._requests.ask(method, path, query, about)
        if answer.status < 300 or (what != "list" and answer.code in GONE):
            return answer
        if answer.status in NOT_OFFERED:
            raise StoreError(f"{about}: the service does not tell of them ({answer.said})")
        error = self._requests.error(answer, about)
        if isinstance(error, StoreDenied) and answer.code in {"", "AccessDenied"}:
            raise StoreDenied(error.message, hint=f"the identity needs {PERMISSIONS[what]}")
        raise error


def _text(element: Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""


def _age_s(answer: Answer, element: Element, name: str) -> float:
    """Seconds since the time that an element has, when the service answered."""
    with contextlib.suppress(ValueError, TypeError):  # TypeError: one of them has no time zone
        then = datetime.fromisoformat(_text(element, name).replace("Z", "+00:00"))
        return (answer.date() - then).total_seconds()
    raise StoreError("unfinished uploads: the service gave a time that cannot be read")
