"""Each gate passes what is right and stops what is wrong, with figures: on real candidates of real models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.models import tiny_text_package
from tests.support.mill import POISON, Mill, items, poisonable_package, reweighted

from embedmill import Release
from embedmill.errors import GateFailed, SpecError
from embedmill.gates import GATES, OVERRIDABLE, OWN_ANEW, gate_failure
from embedmill.planned import PlannedRun
from embedmill.release import layout
from embedmill.release.folders import candidate_folder
from embedmill.release.vectors import write_vectors
from embedmill.spec.documents import Content, Gates, Verdict


def verdicts_on(run: PlannedRun, accept: tuple[str, ...] = ()) -> dict[str, Verdict]:
    return {verdict.gate: verdict for verdict in run.check(accept).verdicts}


def failed(run: PlannedRun) -> set[str]:
    return {name for name, verdict in verdicts_on(run).items() if not verdict.passed}


def candidate_of(run: PlannedRun) -> Release:
    content = run.home.read(Content, run.home.release_key(run.plan.run, layout.CONTENT))
    return Release(candidate_folder(run.home, content), content)


def rewrite_vectors(run: PlannedRun, change: Callable[[Any], Any]) -> None:
    """What a broken runtime or disk would leave: other vectors in the candidate's first part."""
    release = candidate_of(run)
    file = release.folder / release.content.segments[-1].parts[0].path
    part = release.segment_parts(release.content.segments[-1])[0]
    prints, vectors = part.fingerprints.copy(), change(part.vectors_ND.copy())
    file.unlink()
    write_vectors(file, prints, vectors)


def test_a_good_candidate_passes_every_gate_with_figures(mill: Mill) -> None:
    verdicts = verdicts_on(mill.indexed(items(20)))
    assert list(verdicts) == list(GATES)
    assert all(verdict.passed and verdict.message for verdict in verdicts.values())
    assert verdicts["finite"].message == "0 of 20 new vectors have values that are not finite"
    assert verdicts["churn"].message == "nothing was published yet"


def test_verdicts_on_one_item_speak_of_one(mill: Mill) -> None:
    mill.settings = {"gates": {"churn": 1.0, "empty": 1.0, "quarantine": 1.0}}
    mill.run(items(1))
    verdicts = verdicts_on(mill.indexed([items(1)[0] | {"title": "another"}]))
    assert verdicts["accounting"].message.endswith("item files have 1 row")
    assert verdicts["empty"].message.startswith("0 of 1 item has an empty input: ")
    assert verdicts["churn"].message.startswith("1 of 1 live item is deleted or changed: ")
    assert verdicts["norms"].message.startswith("0 of 1 new vector is off unit length")


def test_the_verdicts_are_kept_beside_the_run_with_the_baseline(mill: Mill) -> None:
    first = mill.run(items(3)).release
    run = mill.checked(items(4))
    kept = run.home.read(Gates, run.home.run_key(run.plan.run, layout.GATES))
    assert kept.passed
    assert kept.baseline is not None
    assert (kept.baseline.release, kept.baseline.number) == (first, 1)
    report = run.home.store.get(run.home.run_key(run.plan.run, layout.REPORT)).decode()
    assert all(gate in report for gate in GATES)


SHARES = [
    ("quarantine", [*items(9), {"title": "no id"}], 0.1),
    ("empty", [*items(9), {"sku": "blank", "title": " "}], 0.1),
]


@pytest.mark.parametrize(("gate", "rows", "share"), SHARES)
@pytest.mark.parametrize("margin", [0.0, -0.01])
def test_a_share_may_reach_its_limit_and_not_pass_it(
    mill: Mill, gate: str, rows: list[dict[str, Any]], share: float, margin: float
) -> None:
    mill.settings = {"gates": {**mill.spec["gates"], gate: share + margin}}
    run = mill.indexed(rows)
    verdict = verdicts_on(run)[gate]
    assert verdict.passed == (margin == 0.0)
    assert verdict.found == pytest.approx(share)
    assert verdict.limit == pytest.approx(share + margin)
    assert "1 of 10 items" in verdict.message
    assert failed(run) == (set() if margin == 0.0 else {gate})


