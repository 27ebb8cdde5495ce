"""`verify`, `deploy` and `environment`: exit codes, documents, and the files that they write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.cli.terminal import Terminal
from tests.support.mill import Mill, items
from tests.support.oip import OipServer, oip_server
from tests.support.web import status, web_server

from embedmill.deploy.triton import deploy_triton


@pytest.fixture
def published(mill: Mill) -> Mill:
    """A pipeline with a release, and a model repository of it."""
    mill.run(items(80))
    deploy_triton(mill.live(), mill.root / "repository")
    return mill


@pytest.fixture
def server(published: Mill) -> Iterator[OipServer]:
    """A server of that repository."""
    with oip_server(published.root / "repository") as found:
        yield found


def test_a_server_that_is_the_release_ends_with_0(
    published: Mill, server: OipServer, embedmill: Terminal
) -> None:
    said = embedmill("verify", published.root / "pipeline.yaml", "--server", server.url)
    assert said.code == 0
    assert f"{server.url} is release {published.live().name}, number 1" in said.err
    assert "test-query_text" in said.out
    assert "FAIL" not in said.out


def test_a_server_that_is_not_ends_with_3_and_writes_what_failed(
    published: Mill, server: OipServer, embedmill: Terminal
) -> None:
    server.faults.answer = lambda _, vectors: np.roll(vectors, 1, axis=0)
    files = {"--junit": published.root / "found.xml", "--html": published.root / "found.html"}
    options: list[str | Path] = ["--junit", files["--junit"], "--html", files["--html"]]
    spec = published.root / "pipeline.yaml"
    said = embedmill("verify", spec, "--server", server.url, *options, "--json")
    assert said.code == 3
    report = json.loads(said.out)
    assert (report["schema"], report["passed"], report["number"]) == ("parity/1", False, 1)
    suites = ElementTree.parse(files["--junit"]).getroot()  # noqa: S314 - our own
    failures = {case.get("name") for case in suites.iter("testcase") if case.find("failure") is not None}
    assert {"in batches", "in reverse"} <= failures
    assert "alone" not in failures
    assert suites.get("failures") == str(
        sum(case.find("failure") is not None for case in suites.iter("testcase"))
    )
    page = files["--html"].read_text()
    assert page.count("<span class='fail'>fail</span>") == int(suites.get("failures", 0))
    assert "have those of other rows" in page
    assert "<script" not in page


def test_what_a_server_says_cannot_break_the_files(
    published: Mill, server: OipServer, embedmill: Terminal
) -> None:
    server.faults.refusal = "</failure>\x1b[31m<script>alert(1)</script>"
    files = [published.root / "found.xml", published.root / "found.html"]
    options: list[str | Path] = ["--junit", files[0], "--html", files[1]]
    assert embedmill("verify", published.root / "pipeline.yaml", "--server", server.url, *options).code == 3
    ElementTree.parse(files[0])  # noqa: S314 - our own
    assert "<script>" not in files[1].read_text()
    assert "\x1b" not in files[0].read_text() + files[1].read_text()


def test_no_answer_ends_with_75(
    published: Mill, embedmill: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedmill.runtimes.remote.retrying.FIRST_CONTACT_S", 0.0)
    file = published.root / "found.xml"
    file.write_text("an old one")
    target = ("verify", published.root / "pipeline.yaml", "--server", "http://127.0.0.1:9")
    said = embedmill(*target, "--json", "--junit", file)
    assert said.code == 75
    assert json.loads(said.out)["error"]["code"] == "ServerUnavailable"
    (case,) = ElementTree.parse(file).getroot().iter("testcase")  # noqa: S314 - our own
    error = case.find("error")
    assert error is not None
    assert "http://127.0.0.1:9: gave no answer for" in error.get("message", "")
    assert "is kept" not in said.err


@pytest.mark.parametrize(
    ("key", "why"), [("", "wants a key, and none was sent"), ("other", "refuses the key")]
)
def test_a_server_that_lets_nobody_ask_is_not_called_another_release(
    published: Mill, embedmill: Terminal, key: str, why: str
) -> None:
    spec, file = published.root / "pipeline.yaml", published.root / "key"
    file.write_text(key)
    sent: list[str | Path] = ["--key-file", file] if key else []
    with web_server() as web:
        web.paths = {"/v2": status(401)}
        said = embedmill("verify", spec, "--server", web.url(""), *sent, "--json")
    assert said.code == 2
    error = json.loads(said.out)["error"]
    assert error["code"] == "ServerDenied"
    assert why in error["message"]
    assert "--key-file" in error["hint"]
    assert "is not release" not in said.err


def test_the_line_of_a_servers_keys_is_told_to_be_no_key_alone(published: Mill, embedmill: Terminal) -> None:
    file = published.root / "keys"
    file.write_text("shop: 0123456789abcdef\n")
    spec = published.root / "pipeline.yaml"
    said = embedmill("verify", spec, "--server", "http://127.0.0.1:9", "--key-file", file)
    assert said.code == 2
    assert "this file has the key alone" in said.err
    assert "0123456789abcdef" not in said.err


@pytest.mark.parametrize("url", ["ftp://host", "host:8000", "http://host?x=1"])
def test_what_is_no_address_is_refused(published: Mill, embedmill: Terminal, url: str) -> None:
    said = embedmill("verify", published.root / "pipeline.yaml", "--server", url)
    assert said.code == 2
    assert "--server" in said.err


@pytest.mark.parametrize("content", [None, b"", b"two words", b"two\nlines", b"\xff"])
def test_a_file_without_a_key_is_refused(published: Mill, embedmill: Terminal, content: bytes | None) -> None:
    file = published.root / "key"
    if content is not None:
        file.write_bytes(content)
    spec = published.root / "pipeline.yaml"
    said = embedmill("verify", spec, "--server", "http://127.0.0.1:9", "--key-file", file)
    assert said.code == 2
    assert f"--key-file {file}: " in said.err


def test_items_of_today_are_compared_too(published: Mill, server: OipServer, embedmill: Terminal) -> None:
    changed = [row | {"title": "new"} for row in items(10)]
    published.write([*changed, *items(90)[10:]])
    spec = published.root / "pipeline.yaml"
    said = embedmill("verify", spec, "--server", server.url, "--source", "20", "--json")
    assert said.code == 0
    checks = {check["check"]: check for check in json.loads(said.out)["encoders"][0]["checks"]}
    assert checks["catalog"]["cosines"]["rows"] == 20
    assert all(check["check"] != "catalog" for check in json.loads(said.out)["encoders"][1]["checks"])


def test_a_release_alone_knows_no_catalog(published: Mill, server: OipServer, embedmill: Terminal) -> None:
    folder = published.live().folder
    said = embedmill("verify", folder, "--server", server.url, "--source", "20")
    assert said.code == 2
    assert "--source needs a pipeline.yaml" in said.err


def test_a_copy_of_a_release_needs_its_number(
    published: Mill, server: OipServer, embedmill: Terminal, tmp_path: Path
) -> None:
    import shutil

    copy = shutil.copytree(published.live().folder, tmp_path / "copy")
    said = embedmill("verify", copy, "--server", server.url)
    assert said.code == 1
    assert "--number" in said.err
    assert embedmill("verify", copy, "--server", server.url, "--number", "1").code == 0
    assert embedmill("verify", copy, "--server", server.url, "--number", "2").code == 3


def test_deploy_triton_says_what_it_laid_out_and_does_it_once(published: Mill, embedmill: Terminal) -> None:
    to = published.root / "other"
    said = embedmill("deploy", "triton", published.root / "pipeline.yaml", "--to", to, "--json")
    assert said.code == 0
    report = json.loads(said.out)
    assert report["schema"] == "deploy/1"
    assert [each["model"] for each in report["models"]] == ["test-item", "test-query_text"]
    before = {file: file.stat().st_mtime_ns for file in to.rglob("*/1/**/*")}
    again = embedmill("deploy", "triton", published.root / "pipeline.yaml", "--to", to, "--json")
    assert json.loads(again.out) == report
    assert {file: file.stat().st_mtime_ns for file in to.rglob("*/1/**/*")} == before


def test_deploy_tf_serving_refuses_a_model_without_a_saved_model(
    published: Mill, embedmill: Terminal
) -> None:
    said = embedmill("deploy", "tf-serving", published.root / "pipeline.yaml", "--to", published.root / "tf")
    assert said.code == 1
    assert "has no SavedModel" in said.err
    assert not (published.root / "tf").exists()


def test_environment_prints_what_is_installed(embedmill: Terminal) -> None:
    said = embedmill("environment", "--json")
    found = json.loads(said.out)
    assert found["schema"] == "environment/1"
    assert found["runtimes"]["onnx"]["max_opset"] >= 21
    assert "onnxruntime" in embedmill("environment").out
