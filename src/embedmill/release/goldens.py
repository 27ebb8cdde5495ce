"""Goldens: raw inputs with their vectors, by which a server proves that it embeds as the worker did.

Item goldens are stratified by length: the shortest, the longest, and evenly spaced ones between, which are
random because rows are in order of fingerprints. Those of the base are kept while an item has their
vectors, so that drift shows. Query goldens are the items' own texts or files, embedded by the query encoders,
or rows made up for them where items have no such thing: every declared encoder has some. A query encoder that
computes what that of items does, of the very same, is not asked: the items' vectors are what it has to make.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from embedmill.catalog import ImageSource
from embedmill.catalog.frozen import content_digests, vouched_for, with_images
from embedmill.digest import digests_from_arrow, digests_to_arrow
from embedmill.errors import ReleaseCorrupt
from embedmill.model import Encoder, ModelPackage
from embedmill.model.goldens import goldens_file
from embedmill.model.goldens import read_goldens as read_package_goldens
from embedmill.model.inputs import canonical_columns, render
from embedmill.model.samples import sample_rows
from embedmill.release.layout import Home
from embedmill.release.stamps import frozen_file
from embedmill.spec import StringInput, TextInput
from embedmill.store import join_key
from embedmill.store.cache import in_parallel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.release.reader import Release
    from embedmill.release.segments import Candidate
    from embedmill.release.vectors import LiveVectors
    from embedmill.spec import EncoderInputs
    from embedmill.spec.documents import CommitRecord, FileEntry, Plan
    from embedmill.types import Mask, Rows

PRINT, VECTOR = "_fingerprint", "_vector"
SHARDS_SAMPLED = 16
QUERY_GOLDENS = 64


def make_goldens(
    home: Home,
    plan: Plan,
    candidate: Candidate,
    table: LiveVectors,
    base: Release | None,
    commits: Sequence[CommitRecord],
    scratch: Path,
) -> list[FileEntry]:
    """Write `goldens/<encoder>.arrow` for each declared encoder; without vectors there are none of items.

    `table` has the candidate's vectors that items refer to.
    """
    prefix = home.release_key(plan.run)
    package = ModelPackage.open(home.materialize(plan.model, prefix, scratch / "package") / "model")
    wanted = plan.pipeline.goldens
    same = base is not None and base.content.encoder_digest == plan.encoder_digest
    kept, dead = _carried(base, table, wanted) if base and same else ([], [])
    few = -(-wanted // 8)
    missing = max(wanted - sum(map(len, kept)), few)
    new = _sampled(home, plan, package, table, commits, missing)
    # A run has the inputs of what it computes, and no others. Where that is nothing, dead goldens still
    # prove the encoder.
    spare = max(0, few - sum(map(len, [*kept, *new])))
    dead = [rows.slice(0, spare) for rows in dead]
    newest = (new or kept)[:1]  # column types may have changed since the base
    alike = [rows for rows in [*kept, *new, *dead] if rows.schema == newest[0].schema]
    rows = pa.concat_tables(alike) if any(map(len, alike)) else None
    own = {} if rows is None else {"item": rows}
    tables = own | _queries(package, None if rows is None else rows.slice(0, wanted))
    return [_keep(candidate, name, golden, scratch) for name, golden in tables.items()]


def _keep(candidate: Candidate, encoder: str, rows: pa.Table, scratch: Path) -> FileEntry:
    name = f"{encoder}.{candidate.home.new_attempt()}.arrow"
    file = scratch / f"goldens-{name}"  # never one that the store has adopted
    with pa.ipc.new_file(str(file), rows.schema) as writer:
        writer.write_table(rows)
    key = join_key(candidate.prefix, "goldens", name)
    return candidate.home.adopt(key, file, relative_to=candidate.prefix, rows=len(rows))


def read_goldens(file: Path) -> pa.Table:
    """The encoder's fields, `_fingerprint` of the item, if it is one, `_vector` FixedSizeList<float32>[D]."""
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_file(source).read_all()


def written_goldens(release: Release, encoder: str) -> bytes | None:
    """The goldens of an encoder as a file of the release has them; else those of its model package."""
    for entry in release.content.goldens:
        if entry.path.startswith(f"goldens/{encoder}.") and entry.rows:
            return (release.folder / entry.path).read_bytes()
    file = goldens_file(ModelPackage.open(release.model_folder), encoder)
    if not file.is_file():
        return None
    rows, vectors = read_package_goldens(file)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    table = pa.Table.from_batches([rows]).append_column(VECTOR, column)
    out = pa.BufferOutputStream()
    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    found: bytes = out.getvalue().to_pybytes()
    return found


