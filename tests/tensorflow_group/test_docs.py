"""docs/models.md: a reader can follow the section on TensorFlow."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.pages import Block, Reader, text_of
from tests.models import byte_tokenizer
from tests.tensorflow_group.models import save_tiny_text

PAGE = "models.md"


def test_the_section_on_tensorflow_can_be_followed(tmp_path: Path) -> None:
    section = text_of(PAGE).split("## From TensorFlow and Keras")[1].split("\n## ")[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in blocks] == ["yaml", "text"]
    save_tiny_text(tmp_path / "saved", dimension=16)
    reader = Reader.at(tmp_path)
    reader.follow(Block(PAGE, "yaml", blocks[0][1]))
    byte_tokenizer(tmp_path / "export-tf" / "tokenizer.json")
    reader.follow(Block(PAGE, "console", blocks[1][1]))
    assert (tmp_path / "models" / "shop-tf" / "goldens" / "item.jsonl").is_file()
