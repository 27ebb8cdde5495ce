"""The demo's catalog and model on two servers in their containers, while a third is busy: as a local run.

Needs what `make demo` is made of, too: `make environment-demo environment-fleet`, then
`PYTHONPATH=$(echo .venv/demo/lib/python3*/site-packages) .venv/fleet/bin/python -m pytest
tests/fleet_group/test_demo_catalog.py --soak -s`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from tests.fleet_group.borrowed import Fleet, begin, end, live
from tests.fleet_group.contained import containers, fleet, image
from tests.support.demo import build_demo
from tests.support.relay import Relay
from tests.support.sts import ROLE

from embedmill import Pipeline

__all__ = ["containers", "fleet", "image"]


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_the_demos_catalog_on_two_idle_servers_is_that_of_a_local_run(
    fleet: Fleet, store_with_roles: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = build_demo(tmp_path)
    document = {
        "name": "borrowed",
        "catalog": {"source": f"{demo}/catalog/*.parquet", "id": "id", "display": ["name", "category"]},
        "model": str(demo / "minilm"),
        "store": store_with_roles,
        "work": {"shard_rows": 128, "role": ROLE, "look_again_s": 3.0},
    }
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(document))
    with Relay(os.environ["AWS_ENDPOINT_URL_S3"], at=fleet.address) as relay:
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS"):
            monkeypatch.setenv(name, relay.endpoint)
        report, said = end(begin(fleet, tmp_path / "pipeline.yaml"), timeout_s=1200)
        release = live(tmp_path / "pipeline.yaml")
    print(said, report["shares"], sep="\n")  # noqa: T201 - shown by -s
    assert {share["worker"] for share in report["shares"]} == {"gpu-01-0", "gpu-02-0"}
    assert "gpu-03 #0 (Tesla T4): not taken: busy: pid" in said
    here = Pipeline.from_file(tmp_path / "pipeline.yaml")
    alone = Pipeline(here.spec.model_copy(update={"store": str(tmp_path / "alone")}), here.root)
    alone.run()
    local = alone.live()
    assert local is not None
    assert local.content.content_digest == release.content.content_digest
