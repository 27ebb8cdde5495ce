"""Whether two plans are of the same: what an open run, or a run that published meanwhile, is held against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.spec import GateLimits, ServingSpec

if TYPE_CHECKING:
    from embedmill.spec import PipelineSpec
    from embedmill.spec.documents import Plan


def planned_alike(one: Plan, other: Plan) -> bool:
    """Whether two plans were made at once of the same: they compute the same vectors of the same items.

    The catalog's digest is of its files, and not of the images that they name: what became of those is in
    the planned items and in the quarantine.
    """
    same = ("base", "package_digest", "root", "catalog_digest")
    return (
        all(getattr(one, name) == getattr(other, name) for name in same)
        and _read_digests(one) == _read_digests(other)
        and (one.numerics.epoch, one.numerics.stacks) == (other.numerics.epoch, other.numerics.stacks)
        and shaping(one.pipeline) == shaping(other.pipeline)
    )


def shaping(spec: PipelineSpec) -> PipelineSpec:
    """The spec without what only judges a candidate, or only says where and how many loops work on it."""
    neutral: dict[str, object] = {"workers": None, "attempts": 1, "look_again_s": 1.0, "calibrate": True}
    neutral |= {"role": None, "role_lasts_s": 3600, "lend_keys": False}
    return spec.model_copy(
        update={
            "engine": "local",
            "fleet": None,
            "kubernetes": None,
            "jenkins": None,
            "ray": None,
            "priority": 10,
            "deadline": None,
            "gates": GateLimits(),
            "serving": ServingSpec(),
            "work": spec.work.model_copy(update=neutral),
        }
    )


def _read_digests(plan: Plan) -> list[str]:
    """Of what was read: items with their fingerprints, and those that were refused, each with its reason."""
    return [entry.sha256 for entry in (*plan.item_parts, plan.quarantine)]
