"""What a plan counts, keeps and freezes."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.models import tiny_text_package
from tests.support.mill import SCHEMA, Mill, items, quarantined

from embedmill.errors import ModelError, SpecError
from embedmill.planning.calibrate import Calibrator
from embedmill.planning.numerics import Here
from embedmill.release.layout import MANIFEST
from embedmill.spec.documents import Plan
from embedmill.store.hashing import file_sha256
from embedmill.types import Progress


def counts(plan: Plan) -> dict[str, int]:
    """Those that are not zero."""
    return {name: value for name, value in plan.items.model_dump().items() if value}


def row(
    sku: Any, title: str | None = "lamp", category: str | None = "home", price: float = 1.0
) -> dict[str, Any]:
    return {"sku": sku, "title": title, "category": category, "price": price}


def test_a_first_plan_computes_every_content_once(mill: Mill) -> None:
    plan = mill.planned([row("a"), row("b"), row("c", "chair"), row("d", "  ", None)]).plan
    assert counts(plan) == {"total": 4, "new": 4, "duplicates": 1, "empty": 1}
    assert (plan.compute, plan.reused_vectors) == (2, 0)
    assert plan.why == "nothing was published yet, so every vector is new"


def test_contents_that_rows_with_doubled_ids_share_with_items_are_counted_once(mill: Mill) -> None:
    rows = [row("a"), row("b", "chair"), row("c"), row("b"), row("b", "only here"), row("d", "", None)]
    plan = mill.planned(rows).plan
    assert counts(plan) == {"total": 6, "new": 3, "duplicates": 1, "empty": 1, "quarantined": 3}
    assert (plan.compute, plan.reused_vectors) == (1, 0)


def test_every_row_of_a_doubled_or_null_id_is_quarantined_with_its_place(mill: Mill) -> None:
    rows = [row("a"), row("b", "1"), row(None, "2"), row("b", "3"), row("b", "1"), row(None, "2")]
    result = mill.run(rows)
    assert (result.embedded, result.computed, result.quarantined) == (1, 1, 5)
    found = sorted((r["reason"], r["row"], r["id"], r["detail"]) for r in quarantined(mill.live()))
    doubled = "another row has the same id"
    assert found == [
        ("duplicate-id", 1, "b", doubled),
        ("duplicate-id", 3, "b", doubled),
        ("duplicate-id", 4, "b", doubled),
        ("null-id", 2, None, "column 'sku' is null"),
        ("null-id", 5, None, "column 'sku' is null"),
    ]


def test_a_content_that_only_quarantined_rows_have_is_not_computed(mill: Mill) -> None:
    plan = mill.planned(
        [row("a", "x"), row("b", "only here"), row("b", "and here"), row(None, "or here")]
    ).plan
    assert plan.compute == 1


def test_a_plan_that_quarantines_all_items_does_not_say_that_their_vectors_are_there(mill: Mill) -> None:
    mill.run([row("a"), row("b", "x")])
    plan = mill.planned([row("a"), row("a"), row("hollow", None, None)]).plan
    assert (counts(plan)["quarantined"], plan.compute) == (2, 0)
    assert plan.why == "no item can be embedded: each is quarantined, or has an empty input"


def test_items_are_new_changed_unchanged_or_deleted_since_the_live_release(mill: Mill) -> None:
    mill.run([row("same"), row("edited", "before"), row("repriced"), row("gone"), row("doubled")])
    plan = mill.planned(
        [
            row("same"),
            row("edited", "after"),
            row("repriced", price=9.0),
            row("added", "x"),
            row("doubled"),
            row("doubled"),
        ]
    ).plan
    assert counts(plan) == {
        "total": 6,
        "new": 1,
        "changed": 1,
        "unchanged": 2,
        "deleted": 1,
        "quarantined": 2,
        "duplicates": 1,
    }
    assert (plan.compute, plan.reused_vectors) == (2, 1)
    assert plan.why == "only inputs that the live release has no vector for are computed"


def test_an_id_that_was_quarantined_yesterday_is_new_today(mill: Mill) -> None:
    mill.run([row("a"), row("b"), row("b")])
    assert counts(mill.planned([row("a"), row("b")]).plan) == {
        "total": 2,
        "new": 1,
        "unchanged": 1,
        "duplicates": 1,
    }


def test_a_new_price_computes_nothing(mill: Mill) -> None:
    mill.run(items(20))
    plan = mill.planned([{**item, "price": -1.0} for item in items(20)]).plan
    assert counts(plan) == {"total": 20, "unchanged": 20}
    assert (plan.compute, plan.shards, plan.why) == (0, (), "every vector is there")
    assert plan.estimate.seconds == 0.0
    mill.run()
    assert {hit.fields["price"] for hit in mill.live().search(item="s0", k=20)} == {-1.0}


def test_another_model_computes_everything_and_says_why(mill: Mill, tmp_path: Path) -> None:
    first = mill.run(items(5)).release
    mill.model = tiny_text_package(tmp_path / "other", seed=1)
    plan = mill.planned().plan
    assert counts(plan) == {"total": 5, "unchanged": 5}
    assert (plan.compute, plan.why) == (
        5,
        f"the encoder is not that of release {first}, so every vector is new",
    )


def test_a_comment_in_the_model_makes_a_new_package_and_computes_nothing(mill: Mill, tmp_path: Path) -> None:
    mill.model = tiny_text_package(tmp_path / "own")
    mill.run(items(5))
    with (mill.model / "model.yaml").open("a") as spec:
        spec.write("# reviewed\n")
    plan = mill.planned().plan
    assert plan.compute == 0
    mill.run()
    assert "# reviewed" in (mill.live().model_folder / "model.yaml").read_text()


@pytest.mark.parametrize("change", [Path.touch, Path.unlink], ids=["written", "gone"])
@pytest.mark.parametrize("published", [False, True], ids=["first", "refresh"])
def test_a_model_that_changes_between_its_digest_and_its_copy_is_planned_with_by_nobody(
    mill: Mill, tmp_path: Path, change: Callable[[Path], None], *, published: bool
) -> None:
    """Not even where the live release has the same, for the encoder may have been opened since."""
    mill.model = tiny_text_package(tmp_path / "own")
    if published:
        mill.run(items(4))
    mill.write(items(5))
    pipeline, file = mill.open(), mill.model / "model.yaml"
    before = file.read_bytes()
    pipeline.package.package_digest()

    def changed(_: Progress) -> None:
        if file.exists():
            change(file)

    with pytest.raises(ModelError, match="changed while") as caught:
        pipeline.plan(changed)
    assert caught.value.hint == "run again; in Python, open the pipeline again"
    with pytest.raises(ModelError, match="changed while"):
        pipeline.plan()
    file.write_bytes(before)
    assert [entry.sha256 for entry in mill.planned().plan.model if entry.path == "model/model.yaml"] == [
        file_sha256(mill.model / "model.yaml")
    ]


@pytest.mark.parametrize("step", [(Here, "sample"), (Calibrator, "calibration")], ids=["sample", "calibrate"])
def test_a_model_that_changes_beside_its_copy_or_after_it_is_planned_with_by_nobody(
    mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[type, str]
) -> None:
    """Steps that load the encoder, if it was not loaded before: what they compute may be of either model."""
    mill.model = tiny_text_package(tmp_path / "own")
    mill.write(items(5))
    whose, name = step
    carried_out = getattr(whose, name)

    def after_a_change(*given: Any) -> Any:
        (mill.model / "model.yaml").touch()
        return carried_out(*given)

    monkeypatch.setattr(whose, name, after_a_change)
    with pytest.raises(ModelError, match="changed while"):
        mill.planned()


def test_rows_that_where_leaves_out_are_excluded_and_not_counted(mill: Mill) -> None:
    mill.settings = {"catalog": {**mill.spec["catalog"], "where": "price < 2"}}
    plan = mill.planned(items(10)).plan
    assert (plan.items.total, plan.excluded) == (4, 6)


def test_unreadable_rows_are_counted_and_quarantined_with_their_line(mill: Mill) -> None:
    catalog = {"source": "items.csv", "id": "sku", "types": {"price": "float64"}, "display": ["price"]}
    mill.settings = {"catalog": catalog}
    (mill.root / "items.csv").write_text("sku,title,category,price\na,x,y,1\nb,x,y,cheap\nc,x,y,3\n")
    result = mill.run()
    assert (result.total, result.embedded, result.quarantined) == (3, 2, 1)
    (found,) = quarantined(mill.live())
    assert (found["reason"], found["id"]) == ("unreadable-row", None)
    assert found["source"].endswith("items.csv:3")


MOMENT = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)
IDS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "int64": (pa.int64(), [-1, 0, 1, 2**62]),
    "uint64": (pa.uint64(), [0, 2**64 - 1]),
    "float": (pa.float64(), [0.5, -1e300, float("inf")]),
    "bool": (pa.bool_(), [True, False]),
    "date": (pa.date32(), [datetime.date(2026, 1, 31), datetime.date(1, 1, 1)]),
    "timestamp": (pa.timestamp("us", "UTC"), [MOMENT, MOMENT + datetime.timedelta(microseconds=1)]),
    "decimal": (pa.decimal128(10, 2), [Decimal("1.50"), Decimal("-3.00")]),
    "binary": (pa.binary(), [b"\x00", b"\xff\x00"]),
    "string": (pa.string(), ["", " ", "a/../b", "ä", "a\nb", "'; DROP TABLE items; --"]),
    "large string": (pa.large_string(), ["x", "y"]),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), ["x", "y"]),
}


@pytest.mark.parametrize("name", IDS)
def test_ids_of_any_scalar_type_are_kept_as_they_are(mill: Mill, name: str) -> None:
    kind, values = IDS[name]
    mill.schema = SCHEMA.set(0, pa.field("sku", kind))
    rows = [row(value, f"title {at}") for at, value in enumerate(values)]
    assert mill.run(rows).quarantined == 0
    release = mill.live()
    assert set(release.to_arrow().column("id").to_pylist()) == set(values)
    for value, wanted in zip(values, rows, strict=True):
        hit = release.search(item=value, k=1)[0]
        assert (hit.id, hit.fields["title"]) == (value, wanted["title"])
    assert counts(mill.planned(rows[1:]).plan).get("deleted") == 1


def test_ids_that_became_another_type_are_told_as_the_reason_of_all_churn(mill: Mill) -> None:
    mill.schema = SCHEMA.set(0, pa.field("sku", pa.int64()))
    mill.run([row(number, f"title {number}") for number in range(5)])
    mill.schema = SCHEMA.set(0, pa.field("sku", pa.int32()))
    plan = mill.planned([row(number, f"title {number}") for number in range(5)]).plan
    assert (counts(plan)["unchanged"], "id column" in plan.why) == (5, False), "widths are one family"
    mill.schema = SCHEMA
    plan = mill.planned([row(str(number), f"title {number}") for number in range(5)]).plan
    assert (counts(plan)["new"], counts(plan)["deleted"]) == (5, 5)
    release = mill.live().name
    assert f"the id column 'sku' is string, and was int64 in release {release}" in plan.why


def test_a_catalog_that_is_read_again_in_another_order_or_in_parts_has_the_same_content(
    mill: Mill, tmp_path: Path, tiny_model: Path
) -> None:
    rows = [*items(300), row("s299"), row(None), row("blank", " ", None), row("twin", "item 7", "all")]
    mill.settings = {"work": {"shard_rows": 40}}
    mill.run(rows)
    (tmp_path / "other").mkdir()
    other = Mill(tmp_path / "other", tiny_model)
    other.settings = mill.settings | {"catalog": {**other.spec["catalog"], "source": "parts/*.parquet"}}
    (other.root / "parts").mkdir()
    for number, part in enumerate((rows[200:], rows[:200][::-1])):
        table = pa.Table.from_pylist(part, SCHEMA)
        pq.write_table(table, other.root / "parts" / f"{number}.parquet", row_group_size=17)
    other.run()
    one, two = mill.live().content, other.live().content
    assert one.content_digest == two.content_digest
    assert [part.rows for part in one.items] == [part.rows for part in two.items]


def test_the_same_plan_is_found_again_while_nothing_changed(mill: Mill) -> None:
    first = mill.planned(items(5))
    again = mill.planned()
    assert (first.resumed, again.resumed) == (False, True)
    assert again.plan == first.plan
    mill.settings = {"work": {"shard_rows": 2}}
    other = mill.planned()
    assert not other.resumed
    assert len(other.plan.shards) > len(first.plan.shards)


@pytest.mark.parametrize("display", [["vector"], ["score"], ["id"], ["_fingerprint"], ["_state"]])
def test_display_columns_may_not_take_names_that_releases_use(mill: Mill, display: list[str]) -> None:
    mill.settings = {"catalog": {**mill.spec["catalog"], "display": display}}
    mill.schema = pa.schema([*SCHEMA, (display[0], pa.string())])
    mill.write([row("a")])
    with pytest.raises(SpecError, match=f"`catalog.display`: .*{display[0]}"):
        mill.planned()


@pytest.mark.parametrize("name", ["_fingerprint", "_row", "_cost", "_vector"])
def test_a_model_may_not_read_columns_whose_names_frozen_rows_use(
    mill: Mill, tmp_path: Path, name: str
) -> None:
    mill.model = tiny_text_package(tmp_path / "own", template="{title} {" + name + "}")
    mill.schema = pa.schema([*SCHEMA, (name, pa.string())])
    mill.write([row("a")])
    with pytest.raises(SpecError, match=name):
        mill.planned()


def test_the_id_may_be_displayed_and_may_be_called_id(mill: Mill) -> None:
    mill.schema = pa.schema([("id", pa.string()), ("title", pa.string()), ("category", pa.string())])
    mill.settings = {"catalog": {"source": "items.parquet", "id": "id", "display": ["id", "title"]}}
    mill.run([{"id": "a", "title": "lamp", "category": "home"}])
    (hit,) = mill.live().search(item="a")
    assert (hit.id, hit.fields) == ("a", {"title": "lamp"})


def test_the_id_column_can_be_embedded_and_displayed_under_its_own_name(mill: Mill, tmp_path: Path) -> None:
    mill.model = tiny_text_package(tmp_path / "own", template="{sku}")
    mill.settings = {"catalog": {**mill.spec["catalog"], "display": ["sku", "title"]}}
    mill.run([row("a"), row("b")])
    hit = mill.live().search("b", k=1)[0]
    assert (hit.id, hit.fields) == ("b", {"sku": "b", "title": "lamp"})


def test_a_column_that_is_displayed_twice_is_shown_once(mill: Mill) -> None:
    mill.settings = {"catalog": {**mill.spec["catalog"], "display": ["title", "price", "title"]}}
    mill.run(items(3))
    assert mill.live().search(item="s1", k=1)[0].fields == {"title": "item 1", "price": 0.5}


def test_a_column_whose_type_changed_from_one_day_to_the_next_is_no_problem(mill: Mill) -> None:
    first = [row("a", "lamp", None), row("b", "5", None)]
    mill.schema = SCHEMA.set(2, pa.field("category", pa.null()))
    mill.run(first)
    mill.schema = SCHEMA.set(1, pa.field("title", pa.int64())).set(3, pa.field("price", pa.string()))
    result = mill.run(
        [{"sku": "b", "title": 5, "category": None, "price": "cheap"}, {"sku": "c", "title": 6}]
    )
    assert (result.computed, result.reused) == (1, 1)
    assert mill.live().search(item="b", k=1)[0].fields == {"title": 5, "price": "cheap"}


def test_planning_is_the_same_when_rows_are_spilled_to_disk(mill: Mill) -> None:
    """More bytes than are held in memory."""
    long = [row(f"s{n}", "x" * 50 + str(n), "y" * 3000) for n in range(3000)]
    plan = mill.planned(long).plan
    assert counts(plan) == {"total": 3000, "new": 3000}
    assert plan.compute == 3000 == sum(shard.rows for shard in plan.shards)


def test_planning_leaves_the_live_release_as_it_is(mill: Mill) -> None:
    mill.run(items(5))
    live = mill.live()
    before = {path: path.read_bytes() for path in live.folder.rglob("*") if path.is_file()}
    mill.indexed(items(6))
    assert {path: path.read_bytes() for path in live.folder.rglob("*") if path.is_file()} == before
    assert (live.folder / MANIFEST).is_file()
