"""What goes wrong is one line that says what to do, with the right exit code; never a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from tests.cli.terminal import Terminal, command_line, run_alone
from tests.models import tiny_text_package
from tests.support.mill import Mill, items

from embedmill.cli.failures import Interrupted, report
from embedmill.errors import StoreDenied
from embedmill.store.local import translated

Spoil = Callable[[Mill], None]


def write_csv(text: str) -> Spoil:
    def spoil(mill: Mill) -> None:
        (mill.root / "items.csv").write_text(text)
        mill.settings["catalog"] = {"source": "items.csv", "id": "sku", "display": ["title"]}

    return spoil


def change(**settings: object) -> Spoil:
    return lambda mill: mill.settings.update(settings)


def catalog(**settings: object) -> Spoil:
    return change(catalog={"source": "items.parquet", "id": "sku", **settings})


def lose_tokenizer(mill: Mill) -> None:
    package = tiny_text_package(mill.root / "incomplete")
    (package / "tokenizer.json").unlink()
    mill.settings["model"] = "incomplete"


def damage_model(mill: Mill) -> None:
    package = tiny_text_package(mill.root / "damaged")
    (package / "model.onnx").write_bytes(b"not a model")
    mill.settings["model"] = "damaged"


def damage_items(mill: Mill) -> None:
    (mill.root / "items.parquet").write_bytes(b"PAR1 not a table PAR1")


BAD: dict[str, tuple[Spoil, int, str, str]] = {
    "missing catalog": (catalog(source="nope.csv"), 1, "nope.csv", "catalog.source"),
    "filter without a match": (catalog(where="price > 999"), 1, "`where` left out all 8", "check the feed"),
    "missing id column": (
        catalog(id="number"),
        1,
        "no column 'number', which catalog.id names",
        "it has: sku, title",
    ),
    "an id in capitals": (
        catalog(id="SKU"),
        1,
        "no column 'SKU', which catalog.id names",
        "did you mean 'sku'?",
    ),
    "wrong display column": (
        catalog(display=["titel"]),
        1,
        "no column 'titel', which catalog.display names",
        "did you mean 'title'?",
    ),
    "column the model reads": (
        write_csv("sku,title\ns1,lamp\n"),
        1,
        "no column 'category', which the model",
        "it has: ",
    ),
    "wrong filter": (catalog(where="price >"), 2, "where", ""),
    "damaged catalog": (damage_items, 1, "items.parquet", "damaged"),
    "unknown key": (change(stor="x"), 2, "unknown key `stor`", "did you mean `store`?"),
    "wrong value": (change(gates={"churn": 7}), 2, "gates.churn", "expected a number that is at most 1"),
    "unknown store": (change(store="ftp://host/x"), 2, "'ftp'", "allowed: "),
    "missing model": (change(model="nope"), 1, "no model package", "`embedmill model import`"),
    "model without tokenizer": (lose_tokenizer, 1, "tokenizer.json", ""),
    "damaged model": (damage_model, 1, "model.onnx", ""),
    "read-only store": (change(store="/sys/embedmill"), 1, "/sys/embedmill", "must be writable"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_bad_input_is_one_line_that_says_what_is_wrong(
    mill: Mill, spec: Path, embedmill: Terminal, command: str, name: str
) -> None:
    spoil, code, found, advice = BAD[name]
    mill.write(items(8))
    spoil(mill)
    write_unchecked(mill)
    said = embedmill(command, spec, "--quiet")
    assert said.code == code, said
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    assert found in line
    assert advice in line
    assert said.out == ""


@pytest.mark.parametrize("name", BAD)
def test_bad_input_with_json_is_one_document(mill: Mill, spec: Path, embedmill: Terminal, name: str) -> None:
    """And the line is there, too: in a pipeline, stdout is often a file."""
    spoil, code, found, _ = BAD[name]
    mill.write(items(8))
    spoil(mill)
    write_unchecked(mill)
    document = embedmill.json("plan", spec, "--quiet", code=code)
    assert set(document) == {"schema", "error"}
    assert document["schema"] == "error/1"
    assert set(document["error"]) == {"code", "message", "hint", "exit_code"}
    assert document["error"]["exit_code"] == code
    assert found in document["error"]["message"] + document["error"]["hint"]
    (line,) = embedmill("plan", spec, "--quiet", "--json").err.splitlines()
    assert line.startswith("error: ")
    assert found in line


def write_unchecked(mill: Mill) -> None:
    """Write pipeline.yaml as it is, wrong or not."""
    with contextlib.suppress(Exception):
        mill.open()


def test_bad_input_leaves_the_live_release_alone(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.run(items(8))
    before = embedmill.json("release", "ls", spec)
    damage_items(mill)
    assert embedmill("run", spec).code == 1
    mill.write(items(8))
    assert embedmill.json("release", "ls", spec) == before


def test_an_empty_catalog_is_refused_and_the_live_release_stays(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    mill.run(items(8))
    before = embedmill.json("release", "ls", spec)
    mill.write([])
    said = embedmill("run", spec, "--quiet")
    assert said.code == 1
    assert "the catalog has no rows" in said.err
    assert said.err.count("\n") == 1
    assert embedmill.json("release", "ls", spec) == before


def test_a_folder_in_place_of_a_spec_is_named_with_what_may_be_meant(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    error = f"error: {mill.root}: cannot be read: is a folder"
    assert embedmill("plan", mill.root).err == f"{error} (`embedmill init` writes one to start from)\n"
    mill.open()
    for each in (("plan",), ("report",), ("release", "ls")):
        said = embedmill(*each, mill.root)
        assert (said.code, said.err) == (2, f"{error} (give the file in it: {spec})\n")
    for command in ("run", "status"):
        said = embedmill(command, mill.root)
        assert (said.code, said.err) == (
            2,
            f"{error} (--all {mill.root} takes every pipeline.yaml below it)\n",
        )
    assert embedmill("status", "--all", mill.root).code == 0


def test_a_file_that_may_not_be_read_is_not_called_unwritable() -> None:
    with pytest.raises(StoreDenied) as reading, translated("key"):
        raise PermissionError(errno.EACCES, "Permission denied", "log/1")
    assert (
        str(reading.value) == "log/1: permission denied (the store's folder must be readable for this user)"
    )


@pytest.mark.parametrize("group", [(), ("release",), ("model",)])
def test_a_missing_command_is_said(embedmill: Terminal, group: tuple[str, ...]) -> None:
    said = embedmill(*group)
    line = " ".join(["embedmill", *group])
    assert (said.code, said.err) == (2, f"error: a command is missing (see `{line} --help`)\n")


def test_a_wrong_choice_is_said_in_our_words(embedmill: Terminal) -> None:
    assert "error: Invalid value for 'kind': 'nope' is not one of" in embedmill("schema", "nope").err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_before_it_has_a_plan_does_not_send_to_resume(
    mill: Mill, spec: Path, number: signal.Signals
) -> None:
    mill.write(items(100_000))
    mill.open()
    process = subprocess.Popen(command_line("run", spec), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("plan: ")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    hint = f"error: stopped before there was a plan (`embedmill run {spec}` begins again)"
    assert (process.returncode, err.splitlines()[-1]) == (130, hint)


def test_a_missing_spec_says_how_to_make_one(tmp_path: Path, embedmill: Terminal) -> None:
    said = embedmill("plan", tmp_path / "nope.yaml")
    assert said.code == 2
    assert (
        said.err == f"error: {tmp_path}/nope.yaml: no such file (`embedmill init` writes one to start from)\n"
    )


def test_a_release_that_does_not_exist_is_an_error(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.run(items(8))
    for command in (("release", "show"), ("release", "rollback"), ("release", "verify"), ("release", "diff")):
        said = embedmill(*command, spec, "99")
        assert (said.code, said.err.count("\n")) == (1, 1)
        assert f"no release '99' (`embedmill release ls {spec}` shows those there are)" in said.err


def test_searching_before_anything_is_published_says_what_to_do(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    mill.open()
    said = embedmill("search", spec, "--text", "lamp")
    assert said.code == 1
    assert f"nothing was published yet (`embedmill run {spec}` publishes a first release)" in said.err


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["plann"], "No such command 'plann'"),
        (["plan"], "Missing argument 'PIPELINE.yaml'"),
        (["plan", "x.yaml", "--fast"], "No such option: --fast"),
        (["search", "x.yaml", "--text", "a", "-k", "0"], "should be greater than or equal to 1"),
        (["search", "x.yaml"], "found no query"),
        (["search", "x.yaml", "--text", "a", "--item", "b"], "found --text and --item"),
    ],
)
def test_a_wrong_command_line_is_usage(embedmill: Terminal, arguments: list[str], found: str) -> None:
    said = embedmill(*arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert found in said.err
    document = embedmill.json(*arguments, code=2)
    assert found in document["error"]["message"]


def test_a_full_disk_stops_the_run_without_a_traceback(
    mill: Mill, spec: Path, embedmill: Terminal, small_disk: Path
) -> None:
    mill.settings["store"] = str(small_disk / "mill")
    mill.settings["model"] = str(tiny_text_package(mill.root / "wide", dimension=256))
    mill.write(items(4000))
    mill.open()
    said = embedmill("run", spec, "--quiet")
    assert said.code == 75, said
    assert "no space left" in said.err
    assert len(said.err.splitlines()) == 1
    assert embedmill.json("release", "ls", spec) == []


def test_text_of_a_catalog_cannot_steer_the_terminal(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    rows = items(3)
    rows[1]["title"] = "lamp\x1b[2J\x1b]0;owned\x07 [red]markup[/red]\nsecond line"
    mill.run(rows)
    said = embedmill("search", spec, "--item", "s1", "-k", "1")
    assert "\x1b" not in said.out
    assert "\x07" not in said.out
    assert "[red]markup[/red] second line" in said.out


def test_errors_of_the_operating_system_are_words(capsys: pytest.CaptureFixture[str]) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/disk/file")
    assert report(full, ["plan"], as_json=False) == 75
    assert report(PermissionError(errno.EACCES, "Permission denied", "/x"), ["plan"], as_json=False) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: /disk/file: no space left (free some space, then run again)",
        "error: /x: permission denied",
    ]


def test_an_interruption_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(KeyboardInterrupt(), ["plan"], as_json=False) == 130
    assert report(Interrupted("stopped", hint="go on"), ["run"], as_json=False) == 130
    assert capsys.readouterr().err.splitlines() == ["error: interrupted", "error: stopped (go on)"]


def test_a_bug_is_called_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(pa.ArrowInvalid("odd"), ["plan"], as_json=False) == 1
    said = "error: this is a bug in embedmill: ArrowInvalid: odd"
    assert capsys.readouterr().err == f"{said} (EMBEDMILL_DEBUG=1 shows where; please report it)\n"


def test_a_bug_shows_its_traceback_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDMILL_DEBUG", "1")
    with pytest.raises(RuntimeError, match="odd"):
        report(RuntimeError("odd"), ["plan"], as_json=False)


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(
    "command",
    [
        ["schema", "pipeline"],
        ["images", "list"],
        ["--version"],
        ["--help"],
        [],
        ["run", "--help"],
        ["fleet", "--help"],
        ["fleet"],
        ["fleet", "probe", "--help"],
    ],
    ids=" ".join,
)
def test_a_reader_that_has_had_enough_is_no_error(command: list[str], buffered: bool) -> None:
    """Of a document, of a table, and of help."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"}
    process = subprocess.Popen(
        command_line(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_help_and_version_import_nothing_heavy() -> None:
    for argument in ("--help", "--version"):
        said = run_alone(argument, PYTHONPROFILEIMPORTTIME="1")
        assert said.code == 0
        imported = {
            line.rsplit("|", 1)[1].strip().split(".")[0] for line in said.err.splitlines() if "|" in line
        }
        assert "typer" in imported
        assert not imported & {
            "numpy",
            "pyarrow",
            "pydantic",
            "yaml",
            "tokenizers",
            "PIL",
            "onnxruntime",
            "sqlglot",
        }
