"""`pipeline.yaml`: one use case, that is (catalog, model, store, gates)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from embedmill.spec.database import checked_database, database_scheme
from embedmill.spec.fetch import FetchSpec
from embedmill.spec.jenkins_workers import JenkinsWorkersSpec
from embedmill.spec.kubernetes import KubernetesSpec
from embedmill.spec.ray import RaySpec
from embedmill.spec.section import Section, unknown
from embedmill.spec.serving import ServingSpec

__all__ = [
    "ENGINES",
    "CatalogSpec",
    "EngineName",
    "FetchSpec",
    "GateLimits",
    "IndexSpec",
    "Name",
    "PipelineSpec",
    "Section",
    "Share",
    "WorkSpec",
    "whole_path",
]

Share = Annotated[float, Field(ge=0.0, le=1.0)]
EngineName = Literal["local", "ssh", "kubernetes", "ray", "jenkins"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


def whole_path(path: str | None) -> str | None:
    """`~` is the home of whoever reads the spec: plans and workers get the whole path."""
    return os.path.expanduser(path) if path is not None else None  # noqa: PTH111 - URLs too, as they are


class CatalogSpec(Section):
    """The source table and which of its columns mean what."""

    source: str = Field(
        description="A file, a folder or a glob: Parquet, CSV, JSONL or Arrow. Relative to the spec's "
        "folder, or `store:PATH` for objects in the store. Or a database, such as `postgresql://host/db`."
    )
    table: str | None = Field(
        default=None, description="The table or view of a database, with its schema where it needs one."
    )
    query: str | None = Field(
        default=None, description="A SELECT whose rows are the catalog, instead of a table."
    )
    id: str = Field(description="The column that names an item; any scalar type, kept as it is.")
    format: Literal["parquet", "csv", "jsonl", "arrow"] | None = Field(
        default=None, description="The source's format; told from the file name where absent."
    )
    where: str | None = Field(
        default=None, description="A filter in SQL's WHERE syntax, such as `active = true AND price > 10`."
    )
    display: tuple[str, ...] = Field(
        default=(), description="Columns that searches and exports show. They never change a vector."
    )
    images: str | None = Field(
        default=None,
        description="Where image references lead: a folder (relative to the spec's), or `store:PREFIX` for "
        "object keys. Absent: the folder of the source.",
    )
    image_identity: Literal["validator", "version", "bytes"] = Field(
        default="validator",
        description="What tells that an image changed: size and time of files, ETags; the column of "
        "`image_version`; or its bytes, for which a plan reads every image.",
    )
    image_version: str | None = Field(
        default=None, description="The column that changes with an image, for `image_identity: version`."
    )
    thumbnails: int | None = Field(
        default=None,
        ge=16,
        le=512,
        description="Pixels of the longer side of small JPEGs that a release keeps of its items' images. "
        "Absent: it keeps none.",
    )
    fetch: FetchSpec = FetchSpec()
    types: dict[str, str] = Field(
        default_factory=dict,
        description="Column types for CSV, JSONL and databases where guessing is wrong, such as "
        "{price: float64}.",
    )

    _whole_paths = field_validator("source", "images")(whole_path)

    @model_validator(mode="after")
    def _check_version(self) -> Self:
        if (self.image_identity == "version") != (self.image_version is not None):
            raise ValueError("`image_identity: version` and `image_version` need each other")
        return self

    @field_validator("source")
    @classmethod
    def _without_secrets(cls, source: str) -> str:
        return checked_database(source) if database_scheme(source) else source

    @model_validator(mode="after")
    def _one_relation(self) -> Self:
        if not database_scheme(self.source):
            if self.table is not None or self.query is not None:
                raise ValueError("`table` and `query` are for databases, and `source` is not the URL of one")
        elif (self.table is None) == (self.query is None):
            raise ValueError("a database needs `table` or `query`, and not both")
        elif self.format is not None:
            raise ValueError("`format` is for files, and `source` is a database")
        return self


class IndexSpec(Section):
    """How a release is searched."""

    kind: Literal["flat", "hnsw"] = Field(
        default="hnsw", description="`flat` is exact. `hnsw` is approximate and fast on large segments."
    )
    exact_below: int = Field(
        default=20_000, ge=0, description="Segments with fewer vectors than this are searched exactly anyway."
    )
    links: int = Field(default=32, ge=4, le=128, description="HNSW: links per node (M).")
    build_effort: int = Field(
        default=128, ge=8, description="HNSW: candidates while building (efConstruction)."
    )
    recall: float = Field(
        default=0.98,
        ge=0.5,
        le=0.999,
        description="HNSW: recall@10, for which each index gets the least search effort that suffices.",
    )
    search_effort: int | None = Field(
        default=None, ge=8, description="HNSW: candidates while searching (efSearch), instead of `recall`."
    )


class RelevanceLimits(Section):
    """Labelled queries, and how well a candidate must answer them."""

    queries: str = Field(description="A JSON Lines file of labelled queries, relative to the spec's folder.")
    k: int = Field(default=10, ge=1, le=1000, description="Hits that are looked at: recall@k and nDCG@k.")
    tolerance: Share = Field(
        default=0.0, description="How much worse than the live release a candidate may be for sure."
    )
    confidence: float = Field(
        default=0.95, ge=0.5, le=0.999, description="Confidence of the interval of the difference."
    )
    min_recall: float | None = Field(
        default=None, ge=0, le=1, description="Recall@k that every release must reach."
    )
    min_ndcg: float | None = Field(
        default=None, ge=0, le=1, description="nDCG@k that every release must reach."
    )

    _whole_paths = field_validator("queries")(whole_path)


class GateLimits(Section):
    """What a candidate may not exceed, as shares of the items read; and what it must find."""

    quarantine: Share = Field(default=0.01, description="Share of items that may be quarantined.")
    empty: Share = Field(default=0.20, description="Share of items that may have an empty input.")
    churn: Share = Field(
        default=0.10,
        description="Share of the live release's items that may be deleted, changed or quarantined; beyond "
        "it the feed is taken to be broken.",
    )
    relevance: RelevanceLimits | None = Field(
        default=None,
        description="Labelled queries, which a candidate must answer as well as the live release.",
    )

    def below(self, root: Path) -> GateLimits:
        """The limits with whole paths; `root` is the spec's folder."""
        if self.relevance is None:
            return self
        queries = str(root / self.relevance.queries)
        return self.model_copy(update={"relevance": self.relevance.model_copy(update={"queries": queries})})


