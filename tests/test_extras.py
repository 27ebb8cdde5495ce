"""Optional packages that are absent, broken, or interrupted while they are imported."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embedmill.errors import ExtraUnusable, MissingExtra
from embedmill.extras import optional


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is searched for modules; what a test imports from it is forgotten."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("shop_")]:
        del sys.modules[name]


def bring(name: str) -> None:
    with optional("The shop", "shop_library", extra="shop"):
        __import__(name)


def test_a_module_that_is_absent_names_the_extra(modules: Path) -> None:
    with pytest.raises(MissingExtra) as caught:
        bring("shop_library")
    assert type(caught.value) is MissingExtra
    assert str(caught.value) == "The shop is not installed (pip install 'embedmill[shop]')"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ImportError('libshop.so.3: cannot open shared object file')", "libshop.so.3: cannot open"),
        ("import shop_dependency", "No module named 'shop_dependency'"),
        ("import shop_library.part", "'shop_library' is not a package"),
    ],
)
def test_a_module_that_is_there_and_fails_says_why(modules: Path, body: str, said: str) -> None:
    (modules / "shop_library.py").write_text(body)
    with pytest.raises(ExtraUnusable) as caught:
        bring("shop_library")
    assert said in caught.value.message
    assert caught.value.message.startswith("The shop cannot be imported: ")
    assert "is not installed" not in str(caught.value)
    assert isinstance(caught.value.__cause__, ImportError)


INTERRUPTED = """
import os, signal
try:
    os.kill(os.getpid(), signal.{signal})
    while True:
        pass
except KeyboardInterrupt:
    {then}
"""
"""A module that loses an interrupt, as compiled ones do."""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    "then",
    ["raise ImportError('initialization failed') from None", "raise SystemError('lost') from None", "pass"],
)
def test_an_interrupt_stays_one_whatever_the_module_makes_of_it(
    modules: Path, number: str, then: str
) -> None:
    (modules / "shop_library.py").write_text(INTERRUPTED.format(signal=number, then=then))
    before = signal.signal(getattr(signal, number), signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            bring("shop_library")
        assert signal.getsignal(getattr(signal, number)) is signal.default_int_handler
    finally:
        signal.signal(getattr(signal, number), before)


class Stop(BaseException):
    """What a host's own handler raises."""


@pytest.mark.parametrize("stop", [SystemExit(143), Stop("deployed anew"), RuntimeError("told to stop")])
@pytest.mark.parametrize("then", ["raise ImportError('initialization failed') from None", "pass"])
def test_what_a_hosts_own_handler_raises_is_what_ends_the_import(
    modules: Path, stop: BaseException, then: str
) -> None:
    body = INTERRUPTED.format(signal="SIGTERM", then=then).replace("KeyboardInterrupt", "BaseException")
    (modules / "shop_library.py").write_text(body)

    def handler(number: int, frame: object) -> None:
        raise stop

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(type(stop)) as caught:
            bring("shop_library")
        assert caught.value is stop
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


IN_ANOTHER = """
import sys
sys.path[:] = {path!r}
from embedmill.extras import optional
with optional("The shop", "shop_library", extra="shop"):
    import shop_library
"""


def test_an_interpreter_within_another_imports_too(modules: Path) -> None:
    """As under mod_wsgi: its main thread is none that may listen for signals."""
    (modules / "shop_library.py").write_text(f"open({str(modules / 'brought')!r}, 'w').close()")
    interpreters = pytest.importorskip("_xxsubinterpreters")
    inner = interpreters.create()
    try:
        interpreters.run_string(inner, IN_ANOTHER.format(path=sys.path))
    finally:
        interpreters.destroy(inner)
    assert (modules / "brought").exists()


def test_what_else_a_module_raises_is_left_as_it_is(modules: Path) -> None:
    (modules / "shop_library.py").write_text("raise RuntimeError('no GPU')")
    with pytest.raises(RuntimeError, match="no GPU"):
        bring("shop_library")


def test_a_handler_that_only_notes_a_signal_is_no_interrupt(modules: Path) -> None:
    (modules / "shop_library.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    noted: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: noted.append(number))
    try:
        bring("shop_library")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert noted == [signal.SIGTERM]


def test_other_threads_import_too(modules: Path) -> None:
    (modules / "shop_library.py").write_text("")
    with ThreadPoolExecutor() as pool:
        pool.submit(bring, "shop_library").result()
    assert "shop_library" in sys.modules
