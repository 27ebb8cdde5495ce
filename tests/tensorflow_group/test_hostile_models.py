"""SavedModels that do more than compute, made by TensorFlow: each is refused, and nothing has run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tests.tensorflow_group.models import save, save_function, save_tiny_text

from embedmill.errors import ModelError
from embedmill.runtimes import load_runtime
from embedmill.runtimes.savedmodel_ops import ALLOWED, SAVER, TABLE_FILE
from embedmill.spec import TensorFlowSpec

ROWS = tf.TensorSpec([None, 2], tf.float32)
raw = tf.raw_ops
Body = Callable[[Any, str], Any]
"""What a model does with x, float32[N, 2], and the path of the canary that it may not write."""


def then(*effects: Any) -> Callable[[Any], Any]:
    """x, after something else has happened."""

    def after(x: Any) -> Any:
        with tf.control_dependencies(effects):
            return tf.identity(x)

    return after


def write(canary: str) -> Any:
    return tf.io.write_file(canary, "here")


def python(canary: str) -> Callable[[Any], Any]:
    def touch(x: Any) -> Any:
        Path(canary).touch()
        return x

    return touch


def in_a_loop(x: Any, canary: str) -> Any:
    def body(at: Any, x: Any) -> Any:
        return at + 1, then(write(canary))(x)

    return tf.while_loop(lambda at, _: at < 2, body, (tf.constant(0), x), shape_invariants=(None, ROWS))[1]


def in_a_branch(x: Any, canary: str) -> Any:
    return tf.cond(tf.shape(x)[0] > 99, lambda: then(write(canary))(x), lambda: x)


def in_a_map(x: Any, canary: str) -> Any:
    return tf.map_fn(lambda row: then(write(canary))(row), x)


def in_nested_functions(x: Any, canary: str) -> Any:
    inner = tf.function(lambda x: then(write(canary))(x))
    return tf.function(lambda x: inner(x))(x)


def compiled(x: Any, canary: str) -> Any:
    return tf.function(lambda x: then(write(canary))(x), jit_compile=True)(x)


def read(x: Any, canary: str) -> Any:
    return x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)


def data_set(x: Any, canary: str) -> Any:
    lines = tf.data.TextLineDataset("/etc/hostname").map(tf.strings.length)
    return x + tf.cast(lines.reduce(0, lambda total, size: total + size), tf.float32)


def save_checkpoint(x: Any, canary: str) -> Any:
    return then(raw.SaveV2(prefix=canary, tensor_names=["x"], shape_and_slices=[""], tensors=[x]))(x)


def restore_checkpoint(x: Any, canary: str) -> Any:
    return (
        x + raw.RestoreV2(prefix="/tmp/x", tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32])[0]
    )


def table(x: Any, canary: str) -> Any:
    handle = raw.AnonymousHashTable(key_dtype=tf.string, value_dtype=tf.int64)
    fill = raw.InitializeTableFromTextFileV2(
        table_handle=handle, filename="/etc/hostname", key_index=-2, value_index=-1, delimiter=" "
    )
    return then(fill)(x)


HOSTILE: dict[str, tuple[Body, str]] = {
    "writes a file": (lambda x, canary: then(write(canary))(x), "WriteFile"),
    "writes a file in a loop": (in_a_loop, "WriteFile"),
    "writes a file in a branch that is not taken": (in_a_branch, "WriteFile"),
    "writes a file for each row": (in_a_map, "WriteFile"),
    "writes a file in a function of a function": (in_nested_functions, "WriteFile"),
    "writes a file in what XLA compiles": (compiled, "WriteFile"),
    "reads a file": (read, "ReadFile"),
    "lists files": (lambda x, _: then(tf.io.matching_files("/etc/*"))(x), "MatchingFiles"),
    "calls Python": (
        lambda x, canary: tf.ensure_shape(tf.py_function(python(canary), [x], tf.float32), [None, 2]),
        "EagerPyFunc",
    ),
    "calls numpy": (
        lambda x, canary: tf.ensure_shape(tf.numpy_function(python(canary), [x], tf.float32), [None, 2]),
        "PyFunc",
    ),
    "calls numpy without state": (
        lambda x, canary: tf.numpy_function(python(canary), [x], tf.float32, stateful=False),
        "PyFuncStateless",
    ),
    "prints into a file": (
        lambda x, canary: then(raw.PrintV2(input="here", output_stream=f"file://{canary}"))(x),
        "PrintV2",
    ),
    "reads lines as a data set": (
        data_set,
        "Te",
    ),  # TextLineDataset, or TensorSliceDataset: whichever comes first
    "saves in the serving function": (save_checkpoint, "SaveV2"),
    "restores in the serving function": (restore_checkpoint, "RestoreV2"),
    "merges checkpoints": (
        lambda x, canary: then(
            raw.MergeV2Checkpoints(checkpoint_prefixes=["/tmp/x"], destination_prefix=canary)
        )(x),
        "MergeV2Checkpoints",
    ),
    "saves as TensorFlow 1 did": (
        lambda x, canary: then(raw.Save(filename=canary, tensor_names=["x"], data=[x]))(x),
        "Save",
    ),
    "fills a table from a file of the machine": (table, "InitializeTableFromTextFileV2"),
    "maps a file into memory": (
        lambda x, _: x + raw.ImmutableConst(dtype=tf.float32, shape=[2], memory_region_name="/etc/hostname"),
        "ImmutableConst",
    ),
    "writes summaries": (
        lambda x, canary: then(
            raw.CreateSummaryFileWriter(
                writer=raw.SummaryWriter(), logdir=canary, max_queue=1, flush_millis=1, filename_suffix="x"
            )
        )(x),
        "SummaryWriter",
    ),
    "sends tensors to a URL": (
        lambda x, canary: raw.DebugIdentityV3(
            input=x, device_name="", tensor_name="x", debug_urls=[f"file://{canary}"]
        ),
        "DebugIdentityV3",
    ),
    "reads what a proto is from a file": (
        lambda x, _: then(
            raw.DecodeProtoV2(
                bytes=[b""],
                message_type="a.B",
                field_names=[],
                output_types=[],
                descriptor_source="/etc/hostname",
            ).sizes
        )(x),
        "DecodeProtoV2",
    ),
    "reads whole files": (
        lambda x, _: then(raw.WholeFileReaderV2())(x),
        "WholeFileReaderV2",
    ),
}


def canary_of(folder: Path) -> Path:
    return folder.parent / "canary"


def refused(folder: Path) -> str:
    """Why; and nothing has run."""
    with pytest.raises(ModelError) as caught:
        load_runtime(TensorFlowSpec(kind="tensorflow", folder=folder.name), folder.parent)
    assert "\n" not in str(caught.value)
    assert not list(folder.parent.glob("canary*"))
    return str(caught.value)


@pytest.mark.parametrize("case", HOSTILE)
def test_a_model_that_does_more_than_compute_is_refused_by_its_operation(case: str, tmp_path: Path) -> None:
    body, op = HOSTILE[case]
    canary = str(tmp_path / "canary")
    folder = save_function(tmp_path / "model", lambda x: {"y": body(x, canary)}, x=ROWS)
    assert f"operation '{op}" in refused(folder)


def test_the_same_models_do_their_harm_where_nobody_checks(tmp_path: Path) -> None:
    """Or else the test above would show nothing."""
    for case in (
        "writes a file",
        "writes a file in a loop",
        "writes a file for each row",
        "prints into a file",
    ):
        body, _ = HOSTILE[case]
        canary = tmp_path / case / "canary"
        folder = save_function(tmp_path / case / "model", lambda x: {"y": body(x, str(canary))}, x=ROWS)  # noqa: B023
        tf.saved_model.load(str(folder)).signatures["serving_default"](x=tf.ones([1, 2]))
        assert canary.exists()


def test_an_operation_runs_where_the_section_vouches_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    canary = tmp_path / "canary"
    folder = save_function(tmp_path / "model", lambda x: {"y": then(write(str(canary)))(x)}, x=ROWS)
    spec = TensorFlowSpec(kind="tensorflow", folder=folder.name, allow_ops=("WriteFile",))
    load_runtime(spec, tmp_path).run({"x": np.ones((1, 2), np.float32)})
    assert canary.read_text() == "here"
    assert any("may run WriteFile, which can do more than compute" in said for said in caplog.messages)


def edited(folder: Path, change: Callable[[Any], object]) -> Path:
    file = folder / "saved_model.pb"
    message = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(message.meta_graphs[0])
    file.write_bytes(message.SerializeToString())
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny_text(tmp_path / "model")


def test_a_function_that_nobody_calls_is_checked_too(model: Path) -> None:
    def add(meta: Any) -> None:
        function = meta.graph_def.library.function.add()
        function.signature.name = "idle"
        function.node_def.add(name="w", op="WriteFile")

    assert "operation 'WriteFile' is not allowed: node 'w' of function 'idle'" in refused(edited(model, add))


def test_a_gradient_of_a_served_function_is_no_way_to_the_savers(model: Path) -> None:
    def add(meta: Any) -> None:
        (saver,) = (
            f.signature.name for f in meta.graph_def.library.function if "traced_save" in f.signature.name
        )
        meta.graph_def.library.gradient.add(function_name="f", gradient_func=saver)

    assert "'SaveV2' is for the saver alone" in refused(edited(model, add))


def test_serving_that_calls_the_savers_function_is_refused(model: Path) -> None:
    def add(meta: Any) -> None:
        functions = {function.signature.name: function for function in meta.graph_def.library.function}
        (saver,) = (name for name in functions if "traced_save" in name)
        (serving,) = (name for name in functions if "signature_wrapper" in name)
        call = functions[serving].node_def.add(name="c", op="StatefulPartitionedCall")
        call.attr["f"].func.name = saver

    assert "'SaveV2' is for the saver alone" in refused(edited(model, add))


@pytest.fixture
def with_asset(tmp_path: Path) -> Path:
    words = tmp_path / "words.txt"
    words.write_text("red\n")
    where = tf.lookup.TextFileIndex

    class Lookup(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            fill = tf.lookup.TextFileInitializer(
                str(words), tf.string, where.WHOLE_LINE, tf.int64, where.LINE_NUMBER
            )
            self.table = tf.lookup.StaticHashTable(fill, -1)

        def embed(self, text: Any) -> dict[str, Any]:
            return {"vectors": tf.one_hot(self.table.lookup(text), 3)}

    module = Lookup()
    return save(tmp_path / "model", module, module.embed, text=tf.TensorSpec([None], tf.string))


@pytest.mark.parametrize("name", ["../../words.txt", "/etc/hostname", "nowhere.txt"])
def test_an_asset_elsewhere_is_refused(name: str, with_asset: Path) -> None:
    def move(meta: Any) -> None:
        meta.asset_file_def[0].filename = name

    assert f"asset: '{name}'" in refused(edited(with_asset, move))


def test_a_table_that_is_bound_to_another_object_is_refused(with_asset: Path) -> None:
    def bind(meta: Any) -> None:
        for name, function in meta.object_graph_def.concrete_functions.items():
            if "initializer" in name:
                function.bound_inputs[:] = [0] * len(function.bound_inputs)

    assert "reads a file that is no asset of the model" in refused(edited(with_asset, bind))


@pytest.mark.parametrize("linked", ["variables", "variables/variables.index", "saved_model.pb"])
def test_files_that_are_links_to_elsewhere_are_refused(linked: str, model: Path, tmp_path: Path) -> None:
    (model / linked).rename(tmp_path / "elsewhere")
    (model / linked).symlink_to(tmp_path / "elsewhere")
    assert f"'{linked}' is a link that leads out of the folder" in refused(model)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[: len(data) // 2], "is no SavedModel, or a damaged one"),
        (lambda data: data + b"\xff", "is no SavedModel, or a damaged one"),
        (lambda data: data + data, "it was not written by TensorFlow 2"),
        (lambda data: b"", "is no SavedModel, or a damaged one"),
    ],
    ids=["cut", "garbage", "twice", "empty"],
)
def test_a_damaged_graph_is_refused(damage: Callable[[bytes], bytes], says: str, model: Path) -> None:
    file = model / "saved_model.pb"
    file.write_bytes(damage(file.read_bytes()))
    assert says in refused(model)


@pytest.mark.parametrize("size", [0, 10, 1000])
def test_damaged_variables_are_refused_by_tensorflow_in_a_line(size: int, model: Path) -> None:
    (file,) = model.glob("variables/variables.data*")
    file.write_bytes(file.read_bytes()[:size])
    assert "TensorFlow cannot load it" in refused(model)


def registered() -> dict[str, bool]:
    """Of every operation that TensorFlow has, whether it has state."""
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    known = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    return {op.name: op.is_stateful for op in known.op}


STATES = (
    "Anonymous",
    "Assert",
    "Assign",
    "Case",
    "Check",
    "CudnnRNN",
    "Destroy",
    "DisableCopyOnRead",
    "Empty",
    "GuaranteeConst",
    "HashTable",
    "If",
    "InitializeTableV2",
    "Lookup",
    "Multinomial",
    "Mutable",
    "NonDeterministic",
    "Random",
    "ReadVariableOp",
    "Resource",
    "Rng",
    "StatefulPartitionedCall",
    "StatefulStandardNormal",
    "StatefulTruncated",
    "StatefulUniform",
    "StatelessRandomGetAlg",
    "TensorArray",
    "TruncatedNormal",
    "VarHandleOp",
    "VarIsInitializedOp",
    "VariableShape",
    "While",
)
"""How allowed operations with state begin: variables, tables and random numbers, in memory; calls; checks."""


def test_allowed_operations_exist_and_what_state_they_have_is_known() -> None:
    known = registered()
    assert sorted((ALLOWED | SAVER | TABLE_FILE) - known.keys()) == []
    stateful = sorted(op for op in ALLOWED if known[op])
    assert [op for op in stateful if not op.startswith(STATES)] == []
