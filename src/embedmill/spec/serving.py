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
    patience: float = Field(
        default=1.25,
        gt=0,
        description=(
            "How many times as long as is usual at 70 % load a request may have to wait while more is asked "
            "than can be computed; one that would wait longer is refused with 429."
        ),
    )
    answer_s: float = Field(default=30.0, gt=0, description="A request not answered by then gets 503.")
    max_requests: int = Field(
        default=256, ge=1, description="Requests that are in the server at once; more are refused with 429."
    )
    max_searches: int = Field(
        default=64, ge=1, description="Searches that wait for a thread, at most; more are refused with 429."
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="Of one key, or of one address where there are no keys."
    )
    max_inputs: int = Field(default=256, ge=1, description="Texts, images or rows of one request.")
    max_hits: int = Field(default=1000, ge=1, description="Hits of one query: the largest `k`.")
    max_characters: int = Field(default=32768, ge=1, description="Characters of one text, or filter.")
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024, description="Bytes of one request's body.")
    body_s: float = Field(default=10.0, gt=0, description="A body that is not there by then gets 408.")
    cache_bytes: int = Field(
        default=16 * 2**20, ge=0, description="Memory for vectors of queries that were asked before; 0: none."
    )
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
