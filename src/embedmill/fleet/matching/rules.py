"""Does an image run on a GPU? Every rule is tried in order, and every one says its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.fleet.matching.architectures import driver_knows, has_code, toolkit_knows
from embedmill.fleet.matching.drivers import Situation, rules
from embedmill.fleet.matching.frameworks import built_with, has_runtime
from embedmill.fleet.matching.require import Required, required
from embedmill.fleet.matching.steps import Step
from embedmill.fleet.matching.tables import tables
from embedmill.fleet.matching.versions import dotted, pair, parsed
from embedmill.spec.fleet_reports import ImageVerdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from embedmill.spec.fleet_reports import Rule
    from embedmill.spec.host import GpuFacts, HostFacts
    from embedmill.spec.images import ImageSpec

ON_CPU = "it computes on the CPU: the GPU is not used"


def match(
    gpu: GpuFacts, facts: HostFacts, image: ImageSpec, *, name: str = "", runtimes: Collection[str] = ()
) -> ImageVerdict:
    """Whether an image runs on a GPU, by which rule, and why.

    `name`: the image's in images.yaml. `runtimes`: kinds that can compute the model; the image needs one.

    Raises:
        SpecError: What the image requires is no expression.
    """
    called = name or image.image
    steps = [has_runtime(image, runtimes)]
    if not steps[0].passed:
        return _verdict(called, "refused", steps)
    if image.device == "cpu":
        steps.append(Step(True, "`device` is cpu: no GPU and no driver is needed", ON_CPU))
        return _verdict(called, "cpu", steps)
    found = _situation(gpu, facts, image)
    if isinstance(found, Step):
        return _verdict(called, "refused", [*steps, found])
    for step in _on_the_gpu(found):
        steps.append(step)
        if not step.passed:
            return _verdict(called, "refused", steps)
    rule, why = _driver_rule(found, steps)
    if rule == "refused":
        return _verdict(called, rule, steps, why)
    steps.append(_required(found, gpu, facts, called))
    if not steps[-1].passed:
        return _verdict(called, "refused", steps)
    return _verdict(called, rule, steps, f"{why}; {has_code(image, found.capability).said}")


def _situation(gpu: GpuFacts, facts: HostFacts, image: ImageSpec) -> Situation | Step:
    """All that the rules need, or what is not known."""
    if image.cuda is None:
        return Step(False, "the image has no CUDA, and its `device` is not cpu")
    if facts.driver is None:
        return Step(False, "the driver's version could not be learned")
    capability = gpu.compute_capability or _by_name(gpu.name)
    if capability is None:
        return Step(False, f"the compute capability of {gpu.name} could not be learned")
    try:
        driver = parsed(facts.driver)
    except ValueError:
        return Step(False, f"the driver's version is {facts.driver!r}, which is none")
    return Situation(
        gpu=gpu.name,
        brand=gpu.brand,
        capability=capability,
        driver_text=facts.driver,
        driver=driver,
        host_cuda=facts.cuda or tables().cuda_of(driver),
        image=image,
        cuda=pair(image.cuda),
    )


def _by_name(name: str) -> tuple[int, int] | None:
    """Of data-centre GPUs: old programs of NVIDIA do not tell it."""
    model = tables().data_centre_model(name)
    return tables().data_centre.names[model] if model else None


def _on_the_gpu(found: Situation) -> Iterator[Step]:
    yield from built_with(found.image, found.cuda)
    yield toolkit_knows(found.cuda, found.capability)
    yield driver_knows(found.driver, found.capability)
    yield has_code(found.image, found.capability)


def _driver_rule(found: Situation, steps: list[Step]) -> tuple[Rule, str]:
    """The first rule that passes and why, or why none does; what was tried is added to `steps`."""
    tried: list[str] = []
    for rule, step in rules(found):
        tried.append(f"{rule}: {step.said}")
        steps.append(Step(step.passed, tried[-1], step.warning))
        if step.passed:
            return rule, step.said
    return "refused", "; ".join(tried)


def _required(found: Situation, gpu: GpuFacts, facts: HostFacts, called: str) -> Step:
    host = Required(
        cuda=dotted(found.host_cuda) if found.host_cuda else None,
        driver=facts.driver,
        arch=dotted(found.capability),
        brand=gpu.brand,
    )
    return required(found.image.require, host, called)


def _verdict(name: str, rule: Rule, steps: list[Step], reason: str = "") -> ImageVerdict:
    return ImageVerdict(
        image=name,
        rule=rule,
        reason=reason or steps[-1].said,
        steps=tuple(f"{'yes' if step.passed else 'no'}: {step.said}" for step in steps),
        warnings=tuple(step.warning for step in steps if step.warning),
    )
