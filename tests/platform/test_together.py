"""`run_together`: how many pipelines plan at a time, and that none waits for ever."""

from __future__ import annotations

import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.support.mill import Mill, items

from embedmill.platform import together
from embedmill.platform.together import PLAN_TURN_S, Together, _Member, _member, _waiting, run_together
from embedmill.seats import SeatFolder, Standing


class Watch(threading.Thread):
    """Counts the pipelines that have begun and have no plan yet, until all have ended."""

    def __init__(self, scratch: Path, ends: int) -> None:
        super().__init__()
        self.scratch, self.ends = scratch, ends
        self.most = 0
        self.began: list[str] = []
        self.notes: list[str] = []
        self.over = threading.Event()
        self.lock = threading.Lock()

    def note(self, said: str) -> None:
        """Hear a note: the first is on those that wait, each later one on a pipeline that ended."""
        self.notes.append(said)
        if len(self.notes) > self.ends:
            self.end()

    def run(self) -> None:
        while not self.over.wait(0.01):
            with self.lock:
                if not self.over.is_set():  # else what is counted is being removed
                    self.look()

    def look(self) -> None:
        started = sorted(self.scratch.glob("embedmill-*/[0-9]"))
        self.began += [folder.name for folder in started if folder.name not in self.began]
        self.most = max(self.most, sum(not SeatFolder(folder).has_told() for folder in started))

    def end(self) -> None:
        with self.lock:
            self.over.set()


@pytest.fixture
def files(mill: Mill, tmp_path: Path) -> list[Path]:
    """Four pipelines that were never planned, the last one the most important."""
    found = []
    for name, priority in {"a": 1, "b": 1, "c": 1, "d": 9}.items():
        each = Mill(tmp_path / "all" / name, mill.model, settings={"name": name, "priority": priority})
        each.root.mkdir(parents=True)
        each.write(items(20))
        each.open()
        found.append(each.root / "pipeline.yaml")
    return found


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `run_together` has its folders meanwhile."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_pipelines_beyond_those_that_may_plan_at_a_time_start_later_and_say_so(
    files: list[Path], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "PLANS_AT_ONCE", 1)
    watch = Watch(scratch, ends=len(files))
    watch.start()
    try:
        report = run_together(files, Together(), watch.note)
    finally:
        watch.end()
    assert report.exit_code == 0, report
    assert watch.most == 1
    assert watch.began == ["3", "0", "1", "2"], "by priority"
    assert watch.notes[0] == "3 pipelines wait for a turn to plan, 1 plan at a time: a, b, c"
    messages = {each.pipeline: each.message for each in report.pipelines}
    assert messages.pop("d") == ""
    assert all("s for its turn to plan" in said for said in messages.values()), messages


def test_equals_wait_by_deadline(files: list[Path]) -> None:
    began = datetime.now(UTC)
    first, later = (f"{(began.astimezone() + timedelta(hours=hours)):%H:%M}" for hours in (2, 4))
    for file, deadline in zip(files, (None, later, first, None), strict=True):
        if deadline:
            file.write_text(f'{file.read_text()}\ndeadline: "{deadline}"\n')
    members = [_member(file, Together(), None, began) for file in files]
    assert [each.name for each in _waiting(members)] == ["d", "c", "b", "a"]


def test_a_pipeline_whose_process_cannot_be_started_is_the_only_one_that_fails(
    files: list[Path], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the second one's process is a file, when its turn to plan comes."""
    monkeypatch.setattr(together, "PLANS_AT_ONCE", 1)
    notes: list[str] = []

    def on_note(said: str) -> None:
        if not notes:  # it says who waits, while the first one plans
            (folder,) = scratch.glob("embedmill-*")
            (folder / "1").touch()
        notes.append(said)

    report = run_together(files, Together(), on_note)
    assert [each.exit_code for each in report.pipelines] == [0, 1, 0, 0]
    assert "its process could not be started" in report.pipelines[1].message
    assert any(note.startswith("b: failed: its process could not be started") for note in notes), notes


def test_a_plan_that_fails_keeps_nobody_waiting(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "PLANS_AT_ONCE", 1)
    (files[3].parent / "items.parquet").unlink()
    report = run_together(files, Together())
    assert [each.exit_code for each in report.pipelines] == [0, 0, 0, 1]


def test_a_plan_that_may_hang_keeps_nobody_waiting_after_its_turn(tmp_path: Path) -> None:
    hangs = _Member(tmp_path, None, "local", seats=SeatFolder(tmp_path), started_s=100.0)
    assert hangs.keeps_others_waiting(100.0 + PLAN_TURN_S / 2)
    assert not hangs.keeps_others_waiting(100.0 + PLAN_TURN_S)
    SeatFolder(tmp_path).tell(Standing())
    assert not hangs.keeps_others_waiting(100.0 + PLAN_TURN_S / 2)


def test_a_run_has_told_once_it_has_a_plan(tmp_path: Path) -> None:
    folder = SeatFolder(tmp_path)
    folder.grant(1)
    assert not folder.has_told()
    folder.tell(Standing())
    assert folder.has_told()
