"""docs/operations.md has the exit codes, waiting times and messages that the code has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable

import pytest
import yaml
from tests.cli.terminal import Said, Terminal, run_alone
from tests.docs.pages import matches, table, text_of, unquoted
from tests.models import tiny_text_package
from tests.support.killing import start, wait_for_a_commit
from tests.support.mill import Mill, items

import embedmill.errors
from embedmill.cli.failures import BROKEN_PIPE, INTERRUPTED
from embedmill.cli.pipelines import WITH_QUARANTINE
from embedmill.engines.local import GRACE_S
from embedmill.errors import EmbedmillError
from embedmill.release.admin import rollback
from embedmill.release.draining import drain
from embedmill.store.checks import CHECKS, LARGE_BYTES
from embedmill.store.cloud import TIMEOUT_S
from embedmill.store.pace import LOOK_S, POLITE_LOOK_S
from embedmill.store.patience import TELL_AFTER_S, TELL_EVERY_S
from embedmill.store.probe import QUICK
from embedmill.store.retrying import POLICY
from embedmill.work.leases import EXPIRY_S

PAGE = "operations.md"
Command = Callable[[Mill, Terminal], Said]


def test_the_table_has_every_exit_code_and_the_errors_with_it() -> None:
    with_code: dict[int, set[str]] = defaultdict(set)
    for name, error in vars(embedmill.errors).items():
        if isinstance(error, type) and issubclass(error, EmbedmillError):
            with_code[error.exit_code].add(name)
    rows = {int(code): errors for code, _, errors in table(PAGE, "Exit codes")}
    assert set(rows) == {0, WITH_QUARANTINE, INTERRUPTED, BROKEN_PIPE, *with_code}
    assert rows.pop(EmbedmillError.exit_code) == "all others"
    named = {code: {unquoted(name) for name in errors.split(", ") if name} for code, errors in rows.items()}
    assert named == {code: with_code.get(code, set()) for code in rows}


def test_waiting_times_are_those_of_the_code() -> None:
    words = " ".join(text_of(PAGE).split())
    assert f"killed after {GRACE_S:.0f} s" in words
    assert f"loses its shard after {EXPIRY_S:.0f} seconds" in words
    assert f"try again for {POLICY.deadline_s:.0f} s and say so after {TELL_AFTER_S:.0f} s" in words
    assert f"nothing ever answered they end after {POLICY.first_contact_s:.0f} s" in words


def test_waiting_times_of_the_page_on_stores_are_those_of_the_code() -> None:
    words = " ".join(text_of("stores.md").split())
    assert f"waits of up to {POLICY.longest_wait_s:.0f} s, for {POLICY.deadline_s:.0f} s" in words
    assert f"on stderr after {TELL_AFTER_S:.0f} s, and then every {TELL_EVERY_S:.0f} s at most" in words
    assert f"give up after {POLICY.first_contact_s:.0f} s" in words
    assert f"counts as lost after {TIMEOUT_S:.0f} s without a byte" in words
    assert f"every {LOOK_S:g} s at first and every {POLITE_LOOK_S:g} s at last" in words
    assert f"is read every {POLITE_LOOK_S:g} s" in words


def test_every_check_of_a_store_is_explained() -> None:
    assert [check for check, _ in table(PAGE, "Is the store fit?")] == list(CHECKS)
    words = " ".join(text_of(PAGE).split())
    assert f"a file of {LARGE_BYTES >> 20} MiB" in words
    assert f"sends {2 * LARGE_BYTES >> 20} MiB" in words
    assert f"({', '.join(QUICK)})" in words


def with_settings(**settings: object) -> Command:
    def run(mill: Mill, terminal: Terminal) -> Said:
        mill.write(items(8))
        file = mill.root / "pipeline.yaml"
        file.write_text(yaml.safe_dump(mill.spec | settings))
        return terminal("plan", file, "--quiet")

    return run


def without_onnx_runtime(mill: Mill, terminal: Terminal) -> Said:
    absent = mill.root / "absent" / "onnxruntime"
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text("raise ModuleNotFoundError(name='onnxruntime')")
    mill.write(items(8))
    mill.open()
    return run_alone("run", mill.root / "pipeline.yaml", "--quiet", PYTHONPATH=str(absent.parent))


def without_a_server(mill: Mill, terminal: Terminal) -> Said:
    folder = tiny_text_package(mill.root / "served")
    served = {
        "kind": "tf_serving",
        "model": "tiny",
        "version": 3,
        "url": "http://127.0.0.1:9",
        "retry_for_s": 0,
    }
    spec = yaml.safe_load((folder / "model.yaml").read_text()) | {"runtimes": [served]}
    (folder / "model.yaml").write_text(yaml.safe_dump(spec))
    return terminal("model", "check", folder)


def after_too_much_change(mill: Mill, terminal: Terminal) -> Said:
    mill.settings["gates"] = {"churn": 0.1}
    mill.run(items(20))
    mill.worked(items(10))
    return terminal("run", mill.root / "pipeline.yaml", "--quiet")


def after_a_rollback(mill: Mill, terminal: Terminal) -> Said:
    mill.run(items(8))
    mill.run(items(9))
    rollback(mill.home, "1")
    mill.worked(items(10))
    return terminal("run", mill.root / "pipeline.yaml", "--quiet")


def without_space(mill: Mill, terminal: Terminal) -> Said:
    """Files that may not grow beyond 64 KiB: to a process the same as a disk without space."""
    mill.write(items(4000))
    mill.model = tiny_text_package(mill.root / "model")
    mill.open()
    command = 'ulimit -f 64 && exec "$0" -m embedmill run "$1" --quiet'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, str(mill.root / "pipeline.yaml")],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        timeout=120,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def with_damage(mill: Mill, terminal: Terminal) -> Said:
    mill.run(items(8))
    file = next((mill.live().folder / "vectors").rglob("*.arrow"))
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    return terminal("search", mill.root / "pipeline.yaml", "--text", "item")


def with_a_gap_in_the_log(mill: Mill, terminal: Terminal) -> Said:
    mill.run(items(8))
    mill.run(items(9))
    mill.home.store.delete(mill.home.log_key(1))
    return terminal("status", mill.root / "pipeline.yaml")


def after_it_was_cancelled(mill: Mill, terminal: Terminal) -> Said:
    first = mill.checked(items(8))
    mill.open().cancel()
    return terminal("publish", mill.root / "pipeline.yaml", "--run", first.plan.run)


def while_it_is_drained(mill: Mill, terminal: Terminal) -> Said:
    mill.settings["work"] = {"shard_rows": 1, "workers": 1}
    mill.write(items(400))
    run = mill.open().plan().plan.run
    file = mill.root / "pipeline.yaml"
    process = start(["run", str(file), "--quiet"])
    wait_for_a_commit(file)
    drain(mill.home, run)
    out, err = process.communicate(timeout=120)
    return Said(process.returncode, out, err)


def with_two_stores_that_are_not_one(mill: Mill, terminal: Terminal) -> Said:
    return terminal("store", "check", mill.root / "one", mill.root / "other")


CAUSES: list[tuple[str, Command]] = [
    ("unknown key", with_settings(stor="x")),
    ("matches no file", with_settings(catalog={"source": "nope/*.parquet", "id": "sku"})),
    ("no column", with_settings(catalog={"source": "items.parquet", "id": "number"})),
    ("no model package", with_settings(model="nope")),
    ("ONNX Runtime is not installed", without_onnx_runtime),
    ("gave no answer", without_a_server),
    ("was not published", after_too_much_change),
    ("publishing is on hold", after_a_rollback),
    ("no space left", without_space),
    ("its bytes are not those", with_damage),
    ("is missing, and entry", with_a_gap_in_the_log),
    ("was closed", after_it_was_cancelled),
    ("the run is drained", while_it_is_drained),
    ("not fit for releases", with_two_stores_that_are_not_one),
]
ROWS = table(PAGE, "Messages")


def test_every_message_of_the_table_is_produced() -> None:
    assert len(ROWS) == len(CAUSES) == 14
    for (message, *_), (words, _) in zip(ROWS, CAUSES, strict=True):
        assert words in message


@pytest.mark.parametrize("number", range(len(CAUSES)), ids=lambda number: CAUSES[number][0])
def test_the_message_is_the_real_one(mill: Mill, capsys: pytest.CaptureFixture[str], number: int) -> None:
    message, code, _ = ROWS[number]
    said = CAUSES[number][1](mill, Terminal(capsys))
    assert matches(unquoted(message), said.err), said.err
    assert said.code == int(code)
