"""Write docs/cli.md from the commands themselves: `python tools/render_cli_docs.py`."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from embedmill.cli.app import app

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
HEAD = """\
# Commands

<!-- Written by tools/render_cli_docs.py; a test fails when it is not what the commands say. -->

`PIPELINE.yaml` is a [pipeline's spec](pipeline.md). Every command also takes `--json`, which prints one
document with a `schema`, also where the command fails (`release ls` and `fleet command` print a list, and
`fleet watch` a document a line), and `-h` or `--help`. Data goes to stdout, talk to stderr. What the exit
codes mean is in [operations.md](operations.md#exit-codes).
"""
PLACEHOLDERS: dict[Any, str] = {int: "N", str: "TEXT", Path: "PATH"}
SHELL_OPTIONS = {"install_completion", "show_completion"}


def main() -> None:
    PAGE.write_text(render())


def render() -> str:
    """The whole page."""
    root = typer.main.get_command(app)
    commands = list(walk(root, "embedmill"))
    contents = [f"| [{path}](#{path.replace(' ', '-')}) | {escaped(each.help)} |" for path, each in commands]
    parts = [HEAD, "\n".join(["| command | |", "|---|---|", *contents, ""])]
    parts += [section(path, command) for path, command in commands]
    parts.append(f"## embedmill\n{parameters_table(root)}")
    return "\n".join(parts)


def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something and is shown, in the order of `--help`."""
    inner: dict[str, Any] = getattr(command, "commands", {})
    if not inner:
        yield path, command
    for name, each in inner.items():
        if not each.hidden:
            yield from walk(each, f"{path} {name}")


def section(path: str, command: Any) -> str:
    usage = " ".join([path, *(words(each) for each in command.params if each.name != "as_json")])
    return f"## {path}\n\n{escaped(command.help)}\n\n```text\n{usage}\n```\n{parameters_table(command)}"


def parameters_table(command: Any) -> str:
    rows = [f"| {names(each)} | {explained(each)} |" for each in command.params if not in_head(each)]
    return "\n".join(["", "| | |", "|---|---|", *rows, ""]) if rows else ""


def in_head(parameter: Any) -> bool:
    """Whether the head of the page explains it once for all."""
    return parameter.name == "as_json" or bool(parameter.name == "pipeline" and parameter.required)


def words(parameter: Any) -> str:
    """A parameter as a usage line has it; brackets are around what may be left out."""
    if parameter.param_type_name == "argument":
        plain = placeholder(parameter)
    else:
        plain = f"{parameter.opts[0]} {placeholder(parameter)}".strip()
    return plain if parameter.required else f"[{plain}]"


def names(parameter: Any) -> str:
    value = escaped(placeholder(parameter))
    if parameter.param_type_name == "argument":
        return f"`{value}`"
    return ", ".join(f"`{f'{name} {value}'.strip()}`" for name in parameter.opts)


def placeholder(parameter: Any) -> str:
    """What stands for the value; nothing for flags."""
    kind = parameter.type_descriptor.annotation
    if getattr(parameter, "is_flag", False) or parameter.name in SHELL_OPTIONS:
        return ""
    if parameter.metavar:
        return str(parameter.metavar).strip("[]")
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(each.value) for each in kind)
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    return PLACEHOLDERS[kind]


def explained(parameter: Any) -> str:
    text = escaped(parameter.help)
    if parameter.required:
        return f"{text} Required."
    if parameter.default in (None, False, "", ()):
        return text
    return f"{text} Default: `{getattr(parameter.default, 'value', parameter.default)}`."


def escaped(text: str | None) -> str:
    """Text as a cell of a table has it."""
    return (text or "").replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    main()
