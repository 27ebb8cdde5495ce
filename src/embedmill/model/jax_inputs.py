"""The arrays that a declaration feeds to a function of JAX: what it is exported for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from embedmill.errors import ModelError
from embedmill.model.images import pixel_shape
from embedmill.model.jax_lowering import Argument
from embedmill.model.value_feeds import CategoriesFeed
from embedmill.model.vocabulary import Vocabulary
from embedmill.runtimes import TensorSpec
from embedmill.runtimes.formats import confined
from embedmill.spec import (
    AnyInput,
    BooleanInput,
    CategoriesInput,
    CategoryInput,
    EncoderInputs,
    ImageInput,
    NumberInput,
    TextInput,
)

ROWS, TOKENS = "rows", "tokens"
INDEX, NUMBER, TRUTH = "int32", "float32", "bool"


class Arrays(NamedTuple):
    """What a function may be given, and the most of each free size."""

    arguments: list[Argument]
    longest: dict[str, int]


def arrays_of(encoders: Mapping[str, EncoderInputs], folder: Path, *, said_by: str) -> Arrays:
    """The arrays that all of these encoders feed.

    Token ids and masks of texts are int32[rows, tokens], indices of categories int32, booleans bool; pixels,
    numbers and all other masks float32.

    Args:
        encoders: Their inputs, by the encoders' names.
        folder: Where their vocabularies lie.
        said_by: Whose declaration it is, for messages.

    Raises:
        ModelError: An input is of a kind that JAX does not know, encoders feed different arrays, or a
            vocabulary is damaged.
    """
    found = {name: _of_encoder(inputs, folder, said_by=said_by) for name, inputs in encoders.items()}
    (first, arrays), *others = found.items()
    for name, other in others:
        if _shown(other) != _shown(arrays):
            raise ModelError(
                f"{said_by}: one function cannot compute both encoders: {first} feeds {_shown(arrays)}, "
                f"and {name} {_shown(other)}",
                hint="declare a runtime for each, with `encoders`",
            )
    longest = {size: max(other.longest[size] for other in found.values()) for size in arrays.longest}
    return Arrays(arrays.arguments, longest)


def _of_encoder(inputs: EncoderInputs, folder: Path, *, said_by: str) -> Arrays:
    kinds = {name: spec.kind for name, spec in sorted(inputs.root.items())}
    texts = [name for name, kind in kinds.items() if isinstance(kind, TextInput)]
    sizes = {name: TOKENS if at == 0 else f"{TOKENS}_{at + 1}" for at, name in enumerate(texts)}
    arguments: dict[str, Argument] = {}
    longest: dict[str, int] = {}
    for name, kind in kinds.items():
        if isinstance(kind, TextInput):
            longest[sizes[name]] = kind.max_length
            made = _text(name, kind, sizes[name])
        else:
            made = _other(name, kind, folder, said_by=said_by)
        for argument in made:
            arguments.setdefault(argument["name"], argument)
    return Arrays(list(arguments.values()), longest)


def _text(name: str, kind: TextInput, tokens: str) -> Iterator[Argument]:
    yield _argument(name, INDEX, tokens)
    yield _argument(kind.mask, INDEX, tokens, needed=False)
    yield _argument(kind.type_ids, INDEX, tokens, needed=False)


def _other(name: str, kind: AnyInput, folder: Path, *, said_by: str) -> Iterator[Argument]:
    beside: tuple[int, ...] = ()
    match kind:
        case ImageInput():
            beside = () if isinstance(kind.field, str) else (len(kind.fields),)
            yield _argument(name, NUMBER, *beside, *pixel_shape(kind))
        case CategoryInput():
            yield _argument(name, INDEX)
        case CategoriesInput():
            padded = kind.encoding == "padded"
            beside = (_width(name, kind, folder, said_by=said_by),)
            yield _argument(name, INDEX if padded else NUMBER, *beside)
        case NumberInput():
            yield _argument(name, NUMBER)
        case BooleanInput():
            yield _argument(name, TRUTH)
        case _:
            raise ModelError(
                f"{said_by}: input {name!r} is {kind.KIND}, and JAX computes with numbers alone",
                hint="tokenize and decode outside of the function: declare it as text or image",
            )
    if kind.beside is not None:
        yield _argument(kind.beside, NUMBER, *beside)


def _width(name: str, kind: CategoriesInput, folder: Path, *, said_by: str) -> int:
    vocabulary = Vocabulary.load(confined(folder, kind.vocabulary, said_by=said_by))
    return CategoriesFeed(TensorSpec(name, NUMBER, ()), kind, vocabulary, None).width


def _argument(name: str, dtype: str, *sizes: int | str, needed: bool = True) -> Argument:
    return Argument(name=name, dtype=dtype, shape=[ROWS, *sizes], needed=needed)


def _shown(arrays: Arrays) -> str:
    """Such as `input_ids: int32[rows, tokens]`."""
    return ", ".join(
        str(TensorSpec(each["name"], each["dtype"], tuple(each["shape"]))) for each in arrays.arguments
    )
