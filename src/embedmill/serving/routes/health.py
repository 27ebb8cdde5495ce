"""`/healthz`, `/readyz`, `/release`: whether this server answers, and with what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.responses import Response

from embedmill.serving.depends import Answering, TheServer

router = APIRouter(tags=["release"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def healthz(server: TheServer) -> Response:
    """The process answers, and no model has hung for long."""
    why = server.hopeless()
    return JSONResponse({"status": why or "ok"}, 503 if why else 200)


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz")
async def readyz(server: TheServer, served: Answering) -> Response:
    """A proven release is loaded, its models still make its vectors, and the server is not leaving."""
    why = server.complaint()
    body = {"status": why or "ready", "release": served.release.name, "number": served.release.number}
    return JSONResponse(body, 503 if why else 200)


@router.get("/release")
async def release(server: TheServer, served: Answering) -> dict[str, Any]:
    """What is served, and what it showed before it was."""
    content = served.release.content
    return {
        "release": served.release.name,
        "number": served.release.number,
        "pipeline": served.pipeline,
        "model": {
            "name": served.package.spec.name,
            "package_digest": served.package_digest,
            "encoder_digest": content.encoder_digest,
        },
        "encoders": {name: lane.encoder.profile.model_dump() for name, lane in served.lanes.items()},
        "queries": {"text": served.text_encoder is not None, "image": served.image_encoder is not None},
        "pictures": served.pictures,
        "dimension": content.dimension,
        "content_digest": content.content_digest,
        "items": {"embedded": content.embedded + content.reused, "empty": content.empty},
        "created": content.created,
        "proof": asdict(served.proof),
        "refused": server.live.refused,
    }
