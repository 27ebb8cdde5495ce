"""The child that an actor keeps: secrets on its stdin, how far it is, a bound on memory, a grace."""

from __future__ import annotations

import os
import signal
import sys
import time

import psutil
import pytest
from tests.support.patience import PATIENCE_S

from embedmill.engines.ray.loop import Loop, tree_bytes

MIB = 1 << 20


def loop(program: str, *, secrets: str = "", memory_mib: int = 4096) -> Loop:
    environment = {"PATH": os.environ["PATH"], "NAME": "value"}
    return Loop([sys.executable, "-c", program], environment, secrets, memory_mib)


def ended(child: Loop) -> int:
    deadline_s = time.monotonic() + PATIENCE_S
    while (code := child.exit_code) is None:
        assert time.monotonic() < deadline_s, "it does not end"
        time.sleep(0.02)
    return code


def test_it_ends_with_its_childs_code_and_last_line() -> None:
    child = loop("import sys; print('first\\nlast\\n', file=sys.stderr); sys.exit(42)")
    assert ended(child) == 42
    assert child.said == "last"


def test_secrets_reach_stdin_and_neither_arguments_nor_variables() -> None:
    child = loop(
        "import sys, os; told = sys.stdin.read(); line = open('/proc/self/cmdline').read();"
        "sys.exit(f'{told == chr(115) * 3} {chr(115) * 3 in line + str(dict(os.environ))}')",
        secrets="sss",
    )
    assert ended(child) == 1
    assert child.said == "True False"


def test_it_hears_how_far_its_child_is_whatever_else_is_printed() -> None:
    child = loop("print('loading'); print('{\"rows_done\": 3}'); print('[1]'); print('{\"rows_done\": 7}')")
    assert ended(child) == 0
    assert child.progress == {"rows_done": 7}


def test_a_child_that_takes_too_much_memory_is_ended_with_words() -> None:
    child = loop("import time; held = bytearray(200 << 20); time.sleep(600)", memory_mib=100)
    assert ended(child) == -signal.SIGKILL
    assert child.said.startswith("its worker took 2")
    assert child.said.endswith("MiB of memory, and may take 100")


def test_memory_of_what_a_child_starts_counts_in_whatever_session() -> None:
    program = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c',"
        "'import time; held = bytearray(150 << 20); time.sleep(600)'], start_new_session=True);"
        "time.sleep(600)"
    )
    before = tree_bytes(os.getpid())
    child = loop(program)
    deadline_s = time.monotonic() + PATIENCE_S
    while tree_bytes(os.getpid()) - before < 150 * MIB:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    for each in psutil.Process().children(recursive=True):
        each.kill()
    assert ended(child) == -signal.SIGKILL


@pytest.mark.parametrize(("program", "code"), [("pass", 75), ("", -signal.SIGKILL)])
def test_it_may_finish_what_it_does_and_is_ended_when_it_does_not(program: str, code: int) -> None:
    handler = "sys.exit(75)" if program else "None"
    child = loop(
        f"import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: {handler});"
        "print('{}', flush=True); print('ready', file=sys.stderr, flush=True)\nwhile True: time.sleep(0.1)"
    )
    deadline_s = time.monotonic() + PATIENCE_S
    while child.said != "ready":
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    child.stop(grace_s=PATIENCE_S if program else 0.2)
    assert ended(child) == code


def test_a_program_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        Loop(["/nowhere/embedmill"], {}, "", 100)
