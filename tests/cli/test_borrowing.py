"""What would stop a run on a fleet is said before anything is planned."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.terminal import Terminal
from tests.support.mill import Mill, items

from embedmill.release.runs import open_plans

FLEET = "servers: {gpu-01: {}}\nimages: images.yaml\n"
IMAGES = f"images: {{cpu: {{image: 'sha256:{'ab' * 32}', runtimes: {{onnx: '1'}}, device: cpu}}}}\n"


@pytest.mark.parametrize(
    ("files", "options", "said"),
    [
        ({}, [], "engine ssh: no servers are named"),
        ({}, ["--fleet", "fleet.yaml"], "fleet.yaml"),
        ({"fleet.yaml": "servers: {gpu-01: {}}\n"}, ["--fleet", "fleet.yaml"], "fleet.yaml: names no images"),
        ({"fleet.yaml": FLEET}, ["--fleet", "fleet.yaml"], "images.yaml"),
        (
            {"fleet.yaml": FLEET, "images.yaml": IMAGES},
            ["--fleet", "fleet.yaml"],
            "is a folder of this machine, which workers on gpu-01 cannot open (use a bucket such as s3://…",
        ),
    ],
    ids=["no-fleet", "no-file", "no-images", "no-images-file", "local-store"],
)
def test_a_run_that_no_server_could_work_on_is_refused_before_it_is_planned(
    mill: Mill,
    embedmill: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    options: list[str],
    said: str,
) -> None:
    mill.write(items(4))
    mill.open()
    monkeypatch.chdir(mill.root)
    for name, text in files.items():
        (mill.root / name).write_text(text)
    done = embedmill("run", "pipeline.yaml", "--engine", "ssh", *options)
    assert (done.code, said in done.err) == (2, True), done.err
    assert next(open_plans(mill.home), None) is None


def test_an_engine_that_there_is_not_is_refused_with_those_that_there_are(
    mill: Mill, embedmill: Terminal, tmp_path: Path
) -> None:
    mill.open()
    done = embedmill("run", mill.root / "pipeline.yaml", "--engine", "warp")
    assert done.code == 2
    assert "--engine warp: there is none of that name (allowed: local, ssh, kubernetes, ray, jen" in done.err
