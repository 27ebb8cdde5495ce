"""The section `jenkins` of pipeline.yaml: worker loops as builds of a job."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from embedmill.spec.kubernetes import FamilyName, FolderPath
from embedmill.spec.section import Section

AgentLabel = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class AgentFamilySpec(Section):
    """Workers on agents that have one label, and where Embedmill is installed."""

    label: AgentLabel | None = Field(
        default=None, description="The label of its agents; the family's own name where absent."
    )
    workers: int = Field(default=1, ge=1, le=1000, description="Builds, at most: an executor each.")
    device: str = Field(
        default="cpu",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$",
        description="Where its workers compute: `cpu`, `cuda`, `cuda:1`.",
    )
    threads: int = Field(default=1, ge=1, le=999, description="Threads of a worker.")


class JenkinsWorkersSpec(Section):
    """Where worker loops run as builds."""

    url: str = Field(description="The controller, such as https://ci.example.org.")
    job: str = Field(
        pattern=r"^[^/\s]+(/[^/\s]+)*$",
        description="The job of `deploy jenkins`' `worker/Jenkinsfile`, with its folders: team/worker.",
    )
    user: str = Field(default="", description="Whose API token it is.")
    token_file: str | None = Field(
        default=None, description="A file with an API token that may build, read and cancel that job."
    )
    families: dict[FamilyName, AgentFamilySpec] = Field(
        min_length=1, description="Workers by agents, in the order in which they get shards to work on."
    )
    mounts: tuple[FolderPath, ...] = Field(
        default=(), description="Folders that its agents have, too, such as a network disk with the store."
    )

    @field_validator("url")
    @classmethod
    def _without_secrets(cls, url: str) -> str:
        if "@" in url:
            raise ValueError("a URL with a user in it; the token belongs into `token_file`")
        return url
