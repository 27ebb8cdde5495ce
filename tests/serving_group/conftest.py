"""Servers of two releases, each a process of its own, asked by the official clients of three protocols."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.every_input import SCHEMA, every_input_package, every_item
from tests.support.groups import take
from tests.support.mill import Mill, items
from tests.support.server_process import ServerProcess, serving

from embedmill.model.importing import import_declared
from embedmill.release.reader import Release


def pytest_configure(config: pytest.Config) -> None:
    """Collect the tests of servers that need none of these clients, too."""
    take(config, "serving")


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Release:
    """A release of a tiny text model."""
    mill = Mill(tmp_path_factory.mktemp("published"), tiny_model)
    mill.run(items(300))
    return mill.live()


@pytest.fixture(scope="session")
def every_input(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release of a model that reads every kind of input."""
    folder = tmp_path_factory.mktemp("every-input")
    source = every_input_package(folder / "source")
    import_declared(source / "model.onnx", source / "model.yaml", folder / "package")
    mill = Mill(folder, folder / "package", SCHEMA)
    mill.run(every_item(60))
    return mill.live()


@pytest.fixture(scope="session")
def server(published: Release) -> Iterator[ServerProcess]:
    """Serves the texts."""
    with serving(published.folder) as found:
        yield found


@pytest.fixture(scope="session")
def rich_server(every_input: Release) -> Iterator[ServerProcess]:
    """Serves every kind of input."""
    with serving(every_input.folder) as found:
        yield found
