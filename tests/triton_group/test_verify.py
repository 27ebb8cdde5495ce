"""What `deploy triton` lays out, in a real Triton: it passes `verify`, and what was broken does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.models import tiny_text_package
from tests.support.mill import Mill, items
from tests.triton_group.server import Triton

from embedmill import Release
from embedmill.cli import main
from embedmill.deploy.triton import deploy_triton


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release of a small text model."""
    root = tmp_path_factory.mktemp("published")
    mill = Mill(root, tiny_text_package(root / "tiny"))
    mill.run(items(300))
    return mill.live()


@pytest.fixture
def triton(tmp_path: Path, published: Release) -> Iterator[Triton]:
    """A Triton that has the release laid out, and is not started yet."""
    folder = tmp_path / "triton"
    folder.mkdir()
    server = Triton(folder)
    deploy_triton(published, server.models)
    yield server
    server.stop()


def verify(server: Triton, release: Release, *options: str) -> int:
    url = server.url("http")
    return main(["verify", str(release.folder), "--server", url, "--protocol", "triton", *options])


def test_what_deploy_lays_out_is_the_release(
    triton: Triton, published: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    triton.start()
    code = verify(triton, published, "--json")
    report = json.loads(capsys.readouterr().out)
    assert code == 0, report
    assert [(each["model"], each["skipped"]) for each in report["encoders"]] == [
        ("test-item", ""),
        ("test-query_text", ""),
    ]
    checks = [check["check"] for check in report["encoders"][0]["checks"]]
    assert checks == [
        "release",
        "metadata",
        "alone",
        "at once",
        "in batches",
        "in reverse",
        "search",
        "unknown model",
        "other version",
        "limit of 32 rows",
    ]
