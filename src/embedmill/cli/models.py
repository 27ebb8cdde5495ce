"""`model …`: model packages: import, show, check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.options import AsJson
from embedmill.cli.output import data, emit, facts, size, table, talk
from embedmill.errors import SpecError

if TYPE_CHECKING:
    from embedmill.model import ModelPackage
    from embedmill.model.check import EncoderReport, RuntimeReport
    from embedmill.spec import InputSpec, RuntimeSpec
    from embedmill.spec.model_reports import (
        EncoderCheck,
        ModelCheckReport,
        ModelReport,
        RuntimeCheck,
        RuntimeEntry,
    )

app = typer.Typer(help="Model packages: import, show, check.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A model package.", show_default=False)]


@app.command("import")
def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A sentence-transformers folder, a model that --spec declares, or your function for JAX, "
            "as package.module:function, which runs that code.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The package to make.")],
    spec: Annotated[
        Path | None, typer.Option(metavar="model.yaml", help="What the model's inputs and outputs are.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's name; the folder's if absent.")] = None,
    template: Annotated[
        str | None, typer.Option(help="What the model reads of an item, such as '{title}. {category}'.")
    ] = None,
    query_template: Annotated[str | None, typer.Option(help="What it reads of a query: '{query}'.")] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens kept of a text.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a model package of a sentence-transformers folder, or of what --spec declares."""
    options = {
        "name": name,
        "template": template,
        "query_template": query_template,
        "max_length": max_length,
    }
    given = {key: value for key, value in options.items() if value is not None}
    from embedmill.model.jax_function import is_function

    declared = spec is not None or source.is_file() or is_function(str(source))
    package = _import_declared(source, spec, out, given) if declared else _import_folder(source, out, given)
    if as_json:
        emit(model_report(package))
        return
    _print_model(model_report(package))
    talk().print(f"\n{_how_to_use(out)}", soft_wrap=True)


def _how_to_use(out: Path) -> str:
    """Paths of a pipeline.yaml start from its folder, which may be another than this one."""
    if out.is_absolute():
        return f"To use it, put `model: {out}` into a pipeline.yaml"
    elsewhere = f"into one of another folder the path from there, or `model: {out.absolute()}`"
    return f"To use it, put `model: {out}` into a pipeline.yaml of this folder; {elsewhere}"


def _import_declared(
    source: Path, spec: Path | None, out: Path, options: dict[str, str | int]
) -> ModelPackage:
    from embedmill.model.importing import import_declared
    from embedmill.model.jax_function import import_function, is_function

    if (source / "modules.json").is_file():
        raise SpecError(
            "--spec: not for a sentence-transformers folder", hint="it says all by itself; leave --spec out"
        )
    if options:
        said = ", ".join("--" + name.replace("_", "-") for name in options)
        raise SpecError(
            f"{said}: only for sentence-transformers folders", hint="write it into the model.yaml"
        )
    if spec is None:
        raise SpecError(
            f"{source}: a {'function' if is_function(str(source)) else 'file'} needs --spec",
            hint="give a model.yaml that says what its inputs are",
        )
    if is_function(str(source)):
        return import_function(str(source), spec, out)
    return import_declared(source, spec, out)


def _import_folder(folder: Path, out: Path, options: dict[str, str | int]) -> ModelPackage:
    from embedmill.model.sentence_transformers import import_sentence_transformers

    return import_sentence_transformers(folder, out, **options)  # type: ignore[arg-type]


@app.command()
def show(folder: Folder, as_json: AsJson = False) -> None:
    """Show what a model package declares: encoders, inputs, files, and which runtimes can compute here."""
    from embedmill.model import ModelPackage

    report = model_report(ModelPackage.open(folder))
    if as_json:
        emit(report)
    else:
        _print_model(report)


def model_report(package: ModelPackage) -> ModelReport:
    """The package as a document."""
    from embedmill.spec.model_reports import ModelReport

    return ModelReport(
        folder=str(package.root),
        model=package.spec,
        runtimes=tuple(_runtime_entry(package, each) for each in package.spec.runtimes),
        package_digest=package.package_digest(),
        encoder_digests={name: package.encoder_digest(name) for name in package.spec.encoders},
        files={name: package.path(name).stat().st_size for name in package.files()},
    )


def _runtime_entry(package: ModelPackage, spec: RuntimeSpec) -> RuntimeEntry:
    from embedmill.runtimes.availability import availability
    from embedmill.spec.model_reports import RuntimeEntry

    found = availability(spec, package.root)
    path = None if spec.path is None else package.root / spec.path
    return RuntimeEntry(
        kind=spec.kind,
        where="server" if path is None else "folder" if path.is_dir() else "file",
        model=spec.model_name,
        encoders=spec.encoders or tuple(package.spec.encoders),
        extra=spec.EXTRA,
        available=not found.why,
        why=found.why,
        platforms=found.platforms,
    )


