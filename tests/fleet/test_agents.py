"""Places on a Jenkins' agents, and what stops a run there before it is planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from embedmill.errors import SpecError
from embedmill.fleet.agents import agent_engine, places_on_agents
from embedmill.spec import PipelineSpec
from embedmill.types import Host, Placement

SECTION = {
    "url": "https://ci.example.org",
    "job": "team/worker",
    "families": {"gpu": {"label": "gpu-07", "workers": 2, "device": "cuda", "threads": 4}, "cpu": {}},
    "mounts": ["/srv/mill"],
}


def spec_with(jenkins: dict[str, Any] | None) -> PipelineSpec:
    return PipelineSpec.model_validate(
        {
            "name": "shop",
            "catalog": {"source": "items.parquet", "id": "sku"},
            "model": "model",
            "store": "s3://bucket/mill",
            "engine": ["local", "jenkins"],
            "jenkins": jenkins,
        }
    )


def test_places_are_the_families_workers_in_order_but_for_those_that_run() -> None:
    places = places_on_agents(spec_with(SECTION), "s3://bucket/mill/shop")
    assert [place.worker for place in places.look(2, ()).free] == ["jenkins-gpu-0", "jenkins-gpu-1"]
    found = places.look(9, ["jenkins-gpu-0"]).free
    host = Host("gpu-07", (), "")
    assert found[0] == Placement("jenkins-gpu-1", device="cuda", threads=4, host=host, type="cuda")
    assert [place.worker for place in found[1:]] == ["jenkins-cpu-0"]


@pytest.mark.parametrize("url", ["s3://bucket/mill/shop", "/srv/mill/deep/shop"])
def test_agents_open_buckets_and_folders_that_they_mount(url: str) -> None:
    assert places_on_agents(spec_with(SECTION), url).look(1, ()).free


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/home/me/mill/shop", "cannot open it"),
        ("memory://x/shop", "cannot open it"),
        ("/srv/mill/my shop", "cannot be a parameter"),
    ],
)
def test_a_store_that_agents_cannot_open_is_refused(url: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        places_on_agents(spec_with(SECTION), url)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (None, "nothing is said of the controller"),
        ({**SECTION, "url": "http://ci.example.org", "user": "me", "token_file": "token"}, "readable on its"),
        ({**SECTION, "user": "me", "token_file": "none"}, "cannot be read"),
        ({**SECTION, "token_file": "token"}, "a token needs a user"),
    ],
)
def test_what_is_wrong_with_the_controller_is_said(
    section: dict[str, Any] | None, said: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("11aa22bb\n")
    with pytest.raises(SpecError, match=said):
        agent_engine(spec_with(section), tmp_path)
