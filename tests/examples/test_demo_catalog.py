from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from catalog_changes import FAVOURITES, change
from catalog_files import held_back_file, part_files, read_items, write_items, write_parts
from emoji_items import Item, hold_back, join, join_key, kinds_by_key, names_by_key, readable

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"

NAMES = {
    "🍎": {"en": ":red_apple:", "status": 2},
    "☕": {"en": ":hot_beverage:", "status": 2},
    "🔦": {"en": ":flashlight:", "status": 2},
    "🇸🇪": {"en": ":Sweden:", "status": 2},
    "🕵️‍♂️": {"en": ":man_detective:", "status": 2},
    "🕵🏿‍♂️": {"en": ":man_detective_dark_skin_tone:", "status": 2},
    "🪾": {"en": ":leafless_tree:", "status": 2},
}
KINDS: list[dict[str, Any]] = [
    {"name": "RED APPLE", "unified": "1F34E", "category": "Food & Drink", "subcategory": "food-fruit"},
    {"name": "HOT BEVERAGE", "unified": "2615", "category": "Food & Drink", "subcategory": "drink"},
    {"name": "ELECTRIC TORCH", "unified": "1F526", "category": "Objects", "subcategory": "light & video"},
    {"name": "Sweden Flag", "unified": "1F1F8-1F1EA", "category": "Flags", "subcategory": "country-flag"},
    {
        "name": None,
        "unified": "1F575-FE0F-200D-2642-FE0F",
        "category": "People & Body",
        "subcategory": "person-role",
        "skin_variations": {"1F3FF": {"unified": "1F575-1F3FF-200D-2642-FE0F"}},
    },
]
PICTURES = [
    "1F34E",
    "2615",
    "1F526",
    "1F1F8-1F1EA",
    "1F575-FE0F-200D-2642-FE0F",
    "1F575-1F3FF-200D-2642-FE0F",
    "1FABE",  # no category yet
    "E000",  # a picture that only OpenMoji has
]


def joined_items() -> dict[str, Item]:
    return {item.id: item for item in join(PICTURES, names_by_key(NAMES), kinds_by_key(KINDS)).items}


def catalog(count: int = 200) -> list[Item]:
    return [
        Item(
            f"1F{n:03X}",
            f"thing {n}",
            f"gadget {n}" if n % 2 else None,
            "Objects",
            "tool",
            False,
            f"1F{n:03X}",
        )
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (":red_apple:", "red apple"),
        (":woman’s_hat:", "woman's hat"),
        (":astronaut_medium-light_skin_tone:", "astronaut, medium-light skin tone"),
        (":woman_dark_skin_tone_red_hair:", "woman, dark skin tone, red hair"),
        (
            ":kiss_man_man_dark_skin_tone_medium_skin_tone:",
            "kiss man man, dark skin tone, medium skin tone",
        ),
        (":dark_skin_tone:", "dark skin tone"),
        (":A_button_(blood_type):", "A button (blood type)"),
    ],
)
def test_names_read_like_english(raw: str, name: str) -> None:
    assert readable(raw) == name


def test_sources_agree_on_an_emoji_whether_or_not_they_write_the_variation_selector() -> None:
    assert join_key("1f575-fe0f-200d-2642-FE0F") == join_key("1F575-200D-2642") == "1F575-200D-2642"


def test_a_name_of_the_best_qualified_spelling_wins_over_others() -> None:
    spellings = {"☺️": {"en": ":smiling_face:", "status": 2}, "☺": {"en": ":old_name:", "status": 4}}
    assert names_by_key(spellings) == {"263A": "smiling face"}
    assert names_by_key(dict(reversed(spellings.items()))) == {"263A": "smiling face"}


def test_pictures_without_name_or_category_are_counted_and_left_out() -> None:
    joined = join(PICTURES, names_by_key(NAMES), kinds_by_key(KINDS))
    assert (joined.pictures, joined.without_name, joined.without_category, len(joined.items)) == (8, 1, 1, 6)
    assert [item.id for item in joined.items] == sorted(set(PICTURES) - {"1FABE", "E000"})


def test_items_have_the_category_of_one_source_and_the_name_of_the_other() -> None:
    apple = joined_items()["1F34E"]
    assert (apple.name, apple.category, apple.subcategory) == ("red apple", "Food & Drink", "food-fruit")
    assert (apple.base, apple.skin_tone) == ("1F34E", False)


def test_a_skin_tone_variant_knows_its_base_even_where_their_spellings_differ() -> None:
    variant = joined_items()["1F575-1F3FF-200D-2642-FE0F"]
    assert variant.skin_tone
    assert variant.base == "1F575-FE0F-200D-2642-FE0F"
    assert variant.subcategory == "person-role"


