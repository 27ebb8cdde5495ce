"""Small models made from a seed: real ONNX files and real tokenizers, made in milliseconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import safetensors.numpy
import tokenizers
import yaml
from onnx import TensorProto, helper, numpy_helper
from tests import tiny_text

OPSET = 17
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
"""What a clone without Git LFS has in the place of a large file."""
Weights = Mapping[str, npt.NDArray[Any]]


def edit(package: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the model.yaml of a package, or of what is to become one."""
    document = yaml.safe_load((package / "model.yaml").read_text())
    change(document)
    (package / "model.yaml").write_text(yaml.safe_dump(document))


def tiny_text_package(
    folder: Path,
    *,
    dimension: int = 16,
    seed: int = 0,
    template: str = "{title}. {category}",
    max_length: int = 64,
    normalize: str = "l2",
    name: str = "tiny",
) -> Path:
    """Bytes are tokens; a text's vector is the mean over tokens of tanh(token + position).

    Encoders `item` (the template) and `query_text` (`{query}`), one ONNX file.
    """
    folder.mkdir(parents=True)
    byte_tokenizer(folder / "tokenizer.json")
    weights = tiny_text.weights(dimension=dimension, seed=seed, max_length=max_length)
    save_onnx(folder / "model.onnx", *_text_graph(dimension), weights=weights)
    _write_spec(
        folder,
        name=name,
        dimension=dimension,
        normalize=normalize,
        encoders={
            encoder: {"input_ids": {"text": {"template": text, "max_length": max_length}}}
            for encoder, text in (("item", template), ("query_text", "{query}"))
        },
    )
    return folder


def tiny_image_package(folder: Path, *, dimension: int = 8, seed: int = 0, side: int = 16) -> Path:
    """Two convolutions and an average; encoders `item` and `query_image` read column `image`."""
    folder.mkdir(parents=True)
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["rows", 3, side, side])
    nodes = _image_nodes()
    save_onnx(
        folder / "model.onnx", nodes, [pixels], [_vectors(dimension)], weights=_image_weights(dimension, seed)
    )
    declared = {"pixels": {"image": {"field": "image", **_image_spec(side)}}}
    _write_spec(
        folder,
        name="tiny-image",
        dimension=dimension,
        normalize="l2",
        encoders={"item": declared, "query_image": declared},
    )
    return folder


def tiny_mixed_package(folder: Path, *, dimension: int = 8, seed: int = 0, side: int = 16) -> Path:
    """An `item` encoder that reads `title` and `image`, and adds up what it makes of each."""
    folder.mkdir(parents=True)
    byte_tokenizer(folder / "tokenizer.json")
    nodes, inputs, _ = _text_graph(dimension, output="of_text")
    random = np.random.default_rng(seed)
    weights = _image_weights(dimension, seed) | {
        "table": random.normal(size=(258, dimension)).astype(np.float32),
        "positions": (random.normal(size=(64, dimension)) / 2).astype(np.float32),
    }
    nodes = [*nodes, *_image_nodes("of_image"), helper.make_node("Add", ["of_text", "of_image"], ["vectors"])]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["rows", 3, side, side])
    save_onnx(folder / "model.onnx", nodes, [*inputs, pixels], [_vectors(dimension)], weights=weights)
    declared = {
        "input_ids": {"text": {"template": "{title}", "max_length": 64}},
        "pixels": {"image": {"field": "image", **_image_spec(side)}},
    }
    _write_spec(folder, name="tiny-mixed", dimension=dimension, normalize="l2", encoders={"item": declared})
    return folder


def tiny_bert_folder(
    folder: Path,
    *,
    layers: int = 2,
    hidden: int = 16,
    heads: int = 4,
    positions: int = 40,
    max_length: int = 32,
    pooling: str = "mean",
    normalize: bool = True,
    seed: int = 0,
    **config: Any,
) -> Path:
    """A random BERT in the layout of sentence-transformers, with the traps of real ones.

    The tokenizer file truncates and pads to 8, and modules.json names a folder 2_Normalize that is not there.
    """
    folder.mkdir(parents=True)
    vocabulary = wordpiece_tokenizer(folder / "tokenizer.json")
    said = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_act": "gelu",
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": positions,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": vocabulary,
        **config,
    }
    weights = bert_weights(said, np.random.default_rng(seed))
    safetensors.numpy.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    types = ["Transformer", "Pooling", "Normalize"][: 3 if normalize else 2]
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": at, "name": str(at), "path": paths[at], "type": f"sentence_transformers.models.{kind}"}
        for at, kind in enumerate(types)
    ]
    write_json(folder / "config.json", said)
    write_json(folder / "modules.json", modules)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    flags = {f"pooling_mode_{flag}": flag.startswith(pooling) for flag in ("mean_tokens", "cls_token")}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": hidden, **flags})
    return folder


