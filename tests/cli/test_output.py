"""How values look."""

from __future__ import annotations

import pytest

from embedmill.cli.failures import one_line
from embedmill.cli.output import cell, data, duration, image_kind, shown, size, table
from embedmill.cli.progress import Lines
from embedmill.types import Progress


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7260, "2 h 1 min"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 KB"), (25_000_000, "25 MB"), (3 * 10**12, "3,000 GB")],
)
def test_sizes(count: int, said: str) -> None:
    assert size(count) == said


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"GIF89a", "gif"),
        (b"RIFF\0\0\0\0WEBP", "webp"),
        (b"<svg/>", None),
        (b"", None),
    ],
)
def test_pictures_are_known_by_their_first_bytes(data: bytes, kind: str | None) -> None:
    assert image_kind(data) == kind


def test_values_for_people() -> None:
    assert [shown(value) for value in (None, True, 1234567, 1.5, b"\0" * 1500, "x")] == [
        *("", "true", "1234567", "1.5", "<bytes, 1.5 KB>", "x")
    ]


def test_cells_are_one_line_of_bounded_length() -> None:
    assert cell(1234567).plain == "1,234,567"
    assert cell("a\n b\tc").plain == "a b c"
    assert cell("  indented").plain == "  indented"
    assert cell("x" * 5000).plain == "x" * 5000
    assert cell("x" * 5000, 200).plain == "x" * 199 + "…"
    assert one_line("bell\x07 right-to-left\u202e") == "bell\ufffd right-to-left\ufffd"


@pytest.mark.parametrize("terminal", [False, True])
def test_values_are_cut_on_a_terminal_alone_and_verdicts_nowhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    value = "x" * 3000
    said = []
    for whole in (False, True):
        made = table("id", "value", rows=[("s1", value)], whole=whole)
        data().print(made)
        said.append(sum(line.count("x") for line in capsys.readouterr().out.splitlines()))
    assert said == [199 if terminal else 3000, 3000]


def test_plain_lines_come_when_a_stage_starts_every_few_seconds_and_at_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    times = iter([0.0, 1.0, 6.0, 7.0, 10.0, 11.0])
    lines = Lines(clock=lambda: next(times))
    for done in (0, 100, 600, 700, 1000):
        lines(Progress("embed", done, 1000, "vectors", failed=done // 500))
    lines(Progress("build indexes", unit="steps"))
    assert capsys.readouterr().err.splitlines() == [
        "embed: 0 of 1,000 vectors, 0 reused, 0 failed",
        "embed: 600 of 1,000 vectors, 100/s, 4.0 s left, 0 reused, 1 failed",
        "embed: 1,000 of 1,000 vectors, 100/s, 0 reused, 2 failed",
        "build indexes",
    ]


def test_a_line_says_what_workers_wait_for_once_nothing_was_done_for_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = Lines(clock=iter([0.0, 3.0, 8.0, 13.0, 19.0, 25.0]).__next__)
    for done, busiest in ((0, ""), (0, "fetch"), (0, "fetch"), (40, "fetch"), (40, ""), (40, "runtime")):
        lines(Progress("embed", done, 100, "vectors", busiest=busiest))
    assert [line.partition("failed")[2] for line in capsys.readouterr().err.splitlines()] == [
        "",
        "; nothing new for 8.0 s, busiest: fetch",
        "",
        "",
        "; nothing new for 12 s, busiest: runtime",
    ]
