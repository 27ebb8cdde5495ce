"""docs/rollout.md has the sizes, users and files that the code has."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import text_of
from tests.support.plans import SIZES, a_plan

from embedmill.deploy.kubernetes import deploy_serving
from embedmill.deploy.kubernetes.plan import rounded_up
from embedmill.deploy.kubernetes.pod import PERIOD_S, USER
from embedmill.release.pieces import PIECE_BYTES

WORDS = " ".join(text_of("rollout.md").split())


def test_sizes_are_those_of_the_code() -> None:
    assert f"pieces (of {PIECE_BYTES >> 20} MiB)" in WORDS
    assert "memory is 512 MiB, the model thrice, vectors, index, and items twice" in WORDS
    sizes = SIZES
    estimate = (512 << 20) + 3 * sizes.model + sizes.vectors + sizes.index + 2 * sizes.items
    assert sizes.memory == rounded_up(estimate)
    assert a_plan().settings.drain_s > PERIOD_S
    assert f"User {USER}," in WORDS


def test_the_overlays_are_those_that_are_written(tmp_path: Path) -> None:
    deploy_serving(tmp_path / "m", a_plan(12), a_plan(9))
    for overlay in sorted((tmp_path / "m" / "overlays").iterdir()):
        assert f"`overlays/{overlay.name}`" in WORDS
