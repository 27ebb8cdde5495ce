"""URLs as an attacker writes them: nobody is connected to but the one allowed server; each has its reason."""

from __future__ import annotations

import gzip
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.support.web import WebServer, answer, hang, picture, raw, redirect, web_server

from embedmill.catalog import ImageSource
from embedmill.spec import CatalogSpec
from embedmill.types import Reason

REFUSED, FAILED, TIMEOUT = Reason.REFUSED_ADDRESS, Reason.FETCH_FAILED, Reason.FETCH_TIMEOUT
LARGE, INVALID = Reason.IMAGE_TOO_LARGE, Reason.IMAGE_INVALID
MOST_BYTES = 100_000

NAMES = {
    "loopback.test": ["127.0.0.1"],
    "private.test": ["10.0.0.1"],
    "metadata.test": ["169.254.169.254"],
    "carrier.test": ["100.100.100.200"],
    "azure.test": ["168.63.129.16"],
    "all.test": ["0.0.0.0"],  # noqa: S104 - nothing is bound
    "broadcast.test": ["255.255.255.255"],
    "multicast.test": ["224.0.0.1"],
    "reserved.test": ["240.0.0.1"],
    "one-of-two.test": ["93.184.215.14", "127.0.0.1"],
    "six.test": ["::1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "nat64.test": ["64:ff9b::7f00:1"],
    "local-nat64.test": ["64:ff9b:1::7f00:1"],
    "sixtofour.test": ["2002:7f00:1::1"],
    "teredo.test": ["2001:0:7f00:1::1"],
    "isatap.test": ["2606:4700::5efe:7f00:1"],
    "compatible.test": ["::7f00:1"],
    "unique.test": ["fd00:ec2::254"],
    "link.test": ["fe80::1"],
    "site.test": ["fec0::1"],
    "multicast-six.test": ["ff02::1"],
    "documentation.test": ["2001:db8::1"],
    "zone.test": ["fe80::1%lo"],
    "no-address.test": ["not an address"],
    "empty.test": [],
}
"""What the name server of these tests says."""

ADDRESSES = [
    "http://127.0.0.1:{victim}/",
    "http://localhost:{victim}/",
    "http://LOCALHOST:{victim}/",
    "http://127.1:{victim}/",
    "http://2130706433:{victim}/",
    "http://0x7f000001:{victim}/",
    "http://0x7f.0.0.1:{victim}/",
    "http://0177.0.0.1:{victim}/",
    "http://017700000001:{victim}/",
    "http://127.0.0.1.:{victim}/",
    "http://0:{victim}/",
    "http://0.0.0.0:{victim}/",
    "http://[::]:{victim}/",
    "http://[::1]:{victim}/",
    "http://[::ffff:127.0.0.1]:{victim}/",
    "http://[::ffff:7f00:1]:{victim}/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:{victim}/",
    "http://[64:ff9b::127.0.0.1]:{victim}/",
    "http://[2002:7f00:1::]:{victim}/",
    "http://[fe80::1%25lo]:{victim}/",
    "http://①②⑦.⓪.⓪.①:{victim}/",
    "http://127。0。0。1:{victim}/",
    "http://%31%32%37.0.0.1:{victim}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://10.0.0.1/",
    "http://192.168.1.1/",
    "http://172.16.0.1/",
    "http://100.64.0.1/",
]
DISGUISES = [
    "http://images.example.com@127.0.0.1:{victim}/",
    "http://images.example.com:80@127.0.0.1:{victim}/",
    "http://127.0.0.1:{victim}@images.example.com/",
    "http://@127.0.0.1:{victim}/",
    "http://user:password@{web}/good",
    "http://images.example.com\\@127.0.0.1:{victim}/",
    "http://127.0.0.1:{victim}\\@images.example.com/",
    "http://127.0.0.1:{victim}/\r\nHost: images.example.com",
    " http://127.0.0.1:{victim}/",
    "http://127.0.0.1:{victim}/ ",
    "http://127.0.0.1\t:{victim}/",
    "http:127.0.0.1:{victim}/",
    "http:/127.0.0.1:{victim}/",
    "http:///127.0.0.1:{victim}/",
    "http://[::1:{victim}/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:22/",
    "http://images.example.com:6379/",
    "https://127.0.0.1:{victim}/",
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "gopher://127.0.0.1:{victim}/_GET",
    "ftp://127.0.0.1:{victim}/",
    "data:image/png;base64,iVBORw0KGgo=",
    "javascript:alert(1)",
    "dict://127.0.0.1:{victim}/",
    "jar:http://127.0.0.1:{victim}/!/",
]
REDIRECTS = [
    "http://169.254.169.254/latest/meta-data/",
    "http://127.0.0.1:{victim}/",
    "http://loopback.test:{victim}/",
    "//127.0.0.1:{victim}/",
    "http://[::ffff:127.0.0.1]:{victim}/",
    "http://2130706433:{victim}/",
    "http://{web}:{victim}/",
    "http://{web}@127.0.0.1:{victim}/",
    "http://127.0.0.1:22/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{victim}/",
    "http://[",
]
GZIPPED = gzip.compress(b"0" * 50_000_000)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
BEHAVIOURS = {
    "gzip-bomb": (answer(GZIPPED, Content_Encoding="gzip"), FAILED),
    "brotli": (answer(b"x", Content_Encoding="br"), FAILED),
    "gzip-in-chunks": (
        raw(
            OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", for_ever=True
        ),
        FAILED,
    ),
    "too-large": (answer(b"0" * (MOST_BYTES + 1)), LARGE),
    "says-it-is-large": (answer(b"x", length=10**12), LARGE),
    "endless": (raw(OK + b"\r\n", b"0" * 65536, for_ever=True), LARGE),
    "endless-chunks": (
        raw(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"4000\r\n" + b"0" * 0x4000 + b"\r\n", for_ever=True),
        LARGE,
    ),
    "slow-drip": (raw(OK + b"Content-Length: 1000\r\n\r\n", b"0", every_s=0.05, for_ever=True), TIMEOUT),
    "slow-headers": (raw(OK, b"X-A: b\r\n", every_s=0.05, for_ever=True), TIMEOUT),
    "hangs": (hang, TIMEOUT),
    "says-more-than-it-sends": (answer(b"short", length=1000), FAILED),
    "negative-length": (raw(OK + b"Content-Length: -5\r\n\r\nhello"), FAILED),
    "two-lengths": (raw(OK + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\nhelloworld"), FAILED),
    "bad-chunks": (raw(OK + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nhello"), FAILED),
    "header-flood": (raw(OK, b"X-Header: value\r\n" * 500, for_ever=True), FAILED),
    "long-header": (raw(OK, b"X-Header: " + b"a" * 100_000 + b"\r\n\r\n"), FAILED),
    "not-http": (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), FAILED),
    "closes": (raw(b""), FAILED),
    "redirects-to-itself": (redirect("/redirects-to-itself"), FAILED),
    "html": (answer(b"<html>", kind="text/html; charset=utf-8"), INVALID),
    "json": (answer(b"{}", kind="application/json"), INVALID),
    "endless-redirect-body": (
        raw(b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\n\r\n", b"0" * 65536, for_ever=True),
        REFUSED,
    ),
    "empty-redirect": (redirect(""), FAILED),
}
CASES = len(NAMES) + len(ADDRESSES) + len(DISGUISES) + len(REDIRECTS) + len(BEHAVIOURS)

connected: list[Any] = []
asked_names: list[Any] = []


def watch(event: str, details: tuple[Any, ...]) -> None:
    """Hears of every connection that Python makes, and of every name that the system is asked for."""
    if event == "socket.connect" and details[0].family in {socket.AF_INET, socket.AF_INET6}:
        connected.append(details[1][:2])
    elif event == "socket.getaddrinfo":
        asked_names.append(details[0])


sys.addaudithook(watch)


async def name_server(host: str, port: int) -> list[str]:
    if host.rstrip(".").lower() == "localhost":
        return ["127.0.0.1", "::1"]
    if host not in NAMES:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")
    return NAMES[host]


@pytest.fixture(scope="module")
def victim() -> Iterator[int]:
    """A port of this machine that must never be reached."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server.getsockname()[1]
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.fixture(scope="module")
def web(victim: int) -> Iterator[WebServer]:
    with web_server() as server:
        server.paths["/good"] = picture(b"good")
        server.paths |= {f"/{name}": behaviour for name, (behaviour, _) in BEHAVIOURS.items()}
        for number, location in enumerate(REDIRECTS):
            where = location.format(victim=victim, web=f"127.0.0.1:{server.port}")
            server.paths[f"/redirect-{number}"] = redirect(where)
        yield server


def source(web: WebServer, victim: int, **fetch: Any) -> ImageSource:
    """The victim's port is allowed, on another host: so that nothing but its address is in the way."""
    allow = [web.host, f"203.0.113.5:{victim}"]
    settings = {"timeout_s": 60.0, "attempts": 1, "max_bytes": MOST_BYTES, "allow": allow} | fetch
    spec = CatalogSpec.model_validate({"source": "items.csv", "id": "id", "images": ".", "fetch": settings})
    return ImageSource(spec, root=Path(), store=None, resolve=name_server)


def reason(images: ImageSource, url: str) -> Reason | bytes:
    found = images.fetch(pa.array([url]), None)
    return found.rejected[0].reason if found.rejected else found.values[0].as_py()


@pytest.fixture(autouse=True)
def nobody_else_is_talked_to(web: WebServer) -> Iterator[None]:
    """Whatever a test does: all connections go to the one server, and no name is asked of the system."""
    connected.clear()
    asked_names.clear()
    yield
    assert set(connected) <= {("127.0.0.1", web.port)}
    assert set(asked_names) <= {"127.0.0.1"}


def test_there_are_many_cases() -> None:
    assert CASES >= 100


def test_the_server_that_is_allowed_is_reached(web: WebServer, victim: int) -> None:
    assert reason(source(web, victim), web.url("/good")) == b"good"
    assert connected


@pytest.mark.parametrize("url", ADDRESSES + DISGUISES)
def test_a_url_to_what_is_not_public_is_refused(web: WebServer, victim: int, url: str) -> None:
    images = source(web, victim)
    written = url.format(victim=victim, web=web.host)
    assert reason(images, written) == REFUSED
    planned = images.identity(pa.array([written]))
    assert planned.rejected[0].reason == REFUSED
    assert not connected


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://[::1]/", "http://203.0.113.9:8080/"])
def test_what_the_spec_may_allow_is_refused_with_the_key_that_allows_it(
    web: WebServer, victim: int, url: str
) -> None:
    for allow in [], [web.host, "198.51.100.7:8080"]:
        refused = source(web, victim, allow=allow).identity(pa.array([url])).rejected[0]
        assert refused.detail.startswith(f"{url}: ")
        assert "not in catalog.fetch.allow" in refused.detail


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leads_to_what_is_not_public_is_refused(web: WebServer, victim: int, name: str) -> None:
    for where in (f"http://{name}:{victim}/", f"http://{name}/", f"https://{name}/"):
        assert reason(source(web, victim), where) == (FAILED if name == "empty.test" else REFUSED)
    assert not connected


@pytest.mark.parametrize("number", range(len(REDIRECTS)), ids=REDIRECTS)
def test_a_redirect_to_what_is_not_public_is_refused(web: WebServer, victim: int, number: int) -> None:
    images = source(web, victim)
    assert reason(images, web.url(f"/redirect-{number}")) == REFUSED
    assert images.identity(pa.array([web.url(f"/redirect-{number}")])).rejected[0].reason == REFUSED


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_server_that_lies_drips_or_floods_costs_one_image(web: WebServer, victim: int, name: str) -> None:
    urls = pa.array([web.url(f"/{name}"), web.url("/good")])
    expected = BEHAVIOURS[name][1]
    patience = {"timeout_s": 5.0} if expected == TIMEOUT else {}
    found = source(web, victim, **patience).fetch(urls, None)
    assert found.rejected[0].reason == expected
    assert found.values[1].as_py() == b"good"


def test_a_name_that_is_rebound_after_the_check_changes_nothing(web: WebServer, victim: int) -> None:
    """First the allowed server; from the second question on, another one on the same port."""
    answers = iter(["127.0.0.1"])
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return [next(answers, "127.0.0.2")]

    closing = raw(OK + b"Content-Length: 1\r\nConnection: close\r\n\r\nA")
    web.paths |= {f"/closing-{n}": closing for n in range(20)}
    spec = {"source": "i.csv", "id": "id", "images": ".", "fetch": {"allow": [f"127.0.0.1/32:{web.port}"]}}
    images = ImageSource(CatalogSpec.model_validate(spec), root=Path(), store=None, resolve=rebinding)
    with socket.create_server(("127.0.0.2", web.port)) as other:
        other.settimeout(0)
        urls = pa.array([f"http://rebind.test:{web.port}/closing-{n}" for n in range(20)])
        assert images.fetch(urls, None).values.to_pylist() == [b"A"] * 20
        with pytest.raises(BlockingIOError):
            other.accept()
        assert asked == ["rebind.test"]
        later = images.fetch(urls, None)  # a new call asks again, checks again, and refuses
    assert {why.reason for why in later.rejected.values()} == {REFUSED}


def test_cookies_and_credentials_are_sent_to_nobody(web: WebServer, victim: int) -> None:
    seen: list[Any] = []

    async def behave(writer: Any, request: Any) -> None:
        seen.append(request.headers)
        await answer(b"A", Set_Cookie="session=1; Path=/")(writer, request)

    web.paths |= {"/one": behave, "/two": behave}
    images = source(web, victim)
    assert reason(images, web.url("/one")) == reason(images, web.url("/two")) == b"A"
    assert not any("cookie" in headers or "authorization" in headers for headers in seen)


def test_a_proxy_of_the_environment_is_not_used(
    web: WebServer, victim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{victim}")
    assert reason(source(web, victim), web.url("/good")) == b"good"


@pytest.mark.parametrize("entry", ["127.0.0.1:{port}", "127.0.0.0/8:{port}", "images.internal:{port}"])
def test_a_private_host_is_reached_where_the_spec_allows_it(web: WebServer, victim: int, entry: str) -> None:
    async def internal(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    spec = {
        "source": "i.csv",
        "id": "id",
        "images": ".",
        "fetch": {"allow": [entry.format(port=web.port)]},
    }
    images = ImageSource(CatalogSpec.model_validate(spec), root=Path(), store=None, resolve=internal)
    host = "127.0.0.1" if entry.startswith("127") else "images.internal"
    assert reason(images, f"http://{host}:{web.port}/good") == b"good"
    assert reason(images, f"http://{host}:{victim}/good") == REFUSED


def test_no_thread_is_left(web: WebServer, victim: int) -> None:
    reason(source(web, victim), web.url("/good"))
    assert "fetch" not in {thread.name for thread in threading.enumerate()}
