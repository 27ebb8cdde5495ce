"""A whole run on two servers where only GPUs are stood in for: ssh, podman, the image, keys of a role."""

from __future__ import annotations

import dataclasses
import os
import subprocess

import pytest
from tests.cli.terminal import run_alone
from tests.fleet_group.borrowed import (
    IDLE_GPUS,
    Fleet,
    begin,
    digest_of_a_local_run,
    end,
    live,
    make_pipeline,
)
from tests.fleet_group.contained import containers, fleet, image
from tests.support.fake_gpus import Scenario
from tests.support.relay import Relay
from tests.support.sts import ROLE

__all__ = ["containers", "fleet", "image"]
pytestmark = pytest.mark.timeout(900)
"""The image is built first, unless another module has built it."""
SIZES = (800, 20_000)


@pytest.mark.soak(quick=1, large=2)
def test_containers_on_two_servers_make_what_a_local_run_makes(
    fleet: Fleet, store_with_roles: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    items, rows = SIZES[seed], SIZES[seed] // 50
    work = {"shard_rows": rows, "role": ROLE, "attempts": 9}
    with Relay(os.environ["AWS_ENDPOINT_URL_S3"], at=fleet.address) as relay:
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS"):
            monkeypatch.setenv(name, relay.endpoint)
        spec = make_pipeline(fleet.folder, "shop", items=items, store=store_with_roles, work=work)
        running = begin(fleet, spec)
        fleet.let_each_commit(spec, "gpu-01", "gpu-02")
        report, _ = end(running, timeout_s=900)
        digest = live(spec).content.content_digest
    assert {share["worker"] for share in report["shares"]} == {"gpu-01-0", "gpu-02-0"}
    assert report["computed"] == items
    assert digest == digest_of_a_local_run(fleet.folder, items=items, shard_rows=rows)
    assert not left_containers(fleet)


def test_a_server_proves_itself_in_its_container(
    fleet: Fleet, store_with_roles: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = dataclasses.replace(IDLE_GPUS["gpu-01"], uuid="GPU-00000000-1111-2222-3333-444444444444")
    Scenario([gpu]).write(fleet.servers.servers["gpu-01"].scenario)
    with Relay(os.environ["AWS_ENDPOINT_URL_S3"], at=fleet.address) as relay:
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS"):
            monkeypatch.setenv(name, relay.endpoint)
        spec = make_pipeline(fleet.folder, "proof", items=80, store=store_with_roles, work={"role": ROLE})
        run_alone("run", spec, "--engine", "local", "--quiet")
        given = ("--fleet", fleet.file, "--seconds", "0.5")
        said = run_alone("fleet", "prove", "gpu-01", spec, *given, "--json")
    steps = {step["step"]: (step["state"], step["found"]) for step in said.json["steps"]}
    assert {state for state, _ in steps.values()} == {"passed"}, steps
    assert "gone after" in steps["yield"][1]
    assert not left_containers(fleet)


def left_containers(fleet: Fleet) -> str:
    """Names of containers that are still there on the first server, whose store they all share."""
    server = fleet.servers.servers["gpu-01"]
    podman = fleet.folder / server.name / "bin" / "podman"
    done = subprocess.run([podman, "ps", "--all", "--quiet"], capture_output=True, text=True, check=True)
    return done.stdout
