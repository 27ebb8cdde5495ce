"""An image that ends a decoding process is told of, by its digest, and no other image is harmed."""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import psutil
import pytest
from tests.decoding.faulty_child import FAULTS, faulty
from tests.decoding.pictures import encoded, noise

from embedmill.decoding.confinement import LANDLOCK_CREATE_RULESET
from embedmill.decoding.pool import WORTH_A_START, DecoderPool
from embedmill.decoding.process import Bitmap, Decoded, DecodingLimits
from embedmill.decoding.recipe import Recipe
from embedmill.errors import DecodersFailed

RECIPE = Recipe(resize=(4, 4), crop=None, filter="bilinear", background=(0, 0, 0), max_pixels=10_000)
FAULTY = DecodingLimits(cpu_s=1, module="tests.decoding.faulty_child")
HASTY = replace(FAULTY, wall_s=2.0)
GOOD = [encoded(noise(16, 16, seed)) for seed in range(4)]
DEADLY = {
    "segfault": "the decoder ended with SIGSEGV",
    "abort": "the decoder ended with SIGABRT",
    "leave": "the decoder ended with exit code 3",
    "leave-well": "the decoder ended with exit code 0",
    "spin": "more than 1 s of processor time",
    "sleep": "no answer within 2 s",
    "devour": "more than 512 MiB of memory",
    "recurse": "the decoder ended with exit code 1",
    "too-many-pixels": "the decoder's answer makes no sense",
    "too-few-pixels": "the decoder's answer makes no sense",
    "half-the-pixels": "no answer within 2 s",
    "a-pickle": "the decoder's answer makes no sense",
    "a-long-reason": "the decoder's answer makes no sense",
    "no-reason": "the decoder's answer makes no sense",
    "drip": "the decoder's answer makes no sense",
    "shut": "the decoder closed its channel",
}


@pytest.fixture(params=[1, 2])
def pool(request: pytest.FixtureRequest) -> Iterator[DecoderPool]:
    pool = DecoderPool(children=request.param, limits=FAULTY)
    pool.start(RECIPE)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def expected() -> list[bytes]:
    pool = DecoderPool()
    try:
        return [pixels(found) for found in pool.decode(GOOD, RECIPE, as_is)]
    finally:
        pool.close()


def as_is(_: int, decoded: Decoded) -> Bitmap:
    return decoded.pixels


def pixels(found: object) -> bytes:
    assert isinstance(found, np.ndarray), found
    return found.tobytes()


def children() -> list[psutil.Process]:
    """Decoding processes of this one."""
    found = psutil.Process().children()
    return [child for child in found if any("child" in word for word in child.cmdline())]


@pytest.mark.parametrize("fault", DEADLY)
def test_of_a_deadly_image_its_digest_is_told_and_its_neighbours_are_unharmed(
    expected: list[bytes], fault: str
) -> None:
    deadly, pool = faulty(fault), DecoderPool(limits=HASTY if "no answer" in DEADLY[fault] else FAULTY)
    first, second, lost, third, fourth = pool.decode([*GOOD[:2], deadly, *GOOD[2:]], RECIPE, as_is)
    pool.close()
    assert lost == f"twice {DEADLY[fault]} (sha256 {hashlib.sha256(deadly).hexdigest()})"
    assert list(map(pixels, (first, second, third, fourth))) == expected


def test_deadly_images_one_after_the_other(pool: DecoderPool, expected: list[bytes]) -> None:
    deadly = [faulty("segfault", number) for number in range(4)]
    mixed = [image for pair in zip(GOOD, deadly, strict=True) for image in pair]
    found = pool.decode(mixed, RECIPE, as_is)
    assert list(map(pixels, found[::2])) == expected
    assert [str(lost)[-65:-1] for lost in found[1::2]] == [hashlib.sha256(d).hexdigest() for d in deadly]


def test_an_image_is_not_blamed_for_what_an_earlier_one_broke(
    pool: DecoderPool, expected: list[bytes]
) -> None:
    found = pool.decode([faulty("break-the-next"), *GOOD], RECIPE, as_is)
    assert found[0] == "no image, and something is broken"
    assert list(map(pixels, found[1:])) == expected


def test_a_surplus_answer_is_nobodys(pool: DecoderPool, expected: list[bytes]) -> None:
    once, *good = pool.decode([faulty("say-twice"), *GOOD], RECIPE, as_is)
    assert once == "once"
    assert list(map(pixels, good)) == expected


@pytest.mark.parametrize("which", ["tall", "wide", "short", "long"])
def test_a_thumbnail_is_as_large_as_it_says_and_no_larger_than_wanted(pool: DecoderPool, which: str) -> None:
    wants = replace(RECIPE, thumbnail=8)
    good, bad, none = pool.decode(
        [faulty("a-good-thumbnail"), faulty(f"a-{which}-thumbnail"), faulty("no-thumbnail")],
        wants,
        lambda _, decoded: decoded.thumbnail,
    )
    assert isinstance(good, np.ndarray)
    assert good.shape == (2, 3, 3)
    assert str(bad).startswith("twice the decoder's answer makes no sense")
    assert str(none).startswith("twice the decoder's answer makes no sense")


def test_a_thumbnail_that_was_not_wanted_makes_no_sense(pool: DecoderPool) -> None:
    (found,) = pool.decode([faulty("a-good-thumbnail")], RECIPE, as_is)
    assert str(found).startswith("twice the decoder's answer makes no sense")


def test_what_a_process_says_can_stand_in_a_report(pool: DecoderPool) -> None:
    (said,) = pool.decode([faulty("a-binary-reason")], RECIPE, as_is)
    assert isinstance(said, str)
    assert said.isprintable()


