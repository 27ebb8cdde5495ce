"""The search page and answers that are not the server's, or that browsers read in different ways."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Browser, expect
from tests.browser_group.test_search_page import (  # noqa: F401 - fixtures
    LARGE_ID,
    PATIENCE_MS,
    browser,
    spec,
    url,
)

OLDER = """
const parse = JSON.parse;
JSON.parse = (text, reviver) => parse(text, reviver && ((name, value) => reviver(name, value)));
"""
"""Makes of a browser one that does not tell a reviver what was written."""


def test_large_numbers_are_shown_as_they_are_by_older_browsers_too(browser: Browser, url: str) -> None:  # noqa: F811
    safe, huge, text = 2**53 - 1, int("1" * 40), f'\\" {LARGE_ID}, \\'
    fields = {"numbers": [-LARGE_ID, safe, huge], "text": text, text: 0.1234567890123456, "y": 1e300}
    answer = {"release": "other", "number": 1, "hits": [{"id": LARGE_ID, "score": 0.5, "fields": fields}]}
    with browser.new_page() as page:
        page.set_default_timeout(PATIENCE_MS)
        page.add_init_script(OLDER)
        page.goto(url)
        page.route("**/search", lambda route: route.fulfill(body=json.dumps(answer)))
        page.get_by_label("Find what is like this text").fill("red")
        expect(page.locator(".card strong")).to_have_text(str(LARGE_ID))
        shown = page.locator(".card dd").all_inner_texts()
        assert shown == [f"-{LARGE_ID}, {safe}, {huge}", text, "0.1234567890123456", "1e+300"]
        assert page.locator(".card dt").all_text_contents() == ["numbers", "text", text, "y"]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (502, "<h1>Bad gateway</h1>", "502 without a reason"),
        (403, '{"error": "forbidden"}', "403: forbidden"),
        (403, '{"error": {}}', "403 without a reason"),
        (403, '{"error": {"message": 5}}', "403 without a reason"),
        (403, '["error"]', "403 without a reason"),
        (200, "<h1>Log in</h1>", "200 with what is no JSON object"),
        (200, '"fine"', "200 with what is no JSON object"),
        (200, '{"status": "up"}', "with what has no hits"),
        (200, '{"hits": {"total": 0}}', "with what has no hits"),
        (403, '{"error": {"message": "the server answered no", "hint": {"see": "docs"}}}', "no"),
    ],
)
def test_what_a_gateway_answers_is_told(
    browser: Browser,  # noqa: F811
    url: str,  # noqa: F811
    status: int,
    body: str,
    said: str,
) -> None:
    with browser.new_page() as page:
        page.set_default_timeout(PATIENCE_MS)
        page.goto(url)
        page.route("**/search", lambda route: route.fulfill(status=status, body=body))
        page.get_by_label("Find what is like this text").fill("red")
        expect(page.get_by_role("status")).to_have_text(f"the server answered {said}")
