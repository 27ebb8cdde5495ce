"""What is in an image, as its build says it: for which GPUs its libraries have code, and which packages."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections import Counter
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

from embedmill.deploy import describe
from embedmill.deploy.describe import PTX, SASS, code_in, debian_components, mostly

Part = tuple[int, int]
KERNELS: list[Part] = [(SASS, 75), (SASS, 80), (PTX, 80)]


def fat_binary(parts: list[Part]) -> bytes:
    """As nvcc writes it: a head, and for each part a head of 64 bytes and its code."""
    body = b""
    for kind, capability in parts:
        code = b"code" * 6
        head = struct.pack("<HHIQIIHHI", kind, 0x101, 64, len(code), 0, 0, 0, 0, capability)
        body += head.ljust(64, b"\0") + code
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def a_library(file: Path, *binaries: bytes) -> Path:
    file.write_bytes(b"\x7fELF" + bytes(60) + bytes(40).join(binaries) + bytes(40))
    return file


def test_code_is_counted_by_compute_capability(tmp_path: Path) -> None:
    sass, ptx = code_in(a_library(tmp_path / "a.so", fat_binary(KERNELS), fat_binary(KERNELS)))
    assert sass == {"7.5": 2, "8.0": 2}
    assert ptx == {"8.0": 2}


def test_capabilities_of_two_digits_before_the_point_are_read(tmp_path: Path) -> None:
    sass, _ = code_in(a_library(tmp_path / "a.so", fat_binary([(SASS, 100), (SASS, 121)])))
    assert sorted(sass) == ["10.0", "12.1"]


@pytest.mark.parametrize("length", [1, 8, 15, 16, 40, 100])
def test_what_only_looks_like_code_is_none(tmp_path: Path, length: int) -> None:
    (tmp_path / "a.so").write_bytes(fat_binary(KERNELS)[:length])
    assert code_in(tmp_path / "a.so") == ({}, {})


def test_an_empty_library_has_no_code(tmp_path: Path) -> None:
    (tmp_path / "a.so").touch()
    assert code_in(tmp_path / "a.so") == ({}, {})


def test_a_few_kernels_for_one_gpu_are_not_code_for_it() -> None:
    assert mostly(Counter({"12.0": 450, "8.0": 449, "10.3": 59}), 450) == ["8.0", "12.0"]


def run_describe(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As the build runs it, with nothing but these packages."""
    environment = {"PYTHONPATH": str(site)}
    command = [sys.executable, "-S", describe.__file__, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A runtime with code for GPUs, and a toolkit."""
    for name, version, files in (
        ("a-runtime", "1.26.0", ["kernels.so"]),
        ("nvidia-cuda-runtime-cu12", "12.9.79", []),
    ):
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    a_library(tmp_path / "kernels.so", fat_binary(KERNELS))
    return tmp_path


TRUE = ("--code", "a-runtime", "--sass", "7.5 8.0", "--ptx", "8.0", "--cuda", "12.9")


def test_packages_are_listed_with_their_sizes(site: Path) -> None:
    done = run_describe(site, *TRUE)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = {each["name"]: each for each in json.loads(done.stdout)["components"]}
    assert found["a-runtime"]["purl"] == "pkg:pypi/a-runtime@1.26.0"
    size = (site / "kernels.so").stat().st_size
    assert found["a-runtime"]["properties"] == [{"name": "embedmill:size_bytes", "value": str(size)}]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--sass", "7.5 8.0 9.0", "--sass says '7.5 8.0 9.0', and in a-runtime 1.26.0 it is '7.5 8.0'"),
        ("--ptx", "", "--ptx says '', and in a-runtime 1.26.0 it is '8.0'"),
        ("--cuda", "12.4", "--cuda says '12.4', and in a-runtime 1.26.0 it is '12.9'"),
    ],
)
def test_a_build_fails_where_what_is_said_is_not_so(site: Path, option: str, value: str, said: str) -> None:
    wrong = list(TRUE)
    wrong[wrong.index(option) + 1] = value
    done = run_describe(site, *wrong)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == said


def test_this_environment_can_be_described() -> None:
    names = {component["name"] for component in describe.sbom(list(distributions()))["components"]}
    assert {"numpy", "pyarrow"} <= names


def test_packages_of_the_base_are_listed_if_they_are_installed(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(
        "Package: libc6\nStatus: install ok installed\nInstalled-Size: 12\nVersion: 2.36-9\nTag: a,\n b\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n"
    )
    (only,) = debian_components(status)
    assert only["purl"] == "pkg:deb/debian/libc6@2.36-9"
    assert only["properties"][0]["value"] == "12288"
    assert debian_components(tmp_path / "absent") == []
