"""What of a driver is found on a host, wherever its packages put it, and what is said of what lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.driver import DRIVER, a_host, elf, linker_cache

from embedmill.devices.driver_files import driver_files
from embedmill.devices.elf import soname
from embedmill.spec.host import DriverFiles


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
    return a_host(tmp_path / "root")


def found(host: Path, driver: str | None = DRIVER) -> dict[str, Any]:
    return driver_files(driver, str(host))


def test_what_is_found_is_a_document_of_the_host(host: Path) -> None:
    assert DriverFiles.model_validate(json.loads(json.dumps(found(host)))).nodes[0] == "/dev/nvidia0"


def test_each_library_has_the_name_that_programs_load_it_by(host: Path) -> None:
    names = {Path(each["path"]).name: each["soname"] for each in found(host)["libraries"]}
    assert names == {
        f"libcuda.so.{DRIVER}": "libcuda.so.1",
        f"libnvidia-gpucomp.so.{DRIVER}": f"libnvidia-gpucomp.so.{DRIVER}",
        f"libnvidia-ml.so.{DRIVER}": "libnvidia-ml.so.1",
        f"libnvidia-ptxjitcompiler.so.{DRIVER}": "libnvidia-ptxjitcompiler.so.1",
    }


@pytest.mark.parametrize("folder", ["/usr/lib64", "/opt/drivers/of a vendor"])
def test_libraries_are_found_wherever_the_linker_finds_them(tmp_path: Path, folder: str) -> None:
    paths = [each["path"] for each in found(a_host(tmp_path / "root", folder=folder))["libraries"]]
    assert f"{folder}/libcuda.so.{DRIVER}" in paths


def test_nothing_of_another_version_is_taken(host: Path) -> None:
    (host / "usr/lib/somewhere/libnvidia-nvvm.so.470.1").write_bytes(elf("libnvidia-nvvm.so.4"))
    assert not [each for each in found(host)["libraries"] if each["path"].endswith("470.1")]


def test_libraries_of_32_bits_with_the_same_names_are_not_taken(host: Path) -> None:
    (host / "usr/lib/old").mkdir()
    old = host / f"usr/lib/old/libcuda.so.{DRIVER}"
    old.write_bytes(elf("libcuda.so.1", bits=32))
    cache = {
        "libcuda.so.1": f"/usr/lib/old/{old.name}",
        "libnvidia-ml.so.1": "/usr/lib/somewhere/libnvidia-ml.so.1",
    }
    (host / "etc/ld.so.cache").write_bytes(linker_cache(cache))
    assert {each["path"].rsplit("/", 1)[0] for each in found(host)["libraries"]} == {"/usr/lib/somewhere"}


def test_a_driver_that_was_upgraded_under_a_running_kernel_is_told(host: Path) -> None:
    files = found(host, "550.54.14")
    assert files["libraries"] == []
    wanted = f"libcuda is of {DRIVER} and the kernel's module of 550.54.14: reboot the server"
    assert wanted in files["problems"]


def test_nodes_are_those_for_computing(host: Path) -> None:
    wanted = ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"]
    assert found(host)["nodes"] == wanted


def test_a_node_that_lacks_is_told_with_the_command_that_makes_it(host: Path) -> None:
    (host / "dev/nvidia-uvm").unlink()
    assert found(host)["problems"] == ["/dev/nvidia-uvm is absent: as root, nvidia-modprobe -u -c 0 makes it"]


def test_ten_gpus_are_in_order(host: Path) -> None:
    (host / "dev/nvidia10").touch()
    assert found(host)["nodes"][:3] == ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia10"]


def test_slices_have_the_nodes_that_open_them(host: Path) -> None:
    listing = host / "proc/driver/nvidia-caps/mig-minors"
    listing.parent.mkdir(parents=True)
    listing.write_text(
        "config 1\nmonitor 2\ngpu0/gi7/access 66\ngpu0/gi7/ci0/access 67\ngpu1/gi7/access 201\n"
    )
    (host / "dev/nvidia-caps").mkdir()
    for minor in (1, 2, 66, 67):
        (host / f"dev/nvidia-caps/nvidia-cap{minor}").touch()
    wanted = {"gpu0/gi7": "/dev/nvidia-caps/nvidia-cap66", "gpu0/gi7/ci0": "/dev/nvidia-caps/nvidia-cap67"}
    assert found(host)["capabilities"] == wanted, "only those whose node is there"


def test_programs_are_found_on_the_path(host: Path) -> None:
    assert found(host)["programs"] == ["/usr/bin/nvidia-smi"]


def test_a_linker_that_has_no_cache_is_told(host: Path) -> None:
    (host / "etc/ld.so.cache").unlink()
    assert any("the linker's cache cannot be read" in problem for problem in found(host)["problems"])


def test_without_a_driver_there_is_nothing_to_say(host: Path) -> None:
    assert DriverFiles.model_validate(found(host, None)) == DriverFiles()


def test_real_libraries_tell_their_names() -> None:
    maps = Path("/proc/self/maps").read_text().split()
    libc = next(word for word in maps if "/libc.so" in word or "/libc-" in word)
    assert soname(Path(libc)) == "libc.so.6"


@pytest.mark.parametrize("length", [0, 3, 64, 100, 170])
def test_what_is_no_library_is_refused(tmp_path: Path, length: int) -> None:
    (tmp_path / "cut").write_bytes(elf("libcuda.so.1")[:length])
    with pytest.raises(ValueError, match=r"ELF|cut off"):
        soname(tmp_path / "cut")


def test_a_library_without_a_name_has_none(tmp_path: Path) -> None:
    (tmp_path / "nameless").write_bytes(elf(None))
    assert soname(tmp_path / "nameless") is None
