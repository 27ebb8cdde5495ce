"""A new environment gets what others hold in the versions that it wants, and nothing else."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from tools.seeding import lock_file, seed

STAMP = "packages.stamp"
SITE = Path("lib/python3.11/site-packages")
CONFIG = "home = /usr/bin\nversion = 3.11.2\ncommand = python3 -m venv {}\n"


def environment(folder: Path, config: str = CONFIG) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / SITE).mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text(config.format(folder))
    return folder


def add_greeter(folder: Path, *more: str, name: str = "Greeter_App") -> None:
    """A package as pip installs it, with a script."""
    about = folder / SITE / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / SITE / "greeter.py").write_text("def main(): ...\n")
    script = folder / "bin" / "greet"
    script.write_text(f"#!{folder}/bin/python\nimport greeter\n")
    script.chmod(0o755)
    (folder / "bin" / "program").write_bytes(b"\x7fELF")
    files = [f"{about.name}/METADATA", f"{about.name}/RECORD", "greeter.py", *more]
    scripts = ["../../../bin/greet", "../../../bin/program"]
    (about / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, *scripts]))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A finished environment with a package."""
    folder = environment(tmp_path / "made")
    add_greeter(folder)
    (folder / STAMP).write_text("finished")
    return folder


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return environment(tmp_path / "new")


def seeded(new: Path, *lines: str) -> set[str]:
    """The files that an environment has, after it asked for this."""
    requirements = new.parent / "requirements.txt"
    requirements.write_text("\n".join(lines))
    seed(new, [requirements], STAMP)
    return {str(file.relative_to(new)) for file in new.rglob("*") if file.is_file()} - {"pyvenv.cfg"}


WANTED = ("-r other.txt", "# a comment", "greeter-app==1.0")


def test_the_same_version_is_there_with_its_scripts_and_is_the_same_on_the_disk(
    made: Path, new: Path
) -> None:
    files = {"bin/greet", "bin/program", f"{SITE}/greeter.py"}
    about = {f"{SITE}/Greeter_App-1.0.dist-info/{name}" for name in ("METADATA", "RECORD")}
    assert seeded(new, *WANTED) == files | about
    assert (new / SITE / "greeter.py").samefile(made / SITE / "greeter.py")
    assert (new / "bin" / "program").samefile(made / "bin" / "program")


def test_a_script_is_run_by_the_python_of_its_own_environment(made: Path, new: Path) -> None:
    seeded(new, *WANTED)
    assert (new / "bin" / "greet").read_text() == f"#!{new}/bin/python\nimport greeter\n"
    assert (new / "bin" / "greet").stat().st_mode & 0o777 == 0o755
    assert (made / "bin" / "greet").read_text() == f"#!{made}/bin/python\nimport greeter\n"


@pytest.mark.parametrize(
    "line", ["greeter-app==1.0.1", "greeter-app>=1.0", "greeter==1.0", "# greeter-app==1.0"]
)
def test_another_version_and_another_package_stay_away(made: Path, new: Path, line: str) -> None:
    assert seeded(new, line) == set()


def test_an_environment_that_is_not_finished_gives_nothing(made: Path, new: Path) -> None:
    (made / STAMP).unlink()
    assert seeded(new, *WANTED) == set()


def test_an_environment_that_is_being_made_gives_nothing(made: Path, new: Path) -> None:
    with lock_file(made).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert seeded(new, *WANTED) == set()


def test_an_environment_of_another_python_gives_nothing(made: Path, new: Path) -> None:
    (made / "pyvenv.cfg").write_text(CONFIG.format(made).replace("3.11.2", "3.11.9"))
    assert seeded(new, *WANTED) == set()


def test_a_package_with_files_elsewhere_is_left_to_pip(tmp_path: Path, new: Path) -> None:
    made = environment(tmp_path / "made")
    (tmp_path / "elsewhere").touch()
    add_greeter(made, "../../../../elsewhere")
    (made / STAMP).write_text("finished")
    assert seeded(new, *WANTED) == set()


def test_a_package_that_lacks_a_file_is_left_to_pip(made: Path, new: Path) -> None:
    (made / SITE / "greeter.py").unlink()
    assert seeded(new, *WANTED) == set()


def test_compiled_files_may_lack(tmp_path: Path, new: Path) -> None:
    made = environment(tmp_path / "made")
    add_greeter(made, "__pycache__/greeter.cpython-311.pyc")
    (made / STAMP).write_text("finished")
    assert f"{SITE}/greeter.py" in seeded(new, *WANTED)


@pytest.mark.parametrize("name", ["pip", "setuptools"])
def test_what_installs_packages_is_each_environments_own(tmp_path: Path, new: Path, name: str) -> None:
    made = environment(tmp_path / "made")
    add_greeter(made, name=name)
    (made / STAMP).write_text("finished")
    assert seeded(new, f"{name}==1.0") == set()
