"""What a container needs of this host's driver."""

from __future__ import annotations

from typing import Any


def driver_files(driver: str | None) -> dict[str, Any]:
    """Nodes, libraries, programs; as `DriverFiles` has them."""
    del driver
    return {}
