"""A Jenkins of processes and folders: agents with workspaces, GPUs and locks of their own, a real library.

farm = Farm(tmp_path, package, groovy)
farm.add_agent("gpu-a")
build = farm.build()
build.result, build.log, build.stages
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tests.support.fake_gpus import FakeGpu, Scenario, build_library
from tests.support.mill import Mill, Row
from tests.support.patience import PATIENCE_S
from tests.support.stock import Stock, Unless
from tests.support.uncontained import install_podman

from embedmill.deploy.jenkins import JenkinsSettings, deploy_jenkins
from embedmill.release.runs import open_plans
from embedmill.spec.documents import CommitRecord

HARNESS = Path(__file__).with_name("harness")
PATH = "/usr/bin:/bin"
GIT = "https://git.example.org/embedmill-library.git"
SECRET = "s3cr3t-of-the-store"  # noqa: S105 - the tests' own
PLAIN = JenkinsSettings(GIT, answer_minutes=20, silent_minutes=45)


def pipeline_command(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """What runs a Jenkinsfile as a build with this folder, which gets `result.json`."""
    (folder / "build.json").write_text(json.dumps(config))
    return ["groovy", "-cp", str(HARNESS), str(HARNESS / "RunPipeline.groovy"), str(folder / "build.json")]


def agent(
    name: str, labels: list[str], root: Path, environment: Mapping[str, str], **more: Any
) -> dict[str, Any]:
    """An agent as the harness knows it, with a folder of its own."""
    root.mkdir(parents=True)
    known = {"PATH": f"{Path(sys.executable).parent}:{PATH}", "HOME": str(root), "LANG": "C.UTF-8"}
    known |= {each: os.environ[each] for each in ("EMBEDMILL_CACHE",) if each in os.environ}
    return {
        "name": name,
        "labels": labels,
        "root": str(root),
        "environment": {**known, **environment},
        "executors": 3,
        "answers": True,
        **more,
    }


@dataclass(frozen=True)
class Build:
    """What became of a build."""

    result: str
    failure: str
    events: list[dict[str, Any]]
    log: str
    folder: Path

    def all(self, key: str) -> list[Any]:
        """What was recorded under a name, in order."""
        return [event[key] for event in self.events if key in event]

    def archived(self, name: str) -> Any:
        """A JSON document that a stage kept."""
        return json.loads((self.folder / "archive" / name).read_text("utf-8"))


@contextlib.contextmanager
def beside(meanwhile: Callable[[Path, threading.Event], None] | None, folder: Path) -> Iterator[None]:
    """Does this in a thread beside the block, and raises what it raised after it, with the build's log."""
    if meanwhile is None:
        yield
        return
    ended = threading.Event()
    with ThreadPoolExecutor(1, "meanwhile") as executor:
        befallen = executor.submit(meanwhile, folder, ended)
        try:
            yield
        finally:
            ended.set()
    if error := befallen.exception():
        error.add_note((folder / "log").read_text())
        raise error


