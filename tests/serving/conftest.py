from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from starlette.testclient import TestClient
from tests.every_input import SCHEMA, every_input_package, every_item
from tests.support.mill import Mill, items

from embedmill.model.importing import import_declared
from embedmill.release.reader import Release
from embedmill.serving.app import make_app
from embedmill.serving.depends import Server
from embedmill.serving.live import Live
from embedmill.serving.proof import release_goldens, stored_vectors
from embedmill.serving.served import Machine, Served
from embedmill.types import Vectors


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Release:
    """A release of 300 items by a tiny text model; nobody changes it."""
    mill = Mill(tmp_path_factory.mktemp("published"), tiny_model)
    mill.run(items(300))
    return mill.live()


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, as servers do."""
    return "asyncio"


@pytest.fixture
def server(published: Release) -> Iterator[Server]:
    """A server of that release, in this process."""
    live = Live(load(published))
    yield Server(live, published.content.pipeline.serving)
    live.close()


@pytest.fixture
def client(server: Server) -> Iterator[TestClient]:
    """Asks the application, without a socket between."""
    with TestClient(make_app(server)) as found:
        yield found


def drawn(number: int) -> bytes:
    """A PNG that no other number has."""
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def load(release: Release) -> Served:
    """A release, loaded and proven."""
    return Served.load(release, Machine(), release.content.pipeline.serving)


@pytest.fixture(scope="session")
def every_input(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release of a model that reads every kind of input."""
    folder = tmp_path_factory.mktemp("every-input")
    source = every_input_package(folder / "source")
    import_declared(source / "model.onnx", source / "model.yaml", folder / "package")
    mill = Mill(folder, folder / "package", SCHEMA)
    mill.run(every_item(60))
    return mill.live()


@pytest.fixture
def rich(every_input: Release) -> Iterator[TestClient]:
    """Asks a server of that release."""
    live = Live(load(every_input))
    with TestClient(make_app(Server(live, every_input.content.pipeline.serving))) as found:
        yield found
    live.close()


def golden(release: Release, encoder: str = "item", count: int = 8) -> tuple[pa.Table, Vectors]:
    """Rows as the encoder reads them, and the vectors that were published."""
    goldens = release_goldens(release, encoder)
    assert goldens is not None
    rows = goldens.slice(0, count)
    fields = [name for name in rows.column_names if not name.startswith("_")]
    return rows.select(fields), stored_vectors(rows)
