"""README's every command is run, in order, in a folder like its reader's; its YAML and Python too."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.models import tiny_bert_folder

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text()
GARMENTS = ["warm winter jacket", "light rain coat", "wool socks", "leather boots", "straw hat", "silk scarf"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    lines = "".join(blocks("console")).splitlines()
    assert all(line.startswith("$ ") for line in lines), "a console block has only commands"
    return [shlex.split(line.removeprefix("$ ")) for line in lines]


@pytest.fixture
def readers_folder(tmp_path: Path) -> Path:
    """A model's folder, a catalog, and the pipeline.yaml that README shows."""
    tiny_bert_folder(tmp_path / "all-MiniLM-L6-v2")
    (tmp_path / "items").mkdir()
    pq.write_table(catalog(), tmp_path / "items" / "day.parquet")
    (spec,) = blocks("yaml")
    (tmp_path / "pipeline.yaml").write_text(spec)
    return tmp_path


def catalog() -> pa.Table:
    numbers = range(60)
    columns = {
        "sku": [f"s{n}" for n in numbers],
        "title": [f"{GARMENTS[n % 6]} {n}" for n in numbers],
        "category": ["clothes"] * 60,
        "price": [n / 2 for n in numbers],
        "active": [n % 9 > 0 for n in numbers],
    }
    return pa.table(columns)


def test_every_command_of_the_readme_works_as_written(readers_folder: Path) -> None:
    ran = 0
    for words in commands():
        if words[0] == "make":
            run(["make", "--dry-run", *words[1:]], REPOSITORY)
        else:
            assert words[0] == "embedmill"
            run([sys.executable, "-m", *words], readers_folder)
        ran += 1
    assert ran == len(re.findall(r"^\$ ", README, re.MULTILINE))
    assert pq.read_metadata(readers_folder / "vectors.parquet").num_rows == 53


def test_the_python_of_the_readme_works_as_written(readers_folder: Path) -> None:
    importing = next(words for words in commands() if words[1:3] == ["model", "import"])
    run([sys.executable, "-m", *importing], readers_folder)
    (code,) = blocks("python")
    prepared = "import pyarrow.parquet\nitems = pyarrow.parquet.read_table('items/day.parquet')\n"
    shown = "\nprint(len(table), table.column_names[-1], result.number, hits[0].fields['title'])\n"
    out = run([sys.executable, "-c", prepared + code + shown], readers_folder)
    rows, column, number, *title = out.split()
    assert (rows, column, number) == ("60", "vector", "1")
    assert " ".join(title[:-1]) in GARMENTS


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    assert links
    assert not [link for link in links if not (REPOSITORY / link).exists()]


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout
