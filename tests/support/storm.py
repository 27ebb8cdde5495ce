"""A storm: an HTTP proxy before an S3 server that fails a share of requests, and counts all of them.

    python tests/support/storm.py --seed 1 --blackout-s 60 --blackout-after 200 COMMAND...

runs the command with AWS_ENDPOINT_URL_S3 set to a proxy for what it was. Bodies are streamed; the header
`Host` goes on as it came, since S3's signatures cover it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import http.server
import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

PIECE = 1 << 16
RESET = struct.pack("ii", 1, 0)
"""Linger for no time: closing sends RST."""
SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
OF_THIS_HOP = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding"})
WITHOUT_BODY = frozenset({204, 304})
Fate = Literal["passed", "busy", "refused", "lost", "dark"]

WAITING = ("commits", "events", "leases", "rejected", "terminal.json", "drain.json", "runs/leave")
"""What is asked for by whoever waits, again and again."""


@dataclass(frozen=True)
class Weather:
    """Which requests fail; the shares are of all, and the blackout starts after so many requests of work.

    `busy` ones get 503 and are not passed on, nor are the `refused`, whose connection is reset; the `lost`
    are passed on, and then the connection is reset in place of the answer.
    """

    seed: int = 0
    busy: float = 0.0
    refused: float = 0.0
    lost: float = 0.0
    blackout_after: int = 0
    blackout_s: float = 0.0


CALM = Weather()


def stormy(seed: int, *, blackout_after: int, blackout_s: float) -> Weather:
    """10 % of requests get 503, 1 % are reset (half of those with their answer lost), and a blackout."""
    return Weather(seed, 0.10, 0.005, 0.005, blackout_after, blackout_s)


@dataclass
class Storm:
    """A proxy that is at work: where it is, and what became of the requests so far."""

    endpoint: str
    weather: Weather
    fates: Counter[Fate] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    """Requests by method and key, of the latter no more than its last three parts but one."""
    in_the_dark_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _dark_since: float | None = None

    def __post_init__(self) -> None:
        self._chance = random.Random(self.weather.seed)

    @property
    def requests(self) -> int:
        """All of them, whatever became of them."""
        return self.fates.total()

    @property
    def of_work(self) -> int:
        """Those whose number does not grow with the time that a machine takes."""
        return sum(count for asked, count in self.asked.items() if not any(each in asked for each in WAITING))

    def fate(self, method: str, path: str) -> Fate:
        """Count a request, and decide what becomes of it: by its number and the seed."""
        with self._lock:
            fate = self._decide()
            self.fates[fate] += 1
            self.asked[f"{method} {kind_of(path)}"] += 1
            return fate

    def _decide(self) -> Fate:
        draw, weather = self._chance.random(), self.weather
        if self._is_dark():
            return "dark"
        for fate, share in _fates(weather):
            if draw < share:
                return fate
            draw -= share
        return "passed"

    def _is_dark(self) -> bool:
        if not self.weather.blackout_s or self.of_work < self.weather.blackout_after:
            return False
        if self._dark_since is None:
            self._dark_since = time.monotonic()
        return time.monotonic() - self._dark_since < self.weather.blackout_s

    def summary(self) -> dict[str, object]:
        """The counts, for people and programs."""
        return {"requests": self.requests, "fates": dict(self.fates), "asked": dict(self.asked.most_common())}


def _fates(weather: Weather) -> tuple[tuple[Fate, float], ...]:
    return (("busy", weather.busy), ("refused", weather.refused), ("lost", weather.lost))


def kind_of(path: str) -> str:
    """What a path asks for: `runs/commits`, `releases/items`, `log` and so on, or `list`."""
    if "list-type=2" in path:
        prefix = path.split("prefix=", 1)[-1].split("&")[0]
        return "list " + kind_of(prefix.replace("%2F", "/"))
    parts = path.split("?")[0].strip("/").split("/")
    for place in ("log", "runs", "releases"):
        if place in parts:
            after = parts[parts.index(place) + 1 :]
            return "/".join([place, *after[1:2]])
    return parts[-1] if len(parts) < 4 else parts[2][:16]


class Server(http.server.ThreadingHTTPServer):
    """Listens on a free port of 127.0.0.1, for the server at the URL `target`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, target: str, weather: Weather, without_headers: Collection[str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        host, port = target.removeprefix("http://").rsplit(":", 1)
        self.target = (host, int(port))
        self.without_headers = frozenset(without_headers)
        self.storm = Storm(f"http://127.0.0.1:{self.server_address[1]}", weather)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Close without the polite end that would come before a reset."""
        self.close_request(request)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers, passes on, or resets."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self) -> None:
        fate = self.server.storm.fate(self.command, self.path)
        if fate == "passed":
            self.pass_on()
        elif fate == "lost":
            self.pass_on(answering=False)
            self.reset()
        elif fate == "busy":
            self.say_busy()
        else:
            self.reset()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def pass_on(self, *, answering: bool = True) -> None:
        """Send the request to the server, and its answer back."""
        upstream = http.client.HTTPConnection(*self.server.target, timeout=600)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in OF_THIS_HOP | self.server.without_headers:
                    upstream.putheader(name, value)
            upstream.endheaders()
            for piece in self.body():
                upstream.send(piece)
            self.pass_back(upstream.getresponse(), answering=answering)
        except (OSError, http.client.HTTPException):
            self.reset()
        finally:
            upstream.close()

    def body(self) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length", 0))
        while left and (piece := self.rfile.read(min(left, PIECE))):
            left -= len(piece)
            yield piece

    def pass_back(self, response: http.client.HTTPResponse, *, answering: bool) -> None:
        size = response.getheader("Content-Length")
        silent = self.command == "HEAD" or response.status in WITHOUT_BODY
        chunked = size is None and not silent
        if answering:
            self.send_response_only(response.status, response.reason)
            for name, value in response.getheaders():
                if name.lower() not in OF_THIS_HOP:
                    self.send_header(name, value)
            if chunked:
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
        while piece := response.read(PIECE):
            if answering:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if answering and chunked:
            self.wfile.write(b"0\r\n\r\n")

    def say_busy(self) -> None:
        for _ in self.body():
            pass
        self.send_response_only(503)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(SLOW_DOWN)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(SLOW_DOWN)

    def reset(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client went away
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return


@contextmanager
def storm(target: str, weather: Weather = CALM, *, without_headers: Collection[str] = ()) -> Iterator[Storm]:
    """A proxy for the server at `target`, which never sees `without_headers` (in lower case)."""
    server = Server(target, weather, without_headers)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.storm
    finally:
        server.shutdown()
        server.server_close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command in a storm, or, without a seed, in calm weather."""
    parser = argparse.ArgumentParser(description="Run a command through a storm.")
    parser.add_argument("--target", default=os.environ.get("AWS_ENDPOINT_URL_S3"), help="the S3 server")
    parser.add_argument("--seed", type=int, help="without it nothing fails, and all is counted")
    parser.add_argument("--blackout-after", type=int, default=100, help="requests of work before it")
    parser.add_argument("--blackout-s", type=float, default=60.0)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    weather = CALM
    if options.seed is not None:
        after, seconds = options.blackout_after, options.blackout_s
        weather = stormy(options.seed, blackout_after=after, blackout_s=seconds)
    started = time.monotonic()
    with storm(options.target, weather) as proxy:
        environment = os.environ | {"AWS_ENDPOINT_URL_S3": proxy.endpoint}
        code = subprocess.run(options.command, env=environment, check=False).returncode
    seconds = round(time.monotonic() - started, 1)
    found = {"exit_code": code, "seconds": seconds, "weather": dataclasses.asdict(weather)} | proxy.summary()
    sys.stderr.write(json.dumps(found, indent=2) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
