"""Run a server: load, prove, listen; leave in order when told to."""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvicorn

from embedmill.errors import SpecError
from embedmill.serving.app import make_app
from embedmill.serving.depends import Server
from embedmill.serving.live import Follower, Live
from embedmill.serving.served import Machine, Served

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from embedmill.release.layout import Home
    from embedmill.release.reader import Release

log = logging.getLogger("embedmill.serving")


@dataclass(frozen=True)
class ServeOptions:
    """Where to listen, what to use, and how to leave.

    `follow_s`: how often the log is looked at for a newer live release; None: never. `drain_s`: how long
    requests are still answered after the server was told to end and says that it is not ready.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    machine: Machine = field(default_factory=Machine)
    follow_s: float | None = None
    drain_s: float = 5.0


class _DrainingServer(uvicorn.Server):
    """Says that it is not ready, and answers for a while, before it ends."""

    def __init__(self, config: uvicorn.Config, server: Server, drain_s: float) -> None:
        super().__init__(config)
        self._server = server
        self._drain_s = drain_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as uvicorn calls it
        """The first signal begins to drain, the second ends, the third waits for nobody; none is an error."""
        if self._server.draining:
            self.force_exit = self.should_exit
            self.should_exit = True
            return
        self._server.draining = True
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
        SpecError: The address cannot be listened at.
    """
    limits = release.content.pipeline.serving

    def load(found: Release) -> Served:
        return Served.load(found, options.machine, found.content.pipeline.serving)

    live = Live(load(release))
    server = Server(live, limits)
    config = uvicorn.Config(
        make_app(server),
        host=options.host,
        port=options.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=30,
    )
    draining = _DrainingServer(config, server, options.drain_s)
    listener = _bound(config)
    host, port = listener.getsockname()[:2]
    follower = (
        None if home is None or options.follow_s is None else Follower(home, live, load, options.follow_s)
    )
    try:
        if follower is not None:
            follower.start()
        if ready is not None:
            ready(f"http://{host}:{port}", live.served)
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises again what told it to end, in order
            draining.run(sockets=[listener])
    finally:
        if follower is not None:
            follower.stop()
        listener.close()
        live.close()


def _bound(config: uvicorn.Config) -> Any:
    import socket

    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # The protocol by name: else asyncio does not set TCP_NODELAY, and small answers wait 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
        listener.listen(config.backlog)  # whoever hears the address may ask at once
    except OSError as error:
        listener.close()
        raise SpecError(
            f"cannot listen at {config.host}:{config.port}: {error.strerror or error}",
            hint="choose another --host or --port",
        ) from error
    return listener
