"""Importing without looking for garbage, of which it makes none."""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Imports in this block take less time.

    Else Python looks for garbage again and again, and imports make many objects that stay.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
