"""What a pipeline.yaml names: a catalog, a model and a store, and where worker loops may run."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

from embedmill.engines import Engine, Places, StandsBy
from embedmill.fleet.engines import engine_of, places_of
from embedmill.model import ModelPackage
from embedmill.release.layout import Home
from embedmill.release.log import read_history
from embedmill.release.reader import Release, open_release
from embedmill.seats import SeatFolder
from embedmill.spec import PipelineSpec, load_pipeline_spec
from embedmill.spec.documents import Plan, ReleaseName
from embedmill.store import open_store


@dataclass(frozen=True)
class UseCase:
    """One use case: a catalog, a model, a store. `root` is the folder that relative paths start from.

    `waits`: whether runs wait where no GPU of a fleet is idle. `seats`: how many loops it may have now.
    """

    spec: PipelineSpec
    root: Path
    waits: bool = field(default=False, kw_only=True)
    seats: SeatFolder | None = field(default=None, kw_only=True)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a pipeline.yaml.

        Raises:
            SpecError: It is wrong; says where and what is allowed.
        """
        file = Path(path)
        return cls(load_pipeline_spec(file), file.absolute().parent)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.spec.name!r} in {self.root}>"

    @cached_property
    def home(self) -> Home:
        """The pipeline's folder in its store."""
        return Home(open_store(self.spec.store, relative_to=self.root), self.spec.name)

    @cached_property
    def package(self) -> ModelPackage:
        """The model package that the spec names."""
        return ModelPackage.open(self.root / self.spec.model)

    def engine(self) -> Engine:
        """A new one of the kind that the spec names, or of several kinds."""
        return engine_of(self.spec, self.home, self.root)

    def places(self, plan: Plan, engine: Engine | None = None) -> Places:
        """Where engines of these kinds may run loops: this one, or a new one."""
        what = (self.home, plan, self.spec, self.root, self.package, engine or self.engine())
        return places_of(*what, waits=self.waits, apart=self.seats is not None)

    def standby(self) -> StandsBy | None:
        """A new engine whose loops can start while a plan is made, for `plan`; None where none may."""
        engine = self.engine() if self.seats is None and self.spec.engine == "local" else None
        return engine if isinstance(engine, StandsBy) else None

    def live(self) -> Release | None:
        """The live release, or None before the first."""
        return self._opened(read_history(self.home).live)

    def _opened(self, live: ReleaseName | None) -> Release | None:
        return open_release(self.home, live.release) if live else None
