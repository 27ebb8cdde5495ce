"""A small pipeline in a folder, whose work is done in this process: nothing is started, nothing is faked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from embedmill import Pipeline, Release
from embedmill.planned import PlannedRun
from embedmill.release.layout import Home
from embedmill.release.reader import open_live
from embedmill.spec.reports import RunReport
from embedmill.work import WorkerOptions, work

Row = Mapping[str, Any]
SCHEMA = pa.schema(
    [("sku", pa.string()), ("title", pa.string()), ("category", pa.string()), ("price", pa.float64())]
)
OPEN_GATES = {"quarantine": 1.0, "empty": 1.0, "churn": 1.0}
POISON = "~"
"""A text with this character gets a vector of NaNs from `poisonable_package`."""


@dataclass
class Mill:
    """A folder with items.parquet, a model package and a pipeline.yaml that `settings` change."""

    root: Path
    model: Path
    schema: pa.Schema = SCHEMA
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> dict[str, Any]:
        return {
            "name": "test",
            "catalog": {"source": "items.parquet", "id": "sku", "display": ["title", "price"]},
            "model": str(self.model),
            "store": "./mill",
            "gates": OPEN_GATES,
        } | self.settings

    def write(self, rows: Iterable[Row]) -> None:
        pq.write_table(pa.Table.from_pylist(list(rows), self.schema), self.root / "items.parquet")

    def open(self) -> Pipeline:
        """The pipeline as a new process would see it: who reads the file meanwhile never finds half of it."""
        file, text = self.root / "pipeline.yaml", yaml.safe_dump(self.spec)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
        return Pipeline.from_file(file)

    @property
    def home(self) -> Home:
        return self.open().home

    def planned(self, rows: Iterable[Row] | None = None) -> PlannedRun:
        """A plan, for these rows if there are any, else for those that were written before."""
        if rows is not None:
            self.write(rows)
        return self.open().plan()

    def worked(self, rows: Iterable[Row] | None = None) -> PlannedRun:
        """A planned run whose shards are all committed."""
        planned = self.planned(rows)
        work(planned.home, planned.plan.run, WorkerOptions("here"))
        return planned

    def indexed(self, rows: Iterable[Row] | None = None) -> PlannedRun:
        """A run with a candidate."""
        planned = self.worked(rows)
        planned.index()
        return planned

    def checked(self, rows: Iterable[Row] | None = None, accept: Collection[str] = ()) -> PlannedRun:
        """A run with a candidate and verdicts on it."""
        planned = self.indexed(rows)
        planned.check(accept)
        return planned

    def run(self, rows: Iterable[Row] | None = None, accept: Collection[str] = ()) -> RunReport:
        """A published release."""
        return self.worked(rows).run(accept=accept)

    def live(self) -> Release:
        return open_live(self.home)


def items(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Rows with distinct ids and texts."""
    numbers = range(start, start + count)
    return [{"sku": f"s{n}", "title": f"item {n}", "category": "all", "price": n / 2} for n in numbers]


def undo(run: PlannedRun, shard: str) -> None:
    """As if nobody had done a shard: no commit record, and no lease that keeps others away."""
    for key in (("commits", f"{shard}.json"), ("leases", f"{shard}.json")):
        run.home.store.delete(run.home.run_key(run.plan.run, *key))


def quarantined(release: Release) -> list[dict[str, Any]]:
    """The release's quarantine, in order."""
    file = release.folder / release.content.quarantine.path
    rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    return rows


def poisonable_package(folder: Path, **options: Any) -> Path:
    """A tiny text model that makes NaNs of every text with POISON in it."""
    import onnx
    from onnx import numpy_helper
    from tests.models import tiny_text_package

    tiny_text_package(folder, **options)
    model = onnx.load(folder / "model.onnx")
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "table")
    tokens = yaml.safe_load((folder / "tokenizer.json").read_text())["model"]["vocab"]
    values = numpy_helper.to_array(table).copy()
    values[tokens[POISON]] = float("nan")
    table.CopyFrom(numpy_helper.from_array(values, "table"))
    onnx.save(model, folder / "model.onnx")
    return folder


def reweighted(folder: Path, change: Callable[[Any], Any], **options: Any) -> Path:
    """A tiny model with other weights: `change` gets the table of token vectors."""
    import onnx
    from onnx import numpy_helper
    from tests.models import tiny_text_package

    tiny_text_package(folder, **options)
    model = onnx.load(folder / "model.onnx")
    for tensor in model.graph.initializer:
        if tensor.name in {"table", "positions"}:
            values = change(numpy_helper.to_array(tensor).copy())
            tensor.CopyFrom(numpy_helper.from_array(values.astype("float32"), tensor.name))
    onnx.save(model, folder / "model.onnx")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterable[Path]:
    """Downloads and stamps go to a folder of the tests' own, not to the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDMILL_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.models import tiny_text_package  # needs onnx, which not every test group has

    return tiny_text_package(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def mill(tmp_path: Path, tiny_model: Path) -> Mill:
    return Mill(tmp_path, tiny_model)
