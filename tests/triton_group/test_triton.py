"""The suite of runtimes on a real Triton, over both protocols."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from tests.contracts.runtime_suite import FEEDS, ComputingSuite
from tests.triton_group.conftest import TINY
from tests.triton_group.server import Triton

from embedmill.errors import ModelError
from embedmill.runtimes import load_runtime


class TestOverHttp(ComputingSuite):
    spec = TINY
    scheme: ClassVar[str] = "http"

    @pytest.fixture
    def root(self, asked: Triton, tmp_path: Path) -> Path:
        return tmp_path

    def test_it_says_which_server_and_which_model_computed(self, root: Path) -> None:
        assert load_runtime(self.spec, root).version == "2.51.0, tiny 3"

    def test_more_rows_than_the_server_takes_at_once_are_split_and_joined_in_order(self, root: Path) -> None:
        random = np.random.default_rng(1)
        ids, mask = random.integers(2, 258, (101, 7)), np.ones((101, 7), np.int64)
        runtime = load_runtime(self.spec, root)
        together = runtime.run({"input_ids": ids, "attention_mask": mask})
        alone = [runtime.run({"input_ids": ids[[i]], "attention_mask": mask[[i]]}) for i in range(101)]
        np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)

    @pytest.mark.parametrize("change", [{"model": "nowhere"}, {"version": 4}])
    def test_a_model_or_version_that_there_is_not_is_a_model_error_in_the_servers_words(
        self, root: Path, change: dict[str, object]
    ) -> None:
        with pytest.raises(ModelError, match=r"Request for unknown model: .* is not found") as caught:
            load_runtime(self.spec.model_copy(update=change), root)
        assert caught.value.exit_code == 1

    def test_text_bytes_truths_and_half_floats_arrive_as_they_are(self, root: Path) -> None:
        runtime = load_runtime(self.spec.model_copy(update={"model": "kinds", "version": 1}), root)
        assert [str(spec) for spec in runtime.inputs.values()] == [
            "words: string[?, 2]",
            "flags: bool[?, 2]",
            "halves: float16[?, 2]",
        ]
        vectors = runtime.run(
            {
                "words": np.array([["größe", ""], [b"\xff\x00", "🍎"]], dtype=object),
                "flags": np.array([[True, False], [True, True]]),
                "halves": np.array([[0.5, 0.25], [-1, 65504]], np.float16),
            }
        )
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, [[7, 1, 0.75], [6, 2, 65504]])

    def test_what_the_model_itself_says_of_an_error_is_told_in_one_line(self, root: Path) -> None:
        with pytest.raises(ModelError, match="IndexError: index 1000000 is out of bounds"):
            load_runtime(self.spec, root).run({**FEEDS, "input_ids": np.full((2, 4), 10**6)})


class TestOverGrpc(TestOverHttp):
    scheme = "grpc"
