"""Pictures by URL that a server mended end the run that a gate stopped for them."""

from __future__ import annotations

import pytest
from tests.support.mill import Mill
from tests.support.shop import png, rows, serve
from tests.support.web import WebServer, picture, status

from embedmill.errors import GateFailed


@pytest.fixture
def stopped(shop: Mill, web: WebServer) -> str:
    """A run without two of ten pictures: one is not there when it is planned, one is damaged."""
    shop.settings["gates"] = {"quarantine": 0.0}
    serve(web, 10, n3=status(404), n7=picture(b"broken"))
    run = shop.worked(rows(web, 10))
    with pytest.raises(GateFailed, match="2 of 10 items are quarantined"):
        run.run()
    return run.plan.run


@pytest.mark.parametrize("number", [3, 7])
def test_one_that_the_server_has_now_is_planned(
    shop: Mill, web: WebServer, stopped: str, number: int
) -> None:
    assert shop.planned().plan.run == stopped
    web.paths[f"/{number}"] = picture(png(number))
    run = shop.worked()
    assert run.outlived.keys() == {stopped}
    assert run.index().quarantined == 1


def test_those_that_the_candidate_has_are_not_asked_for(shop: Mill, web: WebServer, stopped: str) -> None:
    web.forget()
    assert shop.planned().plan.run == stopped
    assert set(web.asked) == {("HEAD", "/3"), ("HEAD", "/7")}
