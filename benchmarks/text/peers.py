"""How each peer does the job: from a Parquet file of texts to vectors on disk, with the same weights.

A peer gets ready when it is made: libraries and, where that can be had, the model are loaded, which is not
counted. `work` reads, embeds and writes, and is counted. `afterwards` is not: it leaves OUT.npy in the
catalog's order.
"""

from __future__ import annotations

import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from benchmarks.support.measuring import cores, seconds_of

Settings = Mapping[str, Any]
Vectors = npt.NDArray[np.float32]


class Peer(ABC):
    """Gets a folder (`minilm`, `package`), a Parquet file (`id`, `text`), settings, and where vectors go."""

    def __init__(self, folder: Path, source: Path, settings: Settings, out: Path) -> None:
        self.folder, self.source, self.settings, self.out = folder, source, settings, out
        self.ready()

    @abstractmethod
    def ready(self) -> None:
        """Load what there is to load."""

    @abstractmethod
    def work(self) -> None:
        """Do the job once."""

    def timed(self) -> float:
        """The job's seconds."""
        return seconds_of(self.work)

    def afterwards(self) -> dict[str, float]:
        """Leave the vectors in `out`, in the catalog's order; the seconds of what else is told."""
        return {}


def texts_of(source: Path) -> list[str]:
    """All of them, in the catalog's order."""
    texts: list[str] = pq.read_table(source, columns=["text"]).column("text").to_pylist()
    return texts


def save(out: Path, vectors: Iterable[npt.NDArray[Any]]) -> None:
    """Vectors of all texts, in order, as float32."""
    np.save(out, np.concatenate(list(vectors)).astype(np.float32, copy=False))


class Embedmill(Peer):
    """From the plan to the last commit record, in a store that is empty; on all cores."""

    def ready(self) -> None:
        from embedmill import Pipeline

        shutil.rmtree(self.folder / "mill", ignore_errors=True)
        self.pipeline = Pipeline.from_file(self.source.with_suffix(".yaml"))

    def timed(self) -> float:
        """Until the last commit record is there; loops end, and the driver sees it, a moment later."""
        began_s = time.time()
        self.work()
        records = self.folder.glob("mill/*/runs/*/commits/*")
        return max(record.stat().st_mtime for record in records) - began_s

    def work(self) -> None:
        """The vectors lie in the store then."""
        self.planned_s = seconds_of(self._plan)
        self.worked_s = seconds_of(self.planned.work)

    def _plan(self) -> None:
        self.planned = self.pipeline.plan(engine=self.pipeline.standby())

    def afterwards(self) -> dict[str, float]:
        """What a run does beyond what the peers do."""
        later = {
            "index": seconds_of(self.planned.index),
            "check": seconds_of(self.planned.check),
            "publish": seconds_of(self.planned.publish),
        }
        release = self.pipeline.live()
        if release is None:
            raise SystemExit("nothing was published")
        ids, vectors = release.to_numpy()
        np.save(self.out, vectors[np.argsort(ids.astype(np.int64))])
        return {"plan": self.planned_s, "work": self.worked_s} | later


class SentenceTransformers(Peer):
    """`encode`, which orders texts by length itself, on a thread a core."""

    def ready(self) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(cores())
        self.model = SentenceTransformer(str(self.folder / "minilm"), device="cpu")
        self.model.encode(["warm"])

    def work(self) -> None:
        """In one call."""
        found = self.model.encode(
            texts_of(self.source), batch_size=self.settings["batch"], normalize_embeddings=True
        )
        save(self.out, [found])


class FastEmbed(Peer):
    """The same ONNX file as a custom model, in batches of its own; in processes where that is faster."""

    def ready(self) -> None:
        from fastembed import TextEmbedding
        from fastembed.common.model_description import ModelSource, PoolingType

        TextEmbedding.add_custom_model(
            model="local/minilm",
            pooling=PoolingType.DISABLED,
            normalization=True,
            sources=ModelSource(hf="local/minilm"),
            dim=384,
            model_file="model.onnx",
        )
        self.model = TextEmbedding(
            "local/minilm",
            specific_model_path=str(self.folder / "fastembed"),
            threads=self.settings["threads"],
        )

    def work(self) -> None:
        """Lazily, as it gives them."""
        batch, parallel = self.settings["batch"], self.settings["parallel"]
        found = self.model.embed(texts_of(self.source), batch_size=batch, parallel=parallel)
        save(self.out, [np.stack(list(found))])


class RayData(Peer):
    """`map_batches` with an actor of sentence-transformers for each core; it is told of more, to read on."""

    def ready(self) -> None:
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
        import ray

        ray.init(num_cpus=2 * cores(), include_dashboard=False, log_to_driver=False, logging_level="error")

    def work(self) -> None:
        """From Parquet to Parquet; the actors load the model meanwhile."""
        import ray

        self.written = self.out.with_suffix(".parts")
        shutil.rmtree(self.written, ignore_errors=True)
        rows, read = self.settings["batch"], ray.data.read_parquet(str(self.source))
        blocks = read.repartition(target_num_rows_per_block=rows)  # or one row group would be one actor's
        blocks.map_batches(
            RayActor,
            fn_constructor_args=(str(self.folder / "minilm"),),
            batch_size=rows,
            compute=ray.data.ActorPoolStrategy(size=cores()),
            num_cpus=1,
        ).write_parquet(str(self.written))

    def afterwards(self) -> dict[str, float]:
        """Its parts in order."""
        import ray

        ray.shutdown()
        table = pq.read_table(self.written)
        vectors = np.array(table.column("vector").to_pylist(), np.float32)
        np.save(self.out, vectors[np.argsort(table.column("id").to_numpy().astype(np.int64))])
        return {}


class RayActor:
    """A model, on one thread."""

    def __init__(self, folder: str) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(1)
        self.model = SentenceTransformer(folder, device="cpu")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A column more, and the texts away; of a batch all texts are one call, ordered by length in it."""
        found = self.model.encode(list(batch["text"]), normalize_embeddings=True, show_progress_bar=False)
        return {"id": batch["id"], "vector": list(found)}
