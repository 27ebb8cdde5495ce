"""`release pin`, `unpin`, `collect` and `copy`: what people and programs see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.terminal import Terminal
from tests.store.scripted import scripted
from tests.support.mill import Mill, items
from tests.support.s3 import S3, as_identity
from tests.support.upkeep import publish_many, sizes

from embedmill import Release
from embedmill.cli.progress import Lines
from embedmill.release.log import read_history
from embedmill.types import Progress


def test_pinning_says_what_was_done_or_that_nothing_had_to_be(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    name = mill.run(items(8)).release
    assert embedmill("release", "pin", spec, "1", "--note", "golden").out == f"{name}: pinned (log entry 2)\n"
    assert embedmill("release", "pin", spec, "1").out == f"{name}: was pinned before; nothing to do\n"
    report = {"schema": "pin/1", "release": name, "pinned": False, "number": 3}
    assert embedmill.json("release", "unpin", spec, name) == report
    assert embedmill("release", "unpin", spec, "1").out == f"{name}: was not pinned before; nothing to do\n"
    assert embedmill.json("release", "pin", spec, "1")["number"] == 4
    assert embedmill("release", "unpin", spec, "1").out == f"{name}: not pinned any more (log entry 5)\n"


def test_ls_shows_pins_and_the_hold(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    publish_many(mill, 2)
    embedmill("release", "pin", spec, "1")
    embedmill("release", "rollback", spec, "1")
    first, second = embedmill("release", "ls", spec).out.splitlines()[2:]
    assert first.endswith("on hold, pinned, live")
    assert second.split()[-1] not in {"live", "pinned"}


def test_collect_shows_first_and_does_it_on_yes(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    publish_many(mill, 3)
    planned = mill.worked(items(20))
    before = sizes(mill.home)
    said = embedmill("release", "collect", spec, "--keep", "1")
    assert said.code == 0
    assert sizes(mill.home) == before
    assert f"this does it: embedmill release collect {spec} --keep 1 --yes" in said.err
    for words in ("retire", "nothing keeps it", "live; the newest", "base of", planned.plan.run, "leave"):
        assert words in said.out
    assert "published by log entry 3; its release does not need it" in said.out
    assert "retired releases are deleted, and cannot be gone back to" in said.err
    done = embedmill("release", "collect", spec, "--keep", "1", "--yes")
    assert "nothing was changed" not in done.err
    assert "cannot be gone back to" not in done.err
    assert "delete: " in done.err
    assert "objects" in done.err
    assert [release.number for release in read_history(mill.home).published()] == [3]
    again = embedmill("release", "collect", spec, "--keep", "1")
    assert "nothing" in again.out
    assert again.err == ""


def test_collect_says_what_it_could_not_look_for(
    mill: Mill, spec: Path, embedmill: Terminal, moto: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine whose credentials come from a service, which nobody but obstore asks."""
    as_identity(monkeypatch, moto.admin, moto.endpoint)
    mill.settings["store"] = moto.new_url()
    mill.run(items(8))
    with scripted() as service:
        keys = {
            "AccessKeyId": "a",
            "SecretAccessKey": "b",
            "Token": "c",
            "Expiration": "2100-01-01T00:00:00Z",
        }
        service.body = json.dumps(keys).encode()
        token = mill.root / "token"
        token.write_text("token")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", service.endpoint)
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
        said = embedmill("release", "collect", spec)
        assert said.code == 0
        assert "left of unfinished writes" in said.out
        assert "only static keys can sign" in said.out
        assert "lifecycle" in embedmill.json("release", "collect", spec)["unfinished_left"]


def test_collect_prints_one_document(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    publish_many(mill, 2)
    shown = embedmill.json("release", "collect", spec, "--keep", "1")
    done = embedmill.json("release", "collect", spec, "--keep", "1", "--yes")
    assert (shown.pop("dry_run"), done.pop("dry_run")) == (True, False)
    assert shown == done
    assert shown["schema"] == "collect/1"
    assert shown["objects"] == sum(each["objects"] for each in shown["deleted"]) > 0


def test_the_line_to_copy_has_all_options(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    planned = mill.worked(items(20))
    said = embedmill("release", "collect", spec, "--abandon-after", "0s")
    assert "--abandon-after 0s --yes" in said.err
    assert "nothing has changed in it for" in said.out
    report = embedmill.json("release", "collect", spec, "--abandon-after", "0s", "--yes")
    assert [each["run"] for each in report["abandoned"]] == [planned.plan.run]


@pytest.mark.parametrize("age", ["7", "seven", "-1d", "1w", "d", ""])
def test_what_is_no_age_is_refused(mill: Mill, spec: Path, embedmill: Terminal, age: str) -> None:
    mill.run(items(8))
    said = embedmill("release", "collect", spec, f"--abandon-after={age}")
    assert said.code == 2
    assert "such as 7d" in said.err


def test_rollback_to_a_collected_release_says_when_it_was_retired(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    publish_many(mill, 2)
    embedmill("release", "collect", spec, "--keep", "1", "--yes", "--quiet")
    said = embedmill("release", "rollback", spec, "1")
    assert said.code == 1
    assert "(number 1) was retired on 2" in said.err
    assert "by log entry 3" in said.err


def test_copy_says_what_lies_where(
    mill: Mill, spec: Path, embedmill: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = mill.run(items(8)).release
    monkeypatch.chdir(mill.root)
    said = embedmill("release", "copy", spec, "1", "--to", "there")
    url = f"{mill.root}/there/test/releases/{name}"
    assert url in said.out
    assert "copy: 0 bytes of " in said.err
    assert Release.open(url).search("item 3", k=1)[0].id == "s3"
    report = embedmill.json("release", "copy", spec, "1", "--to", "there", "--publish")
    assert (report["schema"], report["copied"], report["number"]) == ("copy/1", 0, 1)
    assert "were there before" in embedmill("release", "copy", spec, "1", "--to", "there", "-q").out


def test_bytes_are_told_as_people_say_them(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(clock=iter([0.0, 10.0]).__next__)
    lines(Progress("copy", 0, 40_000_000, "bytes"))
    lines(Progress("copy", 10_000_000, 40_000_000, "bytes"))
    assert capsys.readouterr().err == ("copy: 0 bytes of 40 MB\ncopy: 10 MB of 40 MB, 1.0 MB/s, 30 s left\n")
