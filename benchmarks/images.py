"""What is in an image for workers, and what does a container cost before the worker's first line?

    python -m benchmarks.images [--image ID --tool "podman --root …"] [--rounds 7] [--json]

Without `--image` it builds onnx-cpu from a Debian with Python, which needs root, podman, buildah, runc and
mmdebstrap; where they lack, it says so and ends. Each start is timed in turns with the others, so that a busy
machine slows all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.support.measuring import machine
from tests.deploy_group.containers import NEEDED, Containers
from tests.fleet_group.worker_image import build_worker_image

from embedmill.deploy.image_tools import ImageTool, find_tool, inspect_image
from embedmill.spec.worker_images import ImageReport

LIMITS = ("--ulimit=nofile=1024:20000", "--ulimit=nproc=4096:4096")
CONFINED = ("--rm", "--network=none", "--read-only", "--cap-drop=all", "--tmpfs=/tmp", *LIMITS)
SHOWN = 12


def main() -> int:
    arguments = parsed()
    with contextlib.ExitStack() as stack:
        if arguments.image is None:
            lacking = [name for name in NEEDED if shutil.which(name) is None]
            if lacking or os.geteuid() != 0:
                print(f"no image can be built here: {', '.join(lacking) or 'not root'}")
                return 0
            tool, image = stack.enter_context(a_build())
        else:
            tool, image = find_tool(arguments.tool), arguments.image
        report = inspect_image(tool, image, packages=True, more=LIMITS)
        starts = measured(tool, image, arguments.rounds)
    say(report, starts, as_json=arguments.json)
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--image")
    parser.add_argument("--tool")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


@contextlib.contextmanager
def a_build() -> Iterator[tuple[ImageTool, str]]:
    """The image, in a store that is removed at the end."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(prefix="run-") as short:
        containers = Containers(Path(folder) / "containers", Path(short))
        containers.folder.mkdir()
        try:
            yield (
                ImageTool(tuple(containers.podman_command())),
                build_worker_image(containers, Path(folder)).image,
            )
        finally:
            containers.remove()


def measured(tool: ImageTool, image: str, rounds: int) -> Mapping[str, list[float]]:
    """Seconds of each start, in turns; the first round warms the disk's cache and does not count."""
    run = [*tool.command, "run", *CONFINED]
    starts: dict[str, Sequence[str]] = {
        "a container that does nothing": [*run, "--entrypoint=true", image],
        "embedmill --version in it": [*run, image, "--version"],
        "embedmill worker --help in it": [*run, image, "worker", "--help"],
        "embedmill worker --help, no container": [sys.executable, "-m", "embedmill", "worker", "--help"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in starts}
    for number in range(rounds + 1):
        for name, command in starts.items():
            began = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def say(report: ImageReport, starts: Mapping[str, list[float]], *, as_json: bool) -> None:
    wheels = [package for package in report.packages if package.kind == "pypi"]
    base = sum(package.size_bytes for package in report.packages if package.kind != "pypi")
    medians = {name: statistics.median(seconds) for name, seconds in starts.items()}
    if as_json:
        print(json.dumps({"machine": machine(), "image": report.to_json(), "starts_s": medians}))
        return
    print(f"{machine()}\n\n{'package':28}{'version':>18}{'MB':>8}")
    for package in wheels[:SHOWN]:
        print(f"{package.name:28}{package.version:>18}{package.size_bytes / 1e6:8.1f}")
    rest = wheels[SHOWN:]
    print(f"{f'{len(rest)} more':46}{sum(package.size_bytes for package in rest) / 1e6:8.1f}")
    print(f"{'all packages of Python':46}{sum(package.size_bytes for package in wheels) / 1e6:8.1f}")
    print(f"{'packages of the base':46}{base / 1e6:8.1f}")
    print(f"{'all layers':46}{(report.size_bytes or 0) / 1e6:8.1f}\n\n{'start':46}{'s':>8}")
    for name, median in medians.items():
        print(f"{name:46}{median:8.2f}")


if __name__ == "__main__":
    sys.exit(main())
