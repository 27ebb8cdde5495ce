"""What a run on a Jenkins' agents needs: the job whose builds are loops, and places by agents' labels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.engines import JenkinsEngine
from embedmill.engines.jenkins import check_words, open_jenkins
from embedmill.errors import SpecError
from embedmill.store.opening import is_shared
from embedmill.types import Host, Look, Placement

if TYPE_CHECKING:
    from embedmill.spec import PipelineSpec
    from embedmill.spec.jenkins_workers import AgentFamilySpec, JenkinsWorkersSpec


@dataclass(frozen=True)
class AgentPlaces:
    """The workers of every family, in order, as a driver looks for them. Jenkins finds agents for them."""

    section: JenkinsWorkersSpec
    again_s: float | None = 300.0
    waits: bool = True

    def look(self, most: int, held: Collection[str]) -> Look:
        """Places for as many loops, none for those that run."""
        places = [
            _place(name, family, number)
            for name, family in self.section.families.items()
            for number in range(family.workers)
        ]
        return Look(tuple([place for place in places if place.worker not in held][:most]))


def agent_engine(spec: PipelineSpec, root: Path) -> JenkinsEngine:
    """An engine for the pipeline's job; `root` is the folder that the spec's paths start from.

    Raises:
        SpecError: There is no section `jenkins`, its URL is none, or the token cannot be read.
    """
    section = _settings(spec)
    token = root / Path(section.token_file).expanduser() if section.token_file else None
    return JenkinsEngine(open_jenkins(section.url, section.job, section.user, token))


def places_on_agents(spec: PipelineSpec, home_url: str) -> AgentPlaces:
    """Places for loops on runs of a pipeline, whose folder in the store has this URL.

    Raises:
        SpecError: There is no section `jenkins`, or no agent can open the store.
    """
    section = _settings(spec)
    check_words(home_url, ())
    if not is_shared(home_url, section.mounts):
        raise SpecError(
            f"store {home_url}: agents of Jenkins cannot open it",
            hint="use a bucket such as s3://…; or name the network disk that it is on in `jenkins.mounts`",
        )
    return AgentPlaces(section, again_s=spec.work.look_again_s)


def _settings(spec: PipelineSpec) -> JenkinsWorkersSpec:
    if spec.jenkins is None:
        raise SpecError("engine jenkins: nothing is said of the controller", hint="write `jenkins: …`")
    return spec.jenkins


def _place(name: str, family: AgentFamilySpec, number: int) -> Placement:
    return Placement(
        f"jenkins-{name}-{number}",
        device=family.device,
        threads=family.threads,
        host=Host(family.label or name, (), ""),
        type=family.device,
    )