def bert_weights(
    config: Mapping[str, Any], random: np.random.Generator
) -> dict[str, npt.NDArray[np.float32]]:
    """Random tensors of a BERT checkpoint, named as they are there."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], hidden),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], hidden),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], hidden),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        linears: dict[str, tuple[int, ...]] = {
            "attention.self.query": (hidden, hidden),
            "attention.self.key": (hidden, hidden),
            "attention.self.value": (hidden, hidden),
            "attention.output.dense": (hidden, hidden),
            "intermediate.dense": (inner, hidden),
            "output.dense": (hidden, inner),
        }
        shapes |= {f"{at}{name}.weight": shape for name, shape in linears.items()}
        shapes |= {f"{at}{name}.bias": shape[:1] for name, shape in linears.items()}
        norms += [f"{at}attention.output.LayerNorm", f"{at}output.LayerNorm"]
    shapes |= {f"{norm}.{part}": (hidden,) for norm in norms for part in ("weight", "bias")}
    return {name: random.normal(scale=0.5, size=shape).astype(np.float32) for name, shape in shapes.items()}


def wordpiece_tokenizer(file: Path) -> int:
    """A BERT tokenizer of letters, digits and a few words, with a stale truncation and padding; its size."""
    letters = [chr(code) for code in (*range(ord("a"), ord("z") + 1), *range(ord("0"), ord("9") + 1))]
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *letters,
        *(f"##{letter}" for letter in letters),
        "red",
        "apple",
    ]
    numbers = {word: number for number, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(numbers, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(file))
    return len(words)


def write_json(file: Path, document: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(document))


def save_onnx(
    file: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    *,
    weights: Weights,
    external: str | None = None,
) -> None:
    """Write a checked ONNX file; `external` names a file beside it that takes the weights."""
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializer=tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    if external is None:
        onnx.save(model, file)
    else:
        onnx.save(model, file, save_as_external_data=True, location=external, size_threshold=0)


def end_with(file: Path, nodes: Sequence[onnx.NodeProto]) -> None:
    """Let a model do something with what were its vectors."""
    model = onnx.load(file)
    for node in model.graph.node:
        node.output[:] = ["own" if name == "vectors" else name for name in node.output]
    model.graph.node.extend(nodes)
    onnx.save(model, file)


def byte_tokenizer(file: Path) -> None:
    """A token a byte after a leading [CLS]: no two texts share their tokens."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[CLS]", *alphabet])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 1)]
    )
    tokenizer.save(str(file))


def _write_spec(folder: Path, *, name: str, dimension: int, normalize: str, encoders: Any) -> None:
    document = {
        "name": name,
        "runtimes": [{"kind": "onnx", "file": "model.onnx"}],
        "dimension": dimension,
        "normalize": normalize,
        "encoders": encoders,
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=False))


def _vectors(dimension: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["rows", dimension])


def _text_graph(
    dimension: int, output: str = "vectors"
) -> tuple[list[onnx.NodeProto], list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    constants = {"zero_d": [0], "one_d": [1], "two_d": [2]}
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value, np.int64)))
        for name, value in constants.items()
    ]
    nodes += [
        helper.make_node(operation, inputs, [made], **options)
        for operation, inputs, made, options in (
            ("Gather", ["table", "input_ids"], "of_tokens", {}),
            ("Shape", ["input_ids"], "width_d", {"start": 1, "end": 2}),
            ("Slice", ["positions", "zero_d", "width_d", "zero_d"], "of_places", {}),
            ("Add", ["of_tokens", "of_places"], "sums", {}),
            ("Tanh", ["sums"], "states", {}),
            ("Cast", ["attention_mask"], "mask", {"to": TensorProto.FLOAT}),
            ("Unsqueeze", ["mask", "two_d"], "weights", {}),
            ("Mul", ["states", "weights"], "kept", {}),
            ("ReduceSum", ["kept", "one_d"], "total", {"keepdims": 0}),
            ("ReduceSum", ["weights", "one_d"], "count", {"keepdims": 0}),
            ("Div", ["total", "count"], output, {}),
        )
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    return nodes, inputs, [_vectors(dimension)]


def _image_nodes(output: str = "vectors") -> list[onnx.NodeProto]:
    return [
        helper.make_node("Conv", ["pixels", "first"], ["edges"], strides=[2, 2]),
        helper.make_node("Relu", ["edges"], ["active"]),
        helper.make_node("Conv", ["active", "second"], ["parts"], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["parts"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], [output]),
    ]


def _image_weights(dimension: int, seed: int) -> dict[str, npt.NDArray[Any]]:
    random = np.random.default_rng(seed)
    return {
        "first": random.normal(size=(8, 3, 3, 3)).astype(np.float32),
        "second": random.normal(size=(dimension, 8, 3, 3)).astype(np.float32),
    }


def _image_spec(side: int) -> dict[str, Any]:
    return {
        "resize": {"shorter": side},
        "crop": {"height": side, "width": side},
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
    }
