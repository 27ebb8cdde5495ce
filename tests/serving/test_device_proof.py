"""A release's goldens on a device, without a server."""

from __future__ import annotations

from tests.serving.test_live import reweigh
from tests.support.mill import Mill, items

from embedmill.serving.device_proof import prove_device


def test_other_weights_are_seen(mill: Mill) -> None:
    mill.run(items(40))
    release = mill.live()
    assert prove_device(release, "cpu", seconds=0).passed
    reweigh(release.model_folder / "model.onnx")
    proof = prove_device(release, "cpu", seconds=0)
    assert not proof.passed
    assert proof.lowest_cosine < 0.99


def test_the_most_memory_of_the_gpu_is_told(mill: Mill) -> None:
    mill.run(items(40))
    used = iter([3, 2])
    assert prove_device(mill.live(), "cpu", seconds=0, gpu_bytes=lambda: next(used)).gpu_bytes == 3
