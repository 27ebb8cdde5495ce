"""What `jenkins …` and `deploy jenkins` print: who is to work on a run, and what became of a build."""

from __future__ import annotations

from typing import ClassVar

from embedmill.spec.document import Document, Part


class JenkinsPlace(Part):
    """One GPU that a branch works on: `label` of its agent, `lock` among Jenkins' resources."""

    worker: str
    label: str
    lock: str
    gpu: str
    image: str


class JenkinsPlan(Document):
    """`jenkins plan`: the run, and who works on it. `passed_over`: why others do not, in words."""

    SCHEMA: ClassVar[str] = "jenkins-plan/1"

    run: str
    url: str
    resumed: bool
    shards: int
    shards_done: int
    places: tuple[JenkinsPlace, ...]
    passed_over: dict[str, str]


class JenkinsWork(Document):
    """`jenkins reconcile`: how many shards of a run have a commit record."""

    SCHEMA: ClassVar[str] = "jenkins-work/1"

    run: str
    shards: int
    shards_done: int


class JenkinsFiles(Document):
    """`deploy jenkins`, `jenkins ask` and `jenkins report`: the files that were written into a folder."""

    SCHEMA: ClassVar[str] = "jenkins-files/1"

    folder: str
    files: tuple[str, ...]


class JenkinsLoop(Document):
    """`jenkins work`: how a worker loop ended; `exit_code` is None where somebody stopped it."""

    SCHEMA: ClassVar[str] = "jenkins-loop/1"

    worker: str
    exit_code: int | None
    said: str


class JenkinsBuild(Document):
    """`jenkins status` and `jenkins trigger`: a build. `state`: queued, running, or how it ended.

    `number` is None while it is queued; `why` says for what it waits then.
    """

    SCHEMA: ClassVar[str] = "jenkins-build/1"

    job: str
    number: int | None
    state: str
    url: str
    why: str = ""
    seconds: float | None = None
