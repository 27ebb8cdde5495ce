"""`.keras` files whose weights lie in other files: each is refused with where, and no other file is read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.tensorflow_group.test_keras import keras_text, mlp, write

from embedmill.errors import ModelError
from embedmill.model.importing import import_declared
from embedmill.model.keras_weights import check_weights

WEIGHTS = "model.weights.h5"
SECRET = 4711.5
Tamper = Callable[[h5py.File, str, Path], None]
"""Replaces the data set of this name by what leads to a canary: an HDF5 file with `secret`, or its bytes."""


def linked(weights: h5py.File, name: str, canary: Path) -> None:
    del weights[name]
    weights[name] = h5py.ExternalLink(str(canary), "/secret")


def linked_group(weights: h5py.File, name: str, canary: Path) -> None:
    del weights["layers"]
    weights["layers"] = h5py.ExternalLink(str(canary), "/")


def linked_within(weights: h5py.File, name: str, canary: Path) -> None:
    weights["elsewhere"] = h5py.ExternalLink(str(canary), "/secret")
    del weights[name]
    weights[name] = h5py.SoftLink("/elsewhere")


def stored_elsewhere(weights: h5py.File, name: str, canary: Path) -> None:
    shape, kind = weights[name].shape, weights[name].dtype
    del weights[name]
    weights.create_dataset(name, shape, kind, external=[(f"{canary}.bytes", 0, h5py.h5f.UNLIMITED)])


def virtual(weights: h5py.File, name: str, canary: Path) -> None:
    shape, kind = weights[name].shape, weights[name].dtype
    del weights[name]
    layout = h5py.VirtualLayout(shape, kind)
    layout[:] = h5py.VirtualSource(str(canary), "secret", shape)
    weights.create_virtual_dataset(name, layout)


HOSTILE: dict[str, tuple[Tamper, str]] = {
    "a link to another file": (linked, "is a link to '/secret' of the file "),
    "a group of another file": (linked_group, "'/layers' is a link to '/' of the file "),
    "a link to a link": (linked_within, "is a link to "),
    "values in another file": (stored_elsewhere, "has its values in the file "),
    "values put together from another file": (virtual, "is put together from values of "),
}


def largest(weights: h5py.File) -> str:
    """Name of the data set with the most values."""
    sizes: dict[str, int] = {}
    weights.visititems(
        lambda name, found: sizes.update({name: found.size}) if isinstance(found, h5py.Dataset) else None
    )
    return max(sizes, key=lambda name: sizes[name])


def tampered(source: Path, tamper: Tamper, canary: Path) -> Path:
    """The `.keras` file, changed; and the canary that it leads to."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    data = io.BytesIO(members[WEIGHTS])
    with h5py.File(data, "r+") as weights:
        name = largest(weights)
        secret = np.full(weights[name].shape, SECRET, np.float32)
        with h5py.File(canary, "w") as other:
            other["secret"] = secret
        Path(f"{canary}.bytes").write_bytes(secret.tobytes())
        tamper(weights, name, canary)
    members[WEIGHTS] = data.getvalue()
    with zipfile.ZipFile(source, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return source


@pytest.mark.parametrize("case", HOSTILE)
def test_weights_that_lie_elsewhere_are_refused_with_their_place(case: str, tmp_path: Path) -> None:
    tamper, says = HOSTILE[case]
    source = tampered(keras_text(tmp_path / "source"), tamper, tmp_path / "canary")
    with pytest.raises(ModelError) as caught:
        import_declared(source, source.parent / "model.yaml", tmp_path / "package")
    assert f"{source}: {WEIGHTS!r}: '/" in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "package").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("case", HOSTILE)
def test_the_check_follows_nothing(case: str, tmp_path: Path) -> None:
    """A canary that is gone, or that would be noticed if it were opened, makes no difference."""
    tamper, says = HOSTILE[case]
    source = tampered(write(mlp(), tmp_path / "m.keras"), tamper, tmp_path / "canary")
    (tmp_path / "canary").unlink()
    Path(f"{tmp_path / 'canary'}.bytes").unlink()
    with pytest.raises(ValueError, match=says):
        check_weights(source)


@pytest.mark.parametrize("case", HOSTILE)
def test_the_same_weights_have_the_secret_where_nobody_checks(case: str, tmp_path: Path) -> None:
    """Or else the tests above would show nothing."""
    tamper, _ = HOSTILE[case]
    source = tampered(write(mlp(), tmp_path / "m.keras"), tamper, tmp_path / "canary")
    with zipfile.ZipFile(source) as archive:
        (tmp_path / WEIGHTS).write_bytes(archive.read(WEIGHTS))
    with h5py.File(tmp_path / WEIGHTS) as weights:
        read: Any = weights["layers/secret"] if case == "a group of another file" else first(weights)
        assert (np.asarray(read) == SECRET).all()


def first(weights: h5py.File) -> Any:
    """The data set that leads elsewhere: the first that has the secret."""
    pending: list[Any] = [weights]
    while pending:
        group = pending.pop()
        for name in group:
            if isinstance(group[name], h5py.Group):
                pending.append(group[name])
            elif group[name].size and np.ravel(group[name][()])[0] == SECRET:
                return group[name]
    raise AssertionError("nothing leads to the secret")


def test_a_group_that_contains_itself_is_no_endless_walk(tmp_path: Path) -> None:
    def ring(weights: h5py.File, name: str, canary: Path) -> None:
        weights["layers"]["again"] = weights["layers"]

    check_weights(tampered(write(mlp(), tmp_path / "m.keras"), ring, tmp_path / "canary"))


def test_weights_that_are_damaged_are_refused_in_a_line(tmp_path: Path) -> None:
    source = keras_text(tmp_path / "source")
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(source, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content[:100] if name == WEIGHTS else content)
    with pytest.raises(ModelError) as caught:
        import_declared(source, source.parent / "model.yaml", tmp_path / "package")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "package").exists()
