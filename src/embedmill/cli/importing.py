"""Importing without looking for garbage, of which it makes none."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Imports in this block take less time.

    Else Python looks for garbage again and again, and imports make many objects that stay. In the command's
    own process it never looks at them after this block either, nor at what else there is by then; in one
    that only calls commands, that would keep garbage for ever.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_own_process():
            gc.freeze()
        if was_enabled:
            gc.enable()


def is_own_process() -> bool:
    """Whether this process is `embedmill`, or `python -m embedmill`, as which engines start loops."""
    main = sys.modules["__main__"]
    if main.__spec__ is not None:
        return main.__spec__.name == "embedmill.__main__"
    return Path(getattr(main, "__file__", None) or "").stem == "embedmill"


ARROWS_POOL = "ARROW_DEFAULT_MEMORY_POOL"
"""Arrow's own allocator keeps what each thread had (docs/decisions/0065)."""


def take_arrows_memory_from_the_system() -> None:
    """For this process, which will plan, and not those that it starts; if its environment says nothing.

    Arrow chooses when it is imported.
    """
    if ARROWS_POOL in os.environ:
        return
    os.environ[ARROWS_POOL] = "system"
    try:
        with importing():
            import pyarrow as pa

            pa.default_memory_pool()
    finally:
        del os.environ[ARROWS_POOL]
