"""A database of each test's own, and short ways to fill and read it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.catalog.reading import OpenCatalog
from tests.sql_group.cluster import PASSWORD, Cluster, programs, running
from tests.support.groups import take

from embedmill.catalog import CatalogReader
from embedmill.spec import CatalogSpec


@dataclass(frozen=True)
class Shop:
    """A PostgreSQL database, and its URL without a password."""

    cluster: Cluster
    name: str

    @property
    def url(self) -> str:
        return self.cluster.url(self.name)

    def do(self, statement: str, rows: Sequence[Sequence[Any]] | None = None) -> None:
        """Execute and commit, for each of `rows` if there are any."""
        with self.cluster.connect(self.name) as connection, connection.cursor() as cursor:
            if rows is None:
                cursor.execute(statement.encode())
            else:
                with connection.transaction():
                    cursor.executemany(statement.encode(), rows)

    def ask(self, query: str) -> Any:
        """The one value of a query."""
        with self.cluster.connect(self.name) as connection:
            row = connection.execute(query.encode()).fetchone()
            assert row is not None
            return row[0]


def pytest_configure(config: pytest.Config) -> None:
    """Collect the tests of object stores as servers, too."""
    take(config, "sql")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with running(folder) as found:
        yield found


@pytest.fixture
def shop(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Shop:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    return Shop(cluster, cluster.new_database())


@pytest.fixture
def catalog(tmp_path: Path) -> OpenCatalog:
    """`catalog(url, ["title"], table="items")`: a reader; the id is `id`."""

    def opened(source: str, columns: Sequence[str] = (), **spec: Any) -> CatalogReader:
        read = CatalogSpec.model_validate({"source": source, "id": "id", **spec})
        return CatalogReader(read, root=tmp_path, store=None, columns=columns)

    return opened
