"""What every runtime does: suites that each kind inherits, in the environment that has its library."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from tests.tiny_text import reference

from embedmill.errors import DeviceUnavailable, ModelError
from embedmill.runtimes import Runtime, load_runtime
from embedmill.spec import RuntimeSpec

IDS = np.array([[1, 5, 9, 200], [1, 7, 0, 0]])
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
FEEDS = {"input_ids": IDS, "attention_mask": MASK}


class ComputingSuite:
    """What is computed, wherever the model lies: for runtimes that ask a server.

    Inherit as `TestNAME`, set `spec`, and make the tiny text model of `tests.tiny_text` in `root`.
    """

    spec: ClassVar[RuntimeSpec]
    output = "vectors"
    misfits: ClassVar[tuple[str, ...]] = ("absent", "more", "dtype", "rank", "range")
    """Feeds that the runtime must refuse; `range`, ids beyond the table, where its library notices."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """A folder with the model, of six dimensions and seed 0."""
        raise NotImplementedError

    @pytest.fixture
    def runtime(self, root: Path) -> Runtime:
        return load_runtime(self.spec, root)

    def test_it_names_its_inputs_and_outputs_with_types_and_shapes(self, runtime: Runtime) -> None:
        assert set(runtime.inputs) == {"input_ids", "attention_mask"}
        ids = runtime.inputs["input_ids"]
        assert (ids.name, ids.dtype, len(ids.shape)) == ("input_ids", "int64", 2)
        assert not any(isinstance(size, int) for size in ids.shape)
        assert runtime.output == runtime.outputs[self.output]
        assert runtime.output.shape[1] == 6
        assert runtime.name
        assert runtime.version

    def test_it_computes_what_the_weights_say_a_float32_row_each(self, runtime: Runtime) -> None:
        vectors = runtime.run(FEEDS)
        assert vectors.shape == (2, 6)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, reference(IDS, MASK, dimension=6), atol=1e-6)

    def test_the_same_feeds_give_the_same_bits(self, root: Path) -> None:
        first, second = (load_runtime(self.spec, root).run(FEEDS) for _ in "ab")
        assert first.tobytes() == second.tobytes()

    def test_more_threads_give_the_same_vectors(self, root: Path) -> None:
        one, two = (load_runtime(self.spec, root, threads=threads) for threads in (1, 2))
        np.testing.assert_allclose(one.run(FEEDS), two.run(FEEDS), atol=1e-6)

    def test_feeds_that_do_not_fit_are_a_model_error_of_one_line(self, runtime: Runtime) -> None:
        feeds = {
            "absent": {"input_ids": IDS},
            "more": {**FEEDS, "more": MASK},
            "dtype": {**FEEDS, "input_ids": IDS.astype(np.float32)},
            "rank": {**FEEDS, "input_ids": IDS[0]},
            "range": {**FEEDS, "input_ids": np.full((2, 4), 10**6)},
        }
        for case in self.misfits:
            with pytest.raises(ModelError) as caught:
                runtime.run(feeds[case])
            assert "\n" not in str(caught.value), case

    def test_an_output_that_there_is_not_is_a_model_error_that_lists_what_there_is(self, root: Path) -> None:
        spec = self.spec.model_copy(update={"output": "nowhere"})
        with pytest.raises(ModelError, match=rf"no output 'nowhere'.*{self.output}: float32\[[^,]+, 6\]"):
            load_runtime(spec, root)

    def test_a_device_that_there_is_not_is_an_error_of_its_own(self, root: Path) -> None:
        with pytest.raises(DeviceUnavailable, match="no device 'warp'"):
            load_runtime(self.spec, root, device="warp")


class RuntimeSuite(ComputingSuite):
    """The same, and what damage to its files does: for runtimes that load them."""

    main: ClassVar[str]
    """The file whose damage the runtime must notice."""

    @pytest.mark.parametrize(
        "content", [b"", b"garbage" * 99, b"\x08\x09", b"PK\x03\x04 but no archive", None]
    )
    def test_a_damaged_or_missing_file_is_a_model_error_of_one_line_that_names_it(
        self, root: Path, content: bytes | None
    ) -> None:
        file = root / self.main
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        with pytest.raises(ModelError) as caught:
            load_runtime(self.spec, root)
        assert str(root / str(self.spec.path)) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_cut_file_is_a_model_error(self, root: Path) -> None:
        file = root / self.main
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(ModelError, match=Path(str(self.spec.path)).name):
            load_runtime(self.spec, root)
