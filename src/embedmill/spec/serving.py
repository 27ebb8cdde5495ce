"""`serving:` of `pipeline.yaml`: how much a server of this pipeline takes on, and when it says no."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from embedmill.spec.production import ProductionSpec
from embedmill.spec.section import Section


class ServingSpec(Section):
    """Limits of a server; each keeps one request, or all of them together, from harming the others."""

    batch_rows: int = Field(default=32, ge=1, description="Rows that the model gets at once, at most.")
    queue_rows: int = Field(
        default=256, ge=1, description="Rows that wait for a model, at most; more are refused with 429."
    )
    wait_s: float = Field(
        default=2.0, gt=0, description="A request that would wait longer for its turn is refused with 429."
    )
    max_inputs: int = Field(default=256, ge=1, description="Texts, images or rows of one request.")
    max_hits: int = Field(default=1000, ge=1, description="Hits of one query: the largest `k`.")
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024, description="Bytes of one request's body.")
    production: ProductionSpec | None = Field(
        default=None, description="A server of production, which must serve a candidate as it is."
    )

    def below(self, root: Path) -> ServingSpec:
        """With whole paths; `root` is the spec's folder."""
        if self.production is None:
            return self
        return self.model_copy(update={"production": self.production.below(root)})


def served_model(pipeline: str, encoder: str) -> str:
    """The name of an encoder of a pipeline at model servers; its version is the release's number.

    A model server may have many pipelines, so the name has both.
    """
    return f"{pipeline}-{encoder}"