def _carried(base: Release, table: LiveVectors, wanted: int) -> tuple[list[pa.Table], list[pa.Table]]:
    """The base's item goldens: those that an item still refers to, and the others."""
    files = [entry.path for entry in base.content.goldens if entry.path.startswith("goldens/item.")]
    found = [rows for rows in (read_goldens(base.folder / path) for path in files) if len(rows)]
    live = [table.locate(_prints(rows)) >= 0 for rows in found]
    kept = [rows.filter(pa.array(mask)).slice(0, wanted) for rows, mask in zip(found, live, strict=True)]
    return kept, [rows.filter(pa.array(~mask)) for rows, mask in zip(found, live, strict=True)]


def _sampled(
    home: Home,
    plan: Plan,
    package: ModelPackage,
    table: LiveVectors,
    commits: Sequence[CommitRecord],
    wanted: int,
) -> list[pa.Table]:
    """A stratified sample of the run's own and salvaged rows, from shards spread over the whole plan."""
    inputs = package.inputs("item")
    source = ImageSource(plan.pipeline.catalog, root=Path(plan.root), store=home.store)
    inputs_of = _frozen(home, plan, commits)
    quota = -(-wanted // max(1, len(inputs_of)))
    tables = []
    for file, contents in inputs_of:
        frozen = read_goldens(file)
        chosen = _with_vector(frozen, table, _stratified(frozen, quota))
        if not len(chosen):
            continue
        batch = frozen.take(chosen).combine_chunks().to_batches()[0]
        rows, rejected = with_images(batch, inputs.image_fields, source)
        located = table.locate(_prints(rows))
        located[list(rejected)] = -1
        located[~_as_embedded(home, batch, rows, contents, chosen)] = -1
        keep = located >= 0
        if keep.any():
            tables.append(
                _with_vectors(pa.Table.from_batches([rows.filter(pa.array(keep))]), table, located[keep])
            )
    return tables


def _with_vector(frozen: pa.Table, table: LiveVectors, chosen: Rows) -> pa.Array:
    """Of the chosen rows those that have a vector: the images of others are not fetched again in vain."""
    prints = _prints(frozen.select([PRINT]).take(pa.array(chosen)))
    return pa.array(chosen[table.locate(prints) >= 0])


def _as_embedded(
    home: Home, frozen: pa.RecordBatch, rows: pa.RecordBatch, contents: FileEntry | None, chosen: pa.Array
) -> Mask:
    """bool[N]: rows whose images are those that the worker saw, whatever lies behind their references now."""
    now = content_digests(frozen, rows)
    if contents is None or now is None:
        return vouched_for(frozen)
    import pyarrow.parquet as pq  # here, for a loop starts without

    seen = pq.read_table(home.verified(home.key(contents.path), contents)).take(chosen)
    same: Mask = np.ones(len(rows), dtype=np.bool_)
    for name in seen.column_names:
        pairs = zip(seen.column(name).to_pylist(), now.column(name).to_pylist(), strict=True)
        same &= np.array([before == after for before, after in pairs], dtype=np.bool_)
    return same


def _frozen(home: Home, plan: Plan, commits: Sequence[CommitRecord]) -> list[tuple[Path, FileEntry | None]]:
    """Files of frozen rows, at most SHARDS_SAMPLED, with what their images were where that is recorded.

    Salvaged ones are left out where they are damaged.
    """
    recorded = {commit.shard: commit.contents for commit in commits}
    own = [(shard.file, recorded.get(shard.name), False) for shard in plan.shards]
    both = own + [(entry, None, True) for salvaged in plan.salvaged for entry in salvaged.frozen]

    def found(place: int) -> tuple[Path, FileEntry | None] | None:
        entry, contents, dispensable = both[place]
        try:
            return frozen_file(home, entry), contents
        except ReleaseCorrupt:
            if not dispensable:
                raise
            return None

    files = in_parallel(home.store, found, spread(len(both), SHARDS_SAMPLED).tolist())
    return [file for file in files if file is not None]


def _stratified(rows: pa.Table, quota: int) -> Rows:
    """A quarter shortest, a quarter longest, the rest evenly spaced; ascending, distinct."""
    lengths = np.zeros(len(rows), dtype=np.int64)
    for name in rows.schema.names:
        column = rows.column(name)
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            lengths += pa.compute.fill_null(pa.compute.binary_length(column), 0).to_numpy()
    order, extreme = np.argsort(lengths, kind="stable"), quota // 4
    ends = np.union1d(order[:extreme], order[len(order) - extreme :])
    others = np.setdiff1d(order, ends)
    return np.union1d(ends, others[spread(len(others), quota - len(ends))]).astype(np.int64)


def spread(n: int, wanted: int) -> Rows:
    """At most `wanted` of 0..n-1, evenly spaced."""
    return (
        np.unique(np.linspace(0, n - 1, num=min(n, wanted)).astype(np.int64))
        if n
        else np.zeros(0, dtype=np.int64)
    )


def _with_vectors(rows: pa.Table, table: LiveVectors, located: Rows) -> pa.Table:
    vectors = table.vectors(located)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return rows.append_column(VECTOR, column)


def _queries(package: ModelPackage, items: pa.Table | None) -> dict[str, pa.Table]:
    """Goldens of the query encoders: what items have that such an encoder reads, else rows made up for it."""
    batch = None if items is None else items.slice(0, QUERY_GOLDENS).combine_chunks().to_batches()[0]
    return {name: _query_goldens(package, name, batch) for name in package.spec.encoders if name != "item"}


def _query_goldens(package: ModelPackage, name: str, items: pa.RecordBatch | None) -> pa.Table:
    if items is not None and _is_items_encoder(package, name):
        return pa.Table.from_batches([items]).select([*package.inputs(name).fields, PRINT, VECTOR])
    values = None if items is None else _like_a_query(package, name, items)
    if items is None or values is None:
        rows = sample_rows(package, name)
    else:
        prints = digests_to_arrow(_prints(items))
        rows = pa.RecordBatch.from_pydict({package.inputs(name).fields[0]: values, PRINT: prints})
        if _sees_the_texts_of_items(package, name, rows, items):
            return pa.Table.from_batches([rows]).append_column(VECTOR, items.column(VECTOR))
    with Encoder.load(package, name) as encoder:
        encoded = encoder.encode(rows)
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(encoded.vectors_ND.reshape(-1)), package.spec.dimension
    )
    usable = np.ones(len(rows), dtype=np.bool_)
    usable[list(encoded.rejected)] = False
    return pa.Table.from_batches([rows]).append_column(VECTOR, column).filter(pa.array(usable))


