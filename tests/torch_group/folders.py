"""Random sentence-transformers folders of several architectures, laid out as the installed version does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as t
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from tests.models import wordpiece_tokenizer

LENGTH = 32
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
SHORT = {**SMALL, "max_position_embeddings": 64}


@dataclass(frozen=True)
class Architecture:
    """A model class with a small configuration, and what makes vectors of its states."""

    model: Any
    config: Callable[[int], Any]
    pooling: str = "mean"
    dense: bool = False


ARCHITECTURES = {
    "albert": Architecture(t.AlbertModel, lambda n: t.AlbertConfig(vocab_size=n, embedding_size=16, **SHORT)),
    "bert": Architecture(
        t.BertModel, lambda n: t.BertConfig(vocab_size=n, **SHORT), pooling="max", dense=True
    ),
    "deberta": Architecture(t.DebertaV2Model, lambda n: t.DebertaV2Config(vocab_size=n, **SHORT)),
    "distilbert": Architecture(
        t.DistilBertModel,
        lambda n: t.DistilBertConfig(
            vocab_size=n, dim=16, n_layers=2, n_heads=4, hidden_dim=32, max_position_embeddings=64
        ),
        pooling="cls",
    ),
    "llama": Architecture(
        t.LlamaModel,
        lambda n: t.LlamaConfig(vocab_size=n, num_key_value_heads=2, **SHORT),
        pooling="lasttoken",
    ),
    "modernbert": Architecture(
        t.ModernBertModel,
        lambda n: t.ModernBertConfig(
            vocab_size=n,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            cls_token_id=1,
            sep_token_id=2,
            local_attention=8,
            **SHORT,
        ),
    ),
    "mpnet": Architecture(t.MPNetModel, lambda n: t.MPNetConfig(vocab_size=n, **SHORT)),
    "qwen2": Architecture(
        t.Qwen2Model,
        lambda n: t.Qwen2Config(vocab_size=n, num_key_value_heads=2, **SHORT),
        pooling="lasttoken",
    ),
    "qwen3": Architecture(
        t.Qwen3Model,
        lambda n: t.Qwen3Config(vocab_size=n, num_key_value_heads=2, head_dim=4, **SHORT),
        pooling="lasttoken",
    ),
    "t5": Architecture(
        t.T5EncoderModel,
        lambda n: t.T5Config(vocab_size=n, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4),
        dense=True,
    ),
}


def random_folder(folder: Path, kind: str, *, prompts: dict[str, str] | None = None) -> Path:
    """A folder of this architecture with random weights."""
    architecture = ARCHITECTURES[kind]
    base = folder.parent / f"{folder.name}-transformer"
    base.mkdir(parents=True)
    words = wordpiece_tokenizer(base / "tokenizer.json")
    names = {
        name: f"[{name[:-6].upper()}]"
        for name in ("unk_token", "pad_token", "cls_token", "sep_token", "mask_token")
    }
    file = str(base / "tokenizer.json")
    tokenizer = t.PreTrainedTokenizerFast(tokenizer_file=file, model_max_length=LENGTH, **names)
    tokenizer.save_pretrained(base)
    torch.manual_seed(0)
    architecture.model(architecture.config(words)).eval().save_pretrained(base)
    transformer = modules.Transformer(str(base), max_seq_length=LENGTH)
    parts = [
        transformer,
        modules.Pooling(transformer.get_embedding_dimension(), pooling_mode=architecture.pooling),
    ]
    if architecture.dense:
        parts += [modules.Dense(transformer.get_embedding_dimension(), 12), modules.Normalize()]
    SentenceTransformer(modules=parts, device="cpu", prompts=prompts).save(str(folder))
    return folder
