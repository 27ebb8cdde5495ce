"""The suite of runtimes on programs of torch.export."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.contracts.runtime_suite import FEEDS, IDS, MASK, RuntimeSuite
from tests.tiny_text import reference
from tests.torch_group.programs import TinyText, save, tiny_program

from embedmill.errors import DeviceUnavailable, ModelError
from embedmill.runtimes import load_runtime
from embedmill.spec import TorchSpec

REPOSITORY = Path(__file__).resolve().parents[2]


class TestTorch(RuntimeSuite):
    spec = TorchSpec(kind="torch", file="model.pt2")
    main = "model.pt2"

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        tiny_program(tmp_path / "package" / "model.pt2")
        return tmp_path / "package"


class Positional(TinyText):
    """Returns one tensor, which has no name."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = super().forward(input_ids, attention_mask)["vectors"]
        return vectors


class Several(TinyText):
    """Returns two tensors as a tuple."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        vectors = super().forward(input_ids, attention_mask)["vectors"]
        return vectors, vectors * 2


@pytest.mark.parametrize("kind", [Positional, Several])
def test_inputs_may_be_given_by_position_and_outputs_be_unnamed(tmp_path: Path, kind: type[TinyText]) -> None:
    save(kind(6), tmp_path / "model.pt2", named=False)
    runtime = load_runtime(TestTorch.spec, tmp_path)
    assert list(runtime.inputs) == ["input_ids", "attention_mask"]
    np.testing.assert_allclose(runtime.run(FEEDS), reference(IDS, MASK, dimension=6), atol=1e-6)
    last = list(runtime.outputs)[-1]
    chosen = load_runtime(TestTorch.spec.model_copy(update={"output": last}), tmp_path)
    factor = 2 if kind is Several else 1
    np.testing.assert_allclose(chosen.run(FEEDS), factor * runtime.run(FEEDS), atol=1e-6)


@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (1, 7), (3, 1), (17, 64)])
def test_rows_and_tokens_are_free(tmp_path: Path, rows: int, tokens: int) -> None:
    tiny_program(tmp_path / "model.pt2")
    ids = np.arange(rows * tokens).reshape(rows, tokens) % 258
    mask = np.ones_like(ids)
    vectors = load_runtime(TestTorch.spec, tmp_path).run({"input_ids": ids, "attention_mask": mask})
    np.testing.assert_allclose(vectors, reference(ids, mask, dimension=6), atol=1e-6)


def test_more_tokens_than_the_program_was_exported_for_are_refused(tmp_path: Path) -> None:
    tiny_program(tmp_path / "model.pt2")
    long = np.ones((1, 65), np.int64)
    with pytest.raises(ModelError, match=r"input input_ids: int64\[.*\] is fed int64\[1, 65\]"):
        load_runtime(TestTorch.spec, tmp_path).run({"input_ids": long, "attention_mask": long})


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_is_near_and_not_equal(tmp_path: Path, precision: str) -> None:
    linear = torch.nn.Sequential(torch.nn.Linear(32, 6), torch.nn.Tanh())
    rows = torch.export.Dim("rows")
    program = torch.export.export(linear.eval(), (torch.zeros(2, 32),), dynamic_shapes=({0: rows},))
    torch.export.save(program, tmp_path / "model.pt2")
    feeds = {"input": np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32)}
    exact = load_runtime(TestTorch.spec, tmp_path).run(feeds)
    rounded = load_runtime(TestTorch.spec, tmp_path, precision=precision).run(feeds)  # type: ignore[arg-type]
    assert 0 < np.abs(exact - rounded).max() < 0.02


def test_a_gpu_that_there_is_not_is_said(tmp_path: Path) -> None:
    tiny_program(tmp_path / "model.pt2")
    with pytest.raises(DeviceUnavailable, match=r"no device cuda:7"):
        load_runtime(TestTorch.spec, tmp_path, device="cuda:7")


def test_the_example_of_the_page_exports_a_program_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (REPOSITORY / "docs" / "runtimes.md").read_text()
    (code,) = re.findall(r"^```py\n(rows, tokens.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code.replace("max=512", "max=64"), {"torch": torch, "model": TinyText(6)})  # noqa: S102
    assert load_runtime(TestTorch.spec, tmp_path).run(FEEDS).shape == (2, 6)
