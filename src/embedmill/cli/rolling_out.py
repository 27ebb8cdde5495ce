"""`deploy serving`, `deploy batch`, `deploy ray` and `deploy image`: manifests and images for clusters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.fetching import ReleaseOption, SourceTarget, find_source
from embedmill.cli.options import AsJson, PipelineFile, open_pipeline
from embedmill.cli.output import data, emit, facts, talk
from embedmill.words import counted

if TYPE_CHECKING:
    from embedmill.deploy.kubernetes import ServingPlan


Beside = Annotated[
    str | None,
    typer.Option(
        metavar="RELEASE", help="Also make a blue-green switch: from this release to the other one."
    ),
]
MaxReplicas = Annotated[int | None, typer.Option(min=1, help="Pods, at most; twice as many if absent.")]
StoreSecret = Annotated[
    str, typer.Option(metavar="SECRET", help="Has the variables that open the store; '': pods need none.")
]
StorePort = Annotated[
    int | None,
    typer.Option(
        min=1, max=65535, help="Where the store listens; the environment's endpoint says, else 443."
    ),
]
KeysSecret = Annotated[str, typer.Option(metavar="SECRET", help="Has API keys under `keys`.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `deploy`."""
    for each in (serving, batch, ray, image):
        app.command()(each)


def serving(
    target: SourceTarget,
    image: Annotated[str, typer.Option(metavar="REF", help="The image, with a tag or by digest.")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the manifests go.")],
    release: ReleaseOption = None,
    beside: Beside = None,
    name: Annotated[str, typer.Option(help="Of the Deployment and Service; the pipeline's if absent.")] = "",
    namespace: Annotated[str, typer.Option(help="For the kustomizations.")] = "",
    replicas: Annotated[int, typer.Option(min=1, help="Pods, at least.")] = 3,
    max_replicas: MaxReplicas = None,
    cpus: Annotated[int, typer.Option(min=1, help="Processors and threads of a pod.")] = 2,
    drain: Annotated[
        int, typer.Option(metavar="SECONDS", min=1, help="A pod that ends answers for so long.")
    ] = 15,
    store_secret: StoreSecret = "embedmill-store",  # noqa: S107 - its name
    keys_secret: KeysSecret = "embedmill-keys",  # noqa: S107 - its name
    store_port: StorePort = None,
    allow_from: Annotated[
        list[str] | None, typer.Option(metavar="NAMESPACE", help="May ask servers as well. Repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write Kubernetes manifests that serve one release, pinned by its number."""
    from embedmill.deploy.kubernetes import Settings, deploy_serving, plan_serving, store_port_of

    source = find_source(target, release)
    settings = Settings(
        image=image,
        name=name,
        namespace=namespace,
        replicas=replicas,
        max_replicas=max_replicas or 2 * replicas,
        cpus=cpus,
        drain_s=drain,
        store_secret=store_secret,
        keys_secret=keys_secret,
        store_port=store_port or store_port_of(source.store.url),
        scrapers=tuple(allow_from or ()),
    )
    plan = plan_serving(source, settings)
    other = None if beside is None else plan_serving(find_source(target, beside), settings)
    report = deploy_serving(to, plan, other)
    if as_json:
        emit(report)
        return
    data().print(
        facts(
            [
                ("release", f"{report.release} (number {report.number})"),
                ("a pod needs", f"{report.memory_mib:,} MiB of memory, {report.disk_mib:,} MiB of disk"),
                ("written", f"{counted(len(report.files), 'file')} in {report.folder}"),
            ]
        )
    )
    _say_how(to, plan, blue_green=beside is not None)


def _say_how(folder: Path, plan: ServingPlan, *, blue_green: bool) -> None:
    secrets = [each for each in (plan.settings.store_secret, plan.settings.keys_secret) if each]
    talk().print(f"needs the secrets: {', '.join(secrets)}", soft_wrap=True)
    talk().print(f"lets servers out to the store at port {plan.settings.store_port}", soft_wrap=True)
    steps = ("blue-green/before", "blue-green/after") if blue_green else ("cpu",)
    for step in steps:
        talk().print(f"kubectl apply --kustomize {folder}/overlays/{step}", soft_wrap=True)


def batch(
    pipeline: PipelineFile,
    to: Annotated[Path, typer.Option("--out", "--to", metavar="FOLDER", help="Where the manifests go.")],
    run: Annotated[
        str | None, typer.Option(metavar="RUN", help="Also write the Jobs of this open run.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write Kubernetes manifests for runs of a pipeline: rights, priorities, the nightly CronJob, Jobs."""
    from embedmill.deploy.kubernetes import deploy_batch, nowhere

    opened = open_pipeline(pipeline, engine="kubernetes")
    found = None
    if run is not None:
        planned = opened.open_run(run)
        places = opened.places(planned.plan).look(len(planned.plan.shards), ())
        found = planned.url, places.free
    report = deploy_batch(to, opened.spec, opened.root, pipeline.name, found)
    for note in nowhere(opened.spec):
        talk().print(note, soft_wrap=True)
    if as_json:
        emit(report)
        return
    told = [("pipeline", report.pipeline), ("namespace", report.namespace)]
    told += [("every night", report.nightly)] if report.nightly else []
    data().print(facts([*told, ("written", f"{counted(len(report.files), 'file')} in {report.folder}")]))
    for part in ("base", *(["jobs"] if found else [])):
        talk().print(f"kubectl apply --kustomize {to}/{part}", soft_wrap=True)


def ray(
    pipeline: PipelineFile,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the manifests go.")],
    name: Annotated[str, typer.Option(help="Of the RayCluster.")] = "embedmill",
    token_secret: Annotated[
        str, typer.Option(metavar="SECRET", help="Has the cluster's token under `auth_token`.")
    ] = "embedmill-ray",  # noqa: S107 - its name
    head_image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="In images.yaml; the first family's if absent.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a RayCluster for KubeRay: a group of workers for each family of the section `kubernetes`."""
    from embedmill.deploy.kubernetes import RaySettings, deploy_ray

    opened = open_pipeline(pipeline)
    settings = RaySettings(name, token_secret, head_image)
    report = deploy_ray(to, opened.spec, opened.root, settings)
    if as_json:
        emit(report)
        return
    groups = ", ".join(f"{group} (at most {count:,})" for group, count in report.groups.items())
    told = [("cluster", f"{report.cluster} of Ray {report.ray}"), ("workers", groups)]
    data().print(facts([*told, ("written", f"{counted(len(report.files), 'file')} in {report.folder}")]))
    talk().print(f"needs KubeRay 1.5 or later, and the secret: {token_secret}", soft_wrap=True)
    talk().print(f"kubectl apply --kustomize {to}/ray", soft_wrap=True)


def image(
    target: SourceTarget,
    base: Annotated[
        str, typer.Option(metavar="NAME@sha256:…", help="An image with Python and `venv`, by its digest.")
    ],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the Dockerfile goes.")],
    release: ReleaseOption = None,
    embedmill: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Of Embedmill; this one if absent.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a Dockerfile for servers of a release: only what it needs, in the versions that made it."""
    from embedmill.deploy.image import deploy_image

    report = deploy_image(to, find_source(target, release), base, embedmill=embedmill)
    if as_json:
        emit(report)
        return
    pins = ", ".join(f"{name} {found}" for name, found in report.pins.items())
    data().print(
        facts(
            [
                ("installs", f"embedmill {report.version} with {', '.join(report.extras)}"),
                ("in the versions", pins or "that pip chooses"),
                ("written", f"{counted(len(report.files), 'file')} in {report.folder}"),
            ]
        )
    )
    talk().print(f"docker build --secret id=pip,src=pip.conf {to}", soft_wrap=True)
