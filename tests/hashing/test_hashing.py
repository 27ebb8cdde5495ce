"""Digests of many messages are those of each, wherever they are made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedmill.catalog import fingerprints, id_digests
from embedmill.catalog.fingerprint import KIND_TAGS
from embedmill.digest import ascending, digest_list, digests_from_bytes
from embedmill.hashing import Hasher, digests_of, fixed_width, messages_of
from embedmill.types import CanonicalColumn, InputKind

MANY = [f"message {number}".encode() * (number % 9) for number in range(20_000)]
KINDS = st.sampled_from(sorted(KIND_TAGS))


def plain(message: bytes) -> bytes:
    return blake2b(message, digest_size=16).digest()


def plain_fingerprint(inputs: dict[str, tuple[InputKind, bytes]]) -> bytes:
    """By the definition in decision 0001, row by row."""
    message = b"embedmill/fingerprint/1\n" + len(inputs).to_bytes(4, "big")
    for name in sorted(inputs):
        kind, value = inputs[name]
        message += KIND_TAGS[kind] + len(name.encode()).to_bytes(4, "big") + name.encode()
        message += len(value).to_bytes(8, "big") + value
    return plain(message)


@given(
    declared=st.dictionaries(st.text(max_size=3), KINDS, min_size=1, max_size=3),
    count=st.integers(0, 5),
    data=st.data(),
)
def test_fingerprints_are_those_of_the_definition_row_by_row(
    declared: dict[str, InputKind], count: int, data: st.DataObject
) -> None:
    values = {
        name: data.draw(st.lists(st.binary(max_size=200), min_size=count, max_size=count))
        for name in declared
    }
    columns = [CanonicalColumn(name, kind, values[name]) for name, kind in declared.items()]
    wanted = [
        plain_fingerprint({name: (kind, values[name][row]) for name, kind in declared.items()})
        for row in range(count)
    ]
    assert digest_list(fingerprints(columns)) == wanted


@given(st.lists(st.text(max_size=40), max_size=6), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6))
def test_digests_of_ids_are_those_of_the_definition_row_by_row(texts: list[str], numbers: list[int]) -> None:
    head = b"embedmill/id/1\n"
    assert digest_list(id_digests(pa.array(texts, pa.string()))) == [
        plain(head + b"s" + t.encode()) for t in texts
    ]
    assert digest_list(id_digests(pa.array(numbers, pa.int64()))) == [
        plain(head + b"i" + str(number).encode()) for number in numbers
    ]


@pytest.mark.parametrize("cut", [slice(0, 3), slice(1, 3), slice(2, 2), slice(3, None)])
def test_a_slice_is_digested_as_its_own_messages(cut: slice) -> None:
    messages = pa.array([b"", b"a", b"\0\0", b"long" * 1000], pa.large_binary())
    assert digest_list(digests_of(messages[cut])) == [plain(each) for each in messages[cut].to_pylist()]


def test_values_of_fixed_width_are_their_own_bytes() -> None:
    assert fixed_width(np.array([1, 258], dtype=">u2")).to_pylist() == [b"\0\1", b"\1\2"]
    assert fixed_width(np.zeros(0, dtype=">u8")).to_pylist() == []


@given(
    st.lists(
        st.sampled_from([b"a", b"b", b"ab"]).flatmap(
            lambda a: st.binary(max_size=2).map(lambda b: a.ljust(14, b"\0") + b.ljust(2, b"\0"))
        )
    )
)
def test_ascending_is_a_stable_sort(found: list[bytes]) -> None:
    order = ascending(digests_from_bytes(b"".join(found))).tolist()
    assert order == sorted(range(len(found)), key=lambda row: found[row])


def test_processes_make_the_digests_that_this_one_makes_in_order() -> None:
    messages = messages_of(MANY)
    with Hasher(2, worth_rows=0) as hasher:
        begun = [hasher.submit(messages.slice(start)) for start in (0, 5, 19_999, 20_000)]
        assert len(hasher.processes) == 2
        for start, pending in zip((0, 5, 19_999, 20_000), begun, strict=True):
            assert digest_list(pending()) == [plain(each) for each in MANY[start:]]


@pytest.mark.parametrize(("processes", "worth_rows"), [(1, 0), (2, len(MANY) * 2)])
def test_few_messages_or_one_core_need_no_process(processes: int, worth_rows: int) -> None:
    with Hasher(processes, worth_rows=worth_rows) as hasher:
        assert digest_list(hasher.submit(messages_of(MANY))())[7] == plain(MANY[7])
        assert hasher.processes == ()
        assert hasher.ahead == 0


@pytest.mark.parametrize("lost", [1, 2])
def test_what_processes_that_were_killed_had_to_do_is_done_here(lost: int) -> None:
    wanted = [plain(each) for each in MANY]
    with Hasher(2, worth_rows=0) as hasher:
        begun = [hasher.submit(messages_of(MANY)) for _ in range(4)]
        for process in hasher.processes[:lost]:
            os.kill(process, signal.SIGKILL)
        begun += [hasher.submit(messages_of(MANY)) for _ in range(4)]
        assert all(digest_list(pending()) == wanted for pending in begun)
        processes = hasher.processes
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_an_error_ends_the_processes_while_they_work() -> None:
    processes: list[int] = []

    def interrupted() -> None:
        with Hasher(2, worth_rows=0) as hasher:
            for _ in range(20):
                hasher.submit(messages_of(MANY))
            processes.extend(hasher.processes)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(processes) == 2
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_processes_end_with_the_one_that_started_them() -> None:
    program = (
        "import pyarrow as pa, sys, time; from embedmill.hashing import Hasher; h = Hasher(2, worth_rows=0);"
        "h.submit(pa.array([b'x'], pa.large_binary()))(); print(*h.processes, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            processes = [int(each) for each in parent.stdout.readline().split()]
        finally:
            parent.kill()
    assert len(processes) == 2
    deadline = time.monotonic() + 120
    while any(_runs(process) for process in processes):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(process: int) -> bool:
    """Whether it is there, and no zombie that its new parent has not buried yet."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"
