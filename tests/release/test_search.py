"""Search over a release: segments are merged, shared vectors expanded, the dead never shown."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.models import tiny_text_package
from tests.support.mill import POISON, Mill, items, poisonable_package

from embedmill import Release, embed
from embedmill.errors import ModelError, ReleaseIncompatible, ReleaseMissing
from embedmill.release.search import search_effort


def row(sku: str, title: str | None, category: str | None = "all") -> dict[str, Any]:
    return {"sku": sku, "title": title, "category": category, "price": 1.0}


def exact(release: Release, query: npt.NDArray[np.float32], k: int) -> list[str]:
    """Ids by brute force over all of the release's vectors."""
    ids, vectors = release.to_numpy()
    return [str(ids[at]) for at in np.argsort(-(vectors @ query), kind="stable")[:k]]


@pytest.mark.parametrize("exact_below", [1, 1000])
def test_results_are_those_of_brute_force_over_all_segments(mill: Mill, exact_below: int) -> None:
    mill.settings = {"index": {"exact_below": exact_below}, "compact_above": 1.0, "work": {"shard_rows": 9}}
    mill.run(items(60))
    mill.run(items(70, start=20))
    mill.run(items(70, start=25))
    release = mill.live()
    assert len(release.content.segments) == 3
    assert all((segment.index is not None) == (exact_below == 1) for segment in release.content.segments)
    chance = np.random.default_rng(0)
    for _ in range(20):
        query = chance.normal(size=16).astype(np.float32)
        hits = release.search(vector=query, k=10)
        assert [hit.id for hit in hits] == exact(release, query, 10)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_threads_that_search_a_graph_and_a_day_beside_it_find_what_brute_force_finds(mill: Mill) -> None:
    mill.settings = {"index": {"exact_below": 30}, "compact_above": 1.0}
    mill.run(items(60))
    mill.run(items(70, start=5))
    release = mill.live()
    assert [segment.index is None for segment in release.content.segments] == [False, True]
    queries = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    wanted = [exact(release, query, 10) for query in queries]

    def found(query: npt.NDArray[np.float32]) -> list[str]:
        return [hit.id for hit in release.search(vector=query, k=10)]

    assert [found(query) for query in queries] == wanted
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(found, [*queries] * 4)) == wanted * 4


def test_arguments_of_other_types_are_refused_in_words(mill: Mill) -> None:
    mill.run(items(3))
    release = mill.live()
    with pytest.raises(ReleaseIncompatible, match="the text is 5, which is none"):
        release.search(5)  # type: ignore[arg-type]
    for wrong in ("3", 2.5, None, 0):
        with pytest.raises(ValueError, match="it must be a whole number of at least 1"):
            release.search("item 1", k=wrong)  # type: ignore[arg-type]
    assert len(release.search("item 1", k=np.int64(2))) == 2  # type: ignore[arg-type]


def test_who_opens_a_store_is_told_where_its_releases_are(mill: Mill, tmp_path: Path) -> None:
    release = mill.run(items(3)).release
    home = Path(mill.home.url.removeprefix("file://"))
    for folder, what in ((home, "a pipeline's folder"), (home.parent, "a store")):
        with pytest.raises(ReleaseMissing) as caught:
            Release.open(folder)
        assert f"it is {what}: open " in caught.value.hint
        assert f"{home}/releases/<name>, or " in caught.value.hint
        assert "pipeline.yaml" in caught.value.hint
    assert Release.open(home / "releases" / release).name == release
    (tmp_path / "neither").mkdir()
    with pytest.raises(ReleaseMissing) as caught:
        Release.open(tmp_path / "neither")
    assert "releases lie in <store>/<pipeline>/releases/<name>" in caught.value.hint


class Touched:
    """Numbers that tell how many of them were asked for."""

    def __init__(self, numbers: Any) -> None:
        self._numbers = numbers
        self.count = 0

    def __getitem__(self, at: Any) -> Any:
        found = self._numbers[at]
        self.count += len(found) if isinstance(at, slice) else 1
        return found


