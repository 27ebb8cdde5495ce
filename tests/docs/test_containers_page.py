"""docs/containers.md shows the command that workers are started with, and the images that can be made."""

from __future__ import annotations

import re

from tests.docs.pages import text_of
from tests.fleet.test_container import ANY, CUDA_IMAGE, DIGEST, ROOTLESS, WHOLE, facts
from tests.fleet_group.test_container import ATTEMPTS

from embedmill.deploy.worker_image import USER, VARIANTS
from embedmill.fleet.container import Room, container_command

WORDS = text_of("containers.md")


def test_the_command_is_the_one_that_workers_are_started_with() -> None:
    shown = re.search(r"^podman run .*?^```$", WORDS, re.MULTILINE | re.DOTALL)
    assert shown
    begin, end = shown[0].removesuffix("```").split("…\n", 1)
    made = container_command(
        facts(ROOTLESS), WHOLE, CUDA_IMAGE, ANY, worker="gpu-07:1", run="r1", room=Room()
    )
    assert tuple(begin.split()) == made[: len(begin.split())]
    image = DIGEST.split("sha256:")[0] + "sha256:…"
    assert end.split() == [made[-2], image, "worker", "…"]


def test_the_page_names_only_images_that_there_are() -> None:
    named = set(re.findall(r"\b(?:onnx|torch|tensorflow|openvino)-(?:cpu|cu\w+)\b", WORDS))
    assert named <= set(VARIANTS)
    assert f"user {USER}," in WORDS


def test_the_attempts_are_counted() -> None:
    assert WORDS.count(f"{len(ATTEMPTS)} attempts") == 2