def _is_items_encoder(package: ModelPackage, name: str) -> bool:
    """Whether a query encoder computes what the items' one does of the same inputs: its vectors are known."""
    same_inputs = package.inputs(name) == package.inputs("item")
    return same_inputs and package.spec.runtimes_for(name) == package.spec.runtimes_for("item")


def _sees_the_texts_of_items(
    package: ModelPackage, name: str, rows: pa.RecordBatch, items: pa.RecordBatch
) -> bool:
    """Whether a query encoder, alike but for its template, sees of these rows what the items' one saw."""
    ours, theirs = package.inputs(name), package.inputs("item")
    text = _but_for_its_template(ours)
    if text is None or text != _but_for_its_template(theirs):
        return False
    if package.spec.runtimes_for(name) != package.spec.runtimes_for("item"):
        return False
    (seen, _), (saw, _) = canonical_columns(ours, rows), canonical_columns(theirs, items)
    return [list(column.values) for column in seen] == [list(column.values) for column in saw]


def _but_for_its_template(inputs: EncoderInputs) -> tuple[str, TextInput | StringInput] | None:
    """Name and declaration of the only input, if that is a text."""
    if len(inputs.root) != 1:
        return None
    ((name, spec),) = inputs.root.items()
    if not isinstance(spec.kind, TextInput | StringInput):
        return None
    return name, spec.kind.model_copy(update={"template": ""})


def _like_a_query(package: ModelPackage, name: str, items: pa.RecordBatch) -> pa.Array | None:
    """Of the items' texts or files those that a query encoder of one such input can read."""
    kinds = [spec.kind for spec in package.inputs("item").root.values()]
    texts = [kind.template for kind in kinds if isinstance(kind, TextInput | StringInput)]
    images = package.inputs("item").image_fields
    inputs = package.inputs(name)
    if len(inputs.fields) != 1:
        return None
    if inputs.image_fields and images:
        return items.column(images[0])
    return render(texts[0], items) if inputs.text_field and texts else None


def _prints(rows: pa.Table | pa.RecordBatch) -> np.ndarray[tuple[int], np.dtype[np.bytes_]]:
    column = rows.column(PRINT)
    return digests_from_arrow(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