@pytest.mark.parametrize("k", [3, 10, 25])
def test_no_more_items_are_looked_at_than_are_found(mill: Mill, k: int) -> None:
    mill.run([row(f"{title}-{number}", title) for title in ("a", "b", "c", "d") for number in range(10)])
    release = mill.live()
    searcher, query = release.searcher, release.searcher.vector_of("b-0")
    expected = searcher.hits(query, k)
    touched = searcher._items = Touched(searcher._items)  # type: ignore[assignment]
    assert searcher.hits(query, k) == expected
    assert (len(expected), touched.count) == (k, k)
    everything = np.ones(40, dtype=np.bool_)
    assert searcher.hits(query, k, among=everything) == expected
    assert touched.count == k + -(-k // 10) * 10


def test_a_graph_is_searched_with_the_effort_that_was_measured_until_another_is_stated(mill: Mill) -> None:
    mill.settings = {"index": {"exact_below": 10}, "compact_above": 1.0}
    mill.run(items(2100))
    (first,) = mill.live().content.segments
    assert first.recall is not None
    assert first.recall >= 0.98
    mill.run(items(2101))
    carried, _ = mill.live().content.segments
    assert (carried.search_effort, carried.recall) == (first.search_effort, first.recall)
    assert search_effort(mill.live().content, carried) == first.search_effort
    mill.settings = {**mill.settings, "index": {"exact_below": 10, "search_effort": 300}}
    mill.run(items(2102))
    release = mill.live()
    assert search_effort(release.content, release.content.segments[0]) == 300
    query = np.random.default_rng(0).normal(size=16).astype(np.float32)
    assert [hit.id for hit in release.search(vector=query, k=10)] == exact(release, query, 10)


def test_a_graph_that_finds_less_than_is_wanted_now_is_told_of_until_an_effort_is_stated(
    mill: Mill, caplog: pytest.LogCaptureFixture
) -> None:
    index = {"exact_below": 10, "links": 4, "build_effort": 8, "recall": 0.5}
    mill.settings = {"index": index, "compact_above": 1.0}
    mill.run(items(2100))
    (first,) = mill.live().content.segments
    assert first.recall is not None
    assert 0.5 < first.recall < 0.999
    assert not caplog.messages
    mill.settings = {**mill.settings, "index": {**index, "recall": 0.999}}
    mill.run(items(2101))
    assert f"segment {first.name} has a recall@10 of {first.recall:g}, below" in caplog.text
    caplog.clear()
    mill.settings = {**mill.settings, "index": {**index, "recall": 0.999, "search_effort": 300}}
    mill.run(items(2102))
    assert not caplog.messages


def test_a_text_is_embedded_by_the_releases_own_query_encoder(mill: Mill) -> None:
    mill.run(items(20))
    release = mill.live()
    query = embed({"query": ["item 7. all"]}, release.model_folder, encoder="query_text")
    vector = np.array(query.column("vector")[0].as_py(), dtype=np.float32)
    assert [hit.id for hit in release.search("item 7. all", k=3)] == exact(release, vector, 3)
    assert release.search("item 7. all", k=1)[0].id == "s7"


def test_items_that_share_a_vector_are_all_found_with_their_own_fields(mill: Mill) -> None:
    twins = [{**row(f"t{n}", "twin"), "price": float(n)} for n in range(5)]
    result = mill.run([*twins, *items(20)])
    assert result.computed == 21
    hits = mill.live().search(item="t3", k=6)
    assert {hit.id for hit in hits[:5]} == {"t0", "t1", "t2", "t3", "t4"}
    assert all(hit.fields["price"] == float(str(hit.id)[1:]) for hit in hits[:5])
    assert len({hit.score for hit in hits[:5]}) == 1
    assert len(mill.live().search(item="t3", k=2)) == 2


def test_vectors_of_deleted_items_fill_no_place_among_the_results(mill: Mill) -> None:
    mill.settings = {"compact_above": 1.0}
    mill.run([*(row(f"near{n}", f"lamp {n}") for n in range(30)), row("far", "zzz")])
    mill.run([row("far", "zzz"), row("blank", None, None)])
    release = mill.live()
    assert [(segment.rows, segment.live) for segment in release.content.segments] == [(31, 1)]
    assert [hit.id for hit in release.search("lamp 1. all", k=10)] == ["far"]


def test_a_release_that_was_collected_while_it_was_open_is_not_called_damaged(mill: Mill) -> None:
    mill.run(items(20))
    release = mill.live()
    table = release.item_table()
    shutil.rmtree(release.folder / "items")
    with pytest.raises(ReleaseMissing, match="deleted while its release was open") as caught:
        table.whole()
    assert "live" in caught.value.hint


def test_an_empty_item_is_never_a_result_and_cannot_be_asked_for(mill: Mill) -> None:
    mill.run([row("blank", " ", None), row("lamp", "lamp")])
    release = mill.live()
    assert [hit.id for hit in release.search("lamp", k=5)] == ["lamp"]
    with pytest.raises(ReleaseMissing, match=r"'blank' .* was empty"):
        release.search(item="blank")


@pytest.mark.parametrize("item", ["nobody", 7, 2**70, 1.5, None, b"\xff", ["lamp"]])
def test_an_item_that_is_not_there_is_an_error(mill: Mill, item: Any) -> None:
    mill.run([row("lamp", "lamp")])
    wrong = ValueError if item is None else ReleaseMissing
    with pytest.raises(wrong):
        mill.live().search(item=item)


@pytest.mark.parametrize(
    "query", [{}, {"text": "a", "item": "b"}, {"text": "a", "k": 0}, {"text": "a", "k": -1}]
)
def test_just_one_query_and_a_positive_k_are_asked_for(mill: Mill, query: dict[str, Any]) -> None:
    mill.run([row("lamp", "lamp")])
    with pytest.raises(ValueError, match=r"exactly one|at least 1"):
        mill.live().search(**query)


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_is_near_to_nothing(mill: Mill, text: str) -> None:
    mill.run([row("lamp", "lamp")])
    with pytest.raises(ReleaseIncompatible, match="the text is empty"):
        mill.live().search(text)


@pytest.mark.parametrize("shape", [(15,), (17,), (1, 16), ()])
def test_a_vector_of_another_shape_is_refused(mill: Mill, shape: tuple[int, ...]) -> None:
    mill.run([row("lamp", "lamp")])
    with pytest.raises(ReleaseIncompatible, match="vectors have 16 dimensions"):
        mill.live().search(vector=np.ones(shape, dtype=np.float32))


def test_any_sequence_of_numbers_is_a_vector(mill: Mill) -> None:
    mill.run([row("lamp", "lamp"), row("chair", "chair")])
    release = mill.live()
    vector = release.to_numpy()[1][0]
    wanted = release.search(vector=vector, k=2)
    assert release.search(vector=vector.tolist(), k=2) == wanted
    assert release.search(vector=tuple(vector.astype(float)), k=2) == wanted


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "at dimension 3 is nan"),
        (float("-inf"), "is -inf"),
        (1e300, "is inf"),
        ("x", "no vector"),
    ],
)
def test_a_vector_that_is_not_finite_has_no_hits(mill: Mill, value: Any, said: str) -> None:
    mill.run([row("lamp", "lamp")])
    with pytest.raises(ReleaseIncompatible, match=said):
        mill.live().search(vector=[*[0.1] * 3, value, *[0.1] * 12])