@pytest.mark.parametrize(
    ("today", "moved"),
    [
        (items(20), 0),
        ([*items(20), *items(20, start=100)], 0),
        (items(18), 2),
        ([*items(18), {"sku": "s18", "title": "edited"}, {"sku": "s19", "title": "edited too"}], 2),
        ([{**item, "price": -1.0} for item in items(20)], 0),
        (items(17), 3),
        (items(20, start=100), 20),
    ],
    ids=["same", "only new", "deleted", "changed", "repriced", "deleted too many", "exchanged"],
)
def test_deleted_and_changed_items_count_as_churn_of_the_live_release(
    mill: Mill, today: list[dict[str, Any]], moved: int
) -> None:
    mill.settings = {"gates": {"churn": 0.1}}
    mill.run(items(20))
    run = mill.indexed(today)
    verdict = verdicts_on(run)["churn"]
    assert verdict.passed == (moved <= 2)
    assert verdict.found == pytest.approx(moved / 20)
    assert f"{moved} of 20 live items" in verdict.message


def test_with_a_new_model_only_deleted_items_are_churn(mill: Mill, tmp_path: Path) -> None:
    """Another template changes every item's input at once."""
    mill.settings = {"gates": {"churn": 0.1}}
    mill.run(items(20))
    mill.model = tiny_text_package(tmp_path / "other", template="{category}: {title}")
    assert "churn" not in failed(mill.indexed(items(19)))
    assert failed(mill.indexed(items(10))) == {"churn"}


def test_a_broken_feed_stops_and_leaves_the_live_release_alone_until_it_is_accepted(mill: Mill) -> None:
    mill.settings = {"gates": {"churn": 0.1}}
    first = mill.run(items(20)).release
    with pytest.raises(GateFailed, match="churn: 15 of 20") as caught:
        mill.run(items(5))
    assert "--accept churn" in caught.value.hint
    assert mill.live().name == first
    result = mill.run(accept=["churn"])
    assert (result.number, result.resumed) == (2, True)
    gates = Gates.from_bytes((mill.live().folder / layout.GATES).read_bytes(), "gates")
    (verdict,) = [verdict for verdict in gates.verdicts if verdict.gate == "churn"]
    assert (verdict.passed, verdict.accepted) == (False, True)


def test_accepting_a_gate_that_passes_is_not_recorded(mill: Mill) -> None:
    verdicts = verdicts_on(mill.indexed(items(3)), accept=("churn",))
    assert verdicts["churn"].passed
    assert not verdicts["churn"].accepted


@pytest.mark.parametrize("gate", sorted(set(GATES) - OVERRIDABLE))
def test_gates_that_guard_the_vectors_cannot_be_accepted(mill: Mill, gate: str) -> None:
    with pytest.raises(SpecError, match=f"^accept: {gate}: allowed are churn, empty, quarantine"):
        mill.indexed(items(3)).check([gate])


@pytest.mark.parametrize(
    ("accept", "said"),
    [(["chrun"], "accept: chrun: allowed are churn"), ("churn", "accept: 'churn' is a text")],
)
def test_a_wrong_name_is_refused_before_a_run_is_planned(mill: Mill, accept: Any, said: str) -> None:
    mill.write(items(3))
    with pytest.raises(SpecError) as caught:
        mill.open().run(accept=accept)
    assert caught.value.message.startswith(said)
    assert "--accept" not in str(caught.value)
    assert not (mill.root / "mill").exists()


def test_a_model_that_makes_zeros_is_stopped(mill: Mill, tmp_path: Path) -> None:
    mill.model = reweighted(tmp_path / "zeros", np.zeros_like)
    run = mill.indexed(items(3))
    verdict = verdicts_on(run)["non-zero"]
    assert not verdict.passed
    assert verdict.message == "3 of 3 new vectors are zero"


def test_a_model_that_makes_one_vector_of_everything_is_stopped(mill: Mill, tmp_path: Path) -> None:
    always = np.linspace(-1, 1, 16)
    mill.model = reweighted(tmp_path / "constant", lambda values: np.tile(always, (len(values), 1)))
    run = mill.indexed(items(30))
    assert failed(run) == {"non-constant"}
    assert verdicts_on(run)["non-constant"].message == "30 of 30 new vectors are constant, or all the same"


