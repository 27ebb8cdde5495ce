"""A loop whose lanes share the making of arrays from images: the same vectors, and nothing left behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import psutil
import pyarrow as pa
import pytest
from tests.decoding.faulty_child import faulty
from tests.decoding.pictures import encoded, noise
from tests.models import tiny_image_package
from tests.support.mill import Mill
from tests.work.test_failing_lanes import Failing

from embedmill.decoding.process import DecodingLimits
from embedmill.errors import EmbedmillError, OutOfMemory, Yielded
from embedmill.model import Encoder, ModelPackage
from embedmill.model.images import ImageDecoder
from embedmill.model.lanes import Sessions
from embedmill.planned import PlannedRun
from embedmill.runtimes import Runtime
from embedmill.spec.documents import CommitRecord
from embedmill.types import Opening
from embedmill.work import Opened, WorkerOptions, work

FAULTY = DecodingLimits(cpu_s=1, module="tests.decoding.faulty_child")
PICTURES = [encoded(noise(20 + n % 5, 24, n), ["PNG", "JPEG"][n % 2]) for n in range(60)]
BAD = [b"no picture", faulty("segfault"), faulty("break-the-next"), faulty("leave")]


def planned(root: Path, images: list[bytes]) -> PlannedRun:
    root.mkdir()
    schema = pa.schema({"sku": pa.string(), "image": pa.binary()})
    mill = Mill(root, tiny_image_package(root / "model"), schema)
    work_ = {"batch_images": 4, "shard_rows": 30}
    mill.settings = {"catalog": {"source": "items.parquet", "id": "sku"}, "work": work_}
    return mill.planned([{"sku": f"p{n}", "image": image} for n, image in enumerate(images)])


def records(run: PlannedRun) -> list[CommitRecord]:
    names = (run.home.run_key(run.plan.run, "commits", f"{shard.name}.json") for shard in run.plan.shards)
    return [run.home.read(CommitRecord, name) for name in names]


def decoders() -> int:
    found = psutil.Process().children()
    return sum(any("decoding" in word or "faulty_child" in word for word in each.cmdline()) for each in found)


def test_lanes_move_no_bit_whatever_images_do_to_decoders(tmp_path: Path) -> None:
    digests = []
    for lanes in (1, 3):
        run = planned(tmp_path / f"{lanes}", PICTURES + BAD)
        work(run.home, run.plan.run, WorkerOptions("w", lanes=lanes, decoding=FAULTY))
        content = run.index()
        assert (content.embedded, content.quarantined) == (len(PICTURES), len(BAD))
        assert {record.lanes for record in records(run)} <= set(range(1, lanes + 1))
        digests.append(content.content_digest)
    assert digests[0] == digests[1]
    assert decoders() == 0


def opened(run: PlannedRun, *errors: EmbedmillError) -> Opened:
    """A model with three sessions and decoders, all there; the first batches have these errors."""
    package = ModelPackage.open(run.pipeline.package.root)
    encoder = Encoder.load(package, lanes=3, decoder=ImageDecoder(children=3))
    encoder.start_decoders()
    failing = cast("Runtime", Failing(encoder.runtime, errors))
    sessions = Sessions(3, lambda: failing)
    sessions.open_all()
    encoder = replace(encoder, runtime=failing, sessions=sessions)
    return Opened(Opening(str(package.root), 512, 4), package, encoder, package.stamps())


def test_a_loop_that_yields_within_a_shard_leaves_it_whole_to_others(tmp_path: Path) -> None:
    run, usual = planned(tmp_path / "yields", PICTURES), planned(tmp_path / "usual", PICTURES)
    with pytest.raises(Yielded, match="asked to stop"):
        work(run.home, run.plan.run, WorkerOptions("w", lanes=3), opened(run, Yielded("asked to stop")))
    assert decoders() == 0
    assert not list(run.home.store.list(run.home.run_key(run.plan.run, "leases")))
    assert work(run.home, run.plan.run, WorkerOptions("other", lanes=3)).vectors == len(PICTURES)
    work(usual.home, usual.plan.run, WorkerOptions("alone"))
    assert run.index().content_digest == usual.index().content_digest


def test_fewer_lanes_need_fewer_decoders(tmp_path: Path) -> None:
    run = planned(tmp_path / "mill", PICTURES)
    model = opened(run, OutOfMemory("no memory in a lane"))
    encoder = model.encoder
    assert encoder is not None
    assert decoders() == 3
    encoder.limit_lanes(2)
    assert (decoders(), encoder.lanes) == (2, 2)
    work(run.home, run.plan.run, WorkerOptions("w", lanes=3), model)
    assert {record.lanes for record in records(run)} == {1}
