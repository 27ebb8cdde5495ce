"""A folder for Jenkins: the shared library, Jenkinsfiles, the controller's configuration.

library/      vars/ src/ resources/, as Jenkins' shared libraries are laid out; the root of a repository
pipelines/    NAME/Jenkinsfile, which name a pipeline and nothing else
worker/       the Jenkinsfile of the job whose builds are worker loops, for `engine: jenkins`
controller/   embedmill.yaml for the plugin Configuration as Code
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.deploy.jenkins.controller import controller
from embedmill.deploy.jenkins.settings import AGENTS, agent_of, inside, store_of, store_url
from embedmill.deploy.yaml_files import write_folder, yaml_bytes
from embedmill.errors import SpecError
from embedmill.fleet.borrowing import reachable_from
from embedmill.spec import load_fleet_spec, load_pipeline_spec
from embedmill.spec.jenkins import JenkinsFiles
from embedmill.spec.loading import load_images_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from embedmill.deploy.jenkins.settings import JenkinsSettings
    from embedmill.spec.fleet import FleetSpec

LIBRARY = Path(__file__).parent / "library"
JENKINSFILE = """\
@Library('embedmill') _

embedmillPipeline('{name}')
"""
WORKER = """\
@Library('embedmill') _

embedmillWorker()
"""


def deploy_jenkins(
    folder: Path, pipelines: Sequence[Path], fleet: Path, settings: JenkinsSettings, *, root: Path
) -> JenkinsFiles:
    """Write the folder. `root` is the repository that Jenkins checks out, and that the specs lie in.

    Raises:
        SpecError: A spec is wrong or lies elsewhere, two pipelines have one name, a text cannot stand there,
            no agent can open a store, or fleet.yaml names no images.
        StoreError: The folder cannot be written.
    """
    return JenkinsFiles(
        folder=str(folder),
        files=tuple(write_folder(folder, files(pipelines, fleet, settings, root=root))),
    )


def files(
    pipelines: Sequence[Path], fleet: Path, settings: JenkinsSettings, *, root: Path
) -> Mapping[str, bytes]:
    """Every file by its path.

    Raises:
        SpecError: See `deploy_jenkins`.
    """
    settings.check()
    spec = load_fleet_spec(fleet)
    settings = settings.patient(spec.idle.window_s + spec.timeout_s)
    for name, server in spec.servers.items():
        agent_of(name, server)
    found = {path: LIBRARY.joinpath(path).read_bytes() for path in _library()}
    made, stores = {f"library/{path}": data for path, data in found.items()}, list[str]()
    for file in pipelines:
        pipeline = load_pipeline_spec(file)
        name = pipeline.name
        jenkinsfile = f"pipelines/{name}/Jenkinsfile"
        if jenkinsfile in made:
            raise SpecError(f"{file}: another pipeline has the name {name}, too")
        made[jenkinsfile] = JENKINSFILE.format(name=name).encode()
        made[f"library/resources/embedmill/pipelines/{name}.txt"] = settings.lines(
            inside(root, file), inside(root, fleet)
        )
        if pipeline.jenkins is None:  # else its runs may be driven from elsewhere, by the worker job alone
            _check_first_build(store_url(pipeline, file), spec, fleet)
        stores.append(store_of(pipeline, file))
    made["worker/Jenkinsfile"] = WORKER.encode()
    made["library/resources/embedmill/worker.txt"] = settings.worker_lines(list(filter(None, stores)))
    made["controller/embedmill.yaml"] = yaml_bytes(controller(settings, spec))
    return made


def _check_first_build(store: str, spec: FleetSpec, fleet: Path) -> None:
    """Say now what would stop it at Plan.

    Raises:
        SpecError: No agent can open the store, or fleet.yaml names no images.
    """
    agents = [name for name, server in spec.servers.items() if server.kind in AGENTS]
    reachable_from(store, spec, agents)
    load_images_of(spec, fleet)


def _library() -> Iterator[str]:
    for file in sorted(LIBRARY.rglob("*.groovy")):
        yield file.relative_to(LIBRARY).as_posix()
