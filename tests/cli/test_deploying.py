"""`deploy serving` and `deploy image`; and what the manifests say, done for real against S3."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from tests.cli.terminal import Terminal
from tests.support.mill import Mill, items

from embedmill.cli.app import app
from embedmill.deploy.kubernetes.pod import KEYS, RELEASE

IMAGE = "registry.internal/embedmill:0.1.0"
BASE = f"registry.internal/python@sha256:{'cd' * 32}"


@pytest.fixture
def bucket(mill: Mill, seaweed_store_url: str) -> Mill:
    """Two releases in a bucket; the second is live."""
    mill.settings["store"] = seaweed_store_url
    mill.run(items(20))
    mill.run(items(25))
    return mill


def container(folder: Path, kind: str) -> dict[str, Any]:
    manifest = yaml.safe_load((folder / "base" / "deployment.yaml").read_bytes())
    (found,) = manifest["spec"]["template"]["spec"][kind]
    assert isinstance(found, dict)
    return found


def options_of(command: str) -> set[str]:
    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    return {option for each in parameters for option in each.opts}


def at_home(arguments: list[str], replaced: dict[str, str]) -> list[str]:
    """A container's command line, with what only a pod has exchanged for what is here."""
    return [replaced.get(word, word) for word in arguments]


SECRET = "k" * 32


def test_the_commands_of_the_manifest_fetch_the_pinned_release_and_serve_it(
    bucket: Mill, embedmill: Terminal, tmp_path: Path
) -> None:
    to, here = tmp_path / "manifests", tmp_path / "release"
    keys = tmp_path / "keys"
    keys.write_text(f"test: {SECRET}\n")
    keys.chmod(0o600)
    embedmill(
        "deploy", "serving", bucket.root / "pipeline.yaml", "--release", "1", "--image", IMAGE, "--to", to
    )
    init = at_home(container(to, "initContainers")["args"], {RELEASE: str(here)})
    report = embedmill.json(*init)
    assert (report["schema"], report["number"]) == ("fetch/1", 1)
    places = {RELEASE: str(here), "0.0.0.0": "127.0.0.1", "8080": "0"}  # noqa: S104 - is replaced
    places |= {f"{KEYS}/keys": str(keys), "15": "0.1"}
    serve = at_home(container(to, "containers")["args"], places)
    assert {word for word in serve if word.startswith("--")} <= options_of("serve")
    command = [sys.executable, "-m", "embedmill", *serve, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        shown = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
        assert shown["number"] == 1
        probe = container(to, "containers")["readinessProbe"]["httpGet"]["path"]
        with urllib.request.urlopen(shown["url"] + probe) as answer:  # noqa: S310 - of our own server
            assert answer.status == 200
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert process.returncode == 0


def test_people_read_what_a_pod_needs_and_how_to_go_on(
    bucket: Mill, embedmill: Terminal, tmp_path: Path
) -> None:
    spec, to = bucket.root / "pipeline.yaml", tmp_path / "manifests"
    said = embedmill("deploy", "serving", spec, "--image", IMAGE, "--to", to)
    assert (said.code, "(number 2)" in said.out, "MiB of memory" in said.out) == (0, True, True)
    assert "needs the secrets: embedmill-store, embedmill-keys" in said.err
    assert f"kubectl apply --kustomize {to}/overlays/cpu" in said.err
    said = embedmill("deploy", "serving", spec, "--image", IMAGE, "--beside", "1", "--to", tmp_path / "both")
    lines = [shlex.split(line) for line in said.err.splitlines() if line.startswith("kubectl")]
    assert [line[-1].rsplit("/", 1)[1] for line in lines] == ["before", "after"]
    assert all((Path(line[-1]) / "kustomization.yaml").is_file() for line in lines)


def test_the_document_lists_what_was_written(bucket: Mill, embedmill: Terminal, tmp_path: Path) -> None:
    spec, to = bucket.root / "pipeline.yaml", tmp_path / "manifests"
    report = embedmill.json("deploy", "serving", spec, "--image", IMAGE, "--to", to)
    assert (report["schema"], report["number"], report["beside"]) == ("deploy-serving/1", 2, None)
    written = {path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()}
    assert set(report["files"]) == written


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--image", "embedmill"], "names no version"),
        (["--image", "embedmill:latest"], "names no version"),
        (["--image", "embedmill@sha256:abc"], "'sha256:abc' is no digest"),
        (["--image", IMAGE, "--name", "Similar_Items"], "is not a name for Kubernetes"),
        (["--image", IMAGE, "--replicas", "3", "--max-replicas", "2"], "is below --replicas 3"),
    ],
)
def test_what_kubernetes_could_not_run_is_refused(
    bucket: Mill, embedmill: Terminal, tmp_path: Path, options: list[str], said: str
) -> None:
    refused = embedmill(
        "deploy", "serving", bucket.root / "pipeline.yaml", *options, "--to", tmp_path / "manifests"
    )
    assert (refused.code, said in refused.err) == (2, True), refused
    assert not (tmp_path / "manifests").exists()


def test_a_store_that_pods_cannot_reach_is_refused(mill: Mill, embedmill: Terminal, tmp_path: Path) -> None:
    mill.run(items(8))
    refused = embedmill(
        "deploy", "serving", mill.root / "pipeline.yaml", "--image", IMAGE, "--to", tmp_path / "m"
    )
    assert refused.code == 2
    assert "pods cannot fetch from there" in refused.err


def test_an_image_has_what_the_release_needs_in_the_versions_that_made_it(
    mill: Mill, embedmill: Terminal, tmp_path: Path
) -> None:
    mill.settings["index"] = {"kind": "hnsw", "exact_below": 10}
    mill.run(items(40))
    to = tmp_path / "image"
    report = embedmill.json("deploy", "image", mill.root / "pipeline.yaml", "--base", BASE, "--to", to)
    (profile,) = mill.live().content.profiles
    assert report["extras"] == ["cloud", "faiss", "onnx", "serve"]
    assert report["pins"] == {**profile.libraries, "onnxruntime": profile.runtime_version}
    assert (
        to / "requirements.txt"
    ).read_text() == f"embedmill[cloud,faiss,onnx,serve]=={report['version']}\n"
    assert f"onnxruntime=={profile.runtime_version}\n" in (to / "constraints.txt").read_text()
    dockerfile = (to / "Dockerfile").read_text()
    assert f"ARG BASE={BASE}\n" in dockerfile
    for rule in ("USER 10001:10001", "--only-binary=:all:", "--mount=type=secret,id=pip"):
        assert rule in dockerfile
    assert "--index-url" not in dockerfile


def test_a_release_without_an_index_needs_no_library_for_it(
    mill: Mill, embedmill: Terminal, tmp_path: Path
) -> None:
    mill.run(items(8))
    report = embedmill.json(
        "deploy", "image", mill.root / "pipeline.yaml", "--base", BASE, "--to", tmp_path / "image"
    )
    assert report["extras"] == ["cloud", "onnx", "serve"]


@pytest.mark.parametrize(
    "base", ["python:3.11-slim", "python", f"python@sha256:{'cd' * 31}", "a b@sha256:" + "c" * 64]
)
def test_a_base_that_may_change_is_refused(
    mill: Mill, embedmill: Terminal, tmp_path: Path, base: str
) -> None:
    mill.run(items(8))
    refused = embedmill(
        "deploy", "image", mill.root / "pipeline.yaml", "--base", base, "--to", tmp_path / "image"
    )
    assert (refused.code, "is not named by its digest" in refused.err) == (2, True)
