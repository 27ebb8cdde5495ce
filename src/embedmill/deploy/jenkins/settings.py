"""What whoever deploys to Jenkins decides, and which texts may stand in its files.

No text of a catalog gets into any of them. What does are names of pipelines, servers, credentials and files:
each matches a pattern without quotes, blanks, `$` and backslashes, or is refused here. Groovy checks again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from embedmill.engines.jenkins.observed import URL
from embedmill.errors import SpecError
from embedmill.store import open_store

if TYPE_CHECKING:
    from embedmill.spec import PipelineSpec
    from embedmill.spec.fleet import FleetSpec, ServerSpec

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,511}")
CRON_VALUE = r"(\*|H(\([0-9]{1,2}-[0-9]{1,2}\))?|[0-9]{1,2}(-[0-9]{1,2})?)(/[0-9]{1,2})?"
CRON_FIELD = f"{CRON_VALUE}(,{CRON_VALUE})*"
CRON_NAME = "@(yearly|annually|monthly|weekly|daily|midnight|hourly)"
CRON = re.compile(rf"(?=.{{0,99}}\Z)({CRON_FIELD}( {CRON_FIELD}){{4}}|{CRON_NAME}|)")
"""Jenkins chooses a value for an `H`: https://www.jenkins.io/doc/book/pipeline/syntax/#cron-syntax."""
JOB = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._/-]{0,255})?")
SERVER_URL = re.compile(r"(https?://[A-Za-z0-9][A-Za-z0-9._:/-]{0,255})?")
GIT = re.compile(r"(https://|ssh://|git@)[A-Za-z0-9][A-Za-z0-9._:/@~+-]{0,255}")
AGENTS = frozenset({"ssh", "jenkins"})
"""Kinds of servers that are agents of a Jenkins."""
ADDRESS = re.compile(r"(?:(?P<user>[A-Za-z0-9._-]+)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9._:-]{0,253})")


@dataclass(frozen=True)
class JenkinsSettings:
    """How the pipelines run there.

    `control` is the label of agents where embedmill is installed; `secrets` are environment variables that
    open the store, by the ids of the controller's credentials. `verify_key` is that of a secret file with the
    key which the server at `verify_url` wants to see. `answer_minutes`: for an agent's first answer;
    `silent_minutes`: without a line from a worker.
    """

    library: str
    control: str = "embedmill"
    cron: str = "H 2 * * *"
    secrets: Mapping[str, str] = field(default_factory=dict)
    deploy_job: str = ""
    verify_url: str = ""
    verify_key: str = ""
    gpus: int = 8
    rounds: int = 3
    answer_minutes: int = 5
    silent_minutes: int = 10
    embed_hours: int = 12
    stage_hours: int = 6

    def check(self) -> None:
        """Check every text.

        Raises:
            SpecError: One would not be safe in a file of Jenkins.
        """
        checked("--library", self.library, GIT, "an https://, ssh:// or git@ address of a repository")
        checked("--control", self.control, WORD, "one label")
        checked("--cron", self.cron, CRON, "five fields, such as 'H 2 * * *', or @daily")
        checked("--deploy-job", self.deploy_job, JOB, "a job's name")
        checked("--verify", self.verify_url, SERVER_URL, "a server's URL")
        if self.verify_key:
            checked("--verify-key", self.verify_key, WORD, "an id of credentials")
            if not self.verify_url:
                raise SpecError("--verify-key: there is no --verify, no server that it is for")
        for variable, credential in self.secrets.items():
            checked("--secret", variable, VARIABLE, "NAME=CREDENTIAL")
            checked("--secret", credential, WORD, "NAME=CREDENTIAL, an id of credentials")

    def patient(self, probe_s: float) -> JenkinsSettings:
        """The same, but an agent has as long as a probe takes, and three minutes more."""
        return replace(self, answer_minutes=max(self.answer_minutes, math.ceil(probe_s / 60) + 3))

    def lines(self, spec: str, fleet: str) -> bytes:
        """The settings of one pipeline, as the library reads them: `key value` a line."""
        values = {
            "spec": spec,
            "fleet": fleet,
            "control": self.control,
            "cron": self.cron,
            "deployJob": self.deploy_job,
            "verifyUrl": self.verify_url,
            "verifyKey": self.verify_key,
            "rounds": self.rounds,
            "answerMinutes": self.answer_minutes,
            "silentMinutes": self.silent_minutes,
            "embedHours": self.embed_hours,
            "stageHours": self.stage_hours,
        }
        lines = [f"{key} {value}".rstrip() for key, value in values.items()]
        return "\n".join([*lines, *self._secret_lines(), ""]).encode()

    def worker_lines(self, stores: Sequence[str]) -> bytes:
        """The settings of the worker job. `stores`: the pipelines' folders, whose runs it may work on."""
        lines = [f"embedHours {self.embed_hours}", f"silentMinutes {self.silent_minutes}"]
        lines += [f"store {store}" for store in stores]
        return "\n".join([*lines, *self._secret_lines(), ""]).encode()

    def _secret_lines(self) -> list[str]:
        return [f"secret {variable} {credential}" for variable, credential in self.secrets.items()]


