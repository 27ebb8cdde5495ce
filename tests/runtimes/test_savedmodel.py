"""A SavedModel that could do more than compute is refused by name, before TensorFlow sees it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtimes.saved_model_bytes import (
    ASSET,
    FILL,
    SAVER_NODES,
    SERVING,
    Parts,
    entry,
    function,
    message,
    model,
    node,
    varint,
)

from embedmill.errors import ModelError
from embedmill.runtimes.protobuf import MOST_FIELDS, Message
from embedmill.runtimes.savedmodel import check_saved_model
from embedmill.runtimes.savedmodel_graph import read_graph
from embedmill.runtimes.savedmodel_ops import ALLOWED

WRITE = node("w", "WriteFile", "name", "contents")
HARMFUL = [
    "ReadFile",
    "MatchingFiles",
    "PyFunc",
    "PyFuncStateless",
    "EagerPyFunc",
    "Print",
    "PrintV2",
    "ImmutableConst",
    "DecodeProtoV2",
    "Save",
    "SaveSlices",
    "Restore",
    "TextLineDataset",
    "TFRecordDatasetV2",
    "FixedLengthRecordReaderV2",
    "WholeFileReaderV2",
    "RemoteCall",
    "Send",
    "_Send",
    "DebugIdentityV3",
    "CreateSummaryFileWriter",
    "XlaCallModule",
    "XlaHostCompute",
    "MlirPassthroughOp",
    "RpcCall",
    "FileSystemSetConfiguration",
    "LoadAndRemapMatrix",
    "GenerateVocabRemapping",
    "BatchFunction",
    "SleepOp",
    "DistributedSave",
    "CollectiveReduceV2",
    "AnonymousIteratorV3",
    "MakeUp",
    "serving",
]
CALL = "StatefulPartitionedCall"


def refused(parts: Parts, folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        check_saved_model(parts.save(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_that_only_computes_passes_with_its_saver_and_its_tables(tmp_path: Path) -> None:
    check_saved_model(model().save(tmp_path / "plain"))
    table = model(functions=[FILL], concrete={"fill": [1, 2]}, assets=["words.txt"])
    check_saved_model(table.save(tmp_path / "table"))
    through = function("outer", node("call", CALL, "path", "t", f="fill"), arguments=["t", "path"])
    check_saved_model(
        model(functions=[FILL, through], concrete={"outer": [2, 1]}, assets=["words.txt"]).save(
            tmp_path / "saved"
        )
    )


def test_the_graph_is_read_with_all_that_its_functions_call() -> None:
    inner = message(
        (10, message((1, "outer"), (2, entry("g", message((1, message((9, message((1, "deep"))))))))))
    )
    nodes = message((1, "n"), (2, "While"), (5, entry("body", inner)))
    graph = read_graph(model(nodes=[nodes], assets=["a.txt"], gradients=[("serving", "back")]).data())
    (found,) = (each for each in graph.nodes if each.name == "n")
    assert sorted(found.functions) == ["deep", "outer"]
    assert graph.functions["serving"].arguments == ("x", "w")
    assert graph.saver_nodes == {"call_save", "call_restore"}
    assert graph.concrete_functions == {"serving": [1]}
    assert graph.assets == {1: [0]}
    assert graph.asset_files == ["a.txt"]
    assert graph.asset_tensors == {"asset_0:0"}
    assert graph.gradients == ["serving", "back"]


WHERE = {
    "the main graph": model(nodes=[WRITE]),
    "a function that is served": model(functions=[function("f", WRITE)], concrete={"f": []}),
    "a function that nobody calls": model(functions=[function("f", WRITE)]),
    "the saver's own function": model(
        nodes=[node("also", CALL, f="f")], functions=[function("f", WRITE)], saver=("also", "call_restore")
    ),
    "the body of a loop": model(
        functions=[function("f", node("l", "While", "x", cond="serving", body="g")), function("g", WRITE)]
    ),
}


@pytest.mark.parametrize("where", WHERE)
def test_an_operation_that_is_not_allowed_is_refused_wherever_it_is(where: str, tmp_path: Path) -> None:
    assert "operation 'WriteFile' is not allowed: node 'w' of " in refused(WHERE[where], tmp_path / "m")


@pytest.mark.parametrize(
    "op",
    HARMFUL,
)
def test_what_reads_writes_talks_or_is_unknown_is_refused_by_name(op: str, tmp_path: Path) -> None:
    said = refused(model(functions=[function("f", node("n", op))]), tmp_path / "m")
    assert f"operation {op!r} is not allowed: node 'n' of function 'f'" in said
    assert "allow_ops" in said


def test_an_operation_passes_where_somebody_vouches_for_it_and_no_other_does(tmp_path: Path) -> None:
    folder = model(nodes=[node("r", "ReadFile"), WRITE]).save(tmp_path / "m")
    check_saved_model(folder, allow_ops=["ReadFile", "WriteFile"])
    with pytest.raises(ModelError, match="operation 'WriteFile'"):
        check_saved_model(folder, allow_ops=["ReadFile"])


def test_of_an_operation_that_is_named_twice_both_are_checked(tmp_path: Path) -> None:
    both = message((1, "n"), (2, "WriteFile"), (2, "Identity"))
    assert "'WriteFile'" in refused(model(nodes=[both]), tmp_path / "m")


SAVES = function("f", node("s", "SaveV2", "x"))
SAVER_ABUSE = {
    "saving in the serving function": model(functions=[SAVES], concrete={"f": []}),
    "serving calls the saver's function": model(
        functions=[function("f", node("c", "PartitionedCall", f="save"))], concrete={"f": []}
    ),
    "the saver's function is a concrete function too": model(concrete={"save": []}),
    "an object names the saver's function": model(objects=[message((6, message((1, "save"))))]),
    "a bare function is the saver's": model(objects=[message((8, message((1, "save"))))]),
    "a captured tensor comes of the saver's function": model(objects=[message((12, message((2, "save"))))]),
    "the saver says that it is the serving call": model(
        functions=[SAVES], nodes=[node("c", CALL, f="f")], saver=("c:0", "c"), concrete={"f": []}
    ),
    "another node of the main graph calls it": model(nodes=[node("c", "PartitionedCall", f="save")]),
    "it is a gradient": model(gradients=[("serving", "save")]),
    "the optimizer may swap it in": model(
        functions=[function("f", node("s", "SaveV2"), attributes=["api_implements"])],
        nodes=[node("c", CALL, f="f")],
        saver=("c", "call_restore"),
    ),
    "it is called by what another calls": model(
        functions=[function("outer", node("c", CALL, f="f")), SAVES, function("g", node("c", CALL, f="f"))],
        nodes=[node("c", CALL, f="outer")],
        saver=("c", "call_restore"),
        concrete={"g": []},
    ),
    "it lies in the main graph": model(nodes=[node("s", "SaveV2")]),
}


@pytest.mark.parametrize("case", SAVER_ABUSE)
def test_saving_is_refused_where_anything_but_the_saver_could_ask_for_it(case: str, tmp_path: Path) -> None:
    said = refused(SAVER_ABUSE[case], tmp_path / "m")
    assert "'SaveV2' is for the saver alone, and others can ask for it" in said


def fill(*inputs: str, **extra: object) -> Parts:
    made = function("fill", node("t", "InitializeTableFromTextFileV2", *inputs), arguments=["file", "table"])
    return model(functions=[made], concrete={"fill": [1, 2]}, assets=["words.txt"])


def called(caller: bytes, **concrete: list[int]) -> Parts:
    return model(functions=[FILL, caller], concrete=concrete, assets=["words.txt"])


TABLE_ABUSE = {
    "a constant": model(
        functions=[
            function("f", node("c", "Const"), node("t", "InitializeTableFromTextFileV2", "h", "c:output:0"))
        ]
    ),
    "the other argument": fill("file", "table"),
    "no argument": fill("table", "nowhere"),
    "one input only": fill("file"),
    "an argument that serving is fed": model(functions=[FILL], concrete={"fill": [2]}, assets=["words.txt"]),
    "an object that is no asset": model(functions=[FILL], concrete={"fill": [2, 2]}, assets=["words.txt"]),
    "an object that is two things": model(
        functions=[FILL],
        concrete={"fill": [3, 2]},
        objects=[message((5, b""), (9, b""))],
        assets=["words.txt"],
    ),
    "an object that does not exist": model(
        functions=[FILL], concrete={"fill": [99, 2]}, assets=["words.txt"]
    ),
    "a function that objects name without saying what is bound": model(
        functions=[FILL], objects=[message((6, message((1, "fill"))))], assets=["words.txt"]
    ),
    "a caller with a constant": called(
        function("f", node("k", "Const"), node("c", CALL, "k:output:0", "t", f="fill"), arguments=["t"]),
        f=[2],
    ),
    "a caller that says less": called(function("f", node("c", CALL, f="fill")), f=[]),
    "a caller of another kind": called(
        function(
            "f", node("c", "If", "a", "a", "t", then_branch="fill", else_branch="fill"), arguments=["a", "t"]
        ),
        f=[1, 2],
    ),
    "the main graph, from a constant": model(
        nodes=[node("k", "Const"), node("t", "InitializeTableFromTextFileV2", "h", "k")]
    ),
    "a gradient": model(
        functions=[FILL], gradients=[("fill", "serving")], nodes=[], concrete={"fill": [2, 2]}
    ),
}


@pytest.mark.parametrize("case", TABLE_ABUSE)
def test_a_table_is_filled_from_nothing_but_an_asset(case: str, tmp_path: Path) -> None:
    said = refused(TABLE_ABUSE[case], tmp_path / "m")
    assert "'InitializeTableFromTextFileV2' reads a file that is no asset of the model: node 't'" in said


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../../x", ""])
def test_an_asset_lies_in_the_model(name: str, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert "asset: " in refused(model(assets=[name]), tmp_path / "m")


def test_an_asset_that_is_absent_or_has_no_file_is_refused(tmp_path: Path) -> None:
    folder = model(assets=["words.txt"]).save(tmp_path / "m")
    (folder / "assets" / "words.txt").unlink()
    with pytest.raises(ModelError, match=r"'words.txt' is no file"):
        check_saved_model(folder)
    assert "an asset is number 7 of 1 files" in refused(
        model(assets=["words.txt"], objects=[message((5, message((1, 7))))]), tmp_path / "n"
    )


@pytest.mark.parametrize("what", ["file", "folder", "asset", "dangling"])
def test_links_that_leave_the_folder_are_refused(what: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "words.txt").touch()
    folder = model(assets=["words.txt"]).save(tmp_path / "m")
    if what == "file":
        (folder / "saved_model.pb").rename(outside / "saved_model.pb")
    if what == "asset":
        (folder / "assets" / "words.txt").unlink()
    link, target = {
        "file": ("saved_model.pb", "saved_model.pb"),
        "folder": ("variables", "."),
        "asset": ("assets/words.txt", "words.txt"),
        "dangling": ("later", "nothing"),
    }[what]
    (folder / link).symlink_to(outside / target)
    with pytest.raises(ModelError, match=f"'{link}' is a link that leads out of the folder"):
        check_saved_model(folder)


@pytest.mark.parametrize("name", ["saved_model.cpb", "saved_model.pbtxt"])
def test_a_second_graph_that_would_be_read_instead_is_refused(name: str, tmp_path: Path) -> None:
    folder = model().save(tmp_path / "m")
    (folder / name).touch()
    with pytest.raises(ModelError, match=f"has {name} beside saved_model.pb"):
        check_saved_model(folder)


DAMAGED = {
    "empty": b"",
    "cut": model().data()[:-3],
    "trailing garbage": model().data() + b"\xff\xff\xff",
    "trailing group": model().data() + b"\x0b",
    "field number 0": model().data() + b"\x00\x00",
    "another format": b"PK\x03\x04" * 99,
    "two graphs": message((2, model().meta_graph()), (2, model().meta_graph())),
    "TensorFlow 1": message((2, message((2, message((1, node("x", "Const"))))))),
    "no graph": message((1, 1)),
    "a length past the end": message((1, 1)) + varint(2 << 3 | 2) + varint(2**40),
    "a number without end": b"\x08" + b"\xff" * 20,
    "names that are no text": message((2, message((2, message((1, message((1, b"\xff\xfe"))))), (7, b"")))),
    "two functions of a name": model(functions=[SERVING]).data(),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_a_model_error_of_one_line_that_names_the_file(case: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(DAMAGED[case])
    with pytest.raises(ModelError) as caught:
        check_saved_model(folder)
    assert f"{folder / 'saved_model.pb'}: is no SavedModel, or a damaged one: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_entries_for_one_concrete_function_are_refused(tmp_path: Path) -> None:
    twice = message((2, entry("f", b"")), (2, entry("f", b"")))
    data = message((2, message((2, b""), (7, twice))))
    with pytest.raises(ValueError, match="two concrete functions are called 'f'"):
        read_graph(data)


def test_many_tiny_fields_are_refused_before_they_fill_the_memory() -> None:
    with pytest.raises(ValueError, match="more than 1,000,000 fields in one message"):
        Message(b"\x08\x01" * (MOST_FIELDS + 1), 0, 2 * (MOST_FIELDS + 1))


def test_a_folder_of_endless_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedmill.runtimes.savedmodel.MOST_FILES", 5)
    folder = model().save(tmp_path / "m")
    for number in range(6):
        (folder / f"{number}").touch()
    with pytest.raises(ModelError, match="has more than 5 files"):
        check_saved_model(folder)


def test_functions_that_call_each_other_come_to_an_end(tmp_path: Path) -> None:
    loop = [
        function("a", node("c", CALL, "p", "t", f="b"), arguments=["p", "t"]),
        function(
            "b", node("c", CALL, "p", "t", f="a"), node("d", CALL, "p", "t", f="fill"), arguments=["p", "t"]
        ),
    ]
    check_saved_model(model(functions=[FILL, *loop], assets=["words.txt"]).save(tmp_path / "m"))


def test_a_folder_without_a_graph_is_no_saved_model(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere", Path(os.devnull)):
        with pytest.raises(ModelError, match=r"is no SavedModel: it has no file saved_model\.pb"):
            check_saved_model(folder)


@given(st.binary(max_size=200), st.integers(0, 2000), st.integers(0, 50))
def test_whatever_is_read_is_a_graph_or_a_value_error(noise: bytes, at: int, removed: int) -> None:
    table = model(functions=[FILL], concrete={"fill": [1, 2]}, assets=["words.txt"], nodes=SAVER_NODES[:1])
    good = table.data()
    at %= len(good)
    for data in (noise, good[:at] + noise + good[at + removed :]):
        try:
            read_graph(data)
        except ValueError:
            continue


@given(st.integers(0, 2000), st.integers(0, 255))
def test_a_changed_byte_never_makes_the_check_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    folder = tmp_path_factory.mktemp("fuzz") / "m"
    parts = model(functions=[FILL], concrete={"fill": [1, 2]}, assets=["words.txt"], objects=[ASSET])
    parts.save(folder)
    data = bytearray(parts.data())
    data[at % len(data)] = value
    (folder / "saved_model.pb").write_bytes(data)
    with contextlib.suppress(ModelError):
        check_saved_model(folder)


def test_the_list_has_no_operation_that_is_known_to_do_more() -> None:
    parts = ["File", "PyFunc", "Dataset", "Reader", "Iterator", "Send", "Recv", "Remote", "Print", "Summary"]
    parts += ["Debug", "Xla", "TPU", "Collective", "Save", "Restore", "Proto", "Rpc", "Queue", "Mlir"]
    assert [op for op in ALLOWED if any(part in op for part in parts) and op != "ShardedFilename"] == []
