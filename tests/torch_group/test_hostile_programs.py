"""Programs that would run code, or lie, are refused before torch sees them; a canary would show what ran."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.torch_group.programs import TinyText, tiny_program

from embedmill.errors import ModelError
from embedmill.runtimes import load_runtime
from embedmill.spec import TorchSpec

SPEC = TorchSpec(kind="torch", file="model.pt2")
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
GRAPH = "models/model.json"
Members = dict[str, bytes]


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.file), "w"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Members:
    """Members of a sound program, below its folder."""
    file = tiny_program(tmp_path_factory.mktemp("sound") / "model.pt2")
    with zipfile.ZipFile(file) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def write(
    folder: Path, members: Members, *, compression: int = zipfile.ZIP_STORED, top: str = "model/"
) -> None:
    with zipfile.ZipFile(folder / "model.pt2", "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(top + name, data)


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_runtime(SPEC, folder)
    assert "\n" not in str(caught.value)
    assert "model.pt2" in str(caught.value)
    return str(caught.value)


def edited(members: Members, name: str, edit: Callable[[Any], Any]) -> Members:
    document = json.loads(members[name])
    edit(document)
    return {**members, name: json.dumps(document).encode()}


def test_the_same_archive_written_by_a_test_loads(sound: Members, tmp_path: Path) -> None:
    """So that what follows is refused for its one change."""
    write(tmp_path, sound)
    assert load_runtime(SPEC, tmp_path).name == "torch"


def test_sample_inputs_that_are_a_pickle_with_code_are_never_read(
    sound: Members, tmp_path: Path, canary: Path
) -> None:
    write(tmp_path, {**sound, "data/sample_inputs/model.pt": pickle.dumps(Canary(canary))})
    assert load_runtime(SPEC, tmp_path).name == "torch"
    assert not canary.exists()


def test_torch_itself_would_have_run_it(sound: Members, tmp_path: Path, canary: Path) -> None:
    """The reason for all this: `torch.export.load` falls back to unpickling everything."""
    write(tmp_path, {**sound, "data/sample_inputs/model.pt": pickle.dumps((Canary(canary),))})
    with contextlib.suppress(Exception):  # what comes of it does not matter
        torch.export.load(tmp_path / "model.pt2")
    assert canary.exists()


@pytest.mark.parametrize(
    ("config", "member"), [(WEIGHTS, "data/weights/weight_9"), (CONSTANTS, "data/constants/tensor_0")]
)
def test_tensors_that_are_pickles_are_refused(
    sound: Members, tmp_path: Path, canary: Path, config: str, member: str
) -> None:
    entry = {
        "path_name": member.rpartition("/")[2],
        "is_param": True,
        "use_pickle": True,
        "tensor_meta": None,
    }
    members = edited(sound, config, lambda d: d["config"].update({"table.weight": entry}))
    write(tmp_path, {**members, member: pickle.dumps(Canary(canary))})
    assert "is a pickle" in refusal(tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize("member", ["custom_obj_0", "opaque_obj_0"])
def test_objects_of_custom_classes_are_refused(
    sound: Members, tmp_path: Path, canary: Path, member: str
) -> None:
    entry = {"path_name": member, "is_param": False, "use_pickle": True, "tensor_meta": None}
    members = edited(sound, CONSTANTS, lambda d: d["config"].update({"x": entry}))
    write(tmp_path, {**members, f"data/constants/{member}": pickle.dumps(Canary(canary))})
    assert "unexpected member" in refusal(tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize("legacy", ["data/weights/model.pt", "data/constants/model.pt"])
def test_the_legacy_form_with_pickled_weights_is_refused(
    sound: Members, tmp_path: Path, canary: Path, legacy: str
) -> None:
    write(tmp_path, {**sound, legacy: pickle.dumps(Canary(canary))})
    assert "unexpected member" in refusal(tmp_path)
    assert not canary.exists()


def test_files_of_torch_save_and_torchscript_are_refused(tmp_path: Path, canary: Path) -> None:
    saved = io.BytesIO()
    torch.save({"x": Canary(canary)}, saved)
    plain = pickle.dumps(Canary(canary), protocol=4)
    script = io.BytesIO()
    with zipfile.ZipFile(script, "w") as archive:
        for name in ("constants.pkl", "data.pkl", "code/__torch__.py"):
            archive.writestr(f"model/{name}", plain)
    for data in (saved.getvalue(), plain, script.getvalue()):
        (tmp_path / "model.pt2").write_bytes(data)
        assert "is a pickle" in refusal(tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.mylib.evil.default",
        "torch.ops.higher_order.cond",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.hub.load",
        "torch.load",
        "torch.ops.load_library",
        "_operator.methodcaller",
        "math.__loader__.exec_module",
        "#extension:evil",
        "builtins.eval",
        "torch.ops.aten.__class__.mro",
        "torch.ops.aten.add._op",
        "torch.ops.aten.add.Tensor\nimport os",
    ],
)
def test_what_is_no_operator_of_torchs_own_is_refused(sound: Members, tmp_path: Path, target: str) -> None:
    def edit(document: Any) -> None:
        document["graph_module"]["graph"]["nodes"][0]["target"] = target

    write(tmp_path, edited(sound, GRAPH, edit))
    assert "the program calls" in refusal(tmp_path)


@pytest.mark.parametrize("target", ["torch.ops.aten.name.join", "torch.ops.aten.nothing.default"])
def test_what_only_looks_like_an_operator_is_refused(sound: Members, tmp_path: Path, target: str) -> None:
    def edit(document: Any) -> None:
        document["graph_module"]["graph"]["nodes"][0]["target"] = target

    write(tmp_path, edited(sound, GRAPH, edit))
    assert "torch cannot load it" in refusal(tmp_path)


@pytest.mark.parametrize(
    "size",
    [
        "__import__('pathlib').Path({canary!r}).touch()",
        "Symbol('s1').__class__.__base__",
        "Symbol(open({canary!r}, 'w').name)",
        "(lambda: open({canary!r}, 'w'))()",
        "[open({canary!r}, 'w') for _ in '1']",
        "Pow(Integer(9), Pow(Integer(9), Integer(99)))",
        "9**9**9**9",
        "Integer(1" + "0" * 40_000 + ")",
        "(" * 5_000 + "1" + ")" * 5_000,
    ],
)
def test_sizes_that_are_no_arithmetic_are_not_evaluated(
    sound: Members, tmp_path: Path, canary: Path, size: str
) -> None:
    def edit(document: Any) -> None:
        values = document["graph_module"]["graph"]["tensor_values"]
        values["input_ids"]["sizes"][0] = {
            "as_expr": {"expr_str": size.replace("{canary!r}", repr(str(canary)))}
        }

    write(tmp_path, edited(sound, GRAPH, edit))
    assert "a symbolic size is no arithmetic" in refusal(tmp_path)
    assert not canary.exists()


def test_guards_and_traces_are_left_out(sound: Members, tmp_path: Path, canary: Path) -> None:
    def edit(document: Any) -> None:
        touch = f"__import__('pathlib').Path({str(canary)!r}).touch()"
        document["guards_code"] = [touch]
        for node in document["graph_module"]["graph"]["nodes"]:
            node["metadata"] = {
                "source_fn_stack": f"a,{touch}",
                "nn_module_stack": touch,
                "stack_trace": touch,
            }

    write(tmp_path, edited(sound, GRAPH, edit))
    ids = torch.ones(1, 3, dtype=torch.int64).numpy()
    load_runtime(SPEC, tmp_path).run({"input_ids": ids, "attention_mask": ids})
    assert not canary.exists()


@pytest.mark.parametrize("name", ["x = __import__('os')", "x\nimport os", "x; y", "größe", "x" * 9999])
def test_names_that_are_none_are_refused(sound: Members, tmp_path: Path, name: str) -> None:
    document = sound[GRAPH].decode().replace('"name": "tanh"', f'"name": {json.dumps(name)}')
    write(tmp_path, {**sound, GRAPH: document.encode()})
    assert "has the text" in refusal(tmp_path)


@pytest.mark.parametrize("kind", ["collections.defaultdict", "os.PathLike", "transformers.ModelOutput"])
def test_containers_that_would_be_imported_are_refused(sound: Members, tmp_path: Path, kind: str) -> None:
    def edit(document: Any) -> None:
        signature = document["graph_module"]["module_call_graph"][0]["signature"]
        signature["out_spec"] = signature["out_spec"].replace("builtins.dict", kind)

    write(tmp_path, edited(sound, GRAPH, edit))
    assert "the program returns" in refusal(tmp_path)


def test_graphs_within_the_graph_and_state_are_refused(sound: Members, tmp_path: Path) -> None:
    def nested(document: Any) -> None:
        node = document["graph_module"]["graph"]["nodes"][0]
        node["inputs"].append({"name": "g", "arg": {"as_graph": {"name": "g", "graph": {}}}, "kind": 1})

    def mutation(document: Any) -> None:
        spec = {"buffer_mutation": {"arg": {"name": "tanh"}, "buffer_name": "b"}}
        document["graph_module"]["signature"]["output_specs"].append(spec)

    for edit, reason in ((nested, "graphs within the graph"), (mutation, "state that a run changes")):
        write(tmp_path, edited(sound, GRAPH, edit))
        assert reason in refusal(tmp_path)


def test_a_compressed_archive_which_may_be_a_bomb_is_refused(sound: Members, tmp_path: Path) -> None:
    write(tmp_path, {**sound, "data/weights/weight_0": bytes(50_000_000)}, compression=zipfile.ZIP_DEFLATED)
    assert (tmp_path / "model.pt2").stat().st_size < 1_000_000
    assert "is compressed or encrypted" in refusal(tmp_path)


def test_members_over_each_other_are_refused(sound: Members, tmp_path: Path) -> None:
    """One long member, listed under many names."""
    names = [f"data/weights/weight_{number}" for number in range(2, 60)]
    write(tmp_path, {**sound, **dict.fromkeys(names, b""), "data/weights/weight_60": bytes(1_000_000)})
    file = tmp_path / "model.pt2"
    with zipfile.ZipFile(file, "a") as archive:
        long = archive.getinfo("model/data/weights/weight_60")
        for name in names:
            info = archive.getinfo(f"model/{name}")
            info.file_size = info.compress_size = long.file_size
            info.header_offset, info.CRC = long.header_offset, zlib.crc32(bytes(1_000_000))
        archive.writestr("model/extra/note", b"")  # so that the directory is written anew
    assert "lie over each other" in refusal(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../../evil",
        "/etc/evil",
        "models/../../evil",
        "data/weights/weight_0/../x",
        "aotinductor/x.so",
        "a\\b",
    ],
)
def test_members_of_other_names_are_refused(sound: Members, tmp_path: Path, name: str) -> None:
    write(tmp_path, {**sound, name: b"x"})
    assert "unexpected member" in refusal(tmp_path)


@pytest.mark.parametrize("top", ["../", "/", "", "a/../"])
def test_folders_of_other_names_are_refused(sound: Members, tmp_path: Path, top: str) -> None:
    write(tmp_path, sound, top=top)
    assert "unexpected member" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sizes", [{"as_int": 1 << 40}, {"as_int": 1 << 40}]),
        ("sizes", [{"as_int": -1}, {"as_int": 6}]),
        ("strides", [{"as_int": 0}, {"as_int": 1 << 40}]),
        ("storage_offset", {"as_int": 1 << 30}),
        ("dtype", 99),
        ("layout", 2),
    ],
)
def test_tensors_that_lie_about_their_bytes_are_refused(
    sound: Members, tmp_path: Path, key: str, value: Any
) -> None:
    def edit(document: Any) -> None:
        document["config"]["table.weight"]["tensor_meta"][key] = value

    write(tmp_path, edited(sound, WEIGHTS, edit))
    assert "data/weights" in refusal(tmp_path)


def test_weights_whose_bytes_changed_are_noticed(sound: Members, tmp_path: Path) -> None:
    write(tmp_path, sound)
    data = bytearray((tmp_path / "model.pt2").read_bytes())
    at = data.find(sound["data/weights/weight_0"][:64])
    data[at + 8] ^= 1
    (tmp_path / "model.pt2").write_bytes(bytes(data))
    assert "Bad CRC-32" in refusal(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_refused(sound: Members, tmp_path: Path, share: float) -> None:
    write(tmp_path, sound)
    data = (tmp_path / "model.pt2").read_bytes()
    (tmp_path / "model.pt2").write_bytes(data[: int(len(data) * share)])
    refusal(tmp_path)


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"{}", b"null", b"[" * 100_000, b'{"graph_module": 1}', b"\xff"]
)
def test_a_graph_that_is_none_is_refused(sound: Members, tmp_path: Path, document: bytes) -> None:
    write(tmp_path, {**sound, GRAPH: document})
    assert "its graph cannot be read" in refusal(tmp_path)


def test_a_program_that_takes_what_is_no_tensor_is_refused(tmp_path: Path) -> None:
    class WithSwitch(TinyText):
        def forward(self, input_ids: Any, attention_mask: Any, twice: bool = False) -> Any:
            return super().forward(input_ids, attention_mask)["vectors"] * (2 if twice else 1)

    ids, mask = (torch.ones(2, 3, dtype=torch.int64) for _ in range(2))
    torch.export.save(torch.export.export(WithSwitch(6).eval(), (ids, mask, True)), tmp_path / "model.pt2")
    assert "3 in its signature" in refusal(tmp_path)
