"""The URL of a database in a spec holds no password, and is refused without showing it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from embedmill.errors import SpecError
from embedmill.spec import CatalogSpec, load_pipeline_spec

GOOD = [
    "postgresql://host/db",
    "postgresql://me@host:5432/db?sslmode=require",
    "postgresql://me:${DB_PASSWORD}@host/db",
    "postgresql:///db?host=/run/postgresql&passfile=/etc/pass",
    "postgresql://host/db?password=${DB_PASSWORD}",
    "postgresql://${DB_USER}:${DB_PASSWORD}@${DB_HOST}/db",
    "sqlite:///items.db",
    "sqlite:////srv/items.db",
    "mysql+pymysql://me@host/db?charset=utf8mb4",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3D{ODBC};PWD%3D${DB_PASSWORD}",
]
SECRET = "hunter2"  # noqa: S105
BAD = [
    f"postgresql://me:{SECRET}@host/db",
    f"postgresql://me:{SECRET}%2F@host/db",
    f"postgresql://:{SECRET}@host/db",
    f"postgresql://me:{SECRET}/x@host/db",
    f"postgresql://me:{SECRET}?x@host/db",
    f"postgresql://me:{SECRET}#x@host/db",
    f"postgresql://me:{SECRET}@x@host/db",
    f"postgresql://me:x${{DB_PASSWORD}}{SECRET}@host/db",
    f"postgresql://host/db?password={SECRET}",
    f"postgresql://host/db?sslmode=require&sslpassword={SECRET}",
    f"mysql+pymysql://host/db?PassWD={SECRET}",
    f"mssql+pyodbc:///?odbc_connect=DRIVER%3D{{ODBC}};UID=me;PWD%3D{SECRET}",
]
PIPELINE = """
name: shop
catalog:
  id: sku
  table: items
  source: {source}
model: m
store: s
"""


@pytest.mark.parametrize("source", GOOD)
def test_a_url_without_a_secret_is_taken_as_it_is(source: str) -> None:
    assert CatalogSpec(source=source, id="id", table="items").source == source


@pytest.mark.parametrize("source", BAD)
def test_a_password_in_a_url_is_refused_and_not_repeated(source: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError) as error:
        CatalogSpec(source=source, id="id", table="items")
    assert SECRET not in str(error.value)
    file = tmp_path / "pipeline.yaml"
    file.write_text(PIPELINE.format(source=f'"{source}"'))
    with pytest.raises(
        SpecError, match=r"pipeline\.yaml:6: `catalog\.source`: .* has a password in it"
    ) as told:
        load_pipeline_spec(file)
    assert SECRET not in str(told.value)
    assert "PGPASSFILE" in str(told.value)
    file.write_text(PIPELINE.format(source="postgresql://host/db"))
    with pytest.raises(SpecError, match="EMBEDMILL_CATALOG__SOURCE") as told:
        load_pipeline_spec(file, {"EMBEDMILL_CATALOG__SOURCE": source})
    assert SECRET not in str(told.value)


WRONG = [
    ({"source": "postgresql://host/db"}, "needs `table` or `query`"),
    ({"source": "postgresql://host/db", "table": "items", "query": "SELECT 1"}, "and not both"),
    ({"source": "postgresql://host/db", "table": "items", "format": "csv"}, "`format` is for files"),
    ({"source": "items.csv", "table": "items"}, "are for databases"),
    ({"source": "items.csv", "query": "SELECT 1"}, "are for databases"),
    ({"source": "s3://bucket/items", "table": "items"}, "s3:// is no database; .* store:PATH"),
    ({"source": "https://host/items.csv"}, "https:// is no database"),
]


@pytest.mark.parametrize(("spec", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_does_not_go_together_is_refused(spec: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CatalogSpec.model_validate({"id": "id", **spec})


@pytest.mark.parametrize(
    ("source", "extra"),
    [
        ("postgresql://host/db", "sql"),
        ("sqlite:///items.db", "sql"),
        ("sqlite+pysqlite:///items.db", "sqlalchemy"),
    ],
)
def test_without_its_driver_a_database_names_the_extra(source: str, extra: str) -> None:
    script = f"""
import sys
for name in ("adbc_driver_manager", "adbc_driver_postgresql.dbapi", "adbc_driver_sqlite.dbapi", "sqlalchemy"):
    sys.modules[name] = None
from pathlib import Path
from embedmill.catalog import CatalogReader
from embedmill.errors import MissingExtra
from embedmill.spec import CatalogSpec
try:
    CatalogReader(CatalogSpec(source="{source}", id="id", table="items"), root=Path(), store=None, columns=[])
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert f"embedmill[{extra}]" in done.stdout
