"""`init`, `schema`, `config`, `doctor`: what helps to begin and to find out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.terminal import Terminal
from tests.support.mill import Mill, items

from embedmill.cli.diagnosis import EXTRAS
from embedmill.cli.importing import ARROWS_POOL
from embedmill.cli.schemas import Kind, schema_bytes
from embedmill.spec import load_pipeline_spec
from embedmill.spec.jenkins_workers import JenkinsWorkersSpec
from embedmill.spec.kubernetes import KubernetesSpec
from embedmill.spec.ray import RaySpec

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def test_init_writes_a_spec_that_is_valid_and_named_after_its_folder(
    tmp_path: Path, embedmill: Terminal
) -> None:
    said = embedmill("init", tmp_path / "My Shop")
    file = tmp_path / "My Shop" / "pipeline.yaml"
    assert (said.code, said.out) == (0, f"{file}\n")
    assert load_pipeline_spec(file, {}).name == "my-shop"
    assert "embedmill plan" in said.err


EXAMPLES = {
    "where",
    "format",
    "types",
    "images",
    "image_identity",
    "image_version",
    "workers",
    "requests_per_minute",
    "production",
    "kubernetes",
    "ray",
    "jenkins",
}
"""Keys that the file shows with a value that is not the default: those without a default worth showing."""


def test_init_explains_every_key_and_its_default(tmp_path: Path, embedmill: Terminal) -> None:
    embedmill("init", tmp_path)
    file = tmp_path / "pipeline.yaml"
    defaults = load_pipeline_spec(file, {}).model_dump()
    file.write_text(re.sub(r"^( *)# ( *[a-z_]+:.*)$", r"\1\2", file.read_text(), flags=re.MULTILINE))
    written = yaml.safe_load(file.read_text())
    spec = load_pipeline_spec(file, {}).model_dump()
    assert keys_of(written) == keys_of(spec)
    assert without_examples(spec) == without_examples(defaults)


def test_init_explains_a_cluster_with_its_defaults(tmp_path: Path, embedmill: Terminal) -> None:
    embedmill("init", tmp_path)
    file = tmp_path / "pipeline.yaml"
    file.write_text(re.sub(r"^( *)# ( *[a-z_]+:.*)$", r"\1\2", file.read_text(), flags=re.MULTILINE))
    cluster = load_pipeline_spec(file, {}).kubernetes
    assert cluster is not None
    assert cluster == KubernetesSpec(families=cluster.families)
    ray = load_pipeline_spec(file, {}).ray
    assert ray is not None
    assert ray == RaySpec(address=ray.address, families=ray.families)
    jenkins = load_pipeline_spec(file, {}).jenkins
    assert jenkins is not None
    assert jenkins == JenkinsWorkersSpec(url=jenkins.url, job=jenkins.job, families=jenkins.families)


def keys_of(values: dict[str, Any]) -> dict[str, set[str]]:
    """The keys of each section."""
    return {name: set(inner) if isinstance(inner, dict) else set() for name, inner in values.items()}


def without_examples(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: without_examples(inner) if isinstance(inner, dict) else inner
        for name, inner in values.items()
        if name not in EXAMPLES
    }


def test_init_never_overwrites(tmp_path: Path, embedmill: Terminal) -> None:
    (tmp_path / "pipeline.yaml").write_text("mine")
    said = embedmill("init", tmp_path)
    assert said.code == 2
    assert "exists already" in said.err
    assert (tmp_path / "pipeline.yaml").read_text() == "mine"


@pytest.mark.parametrize("kind", Kind)
def test_the_published_json_schemas_are_current(kind: Kind, embedmill: Terminal) -> None:
    published = (SCHEMAS / f"{kind}.schema.json").read_bytes()
    assert schema_bytes(kind) == published, f"embedmill schema {kind} > docs/schemas/{kind}.schema.json"
    assert embedmill("schema", str(kind)).json == json.loads(published)


def test_config_shows_defaults_and_the_environment(
    mill: Mill, spec: Path, embedmill: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    mill.open()
    monkeypatch.setenv("EMBEDMILL_WORK__WORKERS", "3")
    shown = yaml.safe_load(embedmill("config", "show", spec).out)
    assert (shown["work"]["workers"], shown["work"]["attempts"]) == (3, 3)
    assert embedmill.json("config", "show", spec) == {"schema": "config/1", "pipeline": shown}


def test_doctor_finds_this_machine_fit(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.write(items(3))
    mill.open()
    report = embedmill.json("doctor", spec)
    assert (report["schema"], report["ok"]) == ("doctor/1", True)
    states = {finding["check"]: finding["state"] for finding in report["findings"]}
    needed = {"python", "numpy", "onnxruntime", "faiss-cpu", "cores", "temporary files", "cache"}
    assert needed | {"spec", "model", "store"} <= set(states)
    assert "fail" not in states.values()
    assert not list((mill.root / "mill").rglob(".doctor*"))


def test_doctor_looks_for_what_every_extra_of_all_installs(embedmill: Terminal) -> None:
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    wanted = re.fullmatch(r"embedmill\[(.*)\]", *extras["all"])
    assert wanted is not None
    assert set(wanted[1].split(",")) == set(EXTRAS)
    looked_for = {each["check"] for each in embedmill.json("doctor")["findings"]}
    assert looked_for >= {"fastapi", "uvicorn", "prometheus-client", "kubernetes", "openvino"}


def test_doctor_fails_where_a_pipeline_cannot_run(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.settings |= {"model": "nope", "store": "/sys/embedmill"}
    mill.open()
    report = embedmill.json("doctor", spec, code=1)
    failed = {
        finding["check"]: finding["hint"] for finding in report["findings"] if finding["state"] == "fail"
    }
    assert set(failed) == {"model", "store"}
    assert all(failed.values())
    said = embedmill("doctor", spec)
    assert said.code == 1
    assert said.out.count("FAIL") == 2


def test_doctor_says_where_temporary_files_cannot_be_written(
    tmp_path: Path, embedmill: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDMILL_CACHE", "/sys/embedmill")
    report = embedmill.json("doctor")
    (cache,) = (finding for finding in report["findings"] if finding["check"] == "cache")
    assert (cache["state"], cache["hint"]) == ("warn", "point EMBEDMILL_CACHE to a writable folder")


def test_a_command_ends_without_looking_through_all_objects_once_more() -> None:
    ends = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 100_000))"
    more = "kept = [[] for _ in range(100_000)]"
    code = f"{ends}; from embedmill.cli import main; {more}; main(['--version'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"


MODULE = "import runpy; runpy.run_module('embedmill', run_name='__main__', alter_sys=True)"
SCRIPT = "from embedmill.cli import main; sys.exit(main())"


@pytest.mark.parametrize("collects", [True, False])
@pytest.mark.parametrize("way", [MODULE, SCRIPT])
def test_what_a_command_imported_is_never_looked_at_for_garbage(
    tmp_path: Path, collects: bool, way: str
) -> None:
    begins = f"import gc, sys\n{'gc.enable' if collects else 'gc.disable'}()"
    ends = "print(len(gc.get_objects()) < gc.get_freeze_count(), gc.isenabled())"
    script = tmp_path / ("embedmill" if way == SCRIPT else "other.py")
    script.write_text(f"{begins}\ntry:\n    {way}\nexcept SystemExit:\n    {ends}\n")
    command = [sys.executable, str(script), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["True", str(collects)]


def test_a_process_that_calls_commands_keeps_no_garbage() -> None:
    code = """if True:
        import gc, weakref
        class Node: pass
        before = gc.get_freeze_count()
        gc.disable()
        node = Node()
        node.itself, gone = node, weakref.ref(node)
        del node
        from embedmill.cli import main
        main(["plan", "absent.yaml"])
        gc.collect()
        print(gone() is None, gc.get_freeze_count() == before)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_help_loads_no_library_that_computes() -> None:
    code = "import sys; from embedmill.cli import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded & {"typer", "numpy", "pyarrow", "pydantic", "yaml", "PIL", "rich"} == {"typer"}


@pytest.mark.parametrize(
    "given", [["plan"], ["run"], ["jenkins", "plan", "--fleet=f", "--facts=f", "--to=t"]]
)
@pytest.mark.parametrize("asked", [None, "jemalloc"])
def test_a_command_that_plans_takes_arrows_memory_from_the_system_unless_its_environment_says_otherwise(
    given: list[str], asked: str | None
) -> None:
    left, backend = after([*given, "absent.yaml"], asked)
    assert (left, backend) == (str(asked), "system" if asked is None else asked)


def test_other_commands_take_arrows_memory_as_arrow_does() -> None:
    assert after(["status", "absent.yaml"], None) == ["None", "mimalloc"]


def after(given: list[str], asked: str | None) -> list[str]:
    """After a command: what programs that it starts are told of Arrow's memory, and where its own is."""
    told = f"import os, pyarrow as pa; print(os.environ.get({ARROWS_POOL!r}), "
    told += "pa.default_memory_pool().backend_name)"
    code = f"from embedmill.cli import main; main({given!r}); {told}"
    environment = {name: value for name, value in os.environ.items() if name != ARROWS_POOL}
    environment |= {} if asked is None else {ARROWS_POOL: asked}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.splitlines()[-1].split()
