"""`Served`: one release, loaded and proven, ready to answer; and how it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from embedmill.errors import RequestRefused
from embedmill.model import Encoder, ModelPackage
from embedmill.model.images import ImageDecoder, decoders_beside
from embedmill.serving.lanes.cache import VectorCache
from embedmill.serving.lanes.lane import Lane, LaneObserver
from embedmill.serving.proof import Proof, goldens_of, prove
from embedmill.serving.search.filters import Filters
from embedmill.serving.search.pictures import has_pictures
from embedmill.serving.search.searching import Searching, SearchObserver
from embedmill.serving.watchdog import Probe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embedmill.release.reader import Release
    from embedmill.spec import EncoderInputs, ServingSpec
    from embedmill.spec.runtimes import EncoderName

Loader = Callable[["Release"], "Served"]
"""Loads a release and proves it, or raises."""


CACHED = "query_text"
"""The encoder whose vectors are kept: queries come again, items do not."""


class Observer(LaneObserver, SearchObserver, Protocol):
    """Hears of what a release does."""


@dataclass(frozen=True)
class Machine:
    """What a server may use: where models compute, and how many threads a model and all searches have."""

    device: str = "cpu"
    threads: int = 1
    search_threads: int = 2


@dataclass(frozen=True)
class Served:
    """A release with its encoders, each in a lane with a golden to probe it, and threads that search it."""

    release: Release
    package: ModelPackage
    package_digest: str
    proof: Proof
    lanes: Mapping[str, Lane]
    searching: Searching
    filters: Filters
    probes: Mapping[str, Probe]
    decoder: ImageDecoder = field(repr=False)
    pictures: bool
    """Whether any item has a picture."""

    @classmethod
    def load(
        cls, release: Release, machine: Machine, spec: ServingSpec, observer: Observer | None = None
    ) -> Served:
        """Load every declared encoder and the index, and let them prove themselves.

        Raises:
            ProofFailed: What is loaded does not make the vectors of the release.
            MissingExtra: None of an encoder's runtimes is installed.
            ModelError: The model cannot be loaded.
        """
        package = ModelPackage.open(release.model_folder)
        decoder = ImageDecoder(children=decoders_beside(machine.device, machine.threads))
        try:
            encoders = {
                name: Encoder.load(
                    package, name, device=machine.device, threads=machine.threads, decoder=decoder
                )
                for name in package.spec.encoders
            }
            proof = prove(release, encoders)
            release.searcher.read_items()
            pictures = has_pictures(release)
            proven = {shown.encoder for shown in proof.encoders if shown.goldens}
        except BaseException:
            decoder.close()
            raise
        return cls(
            release=release,
            package=package,
            package_digest=package.package_digest(),
            proof=proof,
            lanes={
                name: Lane(encoder, spec, observer, _cache(encoder, spec))
                for name, encoder in encoders.items()
            },
            searching=Searching(machine.search_threads, spec, observer),
            probes={name: _probe(release, encoders[name]) for name in encoders if name in proven},
            filters=Filters(release.searcher),
            decoder=decoder,
            pictures=pictures,
        )

    @property
    def pipeline(self) -> str:
        """The pipeline that published the release."""
        return self.release.content.pipeline.name

    @property
    def labels(self) -> dict[str, str]:
        """What every answer says of where it comes from, as HTTP headers."""
        number = self.release.number
        return {
            "embedmill-release": self.release.name,
            "embedmill-release-number": "" if number is None else str(number),
            "embedmill-model": self.package_digest,
        }

    @property
    def text_encoder(self) -> str | None:
        """The encoder of queries that are one text: `query_text`, or an `item` that reads just that."""
        return self._reading(("query_text", "item"), lambda inputs: inputs.text_field is not None)

    @property
    def image_encoder(self) -> str | None:
        """The encoder of queries that are one image."""
        return self._reading(
            ("query_image", "item"), lambda inputs: len(inputs.fields) == len(inputs.image_fields) == 1
        )

    def _reading(self, names: Sequence[EncoderName], fits: Callable[[EncoderInputs], bool]) -> str | None:
        declared = self.package.spec.encoders
        return next((name for name in names if name in declared and fits(declared[name])), None)

    @property
    def alive(self) -> bool:
        """Whether every lane has its thread."""
        return all(lane.alive for lane in self.lanes.values())

    def lane(self, encoder: str) -> Lane:
        """The lane of an encoder.

        Raises:
            RequestRefused: The release's model has no such encoder.
        """
        if encoder not in self.lanes:
            raise RequestRefused(
                f"release {self.release.name}: its model has no encoder {encoder!r}",
                hint=f"it has: {', '.join(self.lanes)}",
                status=404,
            )
        return self.lanes[encoder]

    def close(self) -> None:
        """Answer what waits, and end threads and processes."""
        for lane in self.lanes.values():
            lane.close()
        self.searching.close()
        self.decoder.close()


def _cache(encoder: Encoder, spec: ServingSpec) -> VectorCache | None:
    reads_text = encoder.package.inputs(encoder.name).text_field is not None
    return VectorCache(spec.cache_bytes) if encoder.name == CACHED and reads_text else None


def _probe(release: Release, encoder: Encoder) -> Probe:
    goldens = goldens_of(release, encoder)
    return Probe(goldens.rows.slice(0, 1), goldens.stored_ND[:1])
