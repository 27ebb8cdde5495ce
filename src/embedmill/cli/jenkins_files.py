"""`deploy jenkins`: files that let a Jenkins carry pipelines over the GPU servers of a fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from embedmill.cli.options import AsJson
from embedmill.cli.output import data, emit, facts, talk
from embedmill.words import counted

Secrets: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=CREDENTIAL",
        help="A variable that opens the store, by the id of Jenkins' credentials. Repeatable.",
    ),
]
VerifyKey: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="CREDENTIAL", help="The id of Jenkins' credentials, a secret file with that server's key."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command to `deploy`."""
    app.command()(jenkins)


def jenkins(
    pipelines: Annotated[
        list[Path], typer.Argument(metavar="PIPELINE.yaml...", help="Specs.", show_default=False)
    ],
    fleet: Annotated[Path, typer.Option(metavar="FLEET.yaml", help="The GPU servers.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the files go.")],
    library: Annotated[
        str, typer.Option(metavar="GIT-URL", help="The repository that FOLDER/library is pushed to.")
    ],
    root: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The repository with the specs, as Jenkins checks it out.")
    ] = Path(),
    control: Annotated[
        str, typer.Option(metavar="LABEL", help="Of agents where embedmill is installed.")
    ] = "embedmill",
    cron: Annotated[
        str, typer.Option(metavar="LINE", help="When builds start, five fields or @daily; '': by hand.")
    ] = "H 2 * * *",
    secret: Secrets = None,
    gpus: Annotated[int, typer.Option(min=1, max=64, help="GPUs of a server, at most.")] = 8,
    deploy_job: Annotated[
        str, typer.Option(metavar="JOB", help="Is started with RELEASE once that is live.")
    ] = "",
    verify: Annotated[
        str, typer.Option(metavar="URL", help="The server to compare with the release after that.")
    ] = "",
    verify_key: VerifyKey = "",
    as_json: AsJson = False,
) -> None:
    """Write a shared library, a Jenkinsfile for each pipeline, and the controller's configuration."""
    from embedmill.deploy.jenkins import JenkinsSettings, deploy_jenkins
    from embedmill.deploy.jenkins.controller import secrets_needed
    from embedmill.deploy.jenkins.settings import left_out, not_taken_over, secrets_of
    from embedmill.spec.loading import load_fleet_spec

    settings = JenkinsSettings(
        library=library,
        control=control,
        cron=cron,
        secrets=secrets_of(secret or ()),
        gpus=gpus,
        deploy_job=deploy_job,
        verify_url=verify,
        verify_key=verify_key,
    )
    written = deploy_jenkins(out, pipelines, fleet, settings, root=root)
    servers = load_fleet_spec(fleet)
    for note in filter(None, (left_out(servers), *not_taken_over(servers))):
        talk().print(note, soft_wrap=True)
    if as_json:
        emit(written)
        return
    data().print(facts([("written", f"{counted(len(written.files), 'file')} in {written.folder}")]))
    for name in secrets_needed(settings, servers):
        talk().print(f"the controller needs the secret {name}", soft_wrap=True)
