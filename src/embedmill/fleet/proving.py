"""Does an image compute a release's vectors on a type of GPU? Asked of a container there, and remembered."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedmill.errors import DeviceUnavailable, StoreError, WorkerFailed
from embedmill.fleet.container import borrowed_of
from embedmill.fleet.proofs import image_digest, key_of
from embedmill.fleet.reaching import host_of
from embedmill.fleet.rehearsal import Rehearsal
from embedmill.spec.document import now
from embedmill.spec.fleet_reports import DeviceProof, ImageProof, place_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedmill.fleet.container import Room
    from embedmill.fleet.rehearsal import Ended
    from embedmill.spec.fleet import FleetSpec
    from embedmill.spec.fleet_reports import EncoderOnDevice, FleetProbe, GpuMatch, Rule
    from embedmill.spec.images import ImageSpec, ImagesSpec
    from embedmill.types import Vectors

RELEASE = "release"
"""The baseline of a proof against the vectors that were published."""
START_S = 600.0
"""How long a container may take beside embedding: an image that is not there has to be fetched."""


@dataclass(frozen=True)
class Question:
    """What is embedded there: the release's goldens, for so many seconds with each encoder.

    `model` is the package's digest. `secrets` open the release's store. `runtimes` are the kinds that can
    compute the model.
    """

    release: str
    model: str
    secrets: Mapping[str, str]
    runtimes: tuple[str, ...] = ()
    seconds: float = 10.0


def measured(place: Rehearsal, question: Question) -> DeviceProof:
    """Embed the goldens in the container.

    Raises:
        DeviceUnavailable: The GPU is somebody's, or no container can be started.
        Yielded: Somebody wanted the GPU meanwhile.
        WorkerFailed: It ended without an answer; has its last words.
    """
    arguments = [
        *prove_arguments(place, question, question.seconds),
        "--gpu",
        place.borrowed.uuid,
        "--vectors",
    ]
    ended = place.finished(arguments, question.secrets, START_S + 10 * question.seconds)
    return _answer(ended, place.host.name)


def prove_arguments(place: Rehearsal, question: Question, seconds: float) -> list[str]:
    """`prove …` in the container: embed for so long with each encoder."""
    arguments = ["prove", question.release, "--device", place.device, "--threads", str(place.room.threads)]
    arguments += ["--seconds", str(seconds), "--json"]
    limit_mib = place.room.gpu_memory_mib
    arguments += [] if limit_mib is None else ["--gpu-memory", str(limit_mib)]
    return arguments + (["--environment-stdin"] if question.secrets else [])


def _answer(ended: Ended, where: str) -> DeviceProof:
    try:
        return DeviceProof.from_bytes(ended.output.encode(), where)
    except StoreError:
        raise WorkerFailed(
            f"{where}: the container ended with {ended.exit_code}: {ended.said or 'without a word'}"
        ) from None


def proof_of(
    place: Rehearsal,
    question: Question,
    found: DeviceProof,
    older: DeviceProof | None = None,
    baseline: str = "",
) -> ImageProof:
    """What measurements say of an image: against the published vectors, or those of an `older` image there.

    `baseline` is the older image's digest.
    """
    lowest = found.lowest_cosine if older is None else lowest_between(found, older)
    passed = lowest >= found.tolerance
    against = "the published vectors" if older is None else f"the vectors of {baseline[:19]}…"
    count = sum(each.goldens for each in found.encoders)
    verdict = "at least" if passed else "below"
    return ImageProof(
        key=key_of(place.image, place.borrowed.name, place.facts.driver, question.model),
        passed=passed,
        reason=f"{count} goldens, lowest cosine {lowest:.6f} with {against}: {verdict} {found.tolerance}",
        baseline=baseline or RELEASE,
        lowest_cosine=lowest,
        goldens=count,
        seconds=round(found.load_s, 3),
        taken=now(),
    )


def prove_image(place: Rehearsal, question: Question, older: Rehearsal | None = None) -> ImageProof:
    """Measure an image on a GPU, and the one that it replaces, if any; see `measured` and `proof_of`."""
    found = measured(place, question)
    if older is None:
        return proof_of(place, question, found)
    return proof_of(place, question, found, measured(older, question), image_digest(older.image))


@dataclass(frozen=True)
class Prover:
    """Proves images on GPUs of a fleet that was probed; see `proofs.prove_missing`."""

    spec: FleetSpec
    images: ImagesSpec
    probe: FleetProbe
    question: Question
    room: Room

    def __call__(self, gpu: GpuMatch, image: ImageSpec) -> ImageProof:
        """Against the vectors of the image that this one replaces, where that one runs there, too.

        Raises:
            DeviceUnavailable: The GPU is not idle, or no container can be started there.
            Yielded: Somebody wanted the GPU meanwhile.
            WorkerFailed: A container ended without an answer.
        """
        older = None if image.replaces is None else self.images.images[image.replaces]
        runs = older is not None and self._rule(gpu, older) != "refused"
        return prove_image(
            self._place(gpu, image), self.question, self._place(gpu, older) if older and runs else None
        )

    def _place(self, gpu: GpuMatch, image: ImageSpec) -> Rehearsal:
        (server,) = (each for each in self.probe.servers if each.server == gpu.server)
        (verdict,) = (each for each in server.gpus if each.uuid == gpu.uuid)
        if verdict.state != "idle" or server.facts is None:
            raise DeviceUnavailable(f"{gpu.server} #{place_of(gpu)}: {verdict.reason}")
        host = host_of(gpu.server, self.spec.servers[gpu.server])
        borrowed = borrowed_of(server.facts, gpu.uuid, self._rule(gpu, image))
        room = self.room.within(self.spec.room_of(gpu.server))
        return Rehearsal(host, server.facts, self.spec, image, borrowed, room)

    def _rule(self, gpu: GpuMatch, image: ImageSpec) -> Rule:
        name = next(name for name, each in self.images.images.items() if each is image)
        verdict = gpu.verdict_of(name)
        return "refused" if verdict is None else verdict.rule


def lowest_between(one: DeviceProof, other: DeviceProof) -> float:
    """The lowest cosine between vectors of equal goldens; 0 where they are not of the same ones."""
    theirs = {each.encoder: each for each in other.encoders}
    lowest = 1.0
    for each in one.encoders:
        match = theirs.get(each.encoder)
        if match is None or each.vectors is None or match.vectors is None:
            return 0.0
        lowest = min(lowest, _lowest(_vectors(each), _vectors(match)))
    return lowest


def _vectors(found: EncoderOnDevice) -> Vectors:
    vectors: Vectors = np.frombuffer(base64.b64decode(found.vectors or ""), np.float32)
    return vectors.reshape(found.goldens, -1)


def _lowest(a_ND: Vectors, b_ND: Vectors) -> float:
    if a_ND.shape != b_ND.shape:
        return 0.0
    lengths = np.linalg.norm(a_ND, axis=1) * np.linalg.norm(b_ND, axis=1)
    products = np.einsum("nd,nd->n", a_ND, b_ND)
    cosines = np.where(lengths > 0, products / np.where(lengths > 0, lengths, 1), 1.0)
    return round(float(cosines.min(initial=1.0)), 6)