BATCH_TOKENS = 512
"""Where neither the pipeline says it, nor a calibration."""


class WorkSpec(Section):
    """How the work is cut and placed."""

    shard_rows: int = Field(default=2048, ge=1, description="Rows in a shard of average cost.")
    workers: int | None = Field(
        default=None,
        ge=1,
        description="Processes of the local engine, of one batch at a time; absent: what all cores need.",
    )
    batch_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Tokens in a batch of text, padding included; 512 where absent, or what was measured.",
    )
    batch_images: int = Field(default=16, ge=1, description="Images in a batch.")
    calibrate: bool = Field(
        default=True,
        description="Whether a long run measures first which batches and threads are fastest here.",
    )
    attempts: int = Field(default=3, ge=1, description="Worker losses in a row before a run gives up.")
    look_again_s: float = Field(
        default=300.0, gt=0, description="How often a run looks for more idle GPUs while work is left."
    )
    role: str | None = Field(
        default=None,
        pattern=r"^arn:\S+$",
        description="An IAM role that is assumed for workers on other servers: they get keys that end, and "
        "open this pipeline's folder alone. For `s3://`.",
    )
    role_lasts_s: int = Field(default=3600, ge=900, le=43200, description="How long such keys last.")
    lend_keys: bool = Field(
        default=False,
        description="Whether workers on other servers are given keys that last, where there are no others.",
    )


class PipelineSpec(Section):
    """One use case. Paths are relative to the folder of the spec's file."""

    name: Name = Field(description="The pipeline's folder in the store.")
    catalog: CatalogSpec
    model: str = Field(description="The folder of a model package.")
    store: str = Field(description="A folder, such as ./mill, or a URL.")
    engine: EngineName | tuple[EngineName, ...] = Field(
        default="local", description="Where worker loops run; a list of several: at all of these places."
    )
    fleet: str | None = Field(
        default=None, description="The fleet.yaml whose idle GPUs are borrowed; for `engine: ssh`."
    )
    kubernetes: KubernetesSpec | None = Field(
        default=None, description="Workers as Jobs of a cluster; for `engine: kubernetes`."
    )
    jenkins: JenkinsWorkersSpec | None = Field(
        default=None, description="Workers as builds of a job; for `engine: jenkins`."
    )
    ray: RaySpec | None = Field(default=None, description="Workers as actors; for `engine: ray`.")
    priority: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Its share of the devices under `run --all`: twice as much, twice the share.",
    )
    deadline: str | None = Field(
        default=None,
        pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$",
        description="The time of day, by the clock of the machine that runs it, when a release of the last "
        "24 hours should be live, such as `06:00`; for `run --all` and `status --all`.",
    )
    index: IndexSpec = IndexSpec()
    gates: GateLimits = GateLimits()
    work: WorkSpec = WorkSpec()
    serving: ServingSpec = ServingSpec()
    compact_above: Share = Field(
        default=0.20,
        description="Segments are compacted when more than this share of rows is dead or in deltas.",
    )
    goldens: int = Field(default=256, ge=1, description="Items whose raw inputs and vectors a release keeps.")

    _whole_paths = field_validator("model", "store", "fleet")(whole_path)

    @field_validator("engine", mode="before")
    @classmethod
    def _known_engines(cls, engine: object) -> object:
        """Pydantic would tell one error for a word, and one for a list."""
        words = engine.split(",") if isinstance(engine, str) else engine
        for word in words if isinstance(words, list | tuple) else ():
            name = word.strip() if isinstance(word, str) else word
            if name not in ENGINES:
                raise ValueError(unknown("engine", name, ENGINES))
        if isinstance(words, list) and isinstance(engine, str) and len(words) > 1:
            raise ValueError(f"several engines are a list: [{', '.join(map(str.strip, words))}]")
        return engine

    @field_validator("engine")
    @classmethod
    def _each_engine_once(cls, engine: EngineName | tuple[EngineName, ...]) -> object:
        if isinstance(engine, tuple) and (not engine or len(set(engine)) < len(engine)):
            raise ValueError("a list of engines names at least one, and each once")
        return engine

    @property
    def engines(self) -> tuple[EngineName, ...]:
        """All of them, whether it is one or several."""
        return (self.engine,) if isinstance(self.engine, str) else self.engine
