"""A model that threads open while the loop that will use it imports everything else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedmill.errors import EmbedmillError
from embedmill.model.lanes import lanes_on
from embedmill.model.loading import LoadedModel, load_model
from embedmill.model.package import ModelPackage
from embedmill.spec import OnnxSpec

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from embedmill.model.package import Stamp
    from embedmill.types import Opening


@dataclass(frozen=True)
class Begun:
    """A package that is read, as `stamps` say that it was before, and what threads make of it.

    `loaded` and `digested` may hold an error instead. Leaving a `with` block of `threads` waits for both.
    """

    opening: Opening
    package: ModelPackage
    stamps: list[Stamp]
    loaded: Future[LoadedModel]
    digested: Future[str]
    threads: Executor


def begin(
    opening: Opening,
    *,
    device: str = "cpu",
    threads: int = 1,
    lanes: int = 1,
    gpu_memory_mib: int | None = None,
) -> Begun | None:
    """Begin to open the model of items, and to digest its package; returns at once.

    None where that is not to be done ahead. What is wrong with the package is the planner's to say, and that
    of a loop that works.
    """
    try:
        stamps = ModelPackage.open(opening.model).stamps()
        package = ModelPackage.open(opening.model)
        if not _is_read_whole(package):
            return None
        lanes = lanes_on(package, device, lanes)
    except (EmbedmillError, OSError):
        return None
    beside = ThreadPoolExecutor(2, "opening")
    loaded = beside.submit(
        load_model,
        package,
        device=device,
        threads=threads,
        lanes=lanes,
        all_lanes=opening.all_lanes,
        gpu_memory_mib=gpu_memory_mib,
    )
    digested = beside.submit(package.package_digest)
    return Begun(opening, package, stamps, loaded, digested, beside)


def _is_read_whole(package: ModelPackage) -> bool:
    """Whether a loaded model has nothing more to do with its files, whose owner may write to them any time.

    ONNX Runtime parses the ONNX file, and maps those with external tensors; other libraries may map theirs.
    """
    runtimes = package.spec.runtimes_for("item")
    return all(isinstance(each, OnnxSpec) and len(package.contents(each)) == 1 for each in runtimes)
