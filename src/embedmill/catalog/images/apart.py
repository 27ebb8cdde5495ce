"""Coroutines beside code that has, or has not, an event loop of its own: in a thread, until they end."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

ResultT = TypeVar("ResultT")
LOOK_S = 0.2


def run_apart(work: Coroutine[Any, Any, ResultT], on_wait: Callable[[], None]) -> ResultT:
    """The coroutine's result; `on_wait` is called a few times a second meanwhile, in the caller's thread.

    If it raises, or Ctrl-C does, the coroutine is cancelled, and has ended when this does.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fetch", daemon=True)
    thread.start()
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        while True:
            try:
                return future.result(timeout=LOOK_S)
            except TimeoutError:
                if future.done():
                    raise
                on_wait()
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_the_rest(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_the_rest() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
