"""The pages of docs/: their examples, which a reader could type, and their tables."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.server_process import serving

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVER = "http://127.0.0.1:8080"
"""Where the pages ask a server: readers of tests have theirs elsewhere."""
RUN = {"console", "python", "sh", "yaml"}
"""Languages of examples. Other blocks are usage lines, and one is a crontab, which only cron could run."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str

    @property
    def first(self) -> str:
        return self.text.splitlines()[0]


def text_of(page: str) -> str:
    return (DOCS / page).read_text()


def examples(page: str) -> list[Block]:
    """What a reader would run or write down, in order."""
    found = [Block(page, language, text) for language, text in FENCE.findall(text_of(page))]
    return [block for block in found if block.language in RUN]


def table(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head; `\\|` is a bar in a cell."""
    below = text_of(page).split(f"\n## {heading}\n", 1)
    assert len(below) == 2, f"{page} has no heading {heading!r}"
    rows = re.search(r"(?:^\|.*\n)+", below[1], re.MULTILINE)
    assert rows, f"{page}: no table below {heading!r}"
    return [cells(line) for line in rows[0].splitlines()[2:]]


def cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def unquoted(cell: str) -> str:
    return cell.strip("`")


@dataclass(frozen=True)
class Reader:
    """Somebody who follows a page in a folder of their own, with `embedmill` on their path."""

    folder: Path
    programs: Path
    server: str = SERVER

    @classmethod
    def at(cls, folder: Path) -> Reader:
        programs = folder / ".programs"
        programs.mkdir(parents=True)
        for name, command in (("embedmill", f"{sys.executable} -m embedmill"), ("python", sys.executable)):
            (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            (programs / name).chmod(0o755)
        return cls(folder, programs)

    def follow(self, block: Block) -> None:
        """Do what a block says; what it shows must be what comes out."""
        elsewhere = block.text.replace(SERVER, self.server)
        block = replace(block, text=elsewhere.replace(address(SERVER), address(self.server)))
        match block.language:
            case "yaml":
                name = block.first.removeprefix("# ").split(" ")[0].rstrip(":")
                assert name.endswith(".yaml"), f"{block.page}: say which file, as in `# pipeline.yaml`"
                file = self.folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.text)
            case "python":
                self._run([sys.executable, "-c", block.text], block.text)
            case "sh":
                self._run(["sh", "-c", block.text], block.text)
            case "console":
                for command, shown in commands(block):
                    said = self._run(["bash", "-c", command], command)
                    if shown:
                        assert matches(shown, said), (
                            f"{block.page}: `{command}` says\n{said}\nand not\n{shown}"
                        )

    def _run(self, command: list[str], shown: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{shown}\n{done.stdout}"
        return done.stdout


@contextmanager
def with_server(reader: Reader) -> Iterator[Reader]:
    """The reader, with a server of what their pipeline.yaml publishes."""
    reader.follow(Block("", "console", "$ embedmill run pipeline.yaml"))
    with serving(reader.folder / "pipeline.yaml") as server:
        yield replace(reader, server=server.url)


def asks_a_server(page: str) -> bool:
    return any(address(SERVER) in block.text for block in examples(page))


def address(url: str) -> str:
    return url.removeprefix("http://")


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Each command of a console block and the output that is shown of it; `\\` joins lines."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        ends = next(number for number, line in enumerate(lines) if not line.endswith("\\")) + 1
        yield "\n".join(lines[:ends]), "\n".join(lines[ends:]).strip()


def matches(shown: str, said: str) -> bool:
    """Whether it is what was said; `…` stands for anything, runs of white space for one another."""
    parts = [re.escape(" ".join(part.split())) for part in shown.split("…")]
    return re.fullmatch(" ?.*".join(parts), " ".join(said.split())) is not None
