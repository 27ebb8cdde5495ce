"""The demo's catalog and model over three agents, of which one is killed: as a run without Jenkins.

Needs what `make demo` is made of: `make environment-demo`, then
`.venv/demo/bin/python -m pytest tests/jenkins_group/test_demo_catalog.py --soak`.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.jenkins_group.farm import Farm
from tests.support.demo import build_demo

from embedmill import Pipeline


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalog and the model."""
    return build_demo(tmp_path_factory.mktemp("demo"))


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_the_demos_catalog_is_published_although_an_agent_is_killed(
    demo: Path, tmp_path: Path, groovy: dict[str, str]
) -> None:
    farm = Farm(tmp_path, demo / "minilm", groovy)
    farm.mill.settings = {
        "store": str(tmp_path / "mill"),
        "catalog": {"source": f"{demo}/catalog/*.parquet", "id": "id", "display": ["name", "category"]},
        "work": {"shard_rows": 128},
    }
    for name in ("gpu-a", "gpu-b", "gpu-c"):
        farm.add_agent(name)
    farm.add_agent("gpu-dead", answers=False)
    farm.write(())

    def kill(folder: Path, ended: threading.Event) -> None:
        while "gpu-a-0" not in farm.committers():
            assert not ended.wait(0.1), "the build ended, and gpu-a had done nothing"
        (folder / "gpu-a.killed").touch()

    build = farm.build(kill, timeout_s=1200)
    assert (build.result, build.failure) == ("SUCCESS", ""), build.log
    assert "retrying: agent gpu-a was lost" in build.log
    live = farm.mill.live()
    assert live.content.embedded + live.content.empty + live.content.quarantined == live.content.counts.total
    here = Pipeline.from_file(farm.repository / "pipeline.yaml")
    alone = Pipeline(here.spec.model_copy(update={"store": str(tmp_path / "alone")}), here.root)
    alone.run()
    release = alone.live()
    assert release is not None
    assert release.content.content_digest == live.content.content_digest