def test_a_vector_of_one_value_all_along_is_stopped(mill: Mill) -> None:
    run = mill.indexed(items(30))

    def flatten_one(vectors: Any) -> Any:
        vectors[3] = 0.25  # of unit length in 16 dimensions
        return vectors

    rewrite_vectors(run, flatten_one)
    assert failed(run) == {"non-constant"}
    assert verdicts_on(run)["non-constant"].found == 1


def test_a_few_new_texts_that_differ_beyond_the_models_length_are_no_constant_model(mill: Mill) -> None:
    mill.run(items(20))
    long = "x" * 100
    rows = [{"sku": f"long{n}", "title": f"{long}{n}", "category": "all"} for n in range(12)]
    assert failed(mill.indexed([*items(20), *rows])) == set()


def test_a_model_that_makes_nans_quarantines_the_items_and_publishes_none(mill: Mill, tmp_path: Path) -> None:
    mill.model = poisonable_package(tmp_path / "own")
    run = mill.indexed([*items(9), {"sku": "bad", "title": POISON}])
    assert candidate_of(run).content.quarantined == 1
    assert failed(run) == set()


@pytest.mark.parametrize(
    ("gate", "value", "message"),
    [
        ("finite", np.nan, "2 of 30 new vectors have values that are not finite"),
        ("finite", np.inf, "2 of 30 new vectors have values that are not finite"),
        ("norms", 1.01, "2 of 30 new vectors are off unit length by more than 0.001"),
    ],
)
def test_vectors_that_were_spoiled_after_the_model_are_stopped(
    mill: Mill, gate: str, value: float, message: str
) -> None:
    run = mill.indexed(items(30))

    def spoil(vectors: Any) -> Any:
        vectors[[0, 29]] *= value
        return vectors

    rewrite_vectors(run, spoil)
    verdict = verdicts_on(run)[gate]
    assert not verdict.passed
    assert verdict.message == message
    assert gate_failure(run.check()).hint.endswith(f"run again: {OWN_ANEW}")


def test_norms_are_free_where_the_model_does_not_declare_them(mill: Mill, tmp_path: Path) -> None:
    mill.model = tiny_text_package(tmp_path / "free", normalize="none")
    run = mill.indexed(items(5))
    lengths = np.linalg.norm(candidate_of(run).to_numpy()[1], axis=1)
    assert (np.abs(lengths - 1) > 0.01).all()
    assert verdicts_on(run)["norms"].message == "the model does not declare unit length"
    assert failed(run) == set()


def test_vectors_of_another_length_than_declared_are_stopped(mill: Mill) -> None:
    run = mill.indexed(items(5))
    rewrite_vectors(run, lambda vectors: vectors[:, :15])
    verdict = verdicts_on(run)["dimension"]
    assert not verdict.passed
    assert verdict.message == "found float32[15], declared float32[16]"


def test_items_that_do_not_add_up_are_stopped(mill: Mill) -> None:
    """The candidate's own figures are not believed: files are counted too."""
    content = candidate_of(mill.indexed(items(5))).content
    for wrong in ({"embedded": 4}, {"quarantined": 1}, {"items": ()}):
        verdict = GATES["accounting"](Release(Path(), content.model_copy(update=wrong)), None)
        assert not verdict.passed
    assert GATES["accounting"](Release(Path(), content), None).passed
    assert "5 read = 5 embedded + 0 reused + 0 empty + 0 quarantined" in verdict.message


def test_numbers_of_one_verdict_have_one_spelling(mill: Mill) -> None:
    content = candidate_of(mill.indexed(items(5))).content
    counts = content.counts.model_copy(update={"total": 1_200_300})
    (entry,) = content.items
    many = {
        "counts": counts,
        "embedded": 1_200_300,
        "items": (entry.model_copy(update={"rows": 1_200_300}),),
    }
    verdict = GATES["accounting"](Release(Path(), content.model_copy(update=many)), None)
    assert verdict.message == (
        "1,200,300 read = 1,200,300 embedded + 0 reused + 0 empty + 0 quarantined; "
        "item files have 1,200,300 rows"
    )


def test_only_new_vectors_are_read_for_a_refresh(mill: Mill) -> None:
    mill.run(items(20))
    verdict = verdicts_on(mill.indexed(items(23)))["finite"]
    assert verdict.message == "0 of 3 new vectors have values that are not finite"
