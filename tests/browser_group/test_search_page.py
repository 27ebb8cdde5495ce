"""The search page in a real Chromium, at a real server: typed text and dropped images find pictures."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.browser_group.colours import COLOURS, colours_package, picture
from tests.models import tiny_text_package
from tests.support.mill import Mill, items

SHOWN = 8
SHOWN_AT_MOST = 24
"""Hits that the page asks for: no server has to allow more."""
PATIENCE_MS = 120_000
expect.set_options(timeout=PATIENCE_MS)  # 5 s by itself


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spec of a published catalog of coloured disks."""
    model = colours_package(tmp_path_factory.mktemp("model") / "colours")
    mill = Mill(tmp_path_factory.mktemp("colours"), model)
    mill.schema = pa.schema([("sku", pa.string()), ("name", pa.string()), ("image", pa.binary())])
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku", "display": ["name", "image"]}
    names = [colour for colour in COLOURS for _ in range(10)]
    mill.run(
        {"sku": f"{name}/{n}", "name": f"<b>{name}</b> disk", "image": picture(name, n)}
        for n, name in enumerate(names)
    )
    return mill.root / "pipeline.yaml"


LARGE_ID = 2**53 + 1
"""An odd one: JavaScript's numbers have only even ones here."""
LONG_ID = "x" * 90


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of disks with large numbers for ids, and fields of all kinds."""
    mill = Mill(
        tmp_path_factory.mktemp("odd"), colours_package(tmp_path_factory.mktemp("odd-model") / "colours")
    )
    kinds = {"sku": pa.int64(), "code": pa.int64(), "name": pa.string(), "tags": pa.list_(pa.string())}
    mill.schema = pa.schema([*kinds.items(), ("sizes", pa.struct({"a": pa.int64()})), ("image", pa.binary())])
    fields = ["code", "name", "tags", "sizes", "image"]
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku", "display": fields}
    mill.run(
        {
            "sku": LARGE_ID + n,
            "code": -LARGE_ID - n,
            "name": f"{colour} " * 60 + LONG_ID,
            "tags": ["<i>new</i>", colour],
            "sizes": {"a": n},
            "image": picture(colour),
        }
        for n, colour in enumerate(COLOURS)
    )
    with serving(mill.root / "pipeline.yaml") as found:
        yield found


@contextmanager
def serving(spec: Path, *options: str) -> Iterator[str]:
    """The URL of a server in a process of its own."""
    command = [sys.executable, "-m", "embedmill", "serve", str(spec), "--port", "0", "--json", "--drain", "0"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            said = "".join(iter(server.stdout.readline, "}\n")) + "}"
            assert "serving/1" in said
            yield json.loads(said)["url"]
        finally:
            server.terminate()  # also where a test has failed: leaving waits for its end


@pytest.fixture(scope="module")
def url(spec: Path) -> Iterator[str]:
    with serving(spec) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"], timeout=PATIENCE_MS
        )
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The search page; no test may make the browser complain."""
    with opened(browser, url) as found:
        yield found


@contextmanager
def opened(browser: Browser, url: str, width: int = 1200) -> Iterator[Page]:
    """A page in a window of this width, without complaints of the browser."""
    with browser.new_page(viewport={"width": width, "height": 900}) as found:
        complaints: list[str] = []
        found.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        found.on("pageerror", lambda error: complaints.append(str(error)))
        found.set_default_timeout(PATIENCE_MS)
        found.goto(url)
        yield found
        assert complaints == []


def test_typed_text_shows_pictures_that_are_like_it(page: Page) -> None:
    page.get_by_label("Find what is like this text").fill("green")
    expect(page.get_by_role("status")).to_contain_text("24 hits for “green”")
    keep(page, "text")
    assert shown_colours(page)[:SHOWN] == ["green"] * SHOWN


def test_a_dropped_image_shows_pictures_that_are_like_it(page: Page) -> None:
    page.evaluate(DROP, list(picture("blue", 3)))
    expect(page.get_by_role("status")).to_contain_text("24 hits for this image")
    keep(page, "image")
    assert shown_colours(page)[:SHOWN] == ["blue"] * SHOWN


def test_a_click_on_an_item_shows_what_is_like_it_and_not_itself(page: Page) -> None:
    page.get_by_label("Find what is like this text").fill("yellow")
    first = page.locator(".card").first
    expect(first).to_contain_text("yellow/")
    name = first.locator("strong").inner_text()
    first.click()
    expect(page.get_by_role("status")).to_contain_text(f"hits for items like {name}")
    names = page.locator(".card strong").all_inner_texts()
    assert names[0].startswith("yellow/")
    assert name not in names


def test_a_filter_narrows_the_hits(page: Page) -> None:
    page.get_by_label("Find what is like this text").fill("red")
    expect(page.get_by_role("status")).to_contain_text("24 hits for “red”")
    page.get_by_label("Only items where").fill("name ILIKE '%yellow%'")
    page.get_by_label("Only items where").press("Tab")
    expect(page.get_by_role("status")).to_contain_text("10 hits for “red”")
    assert all(name.startswith("yellow/") for name in page.locator(".card strong").all_inner_texts())


