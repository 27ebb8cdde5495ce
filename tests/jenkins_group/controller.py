"""A Jenkins whose builds of the worker job are executed: by Groovy, with the generated library, on agents.

with WorkerJob.deployed(folder, pipeline, groovy) as jenkins:
    jenkins.url, jenkins.all_builds

The REST API in front is `JenkinsJob`'s; behind it a build is a process of the harness.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tests.jenkins_group.farm import GIT, HARNESS, SECRET, agent, pipeline_command
from tests.support.jenkins_job import JenkinsJob

from embedmill.deploy.jenkins import JenkinsSettings, deploy_jenkins

AGENTS = ("agent-a", "agent-b")
LABEL = "embedmill"
END_S = 120.0


@dataclass
class WorkerJob(JenkinsJob):
    """`home` has the builds' folders and the agents' workspaces; `groovy` is the environment of Groovy."""

    home: Path = Path()
    library: Path = Path()
    groovy: Mapping[str, str] = field(default_factory=dict)
    minute_ms: int = 60_000

    @classmethod
    def deployed(
        cls, folder: Path, pipeline: Path, groovy: Mapping[str, str], secrets: Mapping[str, str] = {}
    ) -> WorkerJob:
        """A controller that has what `deploy jenkins` writes for a pipeline."""
        folder.mkdir()
        fleet = pipeline.parent / "jenkins-fleet.yaml"
        agent = {"kind": "jenkins", "mounts": [str(pipeline.parent)]}
        fleet.write_text(yaml.safe_dump({"servers": {"agent-a": agent}, "images": "jenkins-images.yaml"}))
        image = {"image": f"sha256:{'ab' * 32}", "runtimes": {"onnx": "1"}, "device": "cpu"}
        images = pipeline.parent / "jenkins-images.yaml"
        images.write_text(yaml.safe_dump({"images": {"cpu": image}}))
        settings = JenkinsSettings(GIT, secrets=secrets)
        deploy_jenkins(folder / "deployed", [pipeline], fleet, settings, root=pipeline.parent)
        return cls(job="team/worker", home=folder, library=folder / "deployed", groovy=groovy)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.agents = [agent(name, [LABEL], self.home / name, {}) for name in AGENTS]

    def __exit__(self, *given: object) -> None:
        with self.lock:
            self.queue.clear()
            for build in self.all_builds.values():
                self.end(build, hard=False)
        for process in self._processes.values():
            process.wait(END_S)
        super().__exit__(*given)

    def begin(self, build: dict[str, Any], parameters: dict[str, str]) -> None:
        folder = self._folder(build["number"])
        folder.mkdir()
        agents = self.agents[build["number"] % 2 :] + self.agents[: build["number"] % 2]
        config = {
            "folder": str(folder),
            "library": str(self.library / "library"),
            "jenkinsfile": str(self.library / "worker" / "Jenkinsfile"),
            "signatures": str(HARNESS / "signatures.json"),
            "credentials": {"store-key": SECRET},
            "parameters": parameters,
            "agents": agents,
            "minute_ms": self.minute_ms,
        }
        with (folder / "log").open("wb") as log:
            self._processes[build["number"]] = subprocess.Popen(
                pipeline_command(folder, config),
                env=dict(self.groovy),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def end(self, build: dict[str, Any], *, hard: bool) -> None:
        (self._folder(build["number"]) / "abort").touch()
        if hard:
            self._processes[build["number"]].kill()

    def refresh(self) -> None:
        for number, build in self.all_builds.items():
            if not build["building"]:
                continue
            told, done = self._folder(number) / "description", self._folder(number) / "result.json"
            over = self._processes[number].poll() is not None
            build["description"] = told.read_text("utf-8") if told.is_file() else None
            if over:
                result = json.loads(done.read_text("utf-8"))["result"] if done.is_file() else "ABORTED"
                build |= {"building": False, "result": result}

    def section(self, *mounts: Path, workers: int = 1) -> dict[str, Any]:
        """What pipeline.yaml says of it."""
        return {
            "url": self.url,
            "job": self.job,
            "families": {LABEL: {"workers": workers}},
            "mounts": [str(each) for each in mounts],
        }

    def log(self, number: int) -> str:
        """What a build wrote."""
        return (self._folder(number) / "log").read_text("utf-8")

    def _folder(self, number: int) -> Path:
        return self.home / f"build-{number}"
