"""A package's model, opened: what an encoder computes by, on one device."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedmill.model.choosing import choose_runtime
from embedmill.model.lanes import Sessions, session_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedmill.model.package import ModelPackage
    from embedmill.runtimes import Runtime
    from embedmill.spec import RuntimeSpec


@dataclass(frozen=True)
class LoadedModel:
    """A model that is open for one encoder of its package; `sessions` open it once more for other lanes.

    `chosen`: the section of the package that it computes by.
    """

    package: ModelPackage
    name: str
    device: str
    threads: int
    chosen: RuntimeSpec
    runtime: Runtime
    sessions: Sessions

    @property
    def is_first(self) -> bool:
        """Whether it computes by the first section, which made the package's goldens."""
        return self.chosen == self.package.spec.runtimes_for(self.name)[0]


def load_model(
    package: ModelPackage,
    name: str = "item",
    *,
    using: RuntimeSpec | None = None,
    device: str = "cpu",
    threads: int = 1,
    lanes: int = 1,
    all_lanes: bool = False,
    gpu_memory_mib: int | None = None,
) -> LoadedModel:
    """Open the model of an encoder; see `Encoder.load`.

    `all_lanes`: open it for each lane at once, and not for a further one at its first batch.

    Raises:
        ModelError: No such encoder, or a damaged file.
        MissingExtra: None of the declared runtimes is installed.
        DeviceUnavailable: None of them can compute on the device.
    """
    package.inputs(name)
    among = [using] if using else package.spec.runtimes_for(name)
    source = _Source(package, name, among, device, threads, gpu_memory_mib)
    sessions = Sessions(lanes, source.open, session_bytes(package))
    with _all_opened(sessions, source) if all_lanes else nullcontext():
        runtime = source.open()
    return LoadedModel(package, name, device, threads, source.chosen, runtime, sessions)


@dataclass
class _Source:
    """Where sessions come from: the first of the runtimes `among` that computes here."""

    package: ModelPackage
    name: str
    among: Sequence[RuntimeSpec]
    device: str
    threads: int
    gpu_memory_mib: int | None

    @property
    def chosen(self) -> RuntimeSpec:
        """What they compute by, once one is open."""
        return self.among[0]

    def open(self) -> Runtime:
        """Open the model; what the first session computes by, all later ones do, too."""
        chosen, runtime = choose_runtime(
            self.package,
            self.name,
            among=self.among,
            device=self.device,
            threads=self.threads,
            gpu_memory_mib=self.gpu_memory_mib,
        )
        self.among = [chosen]
        return runtime


@contextmanager
def _all_opened(sessions: Sessions, source: _Source) -> Iterator[None]:
    """The block opens the first session; the others are opened beside it, or after it where it chooses."""
    with sessions.opened_beside() if len(source.among) == 1 else nullcontext():
        yield
    sessions.open_all()
