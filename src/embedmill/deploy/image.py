"""A lean image for servers of one release: just the libraries that it needs, in the versions that made it."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from embedmill.deploy.dockerfile import VERSION, Recipe, checked_version, context_files, dockerfile
from embedmill.deploy.yaml_files import write_folder
from embedmill.errors import ReleaseCorrupt, SpecError
from embedmill.spec import load_model_spec
from embedmill.spec.document import sha256
from embedmill.spec.rollout import ImageDeployReport
from embedmill.store import join_key
from embedmill.store.scratch import scratch_folder

if TYPE_CHECKING:
    from pathlib import Path

    from embedmill.release.source import Source
    from embedmill.spec import ModelSpec
    from embedmill.spec.documents import Content

MODEL = "model/model.yaml"
EXTRAS = {
    "onnx": "onnx",
    "openvino": "openvino",
    "jax": "jax",
    "tensorflow": "tensorflow",
    "torch": "torch",
    "triton": "triton",
    "tf_serving": "http",
}
"""Kind of runtime → embedmill's extra."""
NAMES = {"onnx": "onnxruntime"}
"""Kind of runtime → its name in profiles, where that is another one."""
PACKAGES = frozenset({"onnxruntime", "openvino", "jax", "tensorflow", "torch"})
"""Runtimes that are packages of their name; versions of servers are not ours to choose."""
ALWAYS = ("serve", "cloud")
"""The same image fetches and serves."""


def deploy_image(
    folder: Path, source: Source, base: str, *, embedmill: str | None = None
) -> ImageDeployReport:
    """Write a Dockerfile and what it installs; `embedmill` is the version, this one if not given.

    Raises:
        SpecError: The base is not named by its digest, a runtime has no extra, or the folder is in use.
        ReleaseCorrupt: The package's declaration is not the one that was published.
    """
    from embedmill.deploy.kubernetes.pod import USER

    chosen = checked_version(embedmill or version("embedmill"))
    read = ("requirements.txt", "constraints.txt")
    recipe = Recipe(base, USER, read, options=("--constraint=/build/constraints.txt",))
    made = dockerfile(recipe)
    kinds = needed_kinds(source.content, _model_spec(source))
    extras = needed_extras(source.content, kinds)
    pins = pinned(source.content, kinds)
    files = {
        "Dockerfile": made,
        "requirements.txt": f"embedmill[{','.join(extras)}]=={chosen}\n".encode(),
        "constraints.txt": "".join(f"{name}=={pins[name]}\n" for name in sorted(pins)).encode(),
        **context_files(read),
    }
    return ImageDeployReport(
        release=source.release,
        base=base,
        folder=str(folder),
        files=tuple(write_folder(folder, files)),
        version=chosen,
        extras=extras,
        pins=pins,
    )


def needed_kinds(content: Content, model: ModelSpec) -> tuple[str, ...]:
    """One kind of runtime for each encoder: the one that made the release's vectors, else the reference."""
    used = {profile.runtime for profile in content.profiles}
    found = set()
    for encoder in model.encoders:
        kinds = [str(runtime.kind) for runtime in model.runtimes_for(encoder)]
        found.add(next((kind for kind in kinds if NAMES.get(kind, kind) in used), kinds[0]))
    return tuple(sorted(found))


def needed_extras(content: Content, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Extras of embedmill that serve a release.

    Raises:
        SpecError: A runtime has none.
    """
    unknown = [kind for kind in kinds if kind not in EXTRAS]
    if unknown:
        raise SpecError(f"runtime {unknown[0]!r}: no extra is known for it", hint="write the image by hand")
    index = {"faiss"} if any(segment.index is not None for segment in content.segments) else set()
    return tuple(sorted({*ALWAYS, *index, *(EXTRAS[kind] for kind in kinds)}))


def pinned(content: Content, kinds: tuple[str, ...]) -> dict[str, str]:
    """Package → the version that made the release's vectors, where all of them were made by one."""
    found: dict[str, set[str]] = {}
    computing = {NAMES.get(kind, kind) for kind in kinds} & PACKAGES
    for profile in content.profiles:
        libraries = dict(profile.libraries)
        if profile.runtime in computing:
            libraries[profile.runtime] = profile.runtime_version
        for name, found_version in libraries.items():
            found.setdefault(name, set()).add(found_version)
    return {
        name: next(iter(versions))
        for name, versions in sorted(found.items())
        if len(versions) == 1 and VERSION.fullmatch(next(iter(versions)))
    }


def _model_spec(source: Source) -> ModelSpec:
    key = join_key(source.prefix, MODEL)
    data = source.store.get(key)
    if sha256(data) not in {entry.sha256 for entry in source.content.model if entry.path == MODEL}:
        raise ReleaseCorrupt(f"{source.store.url}/{key}: its bytes are not those that were published")
    with scratch_folder() as folder:
        (folder / "model.yaml").write_bytes(data)
        return load_model_spec(folder / "model.yaml")
