"""`doctor`: whether this machine has what Embedmill needs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.options import AsJson, open_pipeline
from embedmill.cli.output import data, emit, size, table
from embedmill.errors import EmbedmillError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedmill.release.layout import Home
    from embedmill.spec.reports import Finding

PANEL = "Help"
OLDEST = (3, 11)
NEEDED = ("numpy", "pyarrow", "pydantic", "pyyaml", "pillow", "tokenizers", "sqlglot", "typer", "rich")
EXTRAS = {
    "onnx": ("onnxruntime", "embedding and searching by text"),
    "faiss": ("faiss-cpu", "approximate search on large segments"),
    "import": ("onnx safetensors", "`model import`"),
    "cloud": ("obstore", "stores in buckets"),
    "http": ("aiohttp", "images by URL, and models at a server"),
    "sql": ("adbc-driver-postgresql adbc-driver-sqlite", "catalogs in PostgreSQL and SQLite"),
    "sqlalchemy": ("sqlalchemy", "catalogs in other databases"),
    "triton": ("tritonclient", "models at a Triton over gRPC"),
    "openvino": ("openvino", "models of OpenVINO"),
    "serve": ("fastapi uvicorn prometheus-client", "`serve`"),
    "kubernetes": ("kubernetes", "`engine: kubernetes`"),
}
MODULES = {"faiss-cpu": "faiss", "prometheus-client": "prometheus_client"}
LOW_SPACE = 1 << 30


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PANEL)(doctor)


def doctor(
    pipeline: Annotated[
        Path | None, typer.Argument(metavar="[PIPELINE.yaml]", help="Also check its spec, model and store.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine, and a pipeline's model and store."""
    from embedmill.spec.reports import DoctorReport

    found = (*_software(), *_machine(), *(_pipeline(pipeline) if pipeline else ()))
    ok = all(each.state != "fail" for each in found)
    if as_json:
        emit(DoctorReport(ok=ok, findings=found))
    else:
        print_findings(found)
    if not ok:
        raise typer.Exit(1)


def print_findings(findings: tuple[Finding, ...]) -> None:
    """A row for each."""
    from rich.text import Text

    words = {"ok": Text("ok", "green"), "warn": Text("warn", "yellow"), "fail": Text("FAIL", "bold red")}
    rows = [
        (each.check, words[each.state], f"{each.found}; {each.hint}" if each.hint else each.found)
        for each in findings
    ]
    data().print(table("check", "state", "found", rows=rows))


def _finding(check: str, state: str, found: str, hint: str = "") -> Finding:
    from embedmill.spec.reports import Finding

    return Finding.model_validate({"check": check, "state": state, "found": found, "hint": hint})


def _software() -> Iterator[Finding]:
    from embedmill import __version__

    yield _finding("embedmill", "ok", __version__)
    python = ".".join(map(str, sys.version_info[:3]))
    fits = sys.version_info >= OLDEST
    yield _finding("python", "ok" if fits else "fail", python, "" if fits else "3.11 or newer is needed")
    for name in NEEDED:
        yield _package(name, "fail", "pip install embedmill")
    for extra, (names, purpose) in EXTRAS.items():
        for name in names.split():
            yield _package(name, "warn", f"pip install 'embedmill[{extra}]', for {purpose}")


def _package(name: str, otherwise: str, hint: str) -> Finding:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return _finding(name, "ok", version(name))
    except PackageNotFoundError:
        if importlib.util.find_spec(MODULES.get(name, name)) is not None:
            return _finding(name, "ok", "installed, version unknown")
        return _finding(name, otherwise, "not installed", hint)


def _machine() -> Iterator[Finding]:
    from embedmill.store import cache_folder

    cores, usable = os.cpu_count() or 1, len(os.sched_getaffinity(0))
    yield _finding("cores", "ok", f"{usable} usable of {cores}: so many workers a run")
    yield _folder("temporary files", Path(tempfile.gettempdir()), "fail", "point TMPDIR to a writable folder")
    yield _folder("cache", cache_folder(), "warn", "point EMBEDMILL_CACHE to a writable folder")


def _folder(check: str, folder: Path, otherwise: str, hint: str) -> Finding:
    """Whether files can be written there, and how much space is left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return _finding(check, otherwise, f"{folder}: {(error.strerror or str(error)).lower()}", hint)
    if free < LOW_SPACE:
        return _finding(check, "warn", f"{folder}: {size(free)} free", "large catalogs need more")
    return _finding(check, "ok", f"{folder}: {size(free)} free")


def _pipeline(file: Path) -> Iterator[Finding]:
    try:
        pipeline = open_pipeline(file)
        yield _finding("spec", "ok", f"{file}: pipeline {pipeline.spec.name}")
    except EmbedmillError as error:
        yield _finding("spec", "fail", error.message, error.hint)
        return
    try:
        found = pipeline.package.spec
        yield _finding("model", "ok", f"{pipeline.package.root}: {found.name}, {found.dimension} dimensions")
    except EmbedmillError as error:
        yield _finding("model", "fail", error.message, error.hint)
    try:
        yield _store(pipeline.home)
    except EmbedmillError as error:
        yield _finding("store", "fail", error.message, error.hint)


def _store(home: Home) -> Finding:
    """Whether an object can be created once, read and deleted."""
    key = f"{home.pipeline}/.doctor-{uuid.uuid4().hex}"
    home.store.put_if_absent(key, b"probe")
    try:
        home.store.get(key)
    finally:
        home.store.delete(key)
    return _finding("store", "ok", f"{home.store.url}: can be read and written")
