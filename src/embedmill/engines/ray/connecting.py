"""The process that speaks to Ray for an engine: orders on stdin, a JSON object a line; answers on stdout.

    python -m embedmill.engines.ray.connecting

Ray ends the process that it is in when its control store is away for a minute, waits without a bound in
places, and takes signals and variables of the whole process. So it gets a process of its own, which may be
ended at any time: actors are detached, and the next one finds them by name. It ends when its stdin does.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from embedmill.engines.ray.actors import Actors
from embedmill.engines.ray.refusals import Refused, refusal
from embedmill.errors import ExtraUnusable, MissingExtra
from embedmill.extras import optional

SHUTDOWN_S = 5.0
TRIES = 3
"""How often to ask for a session: at ray:// one needs a new process of the head's, which may not come up."""
Order = Mapping[str, Any]


def main() -> None:
    """Answer orders until stdin ends."""
    orders, answers = _take_streams()
    actors: Actors | None = None
    for line in orders:
        order = json.loads(line)
        try:
            if order["do"] == "connect":
                actors = _connect(order)
                answer: dict[str, Any] = {"nodes": actors.nodes()}
            elif actors is None:
                raise Refused("unavailable", "not connected")
            else:
                answer = _answers(actors)[order["do"]](order)
        except Exception as error:  # noqa: BLE001 - whatever Ray raises is told to whoever asks
            answer = {"error": refusal(error).document()}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
    _leave()


def _take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Stdin and stdout for orders and answers alone: whatever Ray prints goes to stderr."""
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return orders, answers


def _connect(order: Order) -> Actors:
    try:
        with optional("Ray", "ray", extra="ray"):
            import ray
    except ExtraUnusable as error:
        raise Refused("refused", error.message, hint=error.hint) from error
    except MissingExtra as error:
        raise Refused("extra", "Ray") from error
    for left in reversed(range(TRIES)):
        try:
            ray.init(
                address=order["address"],
                namespace=order["namespace"],
                log_to_driver=False,
                configure_logging=False,
            )
            break
        except ConnectionAbortedError:
            if not left:
                raise
    return Actors(order["namespace"])


def _answers(actors: Actors) -> dict[str, Callable[[Order], dict[str, Any]]]:
    return {
        "nodes": lambda _: {"nodes": actors.nodes()},
        "make": lambda order: actors.make(order["loops"]),
        "make anew": lambda order: actors.make_anew(order["loops"]),
        "states": lambda order: {"states": actors.states(order["names"], order["wait_s"])},
        "begin": lambda order: {"states": actors.begin(order["loops"], order["wait_s"])},
        "stop": lambda order: actors.stop(
            order["names"], order["working"], order["grace_s"], order["wait_s"]
        ),
    }


def _leave() -> None:
    """Leave the cluster, if it lets us; then end, whatever threads of Ray's are left."""
    import ray

    def bye() -> None:
        with contextlib.suppress(Exception):
            ray.shutdown()

    leaving = threading.Thread(target=bye, daemon=True)
    leaving.start()
    leaving.join(SHUTDOWN_S)
    os._exit(0)


if __name__ == "__main__":
    main()