def test_a_process_that_was_taken_over_opens_no_file_and_no_connection(pool: DecoderPool) -> None:
    (worked,) = pool.decode([faulty("try-all")], RECIPE, as_is)
    assert isinstance(worked, str)
    without_landlock = set() if has_landlock() else {"make", "run"}
    assert set(worked.split()) <= {"nothing", *without_landlock}


def has_landlock() -> bool:
    version: int = ctypes.CDLL(None).syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    return version >= 1


def test_a_process_has_no_secrets(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    (names,) = pool.decode([faulty("environment")], RECIPE, as_is)
    assert isinstance(names, str)
    assert set(names.split()) <= {
        "LC_CTYPE",
        "LD_LIBRARY_PATH",
        "MALLOC_MMAP_THRESHOLD_",
        "MALLOC_TRIM_THRESHOLD_",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONPATH",
    }


def test_what_decodes_needs_no_numpy() -> None:
    asked = "import sys; import embedmill.decoding.child; print('numpy' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", asked], stdout=subprocess.PIPE, check=True, text=True).stdout
    assert said == "False\n"


def test_processes_start_at_the_first_image_stay_and_end_when_closed() -> None:
    pool = DecoderPool(limits=FAULTY)
    assert pool.decode([], RECIPE, as_is) == []
    assert children() == []
    first = pool.decode([faulty("pid")], RECIPE, as_is)
    assert pool.decode([faulty("pid")], RECIPE, as_is) == first
    pool.close()
    assert children() == []
    assert pool.decode([faulty("pid")], RECIPE, as_is) != first, "a closed pool begins again"
    pool.close()


def test_processes_that_were_started_before_the_first_image_get_it() -> None:
    pool = DecoderPool(children=2, limits=FAULTY)
    pool.start(RECIPE, most=1)
    assert len(children()) == 1
    pool.start(RECIPE)
    pool.start(RECIPE)
    started = {str(child.pid) for child in children()}
    assert len(started) == 2
    assert pool.decode([faulty("pid")], RECIPE, as_is)[0] in started
    pool.close()
    assert children() == []


def test_a_further_process_starts_once_it_is_worth_it() -> None:
    pool, counts = DecoderPool(children=3, limits=FAULTY), []
    for _ in range(4):
        pool.decode([GOOD[0]] * WORTH_A_START, RECIPE, as_is)
        counts.append(len(children()))
    pool.limit(2)
    counts.append(len(children()))
    pool.decode(GOOD, RECIPE, as_is)
    counts.append(len(children()))
    pool.close()
    assert counts == [1, 2, 3, 3, 2, 2]


def test_processes_end_with_a_pool_that_nobody_closed() -> None:
    pool = DecoderPool(limits=FAULTY)
    pool.decode(GOOD, RECIPE, as_is)
    assert len(children()) == 1
    del pool
    assert children() == []


def test_a_process_that_was_killed_between_two_images_is_replaced(
    pool: DecoderPool, expected: list[bytes]
) -> None:
    pool.decode(GOOD, RECIPE, as_is)
    for child in children():
        child.kill()
    assert list(map(pixels, pool.decode(GOOD, RECIPE, as_is))) == expected


def test_threads_share_a_pool(pool: DecoderPool, expected: list[bytes]) -> None:
    found: list[list[bytes]] = []
    threads = [
        threading.Thread(target=lambda: found.append(list(map(pixels, pool.decode(GOOD, RECIPE, as_is)))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


def test_a_larger_image_than_all_before_gets_the_memory_it_needs(pool: DecoderPool) -> None:
    large = Recipe(resize=(4, 4), crop=None, filter="bilinear", background=(0, 0, 0), max_pixels=50_000_000)
    pool.decode(GOOD, RECIPE, as_is)
    pixels(pool.decode([encoded(noise(7000, 7000), "JPEG")], large, as_is)[0])


def test_where_no_process_starts_no_image_is_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = DecoderPool(limits=DecodingLimits(module="tests.decoding.no_such_module"))
    with pytest.raises(DecodersFailed, match="No module named"):
        pool.decode(GOOD, RECIPE, as_is)
    with pytest.raises(DecodersFailed, match="it is another program"):
        DecoderPool(limits=DecodingLimits(module="tests.decoding.strange_child")).decode(GOOD, RECIPE, as_is)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(DecodersFailed, match="No such file"):
        pool.decode(GOOD, RECIPE, as_is)


ENDLESS = """
from embedmill.decoding.confinement import LANDLOCK_CREATE_RULESET
from embedmill.decoding.pool import DecoderPool
from tests.decoding.faulty_child import faulty
from tests.decoding.test_pool import GOOD, RECIPE, DecodingLimits, as_is
pool = DecoderPool(limits=DecodingLimits(module="tests.decoding.faulty_child"))
print(pool.decode([faulty("pid")], RECIPE, as_is)[0], flush=True)
pool.decode([faulty("{fault}")], RECIPE, as_is)
"""


@pytest.mark.parametrize("fault", ["sleep", "spin"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_whoever_ends_leaves_no_process_behind(end: signal.Signals, fault: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS.format(fault=fault)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(end)
        parent.wait(120)
    deadline = time.monotonic() + 120
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it outlived its parent"
        time.sleep(0.02)


def test_every_deadly_fault_is_tried() -> None:
    harmless = {"break-the-next", "a-binary-reason", "say-twice", "try-all", "environment", "pid"}
    harmless |= {name for name in FAULTS if name.endswith("-thumbnail")}
    assert set(FAULTS) == set(DEADLY) | harmless
