"""`model import module:function` says in a line what is wrong with a function, and leaves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.convert_group.user_functions import (
    TEXTS_OF_SPEC,
    declare,
    imported,
    request,
    runtime,
)

from embedmill.errors import DeviceUnavailable, ModelError, SpecError
from embedmill.model.jax_lowering import lowered
from embedmill.runtimes import load_runtime
from embedmill.spec import JaxSpec


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nowhere:embed", r"nowhere:embed: cannot be imported: ModuleNotFoundError: .* 'nowhere'"),
        ("textmodel:nothing", r"the module has no 'nothing' \(its functions: states, forward, make, "),
        ("textmodel:number", "textmodel:number: is no function, but of type int"),
        ("textmodel:other_names", "takes no input_ids by name, and needs ids, mask, which no input of"),
        ("textmodel:unbound", "needs params, which no input .*input_ids, attention_mask.* functools.partial"),
        ("textmodel:anything", "takes any keywords, so that nobody can tell which arrays to give it"),
        ("textmodel:of_short_texts", r"textmodel.py, line \d+: .*'tokens' > '10' is inconclusive"),
        ("textmodel:calling_back", "cannot be exported for input_ids: int32.*multi-platform lowering"),
        ("textmodel:make_nothing", "was called to give the function, and gave one of type NoneType"),
        ("textmodel:make_badly", r"and failed: .*textmodel.py, line \d+: FileNotFoundError: weights.npz"),
        ("textmodel:make_strange", "says the types of inputs that it does not take: pixels"),
        ("textmodel:make_wide", "input 'input_ids' cannot be of type int64"),
        ("textmodel:make_unknown", "input 'input_ids' cannot be of type integers"),
    ],
)
def test_what_cannot_be_exported_is_one_line_that_says_why(here: Path, function: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        lowered(request(function))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("textmodel:unpooled", r"gives vectors: float32\[rows, tokens, 8\], and .*: float32\[rows, 6\]"),
        ("textmodel:summed", r"gives vectors: float32\[8\], and model.yaml declares"),
        ("textmodel:narrow", r"gives vectors: float32\[rows, 4\], and model.yaml declares"),
        ("textmodel:whole_numbers", r"gives vectors: int32\[rows, 6\], and model.yaml declares"),
        ("textmodel:rounding", "lets multiplications be rounded, and the declared precision is float32"),
    ],
)
def test_what_does_not_fit_the_declaration_leaves_nothing(shop: Path, function: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        imported(shop, function)
    assert "\n" not in str(caught.value)
    assert not (shop / "package").exists()


def test_a_function_that_calls_code_by_name_is_refused(shop: Path) -> None:
    declare(shop, encoders=TEXTS_OF_SPEC, runtimes=[runtime(platforms=["cpu"])])
    with pytest.raises(ModelError, match=r"package/model.jax: calls code by name, .*lapack"):
        imported(shop, "textmodel:solving")
    assert not (shop / "package").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "raise SystemExit('no licence')",
            r"imported: .*broken.py, line 1: SystemExit: no licence",
        ),
        ("x = = 1", r"cannot be imported: .*broken.py, line 1: SyntaxError: invalid syntax"),
        ("import os; os.abort()", "the process that exports it ended with SIGABRT"),
        ("import os; os._exit(3)", "the process that exports it ended with exit code 3"),
    ],
)
def test_a_module_that_does_not_run_is_said_to_be_so(shop: Path, source: str, message: str) -> None:
    (shop / "broken.py").write_text(source)
    with pytest.raises(ModelError, match=message):
        imported(shop, "broken:embed")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"runtimes": [{"kind": "onnx", "file": "model.onnx"}]},
            "declares no runtime jax, and textmodel:",
        ),
        ({"runtimes": [runtime(file="a.jax"), runtime(file="b.jax")]}, "declares several runtimes jax"),
        ({"precision": "float16"}, "is not asked for precision float16 .*float32, tf32, bfloat16"),
    ],
)
def test_a_declaration_without_a_place_for_the_function_is_a_spec_error(
    shop: Path, changed: dict[str, Any], message: str
) -> None:
    declare(shop, **{"encoders": TEXTS_OF_SPEC, **changed})
    with pytest.raises(SpecError, match=message):
        imported(shop)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"title": {"string": {"template": "{title}"}}},
            "input 'title' is string, and JAX computes with",
        ),
        (
            {"file": {"bytes": {"field": "photo"}}},
            "input 'file' is bytes, and JAX computes with",
        ),
        (
            {"price": {"number": {"field": "price"}}},
            "one function cannot compute both encoders: item",
        ),
    ],
)
def test_inputs_that_no_function_can_take_are_refused_before_it_is_imported(
    shop: Path, inputs: dict[str, Any], message: str
) -> None:
    declare(shop, encoders={**TEXTS_OF_SPEC, "item": inputs})
    with pytest.raises(ModelError, match=message):
        imported(shop)
    assert not (shop / "imported").exists()


def test_an_artifact_is_refused_where_it_lacks_the_platform(shop: Path) -> None:
    declare(shop, encoders=TEXTS_OF_SPEC, runtimes=[runtime(platforms=["cpu"])])
    package = imported(shop)
    with pytest.raises(DeviceUnavailable, match="is not lowered for tpu, but for cpu"):
        load_runtime(package.spec.runtimes[0], package.root, device="tpu")
    with pytest.raises(ModelError, match=r"is lowered for cpu, and model.yaml declares tpu as well"):
        load_runtime(JaxSpec(kind="jax", file="model.jax", platforms=("cpu", "tpu")), package.root)


def test_a_function_for_tpu_alone_cannot_make_goldens_here(shop: Path) -> None:
    declare(shop, encoders=TEXTS_OF_SPEC, runtimes=[runtime(platforms=["tpu"])])
    with pytest.raises(DeviceUnavailable, match="is not lowered for cpu, but for tpu"):
        imported(shop)
