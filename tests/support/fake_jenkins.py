"""A Jenkins that answers as its documentation says: crumbs of a session, a queue, builds. HTTP on 127.0.0.1.

    with FakeJenkins(job="team/nightly", user="me", token="t") as jenkins:
        jenkins.url, jenkins.asked

https://www.jenkins.io/doc/book/using/remote-access-api/ and
https://www.jenkins.io/doc/book/security/csrf-protection/: a crumb is good for the session that asked for it.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

Answer: TypeAlias = tuple[int, dict[str, str], dict[str, Any] | None]
"""A status, headers and a document."""


@dataclass
class FakeJenkins:
    """`looks`: how often a build is looked at in the queue, and then while it runs, until it goes on.

    `status`: what everything is answered with; `lost_answers`: so many requests are done, and not answered.
    """

    job: str = "nightly"
    user: str = ""
    token: str = ""
    parameters: bool = True
    crumbs: bool = True
    looks: int = 1
    result: str = "SUCCESS"
    cancelled: bool = False
    status: int = 0
    lost_answers: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    given: list[dict[str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._sessions: dict[str, str] = {}
        self._looked = [0, 0]
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(120)
        assert not self._thread.is_alive()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/ci"

    def answer(self, method: str, path: str, headers: Any, body: str) -> Answer:
        self.asked.append((method, path))
        if self.status:
            return self.status, {}, None
        if self.token and headers.get("Authorization") != f"Basic {self._pair()}":
            return 401, {}, None
        parts = urlsplit(path)
        job = "/ci/" + "/".join(f"job/{part}" for part in self.job.split("/"))
        where = unquote(parts.path)
        if method == "POST":
            return self._post(where, job, headers, body)
        if where == "/ci/crumbIssuer/api/json":
            return self._crumb()
        return self._tell(where, job)

    def _tell(self, where: str, job: str) -> Answer:
        if where == "/ci/queue/item/7/api/json":
            return 200, {}, self._queued()
        if where in {f"{job}/41/api/json", f"{job}/lastBuild/api/json"}:
            return 200, {}, self._build()
        return 404, {}, None

    def _post(self, where: str, job: str, headers: Any, body: str) -> Answer:
        session = (headers.get("Cookie") or "").partition("=")[2]
        if self.crumbs and headers.get("Jenkins-Crumb") != self._sessions.get(session, "none"):
            return 403, {}, None
        return self._act(where, job, body)

    def _act(self, where: str, job: str, body: str) -> Answer:
        if where not in {f"{job}/build", f"{job}/buildWithParameters"}:
            return 404, {}, None
        if where.endswith("WithParameters") != self.parameters:
            return (400 if self.parameters else 500), {}, None
        self.given.append({name: values[0] for name, values in parse_qs(body).items()})
        return 201, {"Location": f"{self.url}/queue/item/7/"}, None

    def _crumb(self) -> Answer:
        if not self.crumbs:
            return 404, {}, None
        session, crumb = secrets.token_hex(8), secrets.token_hex(16)
        self._sessions[session] = crumb
        cookie = {"Set-Cookie": f"JSESSIONID.1={session}; Path=/ci; HttpOnly"}
        return 200, cookie, {"crumb": crumb, "crumbRequestField": "Jenkins-Crumb"}

    def _queued(self) -> dict[str, Any]:
        self._looked[0] += 1
        if self.cancelled:
            return {"cancelled": True, "why": None}
        if self._looked[0] <= self.looks:
            return {"why": "Waiting for next available executor", "cancelled": False}
        return {"executable": {"number": 41, "url": f"{self.url}/job/x/41/"}, "why": None}

    def _build(self) -> dict[str, Any]:
        self._looked[1] += 1
        building = self._looked[1] <= self.looks
        result = None if building else self.result
        return {
            "number": 41,
            "url": f"{self.url}/41/",
            "building": building,
            "result": result,
            "duration": 1500,
        }

    def _pair(self) -> str:
        return base64.b64encode(f"{self.user}:{self.token}".encode()).decode()


def _handler(jenkins: FakeJenkins) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            status, headers, document = jenkins.answer(self.command, self.path, self.headers, body)
            if self.command == "POST" and jenkins.lost_answers:
                jenkins.lost_answers -= 1
                self.close_connection = True
                return
            data = b"<html>no JSON</html>" if document is None else json.dumps(document).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, *_: object) -> None:
            pass

    return Handler
