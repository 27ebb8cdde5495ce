"""One example of each persisted document, with every field filled; and the shapes of all documents.

python -m tests.spec.examples     writes golden/ anew: only with a new version and a decision note
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from tests.spec.calibration_example import calibration, kept_calibration
from tests.spec.pipeline_example import pipeline

import embedmill.spec.jenkins
import embedmill.spec.model_reports
import embedmill.spec.platform
import embedmill.spec.quarantine
import embedmill.spec.ray_fleet
import embedmill.spec.reports
import embedmill.spec.rollout
import embedmill.spec.upkeep
import embedmill.spec.worker_images  # noqa: F401 - defines documents
from embedmill.spec.deployed import DeployedEncoder, DeployedModelReport, DeployReport
from embedmill.spec.document import Document
from embedmill.spec.documents import (
    CommitRecord,
    Content,
    Counts,
    Drain,
    Estimate,
    Fetched,
    FileEntry,
    Gates,
    Lease,
    LogEntry,
    Manifest,
    Numerics,
    Plan,
    Profile,
    ReleaseName,
    Salvaged,
    Segment,
    ShardPlan,
    Terminal,
    Verdict,
)
from embedmill.spec.environment import Environment, InstalledRuntime
from embedmill.spec.fleet_baselines import GpuBaselines
from embedmill.spec.fleet_reports import ImageProof, ProofKey
from embedmill.spec.parity import Cosines, EncoderParity, ParityCheck, ParityReport

GOLDEN = Path(__file__).parent / "golden"
SHAPES = GOLDEN / "shapes.json"
RUN, BASE = "20260131T235959123-3f9c", ReleaseName(release="20260130T235959-00ff", number=7)
CREATED = "2026-01-31T23:59:59Z"


def entry(path: str, rows: int | None = None) -> FileEntry:
    return FileEntry(path=path, size_bytes=4096, sha256="ab" * 32, rows=rows)


def profile() -> Profile:
    return Profile(
        runtime="onnx",
        runtime_version="1.32.0",
        device="cpu",
        precision="float32",
        threads=1,
        batch_tokens=256,
        batch_images=8,
        libraries={"tokenizers": "0.21.0", "pillow": "13.0"},
    )


def counts() -> Counts:
    return Counts(
        total=100, new=2, changed=3, unchanged=91, deleted=5, duplicates=6, quarantined=4, empty=7, kept=1
    )


def salvaged() -> Salvaged:
    part = entry("vectors/20260130T030000-9d2e/part-00003.ba9876543210.arrow", 3)
    frozen = entry(f"runs/{RUN}/frozen/20260130T030000-9d2e-00003.arrow", 3)
    small = entry("thumbnails/20260130T030000-9d2e/part-00003.ba9876543210.arrow", 2)
    return Salvaged(
        run="20260130T030000-9d2e",
        parts=(part,),
        thumbnails=(small,),
        by_content=(entry("by-content/20260130T030000-9d2e/part-00003.ba9876543210.arrow", 3),),
        frozen=(frozen,),
        profiles=(profile(),),
    )


def numerics() -> Numerics:
    why = "numerics epoch 0 -> 1: pillow 12.0 -> 13.0: goldens moved, lowest cosine 0.980000, below 0.9999"
    return Numerics(epoch=1, stacks=(profile().stack,), why=why)


def plan() -> Plan:
    return Plan(
        run=RUN,
        pipeline=pipeline(),
        root="/srv/Müller & Söhne",
        created=CREATED,
        base=BASE,
        catalog_digest="01" * 32,
        model=(entry("model/model.yaml"), entry("model/model.onnx")),
        package_digest="23" * 32,
        encoder_digest="45" * 32,
        numerics=numerics(),
        goldens=entry(f"runs/{RUN}/goldens/item.arrow", 32),
        dimension=384,
        items=counts(),
        excluded=8,
        compute=5,
        reused_vectors=84,
        salvaged=(salvaged(),),
        why="only inputs that the live release has no vector for are computed",
        shards=(ShardPlan(name="00000", rows=5, cost=65, file=entry(f"runs/{RUN}/frozen/00000.arrow", 5)),),
        item_parts=(entry(f"runs/{RUN}/items/part-00000.parquet", 96),),
        quarantine=entry(f"runs/{RUN}/planned/quarantine.parquet", 4),
        estimate=Estimate(seconds=0.125, source="measured on 5 of the rows, for 1 workers"),
        calibration=calibration(),
    )


def commit() -> CommitRecord:
    return CommitRecord(
        run=RUN,
        shard="00000",
        attempt="0123456789ab",
        worker="local-0",
        vectors=entry(f"releases/{RUN}/vectors/{RUN}/part-00000.0123456789ab.arrow", 4),
        rejected=entry(f"runs/{RUN}/rejected/00000.0123456789ab.parquet", 1),
        contents=entry(f"runs/{RUN}/contents/00000.0123456789ab.parquet", 5),
        thumbnails=entry(f"releases/{RUN}/thumbnails/{RUN}/part-00000.0123456789ab.arrow", 4),
        by_content=entry(f"releases/{RUN}/by-content/{RUN}/part-00000.0123456789ab.arrow", 4),
        copied=1,
        profile=profile(),
        rows=5,
        seconds=1.5,
        created=CREATED,
    )


def lease() -> Lease:
    return Lease(shard="00000", worker="local-0", host="gpu-3", pid=4711, process_started=8150.0, beat=12)


def content() -> Content:
    segments = (
        Segment(
            name=BASE.release,
            parts=(entry(f"vectors/{BASE.release}/part-00000.ba9876543210.arrow", 90),),
            index=entry(f"index/{BASE.release}.ffffffffffff.faiss"),
            rows=90,
            live=84,
        ),
        Segment(
            name=RUN,
            parts=(entry(f"vectors/{RUN}/part-00000.0123456789ab.arrow", 4),),
            index=None,
            thumbnails=(entry(f"thumbnails/{RUN}/part-00000.0123456789ab.arrow", 4),),
            by_content=(entry(f"by-content/{RUN}/part-00000.0123456789ab.arrow", 4),),
            rows=4,
            live=4,
        ),
    )
    return Content(
        release=RUN,
        pipeline=pipeline(),
        created=CREATED,
        base=BASE,
        package_digest="23" * 32,
        encoder_digest="45" * 32,
        numerics=numerics(),
        content_digest="67" * 32,
        dimension=384,
        dtype="float32",
        items=(entry("items/part-00000.0123456789ab.parquet", 95),),
        segments=segments,
        model=(entry("model/model.yaml"),),
        goldens=(entry("goldens/item.0123456789ab.arrow", 32),),
        quarantine=entry("quarantine/items.0123456789ab.parquet", 5),
        profiles=(profile(),),
        counts=counts(),
        embedded=4,
        reused=84,
        empty=7,
        quarantined=5,
        kept=1,
        computed=4,
        compacted=False,
        seconds=1.5,
    )


def gates() -> Gates:
    verdicts = (
        Verdict(gate="finite", passed=True, found=0.0, limit=0.0, message="0 of 4 new vectors …"),
        Verdict(gate="churn", passed=False, accepted=True, found=0.25, limit=0.125, message="25 of 100 …"),
        Verdict(gate="norms", passed=True, message="the model does not declare unit length"),
    )
    return Gates(release=RUN, baseline=BASE, verdicts=verdicts, created=CREATED)


def manifest() -> Manifest:
    files = (entry("CONTENT.json"), entry("items/part-00000.0123456789ab.parquet", 95))
    return Manifest(release=RUN, content_digest="67" * 32, files=files, created=CREATED).sealed()


def terminal() -> Terminal:
    return Terminal(run=RUN, outcome="publish", number=8, why="gates passed", created=CREATED)


def drain() -> Drain:
    return Drain(run=RUN, active=True, created=CREATED)


def log() -> LogEntry:
    return LogEntry(
        number=8,
        kind="publish",
        release=RUN,
        manifest_digest="89" * 32,
        parent="cd" * 32,
        transaction=RUN,
        note="“weekly”",
        created=CREATED,
    )


def deployed() -> DeployedEncoder:
    return DeployedEncoder(
        release=RUN,
        number=8,
        model="similar-items-query_text",
        encoder="query_text",
        package_digest="23" * 32,
        threads=2,
    )


def deploy() -> DeployReport:
    folder = "/srv/models/similar-items-item/8"
    model = DeployedModelReport(
        model="similar-items-item", encoder="item", folder=folder, signature="serving_default"
    )
    return DeployReport(repository="/srv/models", release=RUN, number=8, models=(model,))


def environment() -> Environment:
    onnx = InstalledRuntime(library="onnxruntime-gpu", version="1.32.0", max_opset=28, max_ir=14)
    torch = InstalledRuntime(library="torch", version="2.13.0")
    return Environment(python="3.11.7", machine="linux-x86_64", runtimes={"onnx": onnx, "torch": torch})


def parity() -> ParityReport:
    cosines = Cosines(rows=32, lowest=0.25, p1=0.5, median=1.0)
    checks = (
        ParityCheck(check="release", passed=True, message=f"release {RUN}, version 8"),
        ParityCheck(check="in batches", passed=False, message="31 of 32 rows …", cosines=cosines),
    )
    encoders = (
        EncoderParity(encoder="item", model="similar-items-item", checks=checks),
        EncoderParity(encoder="query_image", model="similar-items-query_image", skipped="reads photo …"),
    )
    return ParityReport(
        passed=False,
        release=RUN,
        number=8,
        url="http://127.0.0.1:8000",
        protocol="triton",
        server="triton 2.51.0",
        encoders=encoders,
        seconds=1.5,
    )


def image_proof() -> ImageProof:
    return ImageProof(
        key=ProofKey(
            image="sha256:" + "cd" * 32, driver="535.183.01", gpu="NVIDIA A100-SXM4-80GB", model="ef" * 32
        ),
        passed=True,
        reason="256 goldens, lowest cosine 0.99998",
        baseline="release",
        lowest_cosine=0.99998,
        goldens=256,
        seconds=12.5,
        taken=CREATED,
    )


def gpu_baselines() -> GpuBaselines:
    return GpuBaselines(mib={"GPU-5f1c7a3e-0b4d-4c0e-9a51-2f6d3f9f2c11": 4})


def fetched() -> Fetched:
    url = f"s3://bucket/mill/similar-items/releases/{RUN}"
    return Fetched(release=RUN, number=8, url=url, manifest_digest="89" * 32, created=CREATED)


EXAMPLES = {
    "deployed": deployed,
    "deploy": deploy,
    "environment": environment,
    "parity": parity,
    "plan": plan,
    "commit": commit,
    "lease": lease,
    "content": content,
    "gates": gates,
    "manifest": manifest,
    "terminal": terminal,
    "drain": drain,
    "log": log,
    "fetched": fetched,
    "image_proof": image_proof,
    "gpu_baselines": gpu_baselines,
    "calibration": kept_calibration,
}


def shapes() -> dict[str, dict[str, str]]:
    """Fields and types of every document that is persisted or printed, and of all that they hold."""
    found: dict[str, dict[str, str]] = {}
    waiting: list[type[BaseModel]] = list(_below(Document))
    while waiting:
        kind = waiting.pop()
        name = f"{kind.__name__} {kind.SCHEMA}" if issubclass(kind, Document) else kind.__name__
        if name not in found:
            found[name] = {field: _type(info) for field, info in kind.model_fields.items()}
            waiting += [part for info in kind.model_fields.values() for part in _models_in(info.annotation)]
    return found


def _below(kind: type[Document]) -> Iterator[type[Document]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


def _type(field: FieldInfo) -> str:
    """Such as `tuple[FileEntry, ...]`; an `=` tells that it may be absent."""
    kind = field.annotation
    name = kind.__name__ if isinstance(kind, type) else re.sub(r"\b[a-z]\w*\.", "", str(kind))
    return name if field.is_required() else f"{name} ="


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def shapes_text() -> str:
    return json.dumps(shapes(), indent=1, sort_keys=True) + "\n"


def write() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, example in EXAMPLES.items():
        (GOLDEN / f"{name}.json").write_bytes(example().to_bytes())
    SHAPES.write_text(shapes_text())


if __name__ == "__main__":
    write()
