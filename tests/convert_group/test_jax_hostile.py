"""Artifacts that are damaged, lie or want to do more than compute: refused, and never run."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from tests.contracts.runtime_suite import FEEDS
from tests.convert_group.artifacts import exported_of, text_artifact, written

from embedmill.errors import ModelError
from embedmill.runtimes import load_runtime
from embedmill.spec import JaxSpec

SPEC = JaxSpec(kind="jax", file="model.jax", platforms=("cpu",))
X = {"x": np.ones((2, 16), np.float32)}
TARGETS = (
    "xla_ffi_python_cpu_callback",
    "xla_python_cpu_callback",
    "tf.call_tf_function",
    "tpu_custom_call",
    "__gpu$xla.gpu.triton",
    "anything",
)


@pytest.mark.parametrize("target", TARGETS)
def test_what_calls_code_by_name_is_refused_whether_it_is_admitted_or_not(
    tmp_path: Path, target: str
) -> None:
    exported = exported_of(lambda x: jax.ffi.ffi_call(target, like(x))(x), allowed=[target])
    for name, lies in (("said.jax", {}), ("hidden.jax", {"disabled_safety_checks": ()})):
        written(tmp_path / name, exported, **lies)
        with pytest.raises(ModelError, match="calls code by name, which is not run: ") as caught:
            load_runtime(SPEC.model_copy(update={"file": name}), tmp_path)
        assert target in str(caught.value)


def test_a_call_in_a_branch_of_a_loop_is_found(tmp_path: Path) -> None:
    def looped(x: Any) -> Any:
        call = jax.ffi.ffi_call("anything", like(x))
        return jax.lax.fori_loop(0, 3, lambda i, y: jax.lax.cond(i > 1, call, lambda z: z, y), x)

    written(tmp_path / "model.jax", exported_of(looped, allowed=["anything"]), disabled_safety_checks=())
    with pytest.raises(ModelError, match="calls code by name, which is not run: anything"):
        load_runtime(SPEC, tmp_path)


def test_a_solver_that_a_library_has_is_called_by_name_too(tmp_path: Path) -> None:
    written(tmp_path / "model.jax", exported_of(lambda x: jnp.linalg.qr(x[:, :, None])[0][:, :, 0]))
    with pytest.raises(ModelError, match="calls code by name, which is not run: lapack"):
        load_runtime(SPEC, tmp_path)


def like(x: Any) -> Any:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def test_an_effect_that_is_admitted_is_refused(tmp_path: Path) -> None:
    exported = exported_of(
        lambda x: jax.ffi.ffi_call("anything", like(x), has_side_effect=True)(x), allowed=["anything"]
    )
    assert exported.unordered_effects
    written(tmp_path / "model.jax", exported_of(lambda x: x), unordered_effects=exported.unordered_effects)
    with pytest.raises(ModelError, match=r"has effects beside computing: .*Effect"):
        load_runtime(SPEC, tmp_path)


def test_an_artifact_that_switches_checks_off_is_refused(tmp_path: Path) -> None:
    off = (export.DisabledSafetyCheck.platform(),)
    written(tmp_path / "model.jax", exported_of(lambda x: x), disabled_safety_checks=off)
    with pytest.raises(ModelError, match="switches JAX's checks off: "):
        load_runtime(SPEC, tmp_path)


def test_an_artifact_for_two_devices_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "model.jax", exported_of(lambda x: x), nr_devices=2)
    with pytest.raises(ModelError, match="is for 2 devices at once"):
        load_runtime(SPEC, tmp_path)


@pytest.mark.parametrize("case", ["positions", "nested", "tuple"])
def test_inputs_and_outputs_without_names_are_refused(tmp_path: Path, case: str) -> None:
    x = jax.ShapeDtypeStruct((3, 16), np.float32)
    exported = {
        "positions": lambda: export.export(jax.jit(lambda x: x))(x),
        "nested": lambda: export.export(jax.jit(lambda feeds: feeds["a"]["x"]))({"a": {"x": x}}),
        "tuple": lambda: export.export(jax.jit(lambda feeds: (feeds["x"], feeds["x"])))({"x": x}),
    }[case]()
    written(tmp_path / "model.jax", exported)
    with pytest.raises(ModelError, match=r"its inputs have no names|neither an array nor a dict of arrays"):
        load_runtime(SPEC, tmp_path)


def avals(shape: tuple[Any, ...], dtype: Any = np.float32) -> tuple[Any, ...]:
    shaped: tuple[Any, ...] = export.export(jax.jit(lambda x: x))(jax.ShapeDtypeStruct(shape, dtype)).in_avals
    return shaped


@pytest.mark.parametrize(
    "lies",
    [
        {"in_avals": avals((2, 16), np.int32)},
        {"in_avals": avals((2, 99))},
        {"in_avals": avals((2, 16, 1))},
        {"out_avals": avals((2, 99))},
        {"out_avals": avals((2, 16, 1))},
        {"module_kept_var_idx": ()},
        {"uses_global_constants": False},
        {"mlir_module_serialized": b"ML\xefR but nothing more"},
    ],
    ids=str,
)
def test_an_artifact_that_lies_about_itself_is_a_model_error_when_loaded_or_run(
    tmp_path: Path, lies: dict[str, Any]
) -> None:
    written(tmp_path / "model.jax", exported_of(lambda x: x * 2, platforms=("cpu", "tpu")), **lies)
    with pytest.raises(ModelError) as caught:
        load_runtime(SPEC, tmp_path).run(X)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "lies",
    [
        {"out_avals": avals((2, 16), np.int32)},
        {"module_kept_var_idx": (0, 1, 2)},
        {"platforms": ("cpu", "cuda", "tpu")},
    ],
    ids=str,
)
def test_a_lie_that_changes_nothing_changes_nothing(tmp_path: Path, lies: dict[str, Any]) -> None:
    written(tmp_path / "model.jax", exported_of(lambda x: x * 2, platforms=("cpu", "tpu")), **lies)
    assert (load_runtime(SPEC, tmp_path).run(X) == 2).all()


@pytest.mark.parametrize("seed", range(8))
def test_flipped_bits_never_end_this_process(tmp_path: Path, seed: int) -> None:
    file = text_artifact(tmp_path / "model.jax")
    content, chance = bytearray(file.read_bytes()), random.Random(seed)
    for _ in range(chance.choice([1, 1, 1, 4, 32])):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    outcome: Any = None
    try:
        outcome = load_runtime(SPEC.model_copy(update={"output": "vectors"}), tmp_path).run(FEEDS).shape
    except ModelError as error:
        outcome = str(error).count("\n")
    assert outcome in (0, (2, 6))


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'canary'}",)

    (tmp_path / "model.jax").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ModelError, match="is a pickle"):
        load_runtime(SPEC, tmp_path)
    assert not (tmp_path / "canary").exists()


def test_a_file_that_is_larger_than_any_artifact_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "model.jax").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ModelError, match="2147483648 bytes are too many"):
        load_runtime(SPEC, tmp_path)
