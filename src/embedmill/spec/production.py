"""`serving: {production: …}` of `pipeline.yaml`: a server that must serve a candidate as it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from embedmill.spec.section import Section

PLACEHOLDERS = ("release", "number", "port", "folder")
_BRACES = re.compile(r"\{([^{}]*)\}")


class ProductionSpec(Section):
    """How a server of production is started on a candidate, and what is installed there."""

    command: tuple[str, ...] = Field(
        default=(),
        description="Program and arguments that start a server; no shell reads them. `{release}`: the "
        "candidate's folder, `{number}`: its version there, `{port}`: where to listen on 127.0.0.1, "
        "`{folder}`: an empty folder to use. Without a command no server is started.",
    )
    protocol: Literal["openai", "oip", "tf_serving", "triton"] = Field(
        default="oip", description="What the server speaks."
    )
    ready: str = Field(
        default="/v2/health/ready",
        pattern=r"^/[!-~]*$",
        description="The path that answers 200 once the server is ready.",
    )
    ready_s: float = Field(default=300.0, gt=0, description="How long it may take to be ready.")
    stop_s: float = Field(default=30.0, ge=0, description="How long it may take to end; then it is killed.")
    runs_in: str = Field(default=".", description="The folder it runs in, relative to the spec's.")
    environment: str | None = Field(
        default=None,
        description="What `embedmill environment --json` printed there, relative to the spec's folder.",
    )

    @field_validator("command")
    @classmethod
    def _known_placeholders(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        named = [name for part in command for name in _BRACES.findall(part)]
        unknown = [name for name in named if name not in PLACEHOLDERS]
        if unknown:
            allowed = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise ValueError(f"no placeholder {{{unknown[0]}}}: there are {allowed}")
        if command and "port" not in named:
            raise ValueError("the command does not say {port}: the server would not be found")
        return command

    def arguments(self, **values: str | int) -> list[str]:
        """The command with its placeholders filled in."""
        return [_BRACES.sub(lambda found: str(values[found[1]]), part) for part in self.command]

    def below(self, root: Path) -> ProductionSpec:
        """With whole paths; `root` is the spec's folder."""
        environment = None if self.environment is None else str(root / self.environment)
        return self.model_copy(update={"runs_in": str(root / self.runs_in), "environment": environment})
