"""Images by URL: fetched once, identified by what servers say, and with patience that ends."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.support.web import WebServer, answer, failing, hang, picture, raw, redirect, status, web_server

from embedmill.catalog import ImageSource
from embedmill.spec import CatalogSpec
from embedmill.types import Reason


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


def images(
    web: WebServer, identity: dict[str, str] | None = None, loops: int = 1, **fetch: Any
) -> ImageSource:
    settings = {"allow": [web.host], "timeout_s": 60.0, "attempts": 3} | fetch
    spec = {"source": "items.csv", "id": "id", "images": ".", "fetch": settings} | (identity or {})
    return ImageSource(CatalogSpec.model_validate(spec), root=Path(), store=None, loops=loops)


def identity(source: ImageSource, url: str, **options: Any) -> bytes | Reason | None:
    found = source.identity(pa.array([url]), **options)
    return found.rejected[0].reason if found.rejected else found.values[0].as_py()


def content(source: ImageSource, url: str, planned: bytes | None = None) -> bytes | Reason:
    found = source.fetch(pa.array([url]), pa.array([planned], pa.binary()))
    return found.rejected[0].reason if found.rejected else found.values[0].as_py()


def test_an_image_is_identified_by_its_etag_without_its_content_and_fetched_once(web: WebServer) -> None:
    web.paths["/a"] = picture(b"A")
    planned = images(web).identity(pa.array([web.url("/a"), None, "", web.url("/a")]))
    assert planned.values[0] == planned.values[3]
    assert planned.values.to_pylist()[1:3] == [None, None]
    assert web.asked == {("HEAD", "/a"): 1}
    found = images(web).fetch(pa.array([web.url("/a")] * 3), planned.values.take(pa.array([0, 0, 0])))
    assert (found.values.to_pylist(), found.rejected) == ([b"A"] * 3, {})
    assert web.asked["GET", "/a"] == 1
    assert all(agent.startswith("embedmill/") for agent in web.agents)


def test_an_identity_changes_with_the_etag_or_with_time_or_length(web: WebServer) -> None:
    seen = set()
    monday, tuesday = "Mon, 23 Nov 2026 10:00:00 GMT", "Tue, 24 Nov 2026 10:00:00 GMT"
    for behaviour in (
        answer(b"A", ETag='"1"'),
        answer(b"A", ETag='"2"', Last_Modified=monday),
        answer(b"A", Last_Modified=monday),
        answer(b"AA", Last_Modified=monday),
        answer(b"A", Last_Modified=tuesday),
    ):
        web.paths["/a"] = behaviour
        seen.add(identity(images(web), web.url("/a")))
    assert len(seen) == 5
    assert not web.downloads()


def test_an_image_without_a_validator_is_identified_by_its_content(web: WebServer) -> None:
    web.paths["/a"] = web.paths["/b"] = answer(b"A")
    found = identity(images(web), web.url("/a"))
    assert isinstance(found, bytes)
    assert found[:2] == b"b1"
    assert identity(images(web), web.url("/b")) == found
    assert content(images(web), web.url("/a"), found) == b"A"
    web.paths["/a"] = answer(b"B")
    assert content(images(web), web.url("/a"), found) == Reason.SOURCE_CHANGED


@pytest.mark.parametrize("code", [400, 403, 405, 501])
def test_a_server_that_refuses_head_is_asked_for_one_byte(web: WebServer, code: int) -> None:
    ranged = answer(b"A", code=206, ETag='"1"', Content_Range="bytes 0-0/1234")

    async def behave(writer: Any, request: Any) -> None:
        assert request.method == "HEAD" or request.headers["range"] == "bytes=0-0"
        await (status(code) if request.method == "HEAD" else ranged)(writer, request)

    web.paths["/a"] = behave
    found = identity(images(web), web.url("/a"))
    assert isinstance(found, bytes)
    assert found.endswith(b'E"1"')
    assert identity(images(web, max_bytes=1000), web.url("/a")) == Reason.IMAGE_TOO_LARGE


def test_with_identity_by_bytes_equal_contents_are_one_image(web: WebServer) -> None:
    web.paths["/a"] = web.paths["/b"] = picture(b"A")
    source = images(web, {"image_identity": "bytes"})
    assert identity(source, web.url("/a")) == identity(source, web.url("/b"))


def test_with_a_version_column_no_request_is_made_to_plan(web: WebServer) -> None:
    web.paths["/a"] = picture(b"A")
    source = images(web, {"image_identity": "version", "image_version": "v"})
    urls = pa.array([web.url("/a")] * 3)
    found = source.identity(urls, pa.array([1, 2, 1])).values.to_pylist()
    assert found[0] == found[2] != found[1]
    assert not web.asked
    assert content(source, web.url("/a"), found[0]) == b"A"
    unversioned = source.identity(urls, pa.array([None, 2, 1])).values.to_pylist()
    assert unversioned[0][:2] == b"u1"


def test_an_image_that_changed_since_the_plan_is_rejected(web: WebServer) -> None:
    web.paths["/a"] = picture(b"A")
    planned = identity(images(web), web.url("/a"))
    assert isinstance(planned, bytes)
    web.paths["/a"] = picture(b"B")
    assert content(images(web), web.url("/a"), planned) == Reason.SOURCE_CHANGED
    web.paths["/a"] = answer(b"C")  # says nothing of what it is
    assert content(images(web), web.url("/a"), planned) == b"C"


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(web: WebServer, code: int) -> None:
    web.paths["/a"] = failing(2, picture(b"A"), code)
    assert content(images(web), web.url("/a")) == b"A"
    assert web.asked["GET", "/a"] == 3


@pytest.mark.parametrize("code", [401, 403, 404, 410, 418])
def test_what_will_not_pass_is_asked_once(web: WebServer, code: int) -> None:
    web.paths["/a"] = failing(1, picture(b"A"), code)
    found = images(web).fetch(pa.array([web.url("/a")]), None)
    assert found.rejected[0][:2] == (Reason.FETCH_FAILED, f"{web.url('/a')}: answers {code}")
    assert web.asked["GET", "/a"] == 1


def test_a_connection_that_breaks_is_made_again(web: WebServer) -> None:
    web.paths["/a"] = picture(b"A")
    broken = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    tries = 0

    async def behave(writer: Any, request: Any) -> None:
        nonlocal tries
        tries += 1
        await (broken if tries < 3 else picture(b"A"))(writer, request)

    web.paths["/a"] = behave
    assert content(images(web), web.url("/a")) == b"A"


def test_a_server_that_asks_to_wait_is_waited_for(web: WebServer) -> None:
    asked = []
    behaviours = iter([status(503, Retry_After="1"), picture(b"A")])

    async def behave(writer: Any, request: Any) -> None:
        asked.append(time.monotonic())
        await next(behaviours)(writer, request)

    web.paths["/a"] = behave
    assert content(images(web), web.url("/a")) == b"A"
    assert asked[1] - asked[0] >= 1


def test_a_wait_that_is_longer_than_patience_is_not_waited(web: WebServer) -> None:
    web.paths["/a"] = status(503, Retry_After="3600")
    assert content(images(web, timeout_s=3.0), web.url("/a")) == Reason.FETCH_FAILED
    assert web.asked["GET", "/a"] == 1


def test_one_that_hangs_costs_its_own_patience_and_no_more(web: WebServer) -> None:
    web.paths |= {f"/{n}": picture(b"%d" % n) for n in range(40)} | {"/hang": hang}
    source = images(web, timeout_s=10.0, connections_per_host=2)
    found = source.fetch(pa.array([web.url(f"/{n}") for n in range(40)] + [web.url("/hang")]), None)
    assert found.values.to_pylist()[:40] == [b"%d" % n for n in range(40)]
    assert found.rejected[40].reason == Reason.FETCH_TIMEOUT


def test_a_server_that_is_late_with_its_first_byte_is_told_from_one_that_stalls(web: WebServer) -> None:
    begun = raw(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\nA", every_s=3600.0)
    web.paths |= {"/late": hang, "/stalls": begun}
    source = images(web, timeout_s=3.0, attempts=1)
    found = source.fetch(pa.array([web.url("/late"), web.url("/stalls")]), None)
    late, stalls = (found.rejected[row].detail for row in (0, 1))
    assert late.endswith("no first byte came within 1 s, a third of catalog.fetch.timeout_s")
    assert "no more bytes came within 1 s" in stalls


def test_a_first_byte_that_was_late_is_told_although_the_next_try_was_cut_off(web: WebServer) -> None:
    start = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n"
    behaviours = iter([hang, raw(start, b"A", every_s=0.1, for_ever=True)])

    async def behave(writer: Any, request: Any) -> None:
        await next(behaviours)(writer, request)

    web.paths["/a"] = behave
    found = images(web, timeout_s=6.0, attempts=2).fetch(pa.array([web.url("/a")]), None)
    assert "no whole answer within 6 s; in an earlier try no first byte came" in found.rejected[0].detail


def test_the_deadline_ends_all_and_what_is_done_stays(web: WebServer) -> None:
    web.paths |= {"/a": picture(b"A")} | {f"/h{n}": hang for n in range(30)}
    source = images(web, timeout_s=60, deadline_s=10, connections_per_host=64)
    found = source.fetch(pa.array([web.url("/a"), *(web.url(f"/h{n}") for n in range(30))]), None)
    assert found.values[0].as_py() == b"A"
    assert [row.reason for row in found.rejected.values()] == [Reason.FETCH_TIMEOUT] * 30


def test_a_host_has_no_more_connections_than_it_is_given(web: WebServer) -> None:
    open_now = most = 0

    async def behave(writer: Any, request: Any) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await picture(b"A")(writer, request)
        open_now -= 1

    web.paths |= {f"/{n}": behave for n in range(50)}
    images(web, connections_per_host=3).fetch(pa.array([web.url(f"/{n}") for n in range(50)]), None)
    assert most <= 3
    assert web.connections <= 3


def test_a_loop_of_several_lanes_asks_a_host_as_often_at_once_as_several_loops(web: WebServer) -> None:
    all_six = asyncio.Barrier(6)

    async def behave(writer: Any, request: Any) -> None:
        await all_six.wait()
        await picture(b"A")(writer, request)

    web.paths |= {f"/{n}": behave for n in range(6)}
    source = images(web, loops=3, connections_per_host=2)
    assert source.fetch(pa.array([web.url(f"/{n}") for n in range(6)]), None).values.to_pylist() == [b"A"] * 6


def test_a_dead_host_is_given_up_after_some_images(web: WebServer) -> None:
    web.paths |= {f"/{n}": hang for n in range(200)}
    source = images(web, timeout_s=0.3, connections_per_host=2, attempts=1)
    found = source.fetch(pa.array([web.url(f"/{n}") for n in range(200)]), None)
    assert len(found.rejected) == 200
    assert sum(web.asked.values()) < 10
    assert sum("in a row" in why.detail for why in found.rejected.values()) > 190


def test_lanes_find_out_no_later_that_a_host_is_dead(web: WebServer) -> None:
    """After four images, whoever is asked for meanwhile; four for each of three lanes would be twelve."""
    web.paths |= {f"/{n}": hang for n in range(60)}
    source = images(web, loops=3, timeout_s=0.3, connections_per_host=2, attempts=1)
    found = source.fetch(pa.array([web.url(f"/{n}") for n in range(60)]), None)
    said = [re.search(r"failed (\d+) times in a row", why.detail) for why in found.rejected.values()]
    assert 4 <= min(int(each[1]) for each in said if each) < 12


def test_redirects_are_followed(web: WebServer) -> None:
    web.paths |= {"/a": redirect("/b", 301), "/b": redirect(web.url("/c"), 307), "/c": picture(b"A")}
    assert content(images(web), web.url("/a")) == b"A"


def test_images_are_told_of_while_they_are_waited_for(web: WebServer) -> None:
    web.paths |= {"/a": picture(b"A"), "/hang": hang}
    told: list[int] = []
    urls = pa.array([web.url("/a"), web.url("/hang")])
    images(web, timeout_s=2.0).identity(urls, None, told.append)
    assert 1 in told


def test_ctrl_c_ends_it_at_once(web: WebServer) -> None:
    asked = itertools.count()

    async def interrupt_once(writer: Any, request: Any) -> None:
        if next(asked) == 0:
            os.kill(os.getpid(), signal.SIGINT)
        await hang(writer, request)

    web.paths |= {f"/{n}": interrupt_once for n in range(20)}
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        images(web, timeout_s=60).fetch(pa.array([web.url(f"/{n}") for n in range(20)]), None)
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "fetch"]


def test_what_is_reported_of_a_url_has_no_secrets(web: WebServer) -> None:
    found = images(web).fetch(pa.array([web.url("/a?token=SECRET"), "http://u:SECRET@host/"]), None)
    assert len(found.rejected) == 2
    assert "SECRET" not in str(found.rejected)


def test_fetching_works_inside_a_running_event_loop(web: WebServer) -> None:
    web.paths["/a"] = picture(b"A")

    async def notebook() -> bytes | Reason:
        return content(images(web), web.url("/a"))

    assert asyncio.run(notebook()) == b"A"


def test_without_an_http_client_the_error_names_the_extra(tmp_path: Path) -> None:
    script = f"""
import sys
sys.modules["aiohttp"] = None
import pyarrow as pa
from pathlib import Path
from embedmill.catalog import ImageSource
from embedmill.errors import MissingExtra
from embedmill.spec import CatalogSpec
spec = CatalogSpec(source="items.csv", id="id", images=".")
images = ImageSource(spec, root=Path({str(tmp_path)!r}), store=None)
assert images.identity(pa.array(["none.png"])).values[0].as_py() == b"m1none.png"
try:
    images.identity(pa.array(["https://example.org/a.png"]))
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert "embedmill[http]" in done.stdout


def test_a_catalog_without_urls_loads_no_http_client(tmp_path: Path) -> None:
    script = "import sys, embedmill.pipeline; assert 'aiohttp' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
