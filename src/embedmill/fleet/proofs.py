"""Proofs that an image computes a model on a type of GPU, and which image is trusted where.

A proof is run once for (image, driver, type of GPU, model) and kept. An image that `replaces` another one is
trusted on a type only with a proof there, against the other's vectors; until then the other one stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from embedmill.errors import EmbedmillError, ObjectExists, ObjectMissing
from embedmill.spec.document import canonical_json, sha256
from embedmill.spec.fleet_reports import FleetMatch, GpuMatch, ImageProof, ProofKey
from embedmill.spec.images import ImageSpec, ImagesSpec
from embedmill.store import join_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedmill.spec.host import HostFacts
    from embedmill.store import Store

Prove: TypeAlias = Callable[[GpuMatch, ImageSpec], ImageProof]
"""Starts a worker in the image there, embeds the goldens and compares; an error proves nothing."""


def image_digest(image: ImageSpec) -> str:
    """`sha256:…` of an image, whatever it is called."""
    return image.image.rpartition("@")[2]


class Proofs:
    """Proofs in a store; the first one of a key stays until it is forgotten."""

    def __init__(self, store: Store, prefix: str = "image-proofs") -> None:
        """Keep them below a folder of a store."""
        self.store = store
        self.prefix = prefix

    def find(self, key: ProofKey) -> ImageProof | None:
        """The proof of a key.

        Raises:
            StoreError: It cannot be read.
        """
        place = self._place(key)
        try:
            return ImageProof.from_bytes(self.store.get(place), place)
        except ObjectMissing:
            return None

    def keep(self, proof: ImageProof) -> ImageProof:
        """Keep a proof, unless there is one; the one that is kept.

        Raises:
            StoreError: It cannot be written.
        """
        try:
            self.store.put_if_absent(self._place(proof.key), proof.to_bytes())
        except ObjectExists:
            return self.find(proof.key) or proof
        return proof

    def forget(self, key: ProofKey) -> None:
        """Let it be proven again.

        Raises:
            StoreError: It cannot be deleted.
        """
        self.store.delete(self._place(key))

    def _place(self, key: ProofKey) -> str:
        return join_key(self.prefix, f"{sha256(canonical_json(key.model_dump()))}.json")


@dataclass
class Trust:
    """Which of the images that run on a GPU is taken there. Each proof is read once."""

    images: ImagesSpec
    proofs: Proofs | None = None
    model: str = ""
    _read: dict[ProofKey, ImageProof | None] = field(default_factory=dict)

    def choose(
        self, accepted: Sequence[str], gpu: str, facts: HostFacts
    ) -> tuple[str | None, tuple[str, ...]]:
        """The first image that is trusted, and why others before it are not.

        In the place of an image that is not trusted comes the one that it replaces, if that one runs.
        """
        passed_over: dict[str, str] = {}
        for name in accepted:
            candidate: str | None = name
            while candidate is not None and candidate not in passed_over:
                why = self._distrust(candidate, accepted, gpu, facts)
                if why is None:
                    return candidate, tuple(passed_over.values())
                passed_over[candidate] = f"not {candidate}: {why}"
                older = self.images.images[candidate].replaces
                candidate = older if older in accepted else None
        return None, tuple(passed_over.values())

    def _distrust(self, name: str, accepted: Sequence[str], gpu: str, facts: HostFacts) -> str | None:
        """Why an image is not taken; None if it is."""
        image = self.images.images[name]
        proof = self._find(key_of(image, gpu, facts.driver, self.model))
        where = f"on {gpu} with driver {facts.driver}"
        if proof is not None and not proof.passed:
            return f"it failed its proof {where}: {proof.reason}"
        if image.replaces is None:
            return None
        if proof is None:
            return f"it is not proven {where} against {image.replaces}"
        compared = image_digest(self.images.images[image.replaces])
        if image.replaces in accepted and proof.baseline != compared:
            return f"its proof {where} was against {proof.baseline}, and not {image.replaces}"
        return None

    def _find(self, key: ProofKey) -> ImageProof | None:
        if self.proofs is None or not self.model:
            return None
        if key not in self._read:
            self._read[key] = self.proofs.find(key)
        return self._read[key]


def key_of(image: ImageSpec, gpu: str, driver: str | None, model: str) -> ProofKey:
    """What a proof of an image on a type of GPU is kept under."""
    return ProofKey(image=image_digest(image), driver=driver or "", gpu=gpu, model=model)


@dataclass(frozen=True)
class Tried:
    """What became of proving an image: `proof`, or the words of why there is none."""

    image: str
    key: ProofKey
    proof: ImageProof | None
    said: str


def prove_missing(
    found: FleetMatch, images: ImagesSpec, proofs: Proofs, model: str, prove: Prove
) -> Iterator[Tried]:
    """Prove every image that runs and needs a proof which is not there yet, once on each type of GPU.

    Where the proof itself could not be run, the next GPU of that type is tried.

    Raises:
        StoreError: Proofs cannot be read or written.
    """
    for gpu in found.gpus:
        for verdict in gpu.verdicts:
            image = images.images[verdict.image]
            key = key_of(image, gpu.name, gpu.driver, model)
            if verdict.accepted and image.replaces is not None and proofs.find(key) is None:
                yield _proven(gpu, verdict.image, image, key, proofs, prove)


def _proven(gpu: GpuMatch, name: str, image: ImageSpec, key: ProofKey, proofs: Proofs, prove: Prove) -> Tried:
    try:
        proof = prove(gpu, image)
    except EmbedmillError as error:
        return Tried(name, key, None, error.message)
    if proof.key != key:
        raise ValueError(f"a proof of {proof.key}, where {key} was asked for")
    kept = proofs.keep(proof)
    return Tried(name, key, kept, kept.reason)
