"""Errors below sections that have names, in lists, and of kinds: what is said, on which line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from embedmill.errors import SpecError
from embedmill.spec import load_fleet_spec, load_images_spec, load_model_spec, load_pipeline_spec
from embedmill.spec.runtimes import KINDS

Load = Callable[[Path], object]
DIGEST = f"sha256:{'ab' * 32}"
PIPELINE = "name: p\nmodel: m\nstore: s\ncatalog: {source: a.csv, id: sku}\n"
KUBERNETES = PIPELINE + "kubernetes:\n  families:\n    onnx-cuda12:\n      "
RAY = PIPELINE + "ray:\n  address: localhost:6379\n  families:\n    big:\n      "
JENKINS = PIPELINE + "jenkins:\n  url: http://localhost\n  job: j\n  families:\n    big:\n      "
IMAGE = f"images:\n  a:\n    image: '{DIGEST}'\n    runtimes: {{onnx: 1.22.0}}\n    "
MODEL = (
    "name: m\ndimension: 3\nencoders:\n  item:\n    x: {text: {template: '{a}', max_length: 3}}\nruntimes:\n"
)
ENGINES = "there are: local, ssh, kubernetes, ray, jenkins"


def said(load: Load, folder: Path, text: str) -> str:
    file = folder / "spec.yaml"
    file.write_text(text)
    with pytest.raises(SpecError) as caught:
        load(file)
    return caught.value.message.removeprefix(f"{file}:")


@pytest.mark.parametrize(
    ("load", "text", "expected"),
    [
        (
            load_fleet_spec,
            "servers:\n  w: {kind: local, prot: 22}\n",
            "2: unknown key `servers.w.prot`; did you mean `port`? allowed: kind, address, port, options,",
        ),
        (
            load_fleet_spec,
            "servers:\n  w: {room: {memory_mb: 1}}\n",
            "2: unknown key `servers.w.room.memory_mb`; did you mean `memory_mib`? allowed: memory_mib,",
        ),
        (
            load_fleet_spec,
            "servers: {w: {}}\nreserved:\n  - {servers: [w], huors: []}\n",
            "3: unknown key `reserved.0.huors`; did you mean `hours`? allowed: servers, gpus, hours, why",
        ),
        (
            load_fleet_spec,
            "servers: {w: {}}\nidle: {widow_s: 3}\n",
            "2: unknown key `idle.widow_s`; did you mean `window_s`? allowed: window_s,",
        ),
        (
            load_pipeline_spec,
            KUBERNETES + "wokers: 3\n",
            "8: unknown key `kubernetes.families.onnx-cuda12.wokers`; did you mean `workers`? allowed:",
        ),
        (
            load_pipeline_spec,
            KUBERNETES + "tpu: {accelerator: a, topology: 2x2, chip: 4}\n",
            "8: unknown key `kubernetes.families.onnx-cuda12.tpu.chip`; did you mean `chips`? allowed: ",
        ),
        (
            load_pipeline_spec,
            RAY + "gpu: 1\n",
            "9: unknown key `ray.families.big.gpu`; did you mean `gpus`? allowed: image, workers,",
        ),
        (
            load_pipeline_spec,
            JENKINS + "lable: x\n",
            "10: unknown key `jenkins.families.big.lable`; did you mean `label`? allowed: label, workers,",
        ),
        (
            load_pipeline_spec,
            PIPELINE + "gates:\n  relevance: {queries: q, kk: 3}\n",
            "6: unknown key `gates.relevance.kk`; did you mean `k`? allowed: queries, k,",
        ),
        (
            load_images_spec,
            IMAGE + "sas: ['7.5']\n",
            "5: unknown key `images.a.sas`; did you mean `sass`? allowed: image, runtimes, cuda, sass,",
        ),
        (
            load_images_spec,
            IMAGE + "compat: {driver: '570', folders: /x}\n",
            "5: unknown key `images.a.compat.folders`; did you mean `folder`? allowed: driver, branches,",
        ),
        (
            load_model_spec,
            MODEL + "  - {kind: onnx, file: f, shapes: {x: {minn: [1], opt: [1], max: [1]}}}\n",
            "7: unknown key `runtimes.0.shapes.x.minn`; did you mean `min`? allowed: min, opt, max",
        ),
        (
            load_model_spec,
            MODEL.replace("max_length", "max_lenght") + "  - {kind: onnx, file: f}\n",
            "5: unknown key `encoders.item.x.text.max_lenght`; did you mean `max_length`? allowed: template,",
        ),
        (
            load_model_spec,
            MODEL.replace("{text:", "{txt:") + "  - {kind: onnx, file: f}\n",
            "5: unknown key `encoders.item.x.txt`; did you mean `text`? allowed: text, image, category,",
        ),
    ],
)
def test_an_unknown_key_of_a_section_in_any_shape_is_told_with_those_that_are_allowed(
    tmp_path: Path, load: Load, text: str, expected: str
) -> None:
    assert said(load, tmp_path, text).startswith(expected)


@pytest.mark.parametrize(
    ("load", "text", "expected"),
    [
        (load_pipeline_spec, "engine: shh\n", f"5: `engine`: no engine 'shh'; did you mean `ssh`? {ENGINES}"),
        (
            load_pipeline_spec,
            "engine: local,shh\n",
            f"5: `engine`: no engine 'shh'; did you mean `ssh`? {ENGINES}",
        ),
        (
            load_pipeline_spec,
            "engine: [local, shh]\n",
            f"5: `engine`: no engine 'shh'; did you mean `ssh`? {ENGINES}",
        ),
        (
            load_pipeline_spec,
            "engine: local,ssh\n",
            "5: `engine`: several engines are a list: [local, ssh]",
        ),
        (
            load_pipeline_spec,
            "engine: {local: 1}\n",
            "5: `engine`: found {'local': 1}; expected local, ssh, kubernetes, ray or jenkins or a list",
        ),
        (load_pipeline_spec, "index: {kind: hsnw}\n", "did you mean `hnsw`? allowed: flat, hnsw"),
        (
            load_pipeline_spec,
            "compact_above: much\n",
            "5: `compact_above`: found 'much'; expected a number",
        ),
        (
            load_pipeline_spec,
            "work: {workers: 1.5}\n",
            "5: `work.workers`: found 1.5; expected a whole number",
        ),
        (
            load_pipeline_spec,
            "work: {calibrate: perhaps}\n",
            "5: `work.calibrate`: found 'perhaps'; expected true or false",
        ),
        (
            load_pipeline_spec,
            "work: {look_again_s: 0}\n",
            "5: `work.look_again_s`: found 0; expected a number above 0",
        ),
        (
            load_pipeline_spec,
            "deadline: noon\n",
            "5: `deadline`: found 'noon'; expected a time of day in quotes such as \"06:00\"",
        ),
        (
            load_pipeline_spec,
            "index:\n",
            "5: `index`: found nothing; expected a section with keys of its own",
        ),
        (load_pipeline_spec, "fleet: yes\n", "5: `fleet`: found true; expected a text"),
        (
            load_pipeline_spec,
            RAY.removeprefix(PIPELINE) + "workers: many\n",
            "9: `ray.families.big.workers`: found 'many'; expected a whole number or auto",
        ),
        (
            load_pipeline_spec,
            RAY.removeprefix(PIPELINE) + "workers: 0\n",
            "9: `ray.families.big.workers`: found 0; expected a number that is at least 1 or auto",
        ),
        (load_pipeline_spec, RAY.removeprefix(PIPELINE) + "gpus: 2\n", "found 2; allowed: 0, 1"),
        (load_fleet_spec, "servers: {}\n", "1: `servers` is empty; it needs at least one entry"),
        (load_fleet_spec, "servers:\n", "1: `servers`: found nothing; expected a section with keys"),
        (
            load_fleet_spec,
            "servers:\n  'gpu 1': {}\n",
            "2: `servers.gpu 1`: found 'gpu 1'; expected a name of letters, digits, `.`, `_` and `-`",
        ),
        (load_images_spec, "images: {}\n", "1: `images` is empty; it needs at least one entry"),
        (
            load_images_spec,
            "images: {a: {image: 'sha256:abc', runtimes: {onnx: 1}}}\n",
            "1: `images.a.image`: found 'sha256:abc'; expected NAME@sha256: with 64 digits",
        ),
        (load_model_spec, MODEL + "  []\n", "6: `runtimes` is empty; it needs at least one entry"),
        (
            load_model_spec,
            MODEL + "  - {kind: onx, file: f}\n",
            "7: `runtimes.0.kind`: found 'onx'; did you mean `onnx`? allowed: onnx, openvino, tensorflow, ",
        ),
    ],
)
def test_a_wrong_value_is_told_in_words_of_the_file(
    tmp_path: Path, load: Load, text: str, expected: str
) -> None:
    whole = PIPELINE + text if load is load_pipeline_spec else text
    found = said(load, tmp_path, whole)
    assert expected in found
    assert not any(
        word in found for word in ("literal[", "tuple[", "constrained", "validation", "nput should")
    )


@pytest.mark.parametrize(
    ("load", "text", "expected"),
    [
        (
            load_images_spec,
            IMAGE.replace("onnx:", "onyx:"),
            "4: `images.a.runtimes.onyx`: no runtime 'onyx'; did you mean `onnx`? there are: onnx, openvino,",
        ),
        (
            load_images_spec,
            IMAGE + "replaces: b\n",
            "5: `images.a.replaces`: no other image 'b'; there is none",
        ),
        (
            load_fleet_spec,
            "servers: {w: {}}\nidle:\n  baseline_mib: {x: 3}\n",
            "3: `idle.baseline_mib.x`: no server 'x'; there are: w",
        ),
        (
            load_fleet_spec,
            "servers: {gpu-01: {}}\npools:\n  all:\n    - gpu-01\n    - gpu-10\n",
            "5: `pools.all.1`: no server 'gpu-10'; did you mean `gpu-01`? there are: gpu-01",
        ),
        (
            load_fleet_spec,
            "servers: {w: {}}\npools: {all: [w]}\nreserved:\n  - servers: [w]\n  - servers: [al]\n",
            "5: `reserved.1.servers.0`: no server or pool 'al'; did you mean `all`? there are: w, all",
        ),
        (load_fleet_spec, "servers: {w: {}}\npools:\n  w: [w]\n", "3: `pools.w`: 'w' is a pool and a server"),
    ],
)
def test_a_name_that_names_nothing_is_told_on_its_own_line(
    tmp_path: Path, load: Load, text: str, expected: str
) -> None:
    assert said(load, tmp_path, text).startswith(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_may_have_every_runtime_that_a_model_may(tmp_path: Path, kind: str) -> None:
    (tmp_path / "images.yaml").write_text(IMAGE.replace("onnx:", f"{kind}:"))
    assert list(load_images_spec(tmp_path / "images.yaml").images["a"].runtimes) == [kind]


def test_a_word_that_is_wrong_as_a_key_is_told_with_those_that_are_right(tmp_path: Path) -> None:
    wrong = MODEL.replace("  item:\n", "  query: {}\n  item:\n") + "  - {kind: onnx, file: f}\n"
    expected = "found 'query'; did you mean `query_text`? allowed: item, query_text, query_image"
    assert said(load_model_spec, tmp_path, wrong).startswith(f"4: `encoders.query`: {expected}")


def test_wrong_entries_of_a_list_are_no_second_error(tmp_path: Path) -> None:
    found = said(load_model_spec, tmp_path, MODEL + "  - {kind: pickle, file: f}\n")
    assert "more)" not in found
    found = said(load_pipeline_spec, tmp_path, PIPELINE + "goldens: 0\nthreads: 3\n")
    assert found.endswith("(and 1 more)")


@pytest.mark.parametrize(
    ("load", "text", "expected"),
    [
        (
            load_fleet_spec,
            "servers:\n  w: {address: -oProxyCommand=x}\n",
            "expected what ssh connects to, such as me@10.0.0.7: no spaces, and no `-` in front",
        ),
        (
            load_pipeline_spec,
            RAY.replace("localhost:6379", "localhost") + "cpus: 1\n",
            "found 'localhost'; expected HOST:PORT or ray://HOST:PORT, such as 10.0.0.7:6379",
        ),
    ],
)
def test_what_an_address_is_is_told_in_words(tmp_path: Path, load: Load, text: str, expected: str) -> None:
    assert expected in said(load, tmp_path, text)