def test_a_catalogs_markup_is_text(page: Page) -> None:
    page.get_by_label("Find what is like this text").fill("red")
    expect(page.locator(".card").first).to_contain_text("<b>red</b> disk")


def test_numbers_too_large_for_javascript_are_shown_and_asked_for_as_they_are(
    browser: Browser, odd: str
) -> None:
    with opened(browser, odd) as page:
        page.get_by_label("Find what is like this text").fill("red")
        first = page.locator(".card").first
        expect(first.locator("strong")).to_have_text(str(LARGE_ID))
        expect(first).to_contain_text(str(-LARGE_ID))
        first.click()
        expect(page.get_by_role("status")).to_contain_text(f"3 hits for items like {LARGE_ID} in")
        assert str(LARGE_ID) not in page.locator(".card strong").all_inner_texts()


def test_long_texts_lists_and_structs_can_be_read(browser: Browser, odd: str) -> None:
    with opened(browser, odd) as page:
        page.get_by_label("Find what is like this text").fill("red")
        shown = page.locator(".card").first.locator("dd")
        expect(shown.nth(1)).to_have_text(("red " * 60)[:160] + "…")
        expect(shown.nth(2)).to_have_text("<i>new</i>, red")
        expect(shown.nth(3)).to_have_text('{"a":0}')


def test_one_hit_is_no_hits(page: Page) -> None:
    page.get_by_label("Only items where").fill("name ILIKE '%red%' AND id = 'red/3'")
    page.get_by_label("Find what is like this text").fill("red")
    expect(page.get_by_role("status")).to_contain_text("1 hit for “red”")


def test_nothing_is_wider_than_a_phone(browser: Browser, odd: str) -> None:
    with opened(browser, odd, width=390) as page:
        page.get_by_label("Find what is like this text").fill(LONG_ID)
        expect(page.get_by_role("status")).to_contain_text("4 hits")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        card, score = page.locator(".card").first.bounding_box(), page.locator(".score").first.bounding_box()
        assert card is not None
        assert score is not None
        assert score["x"] + score["width"] < card["x"] + card["width"]


COUNTING = """
const [create, revoke] = [URL.createObjectURL, URL.revokeObjectURL];
window.kept = new Set();
window.made = 0;
URL.createObjectURL = (file) => { const made = create(file); kept.add(made); window.made++; return made; };
URL.revokeObjectURL = (address) => { kept.delete(address); revoke(address); };
"""
"""Counts the files that a page makes the browser keep."""


def test_a_click_on_an_item_takes_the_image_of_before_away_and_no_file_is_kept(
    browser: Browser, url: str
) -> None:
    with browser.new_page() as page:
        page.set_default_timeout(PATIENCE_MS)
        page.add_init_script(COUNTING)
        page.goto(url)
        page.evaluate(DROP, list(picture("blue", 3)))
        expect(page.locator("#drop img")).to_have_js_property("naturalWidth", 96)
        page.locator(".card").first.click()
        expect(page.get_by_role("status")).to_contain_text("hits for items like")
        expect(page.locator("#drop img")).to_have_count(0)
        page.wait_for_function("made === 1 && kept.size === 0", timeout=PATIENCE_MS)


def test_an_image_can_be_chosen_again_after_a_text(page: Page) -> None:
    chosen, status = page.locator("#image"), page.get_by_role("status")
    file = {"name": "disk.png", "mimeType": "image/png", "buffer": picture("blue")}
    chosen.set_input_files(file)
    expect(status).to_contain_text("for this image")
    page.get_by_label("Find what is like this text").fill("red")
    expect(status).to_contain_text("for “red”")
    expect(page.locator("#drop img")).to_have_count(0)
    chosen.set_input_files(file)
    expect(status).to_contain_text("for this image")


def test_hits_of_before_are_gone_when_a_filter_is_wrong(browser: Browser, url: str) -> None:
    with browser.new_page() as page:
        page.set_default_timeout(PATIENCE_MS)
        page.goto(url)
        page.get_by_label("Find what is like this text").fill("red")
        expect(page.locator(".card")).to_have_count(24)
        page.get_by_label("Only items where").fill("colour = 1")
        page.get_by_label("Only items where").press("Tab")
        expect(page.get_by_role("status")).to_contain_text("where: ")
        expect(page.locator(".card")).to_have_count(0)
        page.get_by_label("Only items where").fill("")
        page.get_by_label("Only items where").press("Tab")
        expect(page.locator(".card")).to_have_count(24)


