"""A catalog full of hostile images through real workers: each is quarantined, and no other vector moves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.decoding import hostile
from tests.decoding.faulty_child import faulty
from tests.decoding.pictures import encoded, noise
from tests.models import tiny_image_package
from tests.support.mill import Mill, quarantined

from embedmill.decoding.process import DecodingLimits
from embedmill.release.reader import Release
from embedmill.types import Reason
from embedmill.work import WorkerOptions, work

GOOD = {f"good {n}": encoded(noise(20 + n, 24, n), ["PNG", "JPEG", "WEBP"][n % 3]) for n in range(40)}
FAULTY = DecodingLimits(cpu_s=1, module="tests.decoding.faulty_child")
HASTY = replace(FAULTY, wall_s=1.0)
"""For what sleeps, which is waited for twice. It is decoded alone: no image that is only late is lost."""
FAULTS = {"segfault": 4, "abort": 1, "leave": 1, "spin": 1, "devour": 1, "break-the-next": 4}
DEADLY = {f"{fault} {n}": faulty(fault, n) for fault, count in FAULTS.items() for n in range(count)}
REFUSED, ODD = hostile.refused(), hostile.odd()


def catalog(root: Path, images: Mapping[str, bytes]) -> Mill:
    root.mkdir()
    mill = Mill(
        root, tiny_image_package(root / "model"), pa.schema({"sku": pa.string(), "image": pa.binary()})
    )
    mill.settings = {"catalog": {"source": "items.parquet", "id": "sku"}, "work": {"batch_images": 16}}
    mill.write([{"sku": name, "image": data} for name, data in images.items()])
    return mill


def vectors(release: Release, of: Mapping[str, bytes]) -> dict[str, bytes]:
    ids, found_ND = release.to_numpy()
    return {name: vector.tobytes() for name, vector in zip(ids, found_ND, strict=True) if name in of}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Vectors of the good images in a catalog of nothing else."""
    mill = catalog(tmp_path_factory.mktemp("good") / "mill", GOOD)
    assert mill.run().embedded == len(GOOD)
    return vectors(mill.live(), GOOD)


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_worker_survives_images_that_kill_decoders(
    tmp_path: Path, alone: dict[str, bytes], lanes: int
) -> None:
    mill = catalog(tmp_path / "mill", GOOD | REFUSED | DEADLY)
    planned = mill.planned()
    work(planned.home, planned.plan.run, WorkerOptions("here", lanes=lanes, decoding=FAULTY))
    report = planned.run()
    assert (report.embedded, report.quarantined) == (len(GOOD), len(REFUSED) + len(DEADLY))
    lost = {row["id"]: row for row in quarantined(mill.live())}
    assert set(lost) == set(REFUSED) | set(DEADLY)
    assert {row["reason"] for row in lost.values()} == {Reason.IMAGE_INVALID}
    assert all(row["detail"] for row in lost.values())
    assert "twice the decoder ended with SIGSEGV" in lost["segfault 3"]["detail"]
    assert vectors(mill.live(), GOOD) == alone


def test_a_worker_waits_for_no_image_that_sleeps(tmp_path: Path, alone: dict[str, bytes]) -> None:
    mill = catalog(tmp_path / "mill", GOOD)
    mill.run()
    mill.write([{"sku": n, "image": data} for n, data in {**GOOD, "sleep": faulty("sleep")}.items()])
    planned = mill.planned()
    work(planned.home, planned.plan.run, WorkerOptions("here", decoding=HASTY))
    report = planned.run()
    assert (report.embedded, report.quarantined) == (0, 1), "the others are as they were"
    (lost,) = quarantined(mill.live())
    assert (lost["id"], lost["reason"]) == ("sleep", Reason.IMAGE_INVALID)
    assert "no answer within 1 s" in lost["detail"]
    assert vectors(mill.live(), GOOD) == alone


def test_a_run_with_its_own_workers_ends_as_one_with_quarantine(
    tmp_path: Path, alone: dict[str, bytes]
) -> None:
    mill = catalog(tmp_path / "mill", GOOD | REFUSED | ODD)
    mill.open()
    command = [sys.executable, "-m", "embedmill", "run", str(mill.root / "pipeline.yaml"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 4, done.stderr
    report = json.loads(done.stdout)
    assert (report["embedded"], report["quarantined"]) == (len(GOOD) + len(ODD), len(REFUSED))
    assert vectors(mill.live(), GOOD) == alone
    assert np.isfinite(mill.live().to_numpy()[1]).all()
