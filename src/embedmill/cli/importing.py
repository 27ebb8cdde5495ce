"""Importing without looking for garbage, of which it makes none."""

from __future__ import annotations

import contextlib
import gc
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Imports in this block take less time.

    Else Python looks for garbage again and again, and imports make many objects that stay: nor does it look
    at those of this block ever after.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


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
