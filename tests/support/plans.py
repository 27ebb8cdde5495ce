"""Plans of deployments, as `plan_serving` makes them of releases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from embedmill.deploy.kubernetes.plan import ServingPlan, Settings, Sizes

GIB = 1 << 30
IMAGE = f"registry.internal/embedmill@sha256:{'ab' * 32}"
SETTINGS = Settings(image=IMAGE, namespace="shop", scrapers=("monitoring",))
SIZES = Sizes(release=4 * GIB, model=GIB // 8, vectors=3 * GIB // 2, index=2 * GIB, items=GIB // 4)


def a_plan(number: int = 12, **settings: Any) -> ServingPlan:
    """Release 12 of a pipeline whose name YAML could misread, unless other settings are given."""
    return ServingPlan(
        settings=replace(SETTINGS, **settings),
        name="similar-items",
        pipeline_url="s3://bucket/mill/similar-items",
        pipeline="similar-items",
        release=f"20260131T2359591{number:02d}-3f9c",
        number=number,
        manifest_digest="89" * 32,
        package_digest="1e" + "23" * 31,
        sizes=SIZES,
    )
