"""docs/models.md: a reader can follow the section on JAX."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.pages import Block, Reader, text_of
from tests.models import wordpiece_tokenizer

PAGE = "models.md"


def test_the_section_on_jax_can_be_followed(tmp_path: Path) -> None:
    section = text_of(PAGE).split("## From a function for JAX")[1].split("\n## ")[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in blocks] == ["py", "yaml", "text"]
    module = blocks[0][1]
    assert module.startswith("# towers.py\n")
    reader = Reader.at(tmp_path)
    (tmp_path / "towers.py").write_text(module)
    reader.follow(Block(PAGE, "yaml", blocks[1][1]))
    wordpiece_tokenizer(tmp_path / "export-jax" / "tokenizer.json")
    reader.follow(Block(PAGE, "console", blocks[2][1]))
    assert (tmp_path / "models" / "shop-jax" / "goldens" / "item.jsonl").is_file()
