"""`images`: container images for workers on GPU servers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from embedmill.cli.options import AsJson
from embedmill.cli.output import data, emit, facts, size, table, talk
from embedmill.words import counted

if TYPE_CHECKING:
    from embedmill.spec.images import ImageSpec
    from embedmill.spec.worker_images import ImageReport

Tool: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="COMMAND", help="podman, docker or buildah, with options; the first that is here."),
]
Arguments: TypeAlias = Annotated[
    list[str] | None, typer.Option("--argument", metavar="ARGUMENT", help="One more for it. Repeatable.")
]

app = typer.Typer(help="Make lean images for workers, and say which GPUs they are for.", no_args_is_help=True)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show which images can be made: a runtime on a family of CUDA, and the GPUs that it has code for."""
    from embedmill.deploy.worker_image import listed_variants

    variants = listed_variants()
    if as_json:
        emit(variants)
        return
    rows = [
        (each.name, each.requirement, each.cuda or "", " ".join(each.sass), " ".join(each.ptx))
        for each in variants.variants
    ]
    data().print(table("image", "installs", "cuda", "sass", "ptx", rows=rows))


@app.command()
def render(
    name: Annotated[str, typer.Argument(metavar="IMAGE", help="As `images list` has it.")],
    base: Annotated[
        str, typer.Option(metavar="NAME@sha256:…", help="An image with Python and `venv`, by its digest.")
    ],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the Dockerfile goes.")],
    version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Of the runtime, if not the one that is listed.")
    ] = None,
    cuda: Annotated[str | None, typer.Option(metavar="VERSION", help="CUDA in that version.")] = None,
    sass: Annotated[
        str | None, typer.Option(metavar="CAPABILITIES", help="Machine code in it, such as '7.5 8.0'.")
    ] = None,
    ptx: Annotated[str | None, typer.Option(metavar="CAPABILITIES", help="PTX in it, such as '9.0'.")] = None,
    embedmill: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Of Embedmill; this one if absent.")
    ] = None,
    mirror: Annotated[
        str | None, typer.Option(metavar="HOST/PATH", help="A registry that mirrors the base's.")
    ] = None,
    wheels: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Has every package; no index is asked then.")
    ] = None,
    authority: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificates (PEM) that pip and workers trust as well."),
    ] = None,
    user: Annotated[int, typer.Option(metavar="UID", min=1, help="Whom containers run as.")] = 10001,
    ray: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Also Ray, of the version of the cluster to join.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a Dockerfile for workers: one runtime, wheels only, no compiler, not root."""
    from embedmill.deploy.worker_image import Settings, chosen_variant, render_image

    settings = Settings(base, embedmill, mirror, wheels, authority, user, ray=ray)
    variant = chosen_variant(name, version=version, cuda=cuda, sass=_several(sass), ptx=_several(ptx))
    report = render_image(to, variant, settings)
    if as_json:
        emit(report)
        return
    data().print(
        facts(
            [
                ("base", report.base),
                ("installs", ", ".join(report.requirements)),
                ("written", f"{counted(len(report.files), 'file')} in {report.folder}"),
            ]
        )
    )
    talk().print(f"embedmill images build {to} --tag embedmill:{name}", soft_wrap=True)


@app.command()
def build(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `images render` wrote.")],
    tag: Annotated[str, typer.Option(metavar="NAME", help="The image's name.")],
    pip_conf: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A pip.conf with a private index; a secret, in no layer."),
    ] = None,
    tool: Tool = None,
    argument: Arguments = None,
    as_json: AsJson = False,
) -> None:
    """Build an image, and print its entry for images.yaml."""
    from embedmill.deploy.image_tools import build_image, find_tool

    report = build_image(find_tool(tool), folder, tag, pip_conf=pip_conf, more=argument or ())
    _say(report, tag.split("/")[-1].split(":")[0], as_json)


@app.command()
def inspect(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="By name and digest, or by name or id.")],
    packages: Annotated[
        bool, typer.Option("--packages", help="Also what is in it: runs it for that.")
    ] = False,
    tool: Tool = None,
    argument: Arguments = None,
    as_json: AsJson = False,
) -> None:
    """Print the entry of an image for images.yaml, as its labels have it."""
    from embedmill.deploy.image_tools import find_tool, inspect_image

    report = inspect_image(find_tool(tool), image, packages=packages, more=argument or ())
    _say(report, image.split("@")[0].split("/")[-1].split(":")[0], as_json)


def _several(words: str | None) -> tuple[str, ...] | None:
    return None if words is None else tuple(words.split())


def entry_text(name: str, entry: ImageSpec) -> str:
    """An entry as images.yaml has it."""
    from embedmill.deploy.yaml_files import yaml_bytes

    values = entry.model_dump(mode="json", exclude_defaults=True)
    return yaml_bytes({"images": {name: values}}).decode().rstrip()


def _say(report: ImageReport, name: str, as_json: bool) -> None:
    if as_json:
        emit(report)
        return
    data().print(entry_text(name, report.entry), soft_wrap=True)
    if report.packages:
        rows = [(each.kind, each.name, each.version, size(each.size_bytes)) for each in report.packages]
        data().print(table("kind", "package", "version", "size", rows=rows, numbers=[3]))
    if report.size_bytes is not None:
        talk().print(f"all layers: {size(report.size_bytes)}", soft_wrap=True)
    if "@" not in report.image:
        talk().print("push it, then name it by the digest that the registry has", soft_wrap=True)