def _print_model(report: ModelReport) -> None:
    out, spec = data(), report.model
    out.print(
        facts(
            [
                ("model", spec.name),
                ("vectors", f"{spec.precision}[{spec.dimension}], normalize: {spec.normalize}"),
                ("license", spec.license or "not stated"),
                ("source", spec.source or "not stated"),
                ("package digest", report.package_digest),
                *((f"{name} digest", digest) for name, digest in report.encoder_digests.items()),
            ]
        )
    )
    rows = [
        (encoder, name, _declared(each))
        for encoder, inputs in spec.encoders.items()
        for name, each in inputs.root.items()
    ]
    out.print()
    out.print(table("encoder", "input", "made of", rows=rows))
    out.print()
    out.print(table("runtime", "model", "encoders", "needs", "here", rows=map(_entry_row, report.runtimes)))
    out.print()
    files = [(name, size(count)) for name, count in report.files.items()]
    out.print(table("file", "size", rows=files, numbers=[1]))


def _entry_row(entry: RuntimeEntry) -> tuple[str, ...]:
    lowered = f", lowered for {', '.join(entry.platforms)}" if entry.platforms else ""
    here = "available" if entry.available else f"not available: {entry.why}"
    encoders, needs = ", ".join(entry.encoders), f"embedmill[{entry.extra}]"
    return entry.kind, f"{entry.where} {entry.model}{lowered}", encoders, needs, here


def _declared(spec: InputSpec) -> str:
    """An input in a line."""
    from embedmill.spec import CategoriesInput, CategoryInput, ImageInput, NumberInput, StringInput, TextInput

    kind = spec.kind
    name = f"{kind.KIND} '{', '.join(kind.fields)}'"
    match kind:
        case TextInput():
            return f"text '{kind.template}', {kind.tokenizer}, {kind.max_length} tokens at most"
        case StringInput():
            return f"string '{kind.template}'"
        case ImageInput():
            side = kind.crop or kind.resize
            reduced = f", JPEGs reduced to {kind.reduced:g} x" if kind.reduced else ""
            return f"{name}, {side.height} x {side.width}, {kind.layout}{reduced}"
        case CategoryInput() | CategoriesInput():
            missing = f"unknown: {kind.unknown}, missing: {kind.missing}"
            return f"{name}, {kind.vocabulary}, {missing}"
        case NumberInput():
            return f"{name}, transform: {kind.transform}, missing: {kind.missing}"
        case _:
            return f"{name}, missing: {kind.missing}"


@app.command()
def check(folder: Folder, as_json: AsJson = False) -> None:
    """Embed the goldens of every encoder again, by every runtime that is available, and compare."""
    from embedmill.model import ModelPackage
    from embedmill.model.check import check_package
    from embedmill.spec.model_reports import ModelCheckReport

    found = check_package(ModelPackage.open(folder))
    report = ModelCheckReport(
        ok=found.failure is None,
        model=found.name,
        package_digest=found.package_digest,
        encoders=tuple(map(_encoder_check, found.encoders)),
    )
    if as_json:
        emit(report)
    else:
        _print_check(report)
    if found.failure is None:
        return
    if as_json:
        raise typer.Exit(found.failure.exit_code)
    raise found.failure


def _encoder_check(found: EncoderReport) -> EncoderCheck:
    from embedmill.spec.model_reports import EncoderCheck

    copied = ("name", "digest", "dimension", "goldens")
    return EncoderCheck(
        **{name: getattr(found, name) for name in copied}, runtimes=tuple(map(_runtime_check, found.runtimes))
    )


def _runtime_check(found: RuntimeReport) -> RuntimeCheck:
    from embedmill.spec.model_reports import RuntimeCheck

    copied = ("state", "version", "lowest_cosine", "rows_per_second", "reduced_cosine")
    return RuntimeCheck(
        **{name: getattr(found, name) for name in copied},
        kind=found.spec.kind,
        model=found.spec.model_name,
        why="" if found.error is None else str(found.error),
        inputs=tuple(map(str, found.inputs)),
        outputs=tuple(map(str, found.outputs)),
    )


def _print_check(report: ModelCheckReport) -> None:
    out = data()
    out.print(facts([("model", report.model), ("package digest", report.package_digest)]))
    for encoder in report.encoders:
        rows: list[tuple[str, object]] = [
            ("encoder", encoder.name),
            ("  digest", encoder.digest),
            ("  dimension", encoder.dimension),
            ("  goldens", encoder.goldens or "none in the package"),
        ]
        for runtime in encoder.runtimes:
            rows += [(f"  {runtime.kind}", f"{runtime.model}: {_computed(runtime)}")]
            if runtime.reduced_cosine is not None:
                rows += [("    JPEGs reduced", f"lowest cosine {runtime.reduced_cosine:.6f} to whole ones")]
            rows += [("    input", tensor) for tensor in runtime.inputs]
            rows += [("    output", tensor) for tensor in runtime.outputs]
        out.print()
        out.print(facts(rows))


def _computed(runtime: RuntimeCheck) -> str:
    """What a runtime did, in a line."""
    if runtime.state == "unavailable":
        return f"not available: {runtime.why}"
    if runtime.lowest_cosine is None:
        return f"FAILED: {runtime.why}" if runtime.why else "loads, and that is all that was checked"
    said = f"lowest cosine {runtime.lowest_cosine:.6f}, {runtime.rows_per_second:,.0f} rows/s on one thread"
    return said if runtime.state == "ok" else f"FAILED: {said}"
