"""`schema` and `config`: what may be in a spec, and what a spec comes to."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedmill.cli.options import AsJson, PipelineFile, open_pipeline
from embedmill.cli.output import emit, emit_bytes

if TYPE_CHECKING:
    from pydantic import BaseModel

PANEL = "Help"
DRAFT = "https://json-schema.org/draft/2020-12/schema"


class Kind(StrEnum):
    """A spec file."""

    PIPELINE = "pipeline"
    MODEL = "model"
    FLEET = "fleet"
    IMAGES = "images"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=PANEL)(schema)
    config = typer.Typer(help="What a pipeline.yaml comes to, with all defaults.")
    config.callback()(_config)
    config.command("show")(show)
    app.add_typer(config, name="config", rich_help_panel=PANEL)


def _config() -> None:
    pass


def schema(
    kind: Annotated[Kind, typer.Argument(help="Which spec file.", show_default=False)],
    as_json: AsJson = False,  # noqa: ARG001 - it is JSON anyway
) -> None:
    """Print the JSON Schema of a spec file, such as pipeline.yaml."""
    emit_bytes(schema_bytes(kind))


def schema_bytes(kind: Kind) -> bytes:
    """The JSON Schema, as published in docs/schemas."""
    from embedmill.spec import ImagesSpec, ModelSpec, PipelineSpec
    from embedmill.spec.fleet import FleetSpec

    specs: dict[Kind, type[BaseModel]] = {
        Kind.PIPELINE: PipelineSpec,
        Kind.MODEL: ModelSpec,
        Kind.FLEET: FleetSpec,
        Kind.IMAGES: ImagesSpec,
    }
    found: dict[str, Any] = {"$schema": DRAFT, **specs[kind].model_json_schema()}
    return (json.dumps(found, indent=2, ensure_ascii=False) + "\n").encode()


def show(pipeline: PipelineFile, as_json: AsJson = False) -> None:
    """Print the spec with every default, and what EMBEDMILL_… variables set."""
    spec = open_pipeline(pipeline).spec
    if as_json:
        from embedmill.spec.reports import ConfigReport

        emit(ConfigReport(pipeline=spec))
        return
    import yaml

    emit_bytes(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True).encode())
