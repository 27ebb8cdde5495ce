"""docs/cli.md is what the commands say of themselves."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from tests.docs.pages import text_of
from tools.render_cli_docs import render, walk

from embedmill.cli.app import app

COMMANDS = dict(walk(typer.main.get_command(app), "embedmill"))


def test_the_page_is_current() -> None:
    assert text_of("cli.md") == render(), "docs/cli.md is stale: python tools/render_cli_docs.py writes it"


@pytest.mark.parametrize("path", COMMANDS)
def test_what_the_head_says_of_every_command_is_true(path: str) -> None:
    parameters: list[Any] = COMMANDS[path].params
    assert "as_json" in {each.name for each in parameters}
    assert all(each.help for each in parameters), "a parameter without help"
    assert {each.metavar for each in parameters if each.name == "pipeline"} <= {
        "PIPELINE.yaml",
        "[PIPELINE.yaml]",
    }