def test_flags_say_that_they_are_flags() -> None:
    assert joined_items()["1F1F8-1F1EA"].name == "flag of Sweden"


def test_another_name_is_kept_only_where_it_says_something_else() -> None:
    items = joined_items()
    assert items["1F526"].other_name == "electric torch"
    assert items["1F34E"].other_name is None
    assert items["1F1F8-1F1EA"].other_name is None


def test_held_back_items_have_no_variants_left_behind() -> None:
    items = list(joined_items().values())
    day_one, held_back = hold_back(items, count=len(items))
    assert {item.id for item in day_one} == {"1F575-FE0F-200D-2642-FE0F", "1F575-1F3FF-200D-2642-FE0F"}
    assert len(held_back) == 4


def test_holding_back_splits_the_items_and_is_the_same_every_time() -> None:
    items = catalog()
    day_one, held_back = hold_back(items)
    assert len(held_back) == 12
    assert sorted(item.id for item in [*day_one, *held_back]) == [item.id for item in items]
    assert hold_back(items) == (day_one, held_back)


def test_a_day_is_the_same_for_equal_seeds_in_whatever_order_the_items_come() -> None:
    items, held_back = hold_back(catalog())
    day = change(items, held_back, seed=7, share=0.1)
    assert change(items[::-1], held_back[::-1], seed=7, share=0.1) == day
    assert change(items, held_back, seed=8, share=0.1) != day


def test_a_day_changes_the_share_it_was_asked_for_and_keeps_the_size() -> None:
    items, held_back = hold_back(catalog())
    day = change(items, held_back, seed=1, share=0.1)
    assert day.changes == pytest.approx(0.1 * len(items), abs=2)
    assert len(day.renamed) > len(day.moved) > 0
    assert len(day.added) == len(day.deleted) > 0
    assert len(day.catalog) == len(items)


def test_what_a_day_reports_is_what_it_did_and_nothing_else() -> None:
    items, held_back = hold_back(catalog())
    day = change(items, held_back, seed=1, share=0.1)
    before, after = ({item.id: item for item in side} for side in (items, day.catalog))
    assert {item.id for item in day.added} == after.keys() - before.keys()
    assert {item.id for item in day.deleted} == before.keys() - after.keys()
    differing = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    assert differing == {item.id for item, _ in [*day.renamed, *day.moved]}
    for old, new in day.renamed:
        assert (new.name, new.other_name, new.category) == (old.other_name, old.name, old.category)
    for old, new in day.moved:
        assert (new.name, new.category) == (old.name, FAVOURITES)


def test_no_item_is_ever_lost_and_deleted_ones_can_come_back() -> None:
    start = catalog()
    items, held_back = hold_back(start)
    came_back = set()
    gone: set[str] = set()
    for seed in range(20):
        day = change(items, held_back, seed=seed, share=0.1)
        came_back |= gone & {item.id for item in day.added}
        gone |= {item.id for item in day.deleted}
        items, held_back = list(day.catalog), list(day.held_back)
        assert sorted(item.id for item in [*items, *held_back]) == [item.id for item in start]
    assert came_back


def test_files_hold_what_was_written_in_order_of_id_and_byte_for_byte_again(tmp_path: Path) -> None:
    items = [
        *catalog(10),
        Item("2615", "hot beverage", None, "Food & Drink", "drink", False, "2615", b"\x89PNG"),
    ]
    files = write_parts(tmp_path, items[::-1], 4)
    assert part_files(tmp_path) == files
    assert read_items(files) == sorted(items, key=lambda item: item.id)
    before = [file.read_bytes() for file in files]
    write_parts(tmp_path, items, 4)
    assert [file.read_bytes() for file in files] == before


def test_the_script_changes_a_catalog_in_place(tmp_path: Path) -> None:
    items, held_back = hold_back(catalog())
    write_items(held_back_file(tmp_path), held_back)
    write_parts(tmp_path, items, 3)
    command = [
        sys.executable,
        str(DEMO / "change_catalog.py"),
        str(tmp_path),
        "--seed",
        "5",
        "--share",
        "0.1",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    day = change(items, held_back, seed=5, share=0.1)
    assert read_items(part_files(tmp_path)) == list(day.catalog)
    assert read_items([held_back_file(tmp_path)]) == list(day.held_back)
    assert all(f"-> {after.name}" in said for _, after in day.renamed)
    assert said.splitlines()[-1].startswith(f"{day.changes} changes in {len(items)} items")


def test_the_script_says_what_to_do_where_there_is_no_catalog(tmp_path: Path) -> None:
    command = [sys.executable, str(DEMO / "change_catalog.py"), str(tmp_path / "nothing")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "build_catalog.py" in done.stderr
    assert "Traceback" not in done.stderr
