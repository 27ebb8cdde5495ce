"""The proof kit: one server from the probe to the yield, with a real container on one of its GPUs.

probe ─▶ idle ─▶ match ─▶ start ─▶ parity ─▶ yield     each passed, failed, or skipped because of one before

Nothing is installed there, and nothing stays but the lock folder and the image.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

from embedmill.devices.reach import run_there
from embedmill.errors import DeviceUnavailable, EmbedmillError, WorkerFailed
from embedmill.fleet.container import Borrowed, Room, borrowed_of
from embedmill.fleet.matching import match
from embedmill.fleet.proving import Question, measured, proof_of, prove_arguments
from embedmill.fleet.rehearsal import GIVEN_BACK, Rehearsal
from embedmill.spec.document import now
from embedmill.spec.fleet_reports import ImageProof, ProveReport, ProveStep, place_of
from embedmill.words import counted

if TYPE_CHECKING:
    from embedmill.spec.fleet import FleetSpec
    from embedmill.spec.fleet_reports import DeviceProof, GpuVerdict, ImageVerdict, ServerProbe
    from embedmill.spec.host import HostFacts
    from embedmill.spec.images import ImagesSpec
    from embedmill.types import Host

STEPS = ("probe", "idle", "match", "start", "parity", "yield")
START_S = 600.0
YIELD_LIMIT_S = 10.0
"""A worker that has not left by then has failed."""
BUSY_S = 120.0
"""How long the worker that is sent away would otherwise embed."""
MIB = 1 << 20

Found = tuple[str, dict[str, float]]
OnStep = Callable[[str], None]


@dataclass
class Kit:
    """A proof of one server. `ask` probes it; `index` is the GPU to take, the first idle one if None."""

    host: Host
    fleet: FleetSpec
    images: ImagesSpec
    question: Question
    ask: Callable[[], ServerProbe]
    index: int | None = None
    room: Room = field(default_factory=Room)
    on_step: OnStep = lambda _: None
    proof: ImageProof | None = None
    """What became known of the image."""
    _probed: ServerProbe | None = None
    _verdict: GpuVerdict | None = None
    _chosen: tuple[str, ImageVerdict] | None = None

    def run(self) -> ProveReport:
        """All steps; none of them raises."""
        actions: dict[str, Callable[[], Found]] = {
            "probe": self._probe,
            "idle": self._idle,
            "match": self._match,
            "start": self._start,
            "parity": self._parity,
            "yield": self._yield,
        }
        steps: list[ProveStep] = []
        for name in STEPS:
            failed = next((step.step for step in steps if step.state == "failed"), None)
            if failed is not None:
                steps.append(_skipped(name, failed))
                continue
            self.on_step(name)
            steps.append(_carried_out(name, actions[name]))
        return ProveReport(
            server=self.host.name,
            taken=now(),
            embedmill=version("embedmill"),
            facts=None if self._probed is None else self._probed.facts,
            steps=tuple(steps),
        )

    def _probe(self) -> Found:
        self._probed = self.ask()
        if self._probed.state != "ok" or self._probed.facts is None:
            raise DeviceUnavailable(f"{self._probed.state}: {self._probed.reason}")
        facts = self._probed.facts
        names = ", ".join(dict.fromkeys(gpu.name for gpu in facts.gpus))
        count = len(facts.gpus)
        return f"{counted(count, 'GPU')} ({names}), driver {facts.driver}", {"gpus": count}

    def _idle(self) -> Found:
        verdicts = self._probed.gpus if self._probed else ()
        wanted = [each for each in verdicts if self.index is None or each.index == self.index]
        for each in wanted:
            if each.state == "idle":
                self._verdict = each
                return f"GPU {place_of(each)} ({each.name}): {each.reason}", {
                    "used_mib": each.used_bytes / MIB
                }
        reasons = (
            "; ".join(f"GPU {place_of(each)}: {each.reason}" for each in wanted) or "there is no such GPU"
        )
        raise DeviceUnavailable(f"no GPU is idle: {reasons}")

    def _match(self) -> Found:
        gpu, refusals = self._borrowed.gpu, []
        for name, image in self.images.images.items():
            verdict = match(gpu, self._facts, image, name=name, runtimes=self.question.runtimes)
            if verdict.accepted:
                self._chosen = (name, verdict)
                warnings = "".join(f"; {each}" for each in verdict.warnings)
                return f"image {name}, rule {verdict.rule}: {verdict.reason}{warnings}", {}
            refusals.append(f"{name}: {verdict.reason}")
        raise DeviceUnavailable(f"no image runs on it: {'; '.join(refusals)}")

    def _start(self) -> Found:
        started = time.monotonic()
        ended = self._place.finished(["--version"], {}, START_S)
        if ended.exit_code:
            raise WorkerFailed(f"the container ended with {ended.exit_code}: {ended.said}")
        return ended.output.strip(), {"start_s": round(time.monotonic() - started, 3)}

    def _parity(self) -> Found:
        found = measured(self._place, self.question)
        self.proof = proof_of(self._place, self.question, found)
        if not self.proof.passed:
            raise WorkerFailed(self.proof.reason)
        return f"{self.proof.reason}; {found.runtime} on {found.device}", _figures(found)

    def _yield(self) -> Found:
        """A worker embeds; somebody takes memory of the GPU: how long until the worker is gone?"""
        place = self._place
        place.start(prove_arguments(place, self.question, BUSY_S), self.question.secrets)
        try:
            time.sleep(min(5.0, self.question.seconds))
            with self._training():
                came = time.monotonic()
                ended = place.wait(2 * YIELD_LIMIT_S)
                seconds_to_yield = time.monotonic() - came
        finally:
            with suppress(EmbedmillError):
                place.stop()
        if ended is None or seconds_to_yield > YIELD_LIMIT_S:
            raise WorkerFailed(f"the worker was there {seconds_to_yield:.1f} s after somebody else came")
        if ended.exit_code != GIVEN_BACK:
            raise WorkerFailed(f"it did not yield: it ended with {ended.exit_code}: {ended.said}")
        return f"gone after {seconds_to_yield:.1f} s: {ended.said}", {"yield_s": round(seconds_to_yield, 3)}

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Somebody else on the GPU, for `2 * YIELD_LIMIT_S`."""
        mib, seconds = str(self.fleet.idle.memory_mib + 1024), str(2 * YIELD_LIMIT_S)
        answers = []

        def occupy() -> None:
            order = (self._place.borrowed.uuid, mib, seconds)
            answers.append(run_there(self.host.reach, "occupy", *order, timeout_s=6 * YIELD_LIMIT_S))

        thread = threading.Thread(target=occupy, daemon=True)
        thread.start()
        yield
        thread.join(1.0)
        if answers and answers[0].code:
            raise DeviceUnavailable(f"nobody could be made to come: {answers[0].last_line}")

    @property
    def _facts(self) -> HostFacts:
        if self._probed is None or self._probed.facts is None:
            raise DeviceUnavailable(f"{self.host.name} was not probed")
        return self._probed.facts

    @property
    def _borrowed(self) -> Borrowed:
        """The GPU that is idle, or the slice where it is in MIG mode."""
        if self._verdict is None:
            raise DeviceUnavailable(f"{self.host.name}: no GPU was chosen")
        rule = "native" if self._chosen is None else self._chosen[1].rule
        return borrowed_of(self._facts, self._verdict.uuid, rule)

    @property
    def _place(self) -> Rehearsal:
        image = self.images.images["" if self._chosen is None else self._chosen[0]]
        room = self.room.within(self.fleet.room_of(self.host.name))
        return Rehearsal(self.host, self._facts, self.fleet, image, self._borrowed, room)


def _carried_out(name: str, action: Callable[[], Found]) -> ProveStep:
    started = time.monotonic()
    try:
        found, figures = action()
        state = "passed"
    except (EmbedmillError, OSError, ValueError) as error:
        found, figures, state = str(error), {}, "failed"
    seconds = round(time.monotonic() - started, 3)
    return ProveStep.model_validate(
        {"step": name, "state": state, "found": found, "seconds": seconds, "figures": figures}
    )


def _skipped(name: str, failed: str) -> ProveStep:
    return ProveStep(step=name, state="skipped", found=f"{failed} failed", seconds=0.0)


def _figures(found: DeviceProof) -> dict[str, float]:
    figures: dict[str, float] = {
        "load_s": found.load_s,
        "lowest_cosine": found.lowest_cosine,
        "rss_mib": round(found.rss_bytes / MIB, 1),
    }
    figures |= {f"{each.encoder}_rows_per_s": each.rows_per_s for each in found.encoders}
    if found.gpu_bytes is not None:
        figures["gpu_mib"] = round(found.gpu_bytes / MIB, 1)
    return figures