def test_an_image_that_is_none_is_refused_in_words(browser: Browser, url: str) -> None:
    with browser.new_page() as page:
        page.set_default_timeout(PATIENCE_MS)
        page.goto(url)
        page.evaluate(DROP, list(b"no image"))
        expect(page.get_by_role("status")).to_contain_text("the image cannot be used: ")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of items without pictures; some have ids that no address holds."""
    root = tmp_path_factory.mktemp("plain")
    mill = Mill(root, tiny_text_package(root / "tiny"))
    mill.settings["serving"] = {"max_hits": SHOWN_AT_MOST}
    mill.run([*items(6), *({**items(1)[0], "sku": name} for name in (".", "..", "similar"))])
    with serving(mill.root / "pipeline.yaml") as found:
        yield found


def test_no_pictures_are_asked_for_where_there_are_none(browser: Browser, plain: str) -> None:
    with opened(browser, plain) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.get_by_label("Find what is like this text").fill("item 1")
        expect(page.locator(".card")).to_have_count(9)
        page.wait_for_load_state("networkidle")
        assert any(url.endswith("/search") for url in asked)
        assert [url for url in asked if url.endswith("/picture")] == []
        counted = page.evaluate("fetch('metrics').then((answer) => answer.text())")
        assert "embedmill_request_success_total{" in counted
        assert "embedmill_request_failure_total{" not in counted


@pytest.mark.parametrize("name", [".", ".."])
def test_a_click_on_an_item_whose_id_no_address_holds_shows_what_is_like_it(
    browser: Browser, plain: str, name: str
) -> None:
    with opened(browser, plain) as page:
        page.get_by_label("Find what is like this text").fill("item 1")
        page.locator(".card").filter(has=page.get_by_text(name, exact=True)).click()
        expect(page.get_by_role("status")).to_contain_text(f"8 hits for items like {name} in")
        assert name not in page.locator(".card strong").all_inner_texts()
        page.get_by_label("Only items where").fill("price < 2 OR price = 2 -- cheap")
        page.get_by_label("Only items where").press("Tab")
        expect(page.locator(".card")).to_have_count(7)
        assert name not in page.locator(".card strong").all_inner_texts()


def test_the_head_tells_of_the_release_that_answers(browser: Browser, tmp_path: Path) -> None:
    mill = Mill(tmp_path, colours_package(tmp_path / "colours"))
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.binary())])
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku", "display": ["image"]}
    rows = [{"sku": name, "image": picture(name)} for name in COLOURS]
    mill.run(rows[:1])
    with serving(mill.root / "pipeline.yaml", "--follow", "0.2") as url, opened(browser, url) as page:
        head = page.locator("#release")
        expect(head).to_contain_text("release 1, 1 item,")
        mill.run(rows)
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while page.evaluate("fetch('release').then((answer) => answer.json())")["number"] == 1:
            assert time.monotonic() < deadline, "it was not swapped"
            time.sleep(0.1)
        page.get_by_label("Find what is like this text").fill("red")
        expect(head).to_contain_text("release 2, 4 items,")


def test_a_server_with_keys_asks_for_one_and_then_shows_pictures(browser: Browser, spec: Path) -> None:
    keys = spec.with_name("keys")
    keys.write_text("people: a-long-secret-of-the-shop\n")
    keys.chmod(0o600)
    with serving(spec, "--keys", str(keys)) as url, browser.new_page() as page:
        page.set_default_timeout(PATIENCE_MS)
        page.add_init_script(COUNTING)
        page.goto(url)
        page.get_by_label("API key").fill("a-long-secret-of-the-shop")
        page.get_by_label("API key").press("Tab")
        expect(page.locator("#release")).to_contain_text("40 items")
        expect(page.get_by_role("status")).to_have_text("")
        page.get_by_label("Find what is like this text").fill("yellow")
        expect(page.get_by_role("status")).to_contain_text("24 hits")
        assert shown_colours(page)[:SHOWN] == ["yellow"] * SHOWN
        page.wait_for_function("made === 24 && kept.size === 0", timeout=PATIENCE_MS)


DROP = """(bytes) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], "disk.png", {type: "image/png"}));
  document.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""


def shown_colours(page: Page) -> list[str]:
    """The colours that can be seen, by the middle pixel of each card's picture."""
    images = page.locator(".card img")
    for place in range(SHOWN):
        image = images.nth(place)
        image.scroll_into_view_if_needed()
        expect(image).to_have_js_property("complete", True)
    return [_colour(images.nth(place).screenshot()) for place in range(SHOWN)]


def _colour(png: bytes) -> str:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    middle = image.getpixel((image.width // 2, image.height // 2))
    assert isinstance(middle, tuple)
    return min(COLOURS, key=lambda name: sum(abs(a - b) for a, b in zip(COLOURS[name], middle, strict=True)))


def keep(page: Page, name: str) -> None:
    """A screenshot in the folder that TEST_SCREENSHOTS names, for people to look at."""
    folder = os.environ.get("TEST_SCREENSHOTS")
    if folder:
        page.wait_for_load_state("networkidle")
        page.screenshot(path=Path(folder) / f"search-{name}.png")
