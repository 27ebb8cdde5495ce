"""Token ids are those of the tokenizer file, however many threads make them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.models import tiny_text_package

CODE = """
import os, sys
from pathlib import Path
from embedmill.model.tokens import Tokenizer
tokenizer = Tokenizer.load(Path(sys.argv[1]), max_length=9)
texts = ["red lamp " * (1 + n % 7) + str(n) for n in range(500)]
threads = len(os.listdir("/proc/self/task"))
found = tokenizer.tokenize(texts)
print(len(os.listdir("/proc/self/task")) - threads)
print(found.ids, found.type_ids)
"""


def test_ids_are_the_same_on_any_number_of_threads(tmp_path: Path) -> None:
    folder = tiny_text_package(tmp_path / "model")
    (alone, one), (beside, several) = (tokenized(folder, "false", 1), tokenized(folder, "true", 3))
    assert (alone, beside) == ("0", "3")
    assert one == several


def tokenized(folder: Path, parallel: str, threads: int) -> tuple[str, str]:
    """How many threads came of it, and what was made."""
    told = {"TOKENIZERS_PARALLELISM": parallel, "RAYON_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", CODE, str(folder / "tokenizer.json")]
    done = subprocess.run(command, env=os.environ | told, stdout=subprocess.PIPE, text=True, check=True)
    came, made = done.stdout.splitlines()
    return came, made
