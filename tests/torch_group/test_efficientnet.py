"""examples/efficientnet-lite0, run for real: the network's own weights on a few pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tests.torch_group.cosines import lowest_cosine

from embedmill import Pipeline
from embedmill.model import Encoder, ModelPackage
from embedmill.runtimes import load_runtime
from embedmill.spec import TorchSpec

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "efficientnet-lite0"
PICTURES = 40
sys.path.insert(0, str(EXAMPLE))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's folder after it ran."""
    folder = tmp_path_factory.mktemp("example")
    command = [
        sys.executable,
        str(EXAMPLE / "run_example.py"),
        "--folder",
        str(folder),
        "--most",
        str(PICTURES),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{PICTURES} pictures. What looks like what:" in done.stdout
    return folder


def test_it_publishes_a_release_with_a_vector_of_every_picture(made: Path) -> None:
    release = Pipeline.from_file(made / "pipeline.yaml").live()
    assert release is not None
    assert release.content.counts.total == PICTURES
    assert release.content.quarantined == 0
    _, vectors = release.to_numpy()
    assert vectors.shape == (PICTURES, 1280)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_the_package_and_a_program_of_torch_export_make_the_vectors_of_the_network(
    made: Path, tmp_path: Path
) -> None:
    from convert_weights import features

    rows = pq.read_table(made / "catalog" / "pictures.parquet").slice(0, 12).combine_chunks().to_batches()[0]
    with Encoder.load(ModelPackage.open(made / "models" / "efficientnet-lite0")) as encoder:
        prepared = encoder.binding.prepare(rows)
        feeds, kept, rejected, _ = encoder.binding.feed(prepared, np.arange(rows.num_rows))
        computed = encoder.encode(rows).vectors_ND
    pixels = feeds["pixels"]
    assert not rejected
    assert pixels.shape == (len(kept), 3, 224, 224)
    assert -127 / 128 <= pixels.min() < pixels.max() == 1.0

    network = features()
    with torch.no_grad():
        original = network(torch.tensor(pixels)).numpy()
        free = {"pixels": {0: torch.export.Dim("rows")}}
        program = torch.export.export(network, (torch.tensor(pixels[:2]),), dynamic_shapes=free)
    torch.export.save(program, tmp_path / "model.pt2")
    exported = load_runtime(TorchSpec(kind="torch", file="model.pt2"), tmp_path).run({"pixels": pixels})
    assert lowest_cosine(computed, original) >= 0.9999
    assert lowest_cosine(exported, original) >= 0.9999
