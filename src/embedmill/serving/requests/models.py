"""The names and versions by which clients of model servers know a release's encoders."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from embedmill.errors import RequestRefused
from embedmill.spec.serving import served_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedmill.serving.served import Served

NOT_FOUND = 404
UNNUMBERED = "0"
"""The version of a release that no log numbers, such as a copied folder."""


def model_names(served: Served) -> Mapping[str, str]:
    """Every name that is understood, and its encoder.

    `<pipeline>-<encoder>` for each encoder; the names of the pipeline and of the model package for that of
    queries, where there is one.
    """
    default = "query_text" if "query_text" in served.lanes else "item"
    short = {served.package.spec.name: default, served.pipeline: default}
    return short | {served_model(served.pipeline, encoder): encoder for encoder in served.lanes}


def encoder_named(served: Served, name: str) -> str:
    """The encoder of a model's name.

    Raises:
        RequestRefused: No model has that name.
    """
    names = model_names(served)
    if name not in names:
        raise RequestRefused(
            f"there is no model {name!r}",
            hint=f"there are: {', '.join(sorted(names))}",
            status=NOT_FOUND,
            param="model",
        )
    return names[name]


def version_of(served: Served) -> str:
    """The version of every model: the release's number."""
    number = served.release.number
    return UNNUMBERED if number is None else str(number)


def check_version(served: Served, version: str | None) -> None:
    """Refuse to answer for another version than the one that is served.

    Raises:
        RequestRefused: It is another one.
    """
    if version is not None and version != version_of(served):
        raise RequestRefused(
            f"there is no version {version!r} of this model",
            hint=f"release {served.release.name} is version {version_of(served)}",
            status=NOT_FOUND,
            param="version",
        )


def created_s(served: Served) -> int:
    """When the release was made, in seconds since 1970."""
    return int(datetime.fromisoformat(served.release.content.created).timestamp())
