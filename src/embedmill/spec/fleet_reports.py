"""What `fleet probe`, `fleet match` and `fleet prove` say, for people and programs."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from embedmill.spec.document import Document, Part
from embedmill.spec.host import HostFacts

GpuState = Literal["idle", "busy", "reserved", "unhealthy", "unknown", "unfit"]
"""`unknown`: not enough was learned to call it idle. `unfit`: a mode that workers cannot use."""
ServerState = Literal["ok", "no-gpu", "unreachable", "refused", "timeout", "failed"]
Rule = Literal["native", "minor", "forward", "refused", "cpu"]
MIG = "MIG-"
UUID_CHARACTERS = 8
"""Of a slice's UUID, to tell it from the others of its GPU."""


class GpuVerdict(Part):
    """Whether one GPU may be borrowed, and why (not), in words with figures."""

    server: str
    index: int
    uuid: str
    name: str
    state: GpuState
    reason: str
    memory_bytes: int
    used_bytes: int


class ServerProbe(Part):
    """What became of asking one server."""

    server: str
    state: ServerState
    reason: str
    seconds: float
    facts: HostFacts | None = None
    gpus: tuple[GpuVerdict, ...] = ()


class FleetProbe(Document):
    """`fleet probe`: every server that was asked, in the order of fleet.yaml."""

    SCHEMA: ClassVar[str] = "fleet-probe/1"

    taken: str
    seconds: float
    servers: tuple[ServerProbe, ...]


class ImageVerdict(Part):
    """Whether an image runs on a GPU.

    `rule` decided; `reason` has its numbers; `steps` has every rule that was tried. `warnings`: what is
    allowed and slow or uncertain, such as code that the driver has to compile first.
    """

    image: str
    rule: Rule
    reason: str
    steps: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether a worker may be started in the image there."""
        return self.rule != "refused"


class GpuMatch(Part):
    """A GPU and the images for it: the `chosen` one is the first that is accepted and trusted.

    `reason`: why it is, and why others before it are not; or why there is none.
    """

    server: str
    index: int
    uuid: str
    name: str
    driver: str | None
    compute_capability: tuple[int, int] | None
    chosen: str | None
    verdicts: tuple[ImageVerdict, ...]
    reason: str = ""

    def verdict_of(self, image: str | None) -> ImageVerdict | None:
        """What was found of an image, by its name; None if it was not asked for."""
        return next((each for each in self.verdicts if each.image == image), None)

    @property
    def rule(self) -> Rule:
        """The one by which the chosen image runs; `refused` where there is none."""
        verdict = self.verdict_of(self.chosen)
        return "refused" if verdict is None else verdict.rule


class FleetMatch(Document):
    """`fleet match`: every GPU of the servers that answered; `unanswered` has the others, with the reason."""

    SCHEMA: ClassVar[str] = "fleet-match/1"

    gpus: tuple[GpuMatch, ...]
    unanswered: dict[str, str] = Field(default_factory=dict)


class GpuCommand(Part):
    """What would start a container on a GPU or slice, for `worker …` to follow; empty where nothing would."""

    index: int
    uuid: str
    name: str
    command: tuple[str, ...]
    reason: str


def place_of(gpu: GpuVerdict | GpuMatch | GpuCommand) -> str:
    """What people call a GPU of a server: its index; a slice, with its UUID's beginning, as its loop."""
    if not gpu.uuid.startswith(MIG):
        return str(gpu.index)
    return f"{gpu.index}-{gpu.uuid.removeprefix(MIG)[:UUID_CHARACTERS]}"


class FleetCommands(Document):
    """`fleet command`: every GPU of one server, busy or not; of one in MIG mode every slice."""

    SCHEMA: ClassVar[str] = "fleet-command/1"

    server: str
    gpus: tuple[GpuCommand, ...]


class ProofKey(Part):
    """What a proof holds for, and nothing else. `model`: the digest of the whole package."""

    image: str
    driver: str
    gpu: str
    model: str


class ImageProof(Document):
    """A worker in an image embedded the goldens on a type of GPU; cached under its key.

    `baseline`: whose vectors they were compared with: `release`, those that were published, or the
    digest of the image that is replaced.
    """

    SCHEMA: ClassVar[str] = "image-proof/1"

    key: ProofKey
    passed: bool
    reason: str
    baseline: str
    lowest_cosine: float | None
    goldens: int
    seconds: float
    taken: str


class ImageTried(Part):
    """What became of proving an image on a type of GPU; `passed` is null where it could not be tried."""

    image: str
    key: ProofKey
    passed: bool | None
    said: str


class ImagesProof(Document):
    """`images prove`: what was tried now, and which image every GPU gets from now on."""

    SCHEMA: ClassVar[str] = "images-proof/1"

    tried: tuple[ImageTried, ...]
    match: FleetMatch


class EncoderOnDevice(Part):
    """What one encoder made of its goldens on a device. `rows_per_s` is of goldens, over and over.

    `vectors`: float32[goldens, D] in Base64, row after row, where somebody asked for them.
    """

    encoder: str
    goldens: int
    lowest_cosine: float
    rows_per_s: float
    vectors: str | None = None


class DeviceProof(Document):
    """`prove`: a release's goldens on a device of the machine that ran it.

    `gpu_bytes`: the most memory of the GPU that was in use, by everybody; null without a driver.
    """

    SCHEMA: ClassVar[str] = "device-proof/1"

    release: str
    number: int | None
    model: str
    device: str
    runtime: str
    load_s: float
    encoders: tuple[EncoderOnDevice, ...]
    tolerance: float
    rss_bytes: int
    gpu_bytes: int | None

    @property
    def lowest_cosine(self) -> float:
        """Of all goldens of all encoders."""
        return min((each.lowest_cosine for each in self.encoders), default=0.0)

    @property
    def passed(self) -> bool:
        """Whether every encoder made the vectors of the release."""
        return bool(self.encoders) and self.lowest_cosine >= self.tolerance


class ProveStep(Part):
    """One step of the proof on a server; `figures` are numbers with their units in their names."""

    step: str
    state: Literal["passed", "failed", "skipped"]
    found: str
    seconds: float
    figures: dict[str, float] = Field(default_factory=dict)


class ProveReport(Document):
    """`fleet prove`: from the probe to the yield, on one server."""

    SCHEMA: ClassVar[str] = "fleet-prove/1"

    server: str
    taken: str
    embedmill: str
    facts: HostFacts | None
    steps: tuple[ProveStep, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(step.state != "failed" for step in self.steps)