def checked(what: str, text: str, pattern: re.Pattern[str], expected: str) -> str:
    """The text, if it matches all of the pattern.

    Raises:
        SpecError: It does not.
    """
    if not pattern.fullmatch(text):
        raise SpecError(f"{what} {text!r}: cannot stand in a file of Jenkins", hint=f"expected {expected}")
    return text


def inside(root: Path, file: Path) -> str:
    """A file's path from the repository's root, as stages see it after a checkout.

    Raises:
        SpecError: It lies elsewhere, or its path has characters that need quoting.
    """
    try:
        path = file.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        hint = "--root names the repository that Jenkins checks out"
        raise SpecError(f"{file}: does not lie in {root}", hint=hint) from None
    return checked("path", path, PATH, "letters, digits and `._/-`")


def store_of(pipeline: PipelineSpec, file: Path) -> str:
    """The URL of a pipeline's folder in its store, which runs are named by; empty if it would need quotes.

    `engine: jenkins` refuses a run of such a store, and says why.
    """
    found = f"{store_url(pipeline, file)}/{pipeline.name}"
    return found if URL.fullmatch(found) else ""


def store_url(pipeline: PipelineSpec, file: Path) -> str:
    """Of a pipeline's store, with the whole path of a folder, as runs are named."""
    if urlsplit(pipeline.store).scheme in {"", "file"}:
        return open_store(pipeline.store, relative_to=file.absolute().parent).url
    return pipeline.store.rstrip("/")


def agent_of(name: str, server: ServerSpec) -> str:
    """The name of a server's agent, which is a label of it, too.

    Raises:
        SpecError: It is no word.
    """
    agent = server.address or name if server.kind == "jenkins" else name
    return checked(f"server {name}: agent", agent, WORD, "letters, digits and `._-`")


def left_out(fleet: FleetSpec) -> str:
    """Which servers of a fleet are no agents, and why; empty where all are."""
    others = [
        f"{name} ({server.kind})" for name, server in fleet.servers.items() if server.kind not in AGENTS
    ]
    reason = "a build runs on agents: servers of kind ssh or jenkins"
    return f"left out: {', '.join(others)}; {reason}" if others else ""


def not_taken_over(fleet: FleetSpec) -> list[str]:
    """What fleet.yaml says of reaching servers by ssh, and the controller does in a way of its own."""
    found = []
    for name, server in fleet.servers.items():
        user = (server.address or "").rpartition("@")[0]
        if server.kind == "ssh" and user:
            found.append(f"{name}: its agent logs in as EMBEDMILL_AGENTS_USER, not as {user}")
        if server.kind == "ssh" and server.options:
            found.append(f"{name}: Jenkins starts its agent without ssh's `options`")
    return found


def lock_of(worker: str) -> str:
    """What Jenkins calls the GPU that a loop of this name works on."""
    return f"embedmill-{worker}"


def address_of(name: str, server: ServerSpec) -> tuple[str, int]:
    """The host and port that the controller starts an agent at.

    Raises:
        SpecError: It is no host name.
    """
    text = server.address or name
    found = ADDRESS.fullmatch(text)
    if found is None:
        raise SpecError(f"server {name}: address {text!r} is no host name")
    return found["host"], server.port or 22


def secrets_of(pairs: Sequence[str]) -> dict[str, str]:
    """`NAME=CREDENTIAL` of the command line.

    Raises:
        SpecError: One is none.
    """
    found = dict(pair.partition("=")[::2] for pair in pairs)
    if len(found) != len(pairs) or not all(found.values()):
        raise SpecError("--secret: expected NAME=CREDENTIAL, each name once")
    return found
