"""Asks a Jenkins over its REST API: starts builds, waits for them, says what became of them, ends them.

    https://www.jenkins.io/doc/book/using/remote-access-api/
    https://www.jenkins.io/doc/book/using/aborting-a-build/

POST job/…/buildWithParameters ─▶ 201, Location: queue/item/N ─▶ executable.number ─▶ job/…/NUMBER/api/json

A crumb is asked for before each POST and kept with its session, as controllers want that do not exempt API
tokens. Answers that lead elsewhere are not followed: the token goes to one server.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from embedmill.errors import JenkinsError, JenkinsGone, JenkinsUnavailable, SpecError
from embedmill.spec.jenkins import JenkinsBuild

ANSWER_BYTES = 1 << 22
TIMEOUT_S = 30.0
POLL_S = 1.0
TREE = "number,url,building,result,duration"
BUILDS = "number,queueId,building,result,description,actions[parameters[name,value]]"
ITEMS = "items[id,why,task[url],actions[parameters[name,value]]]"
DONE = frozenset({200, 201, 204, 302, 303, 404})
"""Answers to a request to end something: done, or it is not there any more. Which it is, a look will tell."""
ITEM = re.compile(r"/queue/item/(\d+)/?$")
LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    location: str

    def json(self, what: str) -> dict[str, Any]:
        try:
            found = json.loads(self.body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise JenkinsError(f"{what}: the answer is no JSON object", hint="is the url that of a Jenkins?")
        return found


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass
class Jenkins:
    """One controller and one job; `user` and `token` may be empty where anybody may ask."""

    url: str
    job: str
    user: str = ""
    token: str = field(default="", repr=False)
    timeout_s: float = TIMEOUT_S

    def __post_init__(self) -> None:
        """Open nothing yet.

        Raises:
            SpecError: The URL is none, or would show the token to whoever listens.
        """
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
            raise SpecError(
                f"url {self.url!r}: is no URL of a Jenkins", hint="such as https://ci.example.org"
            )
        if self.token and parts.scheme == "http" and parts.hostname not in LOCAL:
            raise SpecError(f"url {self.url}: a token would be readable on its way", hint="use https")
        self._base = self.url.rstrip("/")
        cookies = CookieJar(DefaultCookiePolicy(rfc2965=False))
        self._opener = urllib.request.build_opener(_NoRedirects, urllib.request.HTTPCookieProcessor(cookies))

    def trigger(self, parameters: Mapping[str, str]) -> int:
        """Ask for a build; the number of its item in the queue.

        Raises:
            JenkinsError: It is refused.
            JenkinsUnavailable: There is no answer. The build may have been queued.
        """
        answer = self._post("buildWithParameters" if parameters else "build", parameters)
        if answer.status == http.client.BAD_REQUEST and not parameters:  # it has parameters: their defaults
            answer = self._post("buildWithParameters", {})
        found = ITEM.search(urlsplit(answer.location).path)
        if answer.status != http.client.CREATED or found is None:
            raise self._refused("a build", answer)
        return int(found[1])

    def queued(self, item: int) -> JenkinsBuild:
        """What became of an item of the queue: a build with a number, or still none.

        Raises:
            JenkinsGone: It was cancelled, or is not known any more.
            JenkinsError: It may not be seen.
        """
        answer = self._get(f"queue/item/{item}/api/json")
        if answer.status != http.client.OK:
            raise self._refused(f"queue item {item}", answer)
        found = answer.json(f"queue item {item}")
        if found.get("cancelled"):
            raise JenkinsGone(f"{self.job}: the build was cancelled while it was queued")
        number = (found.get("executable") or {}).get("number")
        if number is None:
            return JenkinsBuild(
                job=self.job,
                number=None,
                state="queued",
                url=f"{self._base}/queue/item/{item}/",
                why=str(found.get("why") or ""),
            )
        return self.build(int(number))

    def build(self, number: int | None = None) -> JenkinsBuild:
        """A build by its number, or the last one.

        Raises:
            JenkinsGone: There is none.
            JenkinsError: It may not be seen.
        """
        which = "lastBuild" if number is None else str(number)
        answer = self._get(f"{self._path()}/{which}/api/json?tree={TREE}")
        if answer.status != http.client.OK:
            raise self._refused(f"build {which}", answer)
        found = answer.json(f"build {which}")
        running = bool(found.get("building"))
        return JenkinsBuild(
            job=self.job,
            number=int(found["number"]),
            state="running" if running else str(found.get("result") or "unknown").lower(),
            url=str(found.get("url") or ""),
            seconds=None if running else int(found.get("duration") or 0) / 1000,
        )

    def wait(self, item: int, *, ended: bool, timeout_s: float) -> JenkinsBuild:
        """Wait until an item of the queue is a build, or until that has ended.

        Raises:
            JenkinsUnavailable: It takes longer.
        """
        deadline = time.monotonic() + timeout_s
        found = self.queued(item)
        while found.number is None or (ended and found.state == "running"):
            if time.monotonic() > deadline:
                said = f"is {found.state}{': ' if found.why else ''}{found.why}"
                raise JenkinsUnavailable(f"{self.job}: after {timeout_s:.0f} s it {said}", hint=found.url)
            time.sleep(POLL_S)
            found = self.queued(item) if found.number is None else self.build(found.number)
        return found

    def builds(self, most: int) -> list[dict[str, Any]]:
        """The newest builds of the job, the newest first, with their parameters: see BUILDS.

        Raises:
            JenkinsError: There is no such job.
        """
        tree = quote(f"allBuilds[{BUILDS}]{{0,{most}}}", safe=",")
        answer = self._get(f"{self._path()}/api/json?tree={tree}")
        if answer.status != http.client.OK:
            raise self._refused("its builds", answer)
        return _listed(answer.json("the job's builds").get("allBuilds"))

    def items(self) -> list[dict[str, Any]]:
        """What of the job waits in the queue, with its parameters: see ITEMS.

        Raises:
            JenkinsError: It may not be seen.
        """
        answer = self._get(f"queue/api/json?tree={quote(ITEMS, safe=',')}")
        if answer.status != http.client.OK:
            raise self._refused("the queue", answer)
        found = _listed(answer.json("the queue").get("items"))
        ours = f"/{self._path()}"
        return [each for each in found if _task_path(each).endswith(ours)]

    def stop(self, number: int, *, hard: bool = False) -> None:
        """Ask a build to end, or end it without asking it.

        Raises:
            JenkinsError: It is refused.
        """
        self._end(f"{self._path()}/{number}/{'kill' if hard else 'stop'}", f"the end of build {number}")

    def cancel(self, item: int) -> None:
        """Take an item out of the queue.

        Raises:
            JenkinsError: It is refused.
        """
        self._end(f"queue/cancelItem?id={item}", f"the end of queue item {item}")

    def _end(self, path: str, what: str) -> None:
        answer = self._ask(path, data=b"", headers=self._crumb())
        if answer.status not in DONE:
            raise self._refused(what, answer)

    def _path(self) -> str:
        """`team/nightly` is a job in a folder."""
        return "/".join(f"job/{quote(part, safe='')}" for part in self.job.strip("/").split("/"))

    def _post(self, action: str, parameters: Mapping[str, str]) -> _Answer:
        data = urlencode(parameters).encode()
        return self._ask(f"{self._path()}/{action}", data=data, headers=self._crumb())

    def _crumb(self) -> dict[str, str]:
        """Against requests that somebody else's page makes; without one where the controller has none."""
        answer = self._get("crumbIssuer/api/json")
        if answer.status == http.client.NOT_FOUND:
            return {}
        if answer.status != http.client.OK:
            raise self._refused("a crumb", answer)
        found = answer.json("the crumb")
        return {str(found.get("crumbRequestField")): str(found.get("crumb"))}

    def _get(self, path: str) -> _Answer:
        return self._ask(path)

    def _ask(self, path: str, data: bytes | None = None, headers: Mapping[str, str] = {}) -> _Answer:
        request = urllib.request.Request(f"{self._base}/{path}", data, dict(headers))  # noqa: S310 - http(s)
        if self.token:
            pair = base64.b64encode(f"{self.user}:{self.token}".encode()).decode()
            request.add_header("Authorization", f"Basic {pair}")
        try:
            with self._opener.open(request, timeout=self.timeout_s) as answer:
                return _answer(answer)
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise JenkinsUnavailable(f"{self._base}: gives no answer: {reason}") from None

    def _refused(self, what: str, answer: _Answer) -> JenkinsError:
        hints = {
            401: "are the user and the token right?",
            403: "may the user do this, and is the token of that user?",
            404: "is there such a job, and may the user see it?",
        }
        if answer.status >= http.client.INTERNAL_SERVER_ERROR:
            return JenkinsUnavailable(f"{self.job}: {what}: Jenkins answers {answer.status}")
        kind = JenkinsGone if answer.status == http.client.NOT_FOUND else JenkinsError
        return kind(f"{self.job}: {what}: Jenkins answers {answer.status}", hint=hints.get(answer.status, ""))


def open_jenkins(url: str, job: str, user: str, token_file: Path | None) -> Jenkins:
    """A controller, with the user's API token out of a file where one is given.

    Raises:
        SpecError: The file cannot be read, or lacks a token; or see `Jenkins`.
    """
    if token_file is None:
        return Jenkins(url, job, user)
    try:
        token = token_file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"token file {token_file}: cannot be read: {error}") from None
    if not token or not user:
        raise SpecError(f"token file {token_file}: a token needs a user, and the file a token")
    return Jenkins(url, job, user, token)


def _listed(found: Any) -> list[dict[str, Any]]:
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _task_path(item: Mapping[str, Any]) -> str:
    """The path of the job that an item of the queue is of; a proxy may give it another root than ours."""
    return urlsplit(str((item.get("task") or {}).get("url") or "")).path.rstrip("/")


def _answer(answer: Any) -> _Answer:
    return _Answer(answer.status, answer.read(ANSWER_BYTES), answer.headers.get("Location") or "")
