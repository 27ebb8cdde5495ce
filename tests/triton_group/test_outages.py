"""A real Triton that goes away while a pipeline runs, and what becomes of the run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from tests import tiny_text
from tests.models import tiny_text_package
from tests.support.killing import (
    assert_nothing_was_done_twice,
    commits,
    end_of,
    start,
    stock_of,
    wait_for_orphans,
)
from tests.support.mill import Mill, items
from tests.support.patience import PATIENCE_S
from tests.triton_group.conftest import MODELS
from tests.triton_group.server import Triton

from embedmill.errors import ServerUnavailable
from embedmill.model import Encoder, ModelPackage
from embedmill.spec import TritonSpec

pytestmark = pytest.mark.timeout(1500)

ROWS = 3000
GRACEFUL = """
import sys
from embedmill.cli import main
from embedmill.engines import local
local.GRACE_S = 600.0
sys.exit(main(sys.argv[1:]))
"""
"""A run that kills no worker before a test's patience is over."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Triton]:
    """A server of the test's own, that is slow enough to be killed in the middle."""
    folder = tmp_path / "triton"
    folder.mkdir()
    server = Triton(folder)
    put_model(server, version=1, seed=0)
    monkeypatch.setenv(TritonSpec.VARIABLE, server.url("http"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


def put_model(server: Triton, *, version: int, seed: int) -> None:
    weights = server.folder / "weights.npz"
    np.savez(weights, **tiny_text.weights(dimension=16, seed=seed))  # type: ignore[arg-type]
    server.add("tiny", MODELS / "tiny_text.py", weights, dimension=16, version=version)


def package(folder: Path, **keys: Any) -> Path:
    """The tiny model, which a Triton has."""
    tiny_text_package(folder)
    file = folder / "model.yaml"
    document = yaml.safe_load(file.read_text())
    document["runtimes"] = [{"kind": "triton", "model": "tiny", "version": 1, **keys}]
    file.write_text(yaml.safe_dump(document))
    return folder


def tokens_for(encoder: Encoder) -> dict[str, npt.NDArray[np.int64]]:
    return {name: np.ones((1, 2), np.int64) for name in encoder.runtime.inputs}


@pytest.fixture
def mill(tmp_path: Path) -> Mill:
    settings = {"work": {"shard_rows": 32, "workers": 1}}
    return Mill(tmp_path, package(tmp_path / "served", retry_for_s=1, max_batch=1), settings=settings)


@pytest.fixture
def spec(mill: Mill) -> Path:
    mill.write(items(ROWS))
    mill.open()
    return mill.root / "pipeline.yaml"


def test_a_server_that_stays_away_ends_the_run_with_75_and_the_next_run_goes_on(
    server: Triton, spec: Path
) -> None:
    with stock_of(spec) as stock:
        process = start(["run", str(spec), "--json"])
        stock.hand_out_until_done_by("local-0", unless=end_of(process))
        server.kill()
    out, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 75, said
    assert "gave no answer for" in json.loads(out)["error"]["message"]
    before = commits(spec)
    server.start()
    again = start(["run", str(spec), "--json"])
    out, said = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, said
    assert json.loads(out)["embedded"] == ROWS
    assert_nothing_was_done_twice(before, commits(spec))


@contextlib.contextmanager
def graceful_run(spec: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", GRACEFUL, "run", str(spec)], stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_ctrl_c_ends_a_run_that_waits_for_a_server(server: Triton, mill: Mill, spec: Path) -> None:
    package(mill.root / "patient", retry_for_s=900)
    spec.write_text(spec.read_text().replace(str(mill.model), str(mill.root / "patient")))
    with stock_of(spec) as stock, graceful_run(spec) as process:
        stock.hand_out_until_done_by("local-0")
        server.kill()
        stock.hand_out()
        time.sleep(1)  # so that the worker waits
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)  # before its workers are killed
        assert process.returncode == 130
    wait_for_orphans(spec)


def test_a_server_that_comes_back_with_another_version_is_refused(server: Triton, mill: Mill) -> None:
    encoder = Encoder.load(ModelPackage.open(package(mill.root / "patient", retry_for_s=2)))
    server.kill()
    (server.models / "tiny" / "1").rename(server.models / "tiny" / "2")
    server.start()
    with pytest.raises(ServerUnavailable, match="version 1 is not found"):
        encoder.runtime.run(tokens_for(encoder))


def test_waiting_for_a_server_is_told(server: Triton, mill: Mill, caplog: pytest.LogCaptureFixture) -> None:
    encoder = Encoder.load(ModelPackage.open(package(mill.root / "patient", retry_for_s=5)))
    server.kill()
    started = time.monotonic()
    with pytest.raises(ServerUnavailable):
        encoder.runtime.run(tokens_for(encoder))
    assert time.monotonic() - started < PATIENCE_S
    assert "gives no answer: no connection: " in caplog.text
