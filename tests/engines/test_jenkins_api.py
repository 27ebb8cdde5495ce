"""Builds of a Jenkins are started, waited for and told, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fake_jenkins import FakeJenkins

from embedmill.cli import main
from embedmill.engines.jenkins import api
from embedmill.engines.jenkins.api import Jenkins
from embedmill.errors import JenkinsError, JenkinsUnavailable, SpecError

TOKEN = "11aa22bb-token"  # noqa: S105 - of a fake


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "POLL_S", 0.01)


@pytest.fixture
def fake() -> Iterator[FakeJenkins]:
    with FakeJenkins(job="team/nightly shop", user="me", token=TOKEN) as jenkins:
        yield jenkins


def client(fake: FakeJenkins) -> Jenkins:
    return Jenkins(fake.url, fake.job, fake.user, fake.token)


def test_a_build_is_started_with_its_parameters_and_waited_for(fake: FakeJenkins) -> None:
    jenkins = client(fake)
    text = "a&b=c ${x} \"'é"
    found = jenkins.wait(jenkins.trigger({"ACCEPT": text}), ended=True, timeout_s=60)
    assert (found.number, found.state, found.seconds) == (41, "success", 1.5)
    assert fake.given == [{"ACCEPT": text}]
    assert ("POST", "/ci/job/team/job/nightly%20shop/buildWithParameters") in fake.asked


def test_without_parameters_a_job_takes_its_defaults_or_has_none(fake: FakeJenkins) -> None:
    assert client(fake).trigger({}) == 7
    fake.parameters = False
    assert client(fake).trigger({}) == 7
    assert [path.rpartition("/")[2] for method, path in fake.asked if method == "POST"] == [
        *("build", "buildWithParameters", "build"),
    ]


def test_a_controller_without_crumbs_is_asked_without_one(fake: FakeJenkins) -> None:
    fake.crumbs = False
    assert client(fake).trigger({"A": "b"}) == 7


def test_a_build_that_waits_says_for_what(fake: FakeJenkins) -> None:
    found = client(fake).queued(7)
    assert (found.number, found.state, found.why) == (None, "queued", "Waiting for next available executor")


def test_waiting_ends(fake: FakeJenkins) -> None:
    fake.looks = 1_000_000
    with pytest.raises(JenkinsUnavailable, match="is queued: Waiting for next available executor"):
        client(fake).wait(7, ended=False, timeout_s=0.05)


def test_a_build_that_is_cancelled_in_the_queue_is_an_error(fake: FakeJenkins) -> None:
    fake.cancelled = True
    with pytest.raises(JenkinsError, match="cancelled"):
        client(fake).wait(7, ended=False, timeout_s=60)


def test_refusals_say_what_to_look_at_and_no_token(fake: FakeJenkins) -> None:
    wrong = Jenkins(fake.url, fake.job, fake.user, "another-token")
    with pytest.raises(JenkinsError, match="401") as refused:
        wrong.build()
    assert "the user and the token" in refused.value.hint
    assert "another-token" not in f"{refused.value}{wrong!r}"
    with pytest.raises(JenkinsError, match="404"):
        Jenkins(fake.url, "none", fake.user, fake.token).build()


@pytest.mark.parametrize("status", [302, 500, 503])
def test_answers_of_a_proxy_are_no_builds(fake: FakeJenkins, status: int) -> None:
    fake.status = status
    with pytest.raises(JenkinsError if status < 500 else JenkinsUnavailable, match=str(status)):
        client(fake).trigger({})


def test_nobody_there_is_said(fake: FakeJenkins) -> None:
    with pytest.raises(JenkinsUnavailable, match="gives no answer"):
        Jenkins("http://127.0.0.1:9", "x").build()


@pytest.mark.parametrize("url", ["ftp://x", "https://", "https://me:secret@ci", "ci.example.org"])
def test_what_is_no_url_of_a_jenkins_is_refused(url: str) -> None:
    with pytest.raises(SpecError, match="no URL"):
        Jenkins(url, "x")


def test_a_token_is_never_sent_in_the_clear() -> None:
    with pytest.raises(SpecError, match="readable on its way"):
        Jenkins("http://ci.example.org", "x", "me", TOKEN)


def test_the_command_starts_a_build_and_fails_as_it_does(
    fake: FakeJenkins, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    options = ["--url", fake.url, "--user", "me", "--token-file", str(tmp_path / "token"), "--json"]
    fake.result = "FAILURE"
    assert main(["jenkins", "trigger", fake.job, "--wait", "--parameter", "ROUNDS=2", *options]) == 1
    found = json.loads(capfd.readouterr().out)
    assert (found["schema"], found["number"], found["state"]) == ("jenkins-build/1", 41, "failure")
    assert main(["jenkins", "status", fake.job, *options]) == 0
    assert json.loads(capfd.readouterr().out)["state"] == "failure"
