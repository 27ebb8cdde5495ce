"""An API server over HTTP on 127.0.0.1, with the four requests that the engine makes, in front of a cluster.

Answers are as kubernetes.io, "Kubernetes API Concepts" and API conventions say: a Status object with `reason`
for errors, `limit` and `continue` for lists in pages, 410 Expired for a page of a list that is too old. What
is created is checked by the schemas of Kubernetes, without a field that is unknown. Requests for anything
else are refused, and remembered: tests see that there were none.
"""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate
import yaml
from tests.support.kubernetes_cluster import Cluster, Document

TOKEN = "token-of-this-test"  # noqa: S105 - nobody else's
NAMESPACE = "embeddings"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Trouble:
    """What befalls a request instead of an answer: a status, or a connection that is cut.

    `about` is in its path. `done`: what was asked is done all the same. `reason` is the Status's.
    """

    method: str
    status: int | None = None
    reason: str = ""
    about: str = ""
    done: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class ApiServer:
    """`troubles` are taken one for each request that they fit; `page` is the size of pages, at most."""

    cluster: Cluster
    troubles: list[Trouble] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    page: int = 1000
    token: str = TOKEN
    deaf: bool = False
    _server: http.server.ThreadingHTTPServer | None = None

    def __enter__(self) -> ApiServer:
        api = self

        class Handler(_Handler):
            server_api = api

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def kubeconfig(self, file: Path) -> Path:
        """A file that `KUBECONFIG` may name."""
        context = {"cluster": "here", "user": "me", "namespace": NAMESPACE}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": TOKEN}}],
            "contexts": [{"name": "here", "context": context}],
        }
        file.write_text(yaml.safe_dump(document))
        return file

    def trouble_of(self, method: str, path: str) -> Trouble | None:
        for each in self.troubles:
            if each.method == method and each.about in path:
                self.troubles.remove(each)
                return each
        return None

    def answer(
        self, method: str, path: str, query: Mapping[str, list[str]], body: Document
    ) -> tuple[int, Document]:
        with self.cluster.lock:
            if method == "POST" and path == JOBS:
                return self._create(body)
            if method == "DELETE" and path.startswith(f"{JOBS}/"):
                return self._delete(path.removeprefix(f"{JOBS}/"), query)
            if method == "GET" and path == JOBS:
                return self._list(list(self.cluster.jobs.values()), query)
            if method == "GET" and path == PODS:
                for pod in self.cluster.pods.values():
                    pod.listed = pod.has_ended
                return self._list([pod.document for pod in self.cluster.pods.values()], query)
        self.strange.append(f"{method} {path}")
        return status(404, "NotFound", f"{path} is nothing that the engine should ask")

    def _create(self, job: Document) -> tuple[int, Document]:
        name = job["metadata"]["name"]
        try:
            kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            return status(422, "Invalid", str(error))
        if not NAME.fullmatch(f"{name}-{job['spec']['completions']}"):
            return status(422, "Invalid", f"metadata.name: Invalid value: {name!r}")
        if name in self.cluster.jobs:
            return status(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
        self.cluster.create(job)
        return 201, job

    def _delete(self, name: str, query: Mapping[str, list[str]]) -> tuple[int, Document]:
        if name not in self.cluster.jobs:
            return status(404, "NotFound", f'jobs.batch "{name}" not found')
        if query.get("propagationPolicy") != ["Foreground"]:
            return status(400, "BadRequest", "pods would be left")
        self.cluster.delete(name)
        return 200, {"kind": "Status", "status": "Success"}

    def _list(self, documents: list[Document], query: Mapping[str, list[str]]) -> tuple[int, Document]:
        key, _, value = query["labelSelector"][0].partition("=")
        fitting = [each for each in documents if each["metadata"].get("labels", {}).get(key) == value]
        first = int(query.get("continue", ["0"])[0])
        limit = min(self.page, int(query["limit"][0])) if "limit" in query else len(fitting)
        items = fitting[first : first + limit]
        more = {"continue": str(first + limit)} if first + limit < len(fitting) else {}
        return 200, {"kind": "List", "metadata": {"resourceVersion": "1", **more}, "items": items}


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request; the body of an answer is whole, or the connection is cut."""

    server_api: ApiServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class has it
        """Say nothing."""

    def _answer(self, method: str) -> None:
        api, parts = self.server_api, urlsplit(self.path)
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        query = parse_qs(parts.query)
        api.asked.append((method, self.path))
        trouble = Trouble(method) if api.deaf else api.trouble_of(method, self.path)
        if self.headers.get("Authorization") != f"Bearer {api.token}":
            self._say(*status(401, "Unauthorized", "Unauthorized"))
        elif trouble is None:
            self._say(*api.answer(method, parts.path, query, body))
        else:
            if trouble.done:
                api.answer(method, parts.path, query, body)
            if trouble.status is None:
                self.close_connection = True
                self.connection.close()
            else:
                self._say(*status(trouble.status, trouble.reason, "trouble"), headers=trouble.headers)

    def _say(self, code: int, document: Document, headers: Mapping[str, str] | None = None) -> None:
        with self.server_api.cluster.lock:
            body = json.dumps(document).encode()
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def status(code: int, reason: str, message: str) -> tuple[int, Document]:
    """A Status object, as every error has."""
    return code, {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
