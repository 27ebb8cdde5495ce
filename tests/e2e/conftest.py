"""A shop whose items have pictures by URL, and the server that has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from tests.models import tiny_image_package
from tests.support.mill import Mill
from tests.support.shop import fetching
from tests.support.web import WebServer, web_server


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


@pytest.fixture
def shop(mill: Mill, tmp_path: Path, web: WebServer) -> Mill:
    """A mill whose items have pictures by URL."""
    mill.model = tiny_image_package(tmp_path / "images-model")
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.string()), ("version", pa.int64())])
    fetching(mill, web)
    return mill
