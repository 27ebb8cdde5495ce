from __future__ import annotations

from tests.support.groups import TAKEN, TESTS


def test_what_groups_take_is_there_and_each_group_has_a_folder() -> None:
    assert [path for paths in TAKEN.values() for path in paths if not (TESTS / path).exists()] == []
    assert [group for group in TAKEN if not (TESTS / f"{group}_group" / "conftest.py").is_file()] == []
