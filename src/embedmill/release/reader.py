"""`Release`: one published release, opened only if every byte is what was published."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from embedmill.errors import LogGap, ReleaseCorrupt, ReleaseIncompatible, ReleaseMissing
from embedmill.release.contents import ContentPart, ContentTable
from embedmill.release.folders import release_folder
from embedmill.release.integrity import check_named, read_content, read_fetched, read_manifest, verify_files
from embedmill.release.items import (
    ID,
    OWN_COLUMNS,
    ItemTable,
    is_embedded,
    item_fingerprints,
    read_items,
)
from embedmill.release.layout import MANIFEST, Home, split_url
from embedmill.release.log import live_release, read_history
from embedmill.release.search import Searcher
from embedmill.release.thumbnails import ThumbnailPart, ThumbnailTable
from embedmill.release.vectors import VectorPart, VectorTable
from embedmill.spec import load_pipeline_spec
from embedmill.store import LocalPaths, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from embedmill.model.encoder import Encoder
    from embedmill.spec.documents import Content, Segment
    from embedmill.types import Hit, Rows, Vectors


class Release:
    """Items, vectors, index and model that belong together. `N` below counts items that have a vector."""

    def __init__(self, folder: Path, content: Content, *, number: int | None = None) -> None:
        """Read an opened folder; use `open` instead."""
        self.folder = folder
        self.content = content
        self.number = number

    def __repr__(self) -> str:
        return f"<Release {self.name} number={self.number} items={self.item_count}>"

    @property
    def item_count(self) -> int:
        """Items that it has, those with an empty input too."""
        return sum(entry.rows or 0 for entry in self.content.items)

    @classmethod
    def open(cls, url: str | Path) -> Release:
        """Open a release by its folder or URL, `<store>/<pipeline>/releases/<name>`.

        Of a pipeline.yaml it is the live one.

        Raises:
            ReleaseMissing: There is none.
            ReleaseCorrupt: A file is not what the manifest says; names it.
            SpecError: It is a file, and no pipeline.yaml.
        """
        folder = Path(url)
        if folder.is_file():
            spec = load_pipeline_spec(folder)
            return open_live(Home(open_store(spec.store, relative_to=folder.absolute().parent), spec.name))
        if folder.is_dir():
            return cls._opened(folder, number=_number_of(str(folder.absolute())))
        try:
            home, name = split_url(str(url), "releases")
        except ValueError:
            raise ReleaseMissing(
                f"{url}: no such release", hint="give its folder or URL, or a pipeline.yaml"
            ) from None
        return _opened_from(home, name, number=_number_of(str(url)))

    @classmethod
    def _opened(cls, folder: Path, *, number: int | None) -> Release:
        manifest = read_manifest(folder)
        try:
            verify_files(folder, manifest)
            content = read_content(folder)
            check_named(folder, content, manifest)
        except (ReleaseCorrupt, ReleaseMissing) as error:
            if (folder / MANIFEST).exists():
                raise
            raise ReleaseMissing(  # deleting a release begins with its manifest
                f"{folder}: was deleted while it was opened",
                hint="`embedmill release ls` shows those there are",
            ) from error
        fetched = read_fetched(folder, manifest)
        return cls(folder, content, number=number if fetched is None else fetched.number)

    @property
    def name(self) -> str:
        """The release's name: that of the run that made it."""
        return self.content.release

    @property
    def model_folder(self) -> Path:
        """The model package."""
        return self.folder / "model"

    @cached_property
    def table(self) -> VectorTable:
        """All segments' vectors, mapped."""
        entries = [entry for segment in self.content.segments for entry in segment.parts]
        return VectorTable([self.vector_parts[entry.sha256] for entry in entries])

    @cached_property
    def vector_parts(self) -> Mapping[str, VectorPart]:
        """The mapped files of vectors by their SHA-256."""
        entries = [entry for segment in self.content.segments for entry in segment.parts]
        return {entry.sha256: VectorPart.open(self.folder / entry.path) for entry in entries}

    @cached_property
    def item_rows(self) -> Rows:
        """int64[all items]: each item's row in `table`, -1 for empty items; in the order of `items`."""
        batches = list(self.items(OWN_COLUMNS[1:]))
        embedded = np.concatenate([np.zeros(0, dtype=np.bool_), *map(is_embedded, batches)])
        prints = np.concatenate([np.zeros(0, dtype="S16"), *map(item_fingerprints, batches)])
        return np.where(embedded, self.table.locate(prints), -1)

    def items(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Item rows (`id`, `_fingerprint`, `_state`, display columns) in batches, in a fixed order.

        Reading them raises ReleaseIncompatible where the release has no column of that name.
        """
        return read_items([self.folder / entry.path for entry in self.content.items], columns)

    def item_table(self) -> ItemTable:
        """All item rows, read where they are wanted; in the order of `items`."""
        entries = self.content.items
        return ItemTable([self.folder / each.path for each in entries], [each.rows or 0 for each in entries])

    def to_arrow(self) -> pa.Table:
        """All items with a vector: `id`, display columns, and `vector` FixedSizeList<float32>[D]."""
        items = self.item_table().whole()
        chosen = np.flatnonzero(self.item_rows >= 0)
        vectors = self.table.vectors(self.item_rows[chosen]).reshape(-1)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors), self.content.dimension)
        return (
            items.take(pa.array(chosen)).drop_columns(list(OWN_COLUMNS[1:])).append_column("vector", column)
        )

    def to_numpy(self) -> tuple[np.ndarray[Any, Any], Vectors]:
        """Ids [N], and their vectors float32[N, D]."""
        table = pa.Table.from_batches(self.items([ID]), schema=pa.schema([self.item_schema.field(ID)]))
        chosen = np.flatnonzero(self.item_rows >= 0)
        ids = table.column(ID).take(pa.array(chosen)).to_numpy()
        vectors = self.table.vectors(self.item_rows[chosen])
        return ids, vectors.reshape(len(chosen), self.content.dimension)

    @cached_property
    def item_schema(self) -> pa.Schema:
        """Columns of `items` and their types."""
        return pa.parquet.read_schema(self.folder / self.content.items[0].path)

    @cached_property
    def searcher(self) -> Searcher:
        """Search over all segments; loads the indexes."""
        return Searcher(self)

    def encoder(self, name: str) -> Encoder:
        """An encoder of the release's own model, loaded once.

        Raises:
            ReleaseIncompatible: The model has none of that name.
        """
        if name not in self.content_encoders:
            raise ReleaseIncompatible(
                f"release {self.name}: its model has no encoder {name!r}",
                hint=f"it has: {', '.join(self.content_encoders)}",
            )
        if name not in self._encoders:
            from embedmill.model import Encoder, ModelPackage

            self._encoders[name] = Encoder.load(ModelPackage.open(self.model_folder), name)
        return self._encoders[name]

    @cached_property
    def _encoders(self) -> dict[str, Encoder]:
        return {}

    @cached_property
    def content_encoders(self) -> tuple[str, ...]:
        """Encoders that the release's model declares."""
        from embedmill.model import ModelPackage

        return tuple(ModelPackage.open(self.model_folder).spec.encoders)

    def search(
        self,
        text: str | None = None,
        *,
        vector: Vectors | Sequence[float] | None = None,
        item: Any = None,
        k: int = 10,
    ) -> list[Hit]:
        """The `k` items nearest to a text (encoder `query_text`), a vector of D numbers, or an item's id.

        Raises:
            ReleaseIncompatible: The model cannot embed that query, the text is empty, or the vector has
                another length or a value that is not finite in float32.
            ReleaseMissing: No item has that id.
            ValueError: Not exactly one query is given, or `k` is no whole number of at least 1.
        """
        return self.searcher.search(text, vector=vector, item=item, k=k)

    def thumbnail(self, item: Any = None, *, fingerprint: bytes | None = None) -> bytes | None:
        """The small picture of an item, by its id or by its fingerprint (16 bytes): a JPEG file, or None.

        None where the pipeline kept no thumbnails when the item was embedded, or the item has no image that
        Embedmill decodes.

        Raises:
            ReleaseMissing: No item has that id.
            ValueError: Not exactly one of both is given, or it is no fingerprint.
        """
        if (item is None) == (fingerprint is None):
            raise ValueError("give exactly one of item and fingerprint")
        if fingerprint is None:
            fingerprint = self.searcher.fingerprint_of(item)
        return self._thumbnails.of(fingerprint)

    @cached_property
    def _thumbnails(self) -> ThumbnailTable:
        entries = [entry for segment in self.content.segments for entry in segment.thumbnails]
        return ThumbnailTable(ThumbnailPart.open(self.folder / entry.path) for entry in entries)

    @cached_property
    def contents(self) -> ContentTable:
        """What the images of fingerprints contained, where they came by reference."""
        entries = [entry for segment in self.content.segments for entry in segment.by_content]
        return ContentTable(ContentPart.open(self.folder / entry.path) for entry in entries)

    def segment_parts(self, segment: Segment) -> list[VectorPart]:
        """The mapped parts of one segment."""
        return [VectorPart.open(self.folder / entry.path) for entry in segment.parts]


def open_release(home: Home, name: str) -> Release:
    """Open a release of a pipeline by its name; of a remote one, the cache gets what it does not have.

    Raises:
        ReleaseMissing: It was never published, or is retired.
        ReleaseCorrupt: The store has other bytes than were published; names the file.
    """
    found = read_history(home).find(name)
    return _opened_from(home, found.release, number=found.number)


def _opened_from(home: Home, name: str, *, number: int | None) -> Release:
    """Open what the cache has of a remote release; if that is damaged, what the store has."""
    try:
        return Release._opened(release_folder(home, name), number=number)
    except ReleaseCorrupt:
        if isinstance(home.store, LocalPaths):
            raise
    return Release._opened(release_folder(home, name, anew=True), number=number)


def open_live(home: Home) -> Release:
    """Open a pipeline's live release.

    Raises:
        ReleaseMissing: Nothing was published yet.
    """
    return open_release(home, live_release(home).release)


def _number_of(url: str) -> int | None:
    """The number in the log, if the folder lies in a store that has one, and that lacks no entry."""
    with suppress(ValueError, ReleaseMissing, LogGap):
        home, name = split_url(url, "releases")
        return read_history(home, patient=False).number_of(name)
    return None