@dataclass
class Farm:
    """A repository with a pipeline, a fleet whose servers are agents, and a controller."""

    root: Path
    model: Path
    groovy: Mapping[str, str]
    agents: list[dict[str, Any]] = field(default_factory=list)
    settings: JenkinsSettings = PLAIN
    minute_ms: int = 2000

    def __post_init__(self) -> None:
        self.repository = self.root / "repository"
        self.repository.mkdir()
        self.mill = Mill(self.repository, self.model)
        self.mill.settings = {"store": str(self.root / "mill"), "work": {"shard_rows": 12}}
        self._podman = install_podman(self.root / "bin").parent
        self._count = 0
        self._add("control", ["embedmill"], {"EMBEDMILL_CACHE": str(self.root / "cache")})

    def add_agent(self, name: str, *, answers: bool = True) -> None:
        """A GPU server."""
        library = build_library()
        scenario = Scenario([FakeGpu(f"GPU-{len(self.agents):08d}-0000-0000-0000-000000000000")])
        given = scenario.environment(library, self.root / f"{name}.scenario")
        self._add(name, [], given, answers=answers)

    def write(self, rows: Iterable[Row]) -> None:
        """Catalog, specs, fleet."""
        self.mill.write(rows)
        self.mill.open()
        image = {"image": f"sha256:{'ab' * 32}", "runtimes": {"onnx": "1.22.0"}, "device": "cpu"}
        servers = {
            each["name"]: {
                "kind": "jenkins",
                "folder": f"{each['root']}/borrowed",
                "mounts": [str(self.root)],
            }
            for each in self.agents
            if each["name"] != "control"
        }
        fleet = {"servers": servers, "images": "images.yaml", "idle": {"window_s": 0.2, "every_s": 0.1}}
        for name, document in {"fleet.yaml": fleet, "images.yaml": {"images": {"cpu": image}}}.items():
            (self.repository / name).write_text(yaml.safe_dump(document))

    def build(
        self,
        meanwhile: Callable[[Path, threading.Event], None] | None = None,
        timeout_s: float = 800,
        **parameters: Any,
    ) -> Build:
        """Deploy to Jenkins, and run one build.

        `meanwhile` gets its folder and what says that it has ended, in a thread; it has to end soon after.
        What it raises is raised here.
        """
        self._count += 1
        folder = self.root / f"build-{self._count}"
        folder.mkdir()
        deployed = self.root / f"jenkins-{self._count}"
        specs = [self.repository / "pipeline.yaml"]
        deploy_jenkins(deployed, specs, self.repository / "fleet.yaml", self.settings, root=self.repository)
        config = {
            "folder": str(folder),
            "library": str(deployed / "library"),
            "jenkinsfile": str(deployed / "pipelines" / "test" / "Jenkinsfile"),
            "signatures": str(HARNESS / "signatures.json"),
            "checkout": str(self.repository),
            "credentials": {"store-key": SECRET},
            "parameters": parameters,
            "agents": self.agents,
            "minute_ms": self.minute_ms,
        }
        with beside(meanwhile, folder):
            done = subprocess.run(
                pipeline_command(folder, config),
                env=self.groovy,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
            log = done.stdout + done.stderr
            (folder / "log").write_text(log)
        assert (folder / "result.json").is_file(), log
        found = json.loads((folder / "result.json").read_text("utf-8"))
        return Build(found["result"], found["failure"], found["events"], log, folder)

    def build_while(self, rows: Sequence[Row], befalls: Callable[[Stock, Path, Unless], None]) -> Build:
        """A build that cannot be over before something has befallen it, unless it fails.

        The build makes its plan itself, in the folder of its checkout: its first workers may be at work
        before the stock is taken, which is what they have left.
        """
        self.write(rows)
        home = self.mill.home

        def meanwhile(folder: Path, ended: threading.Event) -> None:
            deadline_s = time.monotonic() + PATIENCE_S
            while (plan := next(open_plans(home), None)) is None:
                assert not ended.wait(0.02), "the build ended, and has planned nothing"
                assert time.monotonic() < deadline_s, f"no plan within {PATIENCE_S:.0f} s"
            with Stock(home, plan) as stock:
                befalls(stock, folder, lambda: "the build has ended" if ended.is_set() else None)

        return self.build(meanwhile)

    def committers(self) -> set[str]:
        """Loops that have committed shards."""
        home = self.mill.home
        keys = [info.key for info in home.store.list("test/runs") if "/commits/" in info.key]
        return {home.read(CommitRecord, key).worker for key in keys}

    def _add(self, name: str, labels: list[str], more: Mapping[str, str], *, answers: bool = True) -> None:
        path = f"{self._podman}:{Path(sys.executable).parent}:{PATH}"
        root = self.root / "agents" / name
        self.agents.append(agent(name, labels, root, {"PATH": path, **more}, answers=answers))
