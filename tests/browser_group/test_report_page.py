"""Reports of releases and of runs, on a phone: the page fits, and what is wider scrolls in a box."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser
from tests.browser_group.test_search_page import browser  # noqa: F401 - a fixture
from tests.support.mill import Mill, items

from embedmill.release.report import render_work
from embedmill.release.runs import open_plans
from embedmill.release.shares import run_work

PHONE = 390


@pytest.fixture
def pages(mill: Mill, tmp_path: Path) -> list[Path]:
    """The report of a release, and of its run's work."""
    mill.settings["work"] = {"shard_rows": 9}
    run = mill.indexed(items(40))
    (plan,) = open_plans(mill.home)
    work = tmp_path / "work.html"
    work.write_bytes(render_work(run_work(mill.home, plan), plan.pipeline.model))
    run.run()
    return [mill.live().folder / "report.html", work]


def test_reports_are_no_wider_than_a_phone(browser: Browser, pages: list[Path]) -> None:  # noqa: F811
    phone = browser.new_context(viewport={"width": PHONE, "height": 800}, is_mobile=True)
    for place in pages:
        page = phone.new_page()
        page.goto(place.as_uri())
        assert page.evaluate("innerWidth") == PHONE, "without a viewport a phone shows a desktop's page, tiny"
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE
        boxes = page.locator(".wide")
        scroll = "(each) => each.scrollWidth > each.clientWidth"
        assert any(boxes.nth(number).evaluate(scroll) for number in range(boxes.count()))
    phone.close()
