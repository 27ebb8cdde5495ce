"""Runtime `jax`: the suite, devices, rows, precision."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jaxlib import xla_client
from tests.contracts.runtime_suite import FEEDS, RuntimeSuite
from tests.convert_group.artifacts import exported_of, text_artifact, written
from tests.runtimes.fake_cuda import Driver
from tests.tiny_text import reference

from embedmill.errors import DeviceUnavailable, ModelError
from embedmill.runtimes import Place, load_runtime
from embedmill.runtimes.jax import filled_rows, variables
from embedmill.runtimes.jax_artifact import read_artifact
from embedmill.spec import JaxSpec

SPEC = JaxSpec(kind="jax", file="model.jax")
CPU_ONLY = JaxSpec(kind="jax", file="model.jax", platforms=("cpu",))
SQUARE = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)


class TestJax(RuntimeSuite):
    spec = JaxSpec(kind="jax", file="model.jax", output="vectors")
    main = "model.jax"
    misfits = ("absent", "more", "dtype", "rank")

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return text_artifact(tmp_path / "model.jax").parent


def test_one_file_is_for_cpu_cuda_and_tpu(tmp_path: Path) -> None:
    artifact = read_artifact(text_artifact(tmp_path / "model.jax"))
    assert artifact.platforms == ("cpu", "cuda", "tpu")
    with pytest.raises(DeviceUnavailable, match=r"jax: no device tpu:0 .*'jax\[tpu\]'"):
        load_runtime(SPEC, tmp_path, device="tpu")
    with pytest.raises(DeviceUnavailable, match=r"jax: no device cuda:0 .*'jax\[cuda13\]'"):
        load_runtime(SPEC, tmp_path, device="cuda")
    with pytest.raises(DeviceUnavailable, match=r"jax: no device cpu:9 .*1 of that kind"):
        load_runtime(SPEC, tmp_path, device="cpu:9")


def test_jax_reads_the_limit_of_memory_as_a_share_that_is_not_taken_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What jaxlib makes of its environment, which a GPU's client is created with."""
    place = Place("cuda", gpu_memory_mib=8192)
    for name, value in variables(place, None, driver=Driver()).items():
        monkeypatch.setenv(name, value)
    options = xla_client.generate_pjrt_gpu_plugin_options()
    assert (options["memory_fraction"], options["preallocate"]) == (0.1, False)


def test_an_artifact_for_tpu_alone_is_refused_on_a_cpu_and_says_what_it_is_for(tmp_path: Path) -> None:
    text_artifact(tmp_path / "model.jax", platforms=["tpu"])
    spec = JaxSpec(kind="jax", file="model.jax", platforms=("tpu",))
    with pytest.raises(DeviceUnavailable, match="is not lowered for cpu, but for tpu"):
        load_runtime(spec, tmp_path)


def test_an_artifact_without_a_declared_platform_is_refused_everywhere(tmp_path: Path) -> None:
    text_artifact(tmp_path / "model.jax", platforms=["cpu"])
    with pytest.raises(ModelError, match=r"is lowered for cpu, and model.yaml declares cuda, tpu as well"):
        load_runtime(SPEC, tmp_path)
    assert load_runtime(CPU_ONLY, tmp_path).run(FEEDS).shape == (2, 6)


def test_any_number_of_rows_gives_the_rows_of_each_alone(tmp_path: Path) -> None:
    runtime = load_runtime(
        SPEC.model_copy(update={"output": "vectors"}), text_artifact(tmp_path / "model.jax").parent
    )
    random = np.random.default_rng(0)
    for rows in (1, 3, 8, 9, 17):
        ids, mask = random.integers(0, 258, (rows, 5)), np.ones((rows, 5), np.int64)
        computed = runtime.run({"input_ids": ids, "attention_mask": mask})
        np.testing.assert_allclose(computed, reference(ids, mask, dimension=6), atol=1e-6)


def test_few_numbers_of_rows_are_compiled_for() -> None:
    assert [filled_rows(rows) for rows in (1, 2, 3, 5, 8, 9, 16, 17, 100)] == [1, 2, 4, 8, 8, 16, 16, 24, 104]
    assert len({filled_rows(rows) for rows in range(1, 257)}) == 35


def test_rows_that_differ_between_inputs_are_a_model_error(tmp_path: Path) -> None:
    runtime = load_runtime(SPEC, text_artifact(tmp_path / "model.jax").parent)
    with pytest.raises(ModelError, match="JAX failed"):
        runtime.run({**FEEDS, "attention_mask": FEEDS["attention_mask"][:1]})


def test_inputs_may_be_keywords_and_the_output_an_array(tmp_path: Path) -> None:
    (rows,) = export.symbolic_shape("rows")
    x = jax.ShapeDtypeStruct((rows, 16), np.float32)
    exported = export.export(jax.jit(lambda *, x, y: x @ SQUARE + y @ SQUARE))(x=x, y=x)
    written(tmp_path / "model.jax", exported)
    runtime = load_runtime(CPU_ONLY, tmp_path)
    assert (set(runtime.inputs), set(runtime.outputs)) == ({"x", "y"}, {"vectors"})
    fed = np.ones((3, 16), np.float32)
    np.testing.assert_allclose(runtime.run({"x": fed, "y": fed}), 2 * fed @ SQUARE, rtol=1e-6)


@pytest.mark.parametrize(
    ("precision", "rounded"), [("highest", False), ("tensorfloat32", True), (None, True)]
)
def test_whether_multiplications_may_be_rounded_is_told_by_the_artifact(
    tmp_path: Path, precision: str | None, rounded: bool
) -> None:
    exported = exported_of(lambda x: x @ SQUARE, precision=precision, platforms=("cpu", "cuda", "tpu"))
    artifact = read_artifact(written(tmp_path / "model.jax", exported))
    assert artifact.rounded is rounded
    if rounded:
        with pytest.raises(ModelError, match="may round multiplications on cuda, and the declared precision"):
            load_runtime(SPEC, tmp_path, device="cuda")


def test_bfloat16_vectors_come_out_as_float32(tmp_path: Path) -> None:
    exported = exported_of(lambda x: x[:, :4].astype(jnp.bfloat16))
    written(tmp_path / "model.jax", exported)
    assert load_runtime(CPU_ONLY, tmp_path, precision="bfloat16").run(
        {"x": np.ones((2, 16), np.float32)}
    ).dtype == np.dtype("float32")


def test_what_a_gpu_is_compiled_with_is_known_to_xla() -> None:
    from embedmill.runtimes.base import Place
    from embedmill.runtimes.jax import _compiler_options

    options = _compiler_options(Place("cuda"))
    assert options["xla_gpu_exclude_nondeterministic_ops"]
    assert float(jax.jit(lambda x: x + 1, compiler_options=options)(1.0)) == 2.0
    with pytest.raises(Exception, match="No such compile option"):
        jax.jit(lambda x: x + 1, compiler_options={"xla_gpu_nonsense": True})(1.0)