def test_a_model_that_makes_nan_of_some_texts_tells_it_of_items_and_of_queries(
    mill: Mill, tmp_path: Path
) -> None:
    mill.model = poisonable_package(tmp_path / "own")
    mill.run([row("lamp", "lamp"), row("bad", POISON)])
    release = mill.live()
    with pytest.raises(ReleaseMissing, match="'bad' is not in release") as caught:
        release.search(item="bad")
    assert caught.value.hint.startswith("it may be of the 1 in quarantine: ")
    with pytest.raises(ModelError, match="not-finite: NaN or infinity in 16 of 16 values"):
        release.search(POISON)
    assert [hit.id for hit in release.search("lamp")] == ["lamp"]
    mill.run([row("lamp", "lamp")])
    with pytest.raises(ReleaseMissing) as caught:
        mill.live().search(item="bad")
    assert not caught.value.hint


def test_a_model_without_a_text_encoder_says_what_it_has(mill: Mill, tmp_path: Path) -> None:
    mill.model = tiny_text_package(tmp_path / "own")
    spec = (mill.model / "model.yaml").read_text()
    (mill.model / "model.yaml").write_text(spec[: spec.index("  query_text:")])
    mill.run([row("lamp", "lamp")])
    release = mill.live()
    with pytest.raises(ReleaseIncompatible, match="no encoder 'query_text'") as caught:
        release.search("lamp")
    assert caught.value.hint == "it has: item"
    assert release.search(item="lamp", k=1)[0].id == "lamp"


def test_opening_by_folder_by_url_and_through_the_pipeline_gives_the_same_release(mill: Mill) -> None:
    mill.run(items(3))
    live = mill.live()
    opened = [Release.open(live.folder), Release.open(str(live.folder)), Release.open(f"{live.folder}/")]
    opened.append(Release.open(f"file://{live.folder}"))
    assert {(release.name, release.number) for release in opened} == {(live.name, 1)}
    assert live.to_arrow().equals(opened[0].to_arrow())
