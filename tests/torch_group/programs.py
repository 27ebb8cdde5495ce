"""Programs of torch.export, made in the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tests import tiny_text

LONGEST = 64


class TinyText(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """The model of `tests.tiny_text`."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        weights = tiny_text.weights(dimension=dimension, max_length=LONGEST)
        self.table = torch.nn.Embedding.from_pretrained(torch.tensor(weights["table"]))
        self.positions = torch.nn.Parameter(torch.tensor(weights["positions"]))

    def forward(self, input_ids: Any, attention_mask: Any) -> dict[str, Any]:
        states = torch.tanh(self.table(input_ids) + self.positions[: input_ids.shape[1]])
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        return {"vectors": (states * mask).sum(dim=1) / mask.sum(dim=1)}


def tiny_program(file: Path, *, dimension: int = 6) -> Path:
    """The tiny text model, with free numbers of rows and tokens."""
    return save(TinyText(dimension), file)


def save(module: Any, file: Path, *, named: bool = True) -> Path:
    """Export a module of token ids and mask."""
    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens", max=LONGEST)
    names = ("input_ids", "attention_mask")
    examples = [torch.ones(2, 5, dtype=torch.int64) for _ in names]  # one tensor for both would be one input
    args, kwargs = ((), dict(zip(names, examples, strict=True))) if named else (tuple(examples), {})
    free = {0: rows, 1: tokens}
    shapes = dict.fromkeys(names, free) if named else (free, free)
    with torch.no_grad():
        program = torch.export.export(module.eval(), args, kwargs, dynamic_shapes=shapes)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, file)
    return file
