"""Run a server: load, prove, listen; leave in order when told to."""

from __future__ import annotations

import gc
import logging
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvicorn

from embedmill.errors import SpecError
from embedmill.serving.admission.keys import KeyRing
from embedmill.serving.admission.patient import PatientProtocol
from embedmill.serving.app import make_app
from embedmill.serving.depends import Server
from embedmill.serving.live import Follower, Live
from embedmill.serving.observing.metrics import Metrics
from embedmill.serving.served import Machine, Served
from embedmill.serving.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from embedmill.release.layout import Home
    from embedmill.release.reader import Release

log = logging.getLogger("embedmill.serving")

KEEP_ALIVE_S = 75
"""Longer than load balancers and clients keep idle connections: who hangs up first must not be the server."""
SWITCH_S = 0.0005
"""How long a thread keeps Python to itself. By default 5 ms: models would wait while answers are written."""


@dataclass(frozen=True)
class ServeOptions:
    """Where to listen, what to use, and how to leave.

    `follow_s`: how often the log is looked at for a newer live release; None: never. `drain_s`: how long
    requests are still answered after the server was told to end and says that it is not ready. `keys`: a
    file with API keys; `private_metrics`: `/metrics` needs one too. `watch_s`: how often a golden goes
    through every encoder.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    machine: Machine = field(default_factory=Machine)
    follow_s: float | None = None
    drain_s: float = 5.0
    keys: Path | None = None
    private_metrics: bool = False
    watch_s: float = 5.0


class _DrainingServer(uvicorn.Server):
    """Says when it listens; says that it is not ready, and answers for a while, before it ends."""

    def __init__(
        self, config: uvicorn.Config, server: Server, drain_s: float, listens: Callable[[], Any]
    ) -> None:
        super().__init__(config)
        self._server = server
        self._drain_s = drain_s
        self._listens = listens

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn; only then are connections taken."""
        await super().startup(sockets)
        self._listens()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as uvicorn calls it
        """The first signal begins to drain, the second ends, the third waits for nobody; none is an error."""
        if self._server.draining:
            self.force_exit = self.should_exit
            self.should_exit = True
            return
        self._server.draining = True
        log.info("told to end: not ready from now on, and answers for %g s more", self._drain_s)
        timer = threading.Timer(self._drain_s, setattr, (self, "should_exit", True))
        timer.daemon = True
        timer.start()


def serve(
    release: Release,
    options: ServeOptions,
    *,
    home: Home | None = None,
    ready: Callable[[str, Served], Any] | None = None,
) -> None:
    """Serve a release until SIGTERM or Ctrl-C; with `home` and `follow_s`, what is live there.

    `ready` hears the server's URL once it listens.

    Raises:
        ProofFailed: The release does not show that it is what was published.
        SpecError: The address cannot be listened at, or the file of keys cannot be used.
    """
    keys = None if options.keys is None else KeyRing(options.keys)
    metrics = Metrics()

    def load(found: Release) -> Served:
        return Served.load(found, options.machine, found.content.pipeline.serving, metrics)

    with closing(_bound(options)) as listener, closing(Live(load(release))) as live:
        server = Server(
            live,
            release.content.pipeline.serving,
            keys=keys,
            private_metrics=options.private_metrics,
            metrics=metrics,
            watchdog=Watchdog(live, options.watch_s),
        )
        follower = (
            None if home is None or options.follow_s is None else Follower(home, live, load, options.follow_s)
        )
        _answer(server, options, listener, follower, ready)


def _answer(
    server: Server,
    options: ServeOptions,
    listener: socket.socket,
    follower: Follower | None,
    ready: Callable[[str, Served], Any] | None,
) -> None:
    config = _config(server, options)
    host, port = listener.getsockname()[:2]

    def listens() -> None:
        if ready is not None:
            ready(f"http://{host}:{port}", server.live.served)

    with _refusing(options):
        listener.listen(config.backlog)  # whoever hears the address may ask at once
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()  # what was loaded stays: to look through it again and again would stop all answers for 0.1 s
    helpers = [each for each in (server.watchdog, follower) if each is not None]
    for each in helpers:
        each.start()
    try:
        _DrainingServer(config, server, options.drain_s, listens).run(sockets=[listener])
    finally:
        for each in helpers:
            each.stop()
    log.info("ended")


def _config(server: Server, options: ServeOptions) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(server),
        host=options.host,
        port=options.port,
        log_config=None,
        access_log=False,
        server_header=False,
        http=PatientProtocol,
        ws="none",
        timeout_graceful_shutdown=30,
        timeout_keep_alive=KEEP_ALIVE_S,
    )


def _bound(options: ServeOptions) -> socket.socket:
    """Take the address before a model is loaded, which takes long; nobody can connect yet."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # The protocol by name: else asyncio does not set TCP_NODELAY, and small answers wait 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        with _refusing(options):
            listener.bind((options.host, options.port))
    except SpecError:
        listener.close()
        raise
    return listener


@contextmanager
def _refusing(options: ServeOptions) -> Iterator[None]:
    """Say of an address that cannot be had which one it is."""
    try:
        yield
    except OSError as error:
        raise SpecError(
            f"cannot listen at {options.host}:{options.port}: {error.strerror or error}",
            hint="choose another --host or --port",
        ) from error
