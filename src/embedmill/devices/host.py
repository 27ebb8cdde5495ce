"""What this host knows of its GPUs, and who has them: one JSON document of the schema `host/1` on stdout.

stdin has `{"window_s": 120, "every_s": 2, "deadline_s": 20, "folder": "/var/tmp/embedmill"}`: for how
long, and how often, GPUs are looked at; how many seconds later there must be an answer; where locks are.
"""

from __future__ import annotations

import glob
import json
import os
import platform
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from embedmill.devices import smi
from embedmill.devices.allocations import Given, kubelet, slurm, unanswered
from embedmill.devices.driver_files import driver_files
from embedmill.devices.kernel_log import place_of, xids
from embedmill.devices.locks import UUID, LocksUnusable, holder_of
from embedmill.devices.procfs import holders, namespaced
from embedmill.devices.sampling import Gathered, Gathering
from embedmill.devices.tools import container_tools

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = "host/1"
DRIVERS_SHARE = 0.7
"""Of the time beyond the window, for NVML; the rest is for what is asked after it."""
NVIDIA, GPU_CLASSES = "0x10de", ("0x0300", "0x0302")


def main() -> int:
    """Print the document, on one line."""
    asked = json.loads(sys.stdin.buffer.read() or b"{}")
    facts = look(
        window_s=float(asked.get("window_s", 0)),
        every_s=float(asked.get("every_s", 2)),
        deadline_s=float(asked.get("deadline_s", 20)),
        folder=str(asked.get("folder", "/var/tmp/embedmill")),  # noqa: S108 - as fleet.yaml has it
    )
    sys.stdout.write(json.dumps({"schema": SCHEMA, **facts}) + "\n")
    sys.stdout.flush()
    os._exit(0)  # a thread may hang in the driver


def look(*, window_s: float, every_s: float, deadline_s: float, folder: str) -> dict[str, Any]:
    """The facts, as `HostFacts` has them. Who was given GPUs is asked last: it may change meanwhile."""
    taken = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    gathering = Gathering(window_s, every_s)
    begun = time.monotonic()
    until = begun + window_s + deadline_s
    aside = _Aside(container_tools, xids)
    gathered = gathering.result(begun + window_s + DRIVERS_SHARE * deadline_s)
    givers = _Aside(slurm, kubelet)
    facts = {**_machine(), "taken": taken, **_gpus_of(gathered, window_s, every_s, deadline_s)}
    problems: list[str] = facts["problems"]
    _add_holders(facts["gpus"], problems)
    given = givers.results(until)
    _add_owners(facts["gpus"], [given.get(each) or unanswered(each) for each in givers.names])
    _add_leases(facts["gpus"], folder, problems)
    facts["driver_files"] = driver_files(facts["driver"])
    found = aside.results(until)
    problems += [f"{each.replace('_', ' ')}: no answer" for each in aside.names if each not in found]
    facts["tools"], lacking = found.get("container_tools") or ([], [])
    problems += lacking
    _add_xids(facts["gpus"], found.get("xids"))
    return facts


class _Aside:
    """Functions that run in threads meanwhile; what has not answered in time is left behind."""

    def __init__(self, *functions: Callable[[], Any]) -> None:
        """Start them."""
        self._found: dict[str, Any] = {}
        self._threads = [threading.Thread(target=self._run, args=(each,), daemon=True) for each in functions]
        self.names = [each.__name__ for each in functions]
        for thread in self._threads:
            thread.start()

    def _run(self, function: Callable[[], Any]) -> None:
        self._found[function.__name__] = function()

    def results(self, until: float) -> dict[str, Any]:
        """What those found, by their names, that have answered."""
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return dict(self._found)


def _machine() -> dict[str, Any]:
    system = os.uname()
    return {
        "hostname": system.nodename,
        "kernel": system.release,
        "machine": system.machine,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "namespaced": namespaced(),
    }


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _gpus_of(gathered: Gathered, window_s: float, every_s: float, deadline_s: float) -> dict[str, Any]:
    """Of NVML; of nvidia-smi where there is no such library. A driver that hangs is not asked twice."""
    problems = gathered.problems
    if not gathered.finished:
        problems.append(
            f"driver: it hangs in {gathered.calling or 'its library'}; `dmesg` may say why, "
            "and often only a restart helps"
        )
    if gathered.answered or not gathered.absent:
        gpus = gathered.told()
        _say_what_lacks(len(gpus), problems)
        source = "nvml" if gathered.answered else "none"
        driver = gathered.driver or _kernels_driver()
        return _found(source, driver, gathered.cuda, gpus, gathered.covered_s, problems)
    try:
        return _ask_smi(window_s, max(every_s, smi.EVERY_S), deadline_s)
    except smi.SmiError as error:
        on_bus = _say_what_lacks(0, problems)
        if on_bus:
            problems.append(f"driver: neither libnvidia-ml.so.1 nor nvidia-smi answers: {error}")
        return _found("none", _kernels_driver(), None, [], 0.0, problems)


def _found(
    source: str,
    driver: str | None,
    cuda: Any,
    gpus: list[dict[str, Any]],
    window_s: float,
    problems: list[str],
) -> dict[str, Any]:
    return {
        "source": source,
        "driver": driver,
        "cuda": cuda,
        "gpus": gpus,
        "window_s": round(window_s, 1),
        "problems": problems,
    }


def _ask_smi(window_s: float, every_s: float, deadline_s: float) -> dict[str, Any]:
    """Look after look, the last one at the end of the window: the figures are the worst of all."""
    begun = time.monotonic()
    found = smi.ask(deadline_s)
    while (left_s := begun + window_s - time.monotonic()) > 0:
        time.sleep(min(every_s, left_s))
        smi.add_look(found["gpus"], smi.ask(deadline_s)["gpus"])
    return _found(
        "nvidia-smi",
        found["driver"],
        found["cuda"],
        found["gpus"],
        time.monotonic() - begun if window_s else 0.0,
        [],
    )


def _say_what_lacks(told: int, problems: list[str]) -> int:
    """How many GPUs are on the PCI bus; a problem where fewer were told."""
    on_bus = sum(_is_gpu(folder) for folder in glob.glob("/sys/bus/pci/devices/*"))
    if on_bus > told:
        problems.append(f"driver: {on_bus} NVIDIA GPUs are on the PCI bus, and it tells of {told}")
    return on_bus


def _is_gpu(folder: str) -> bool:
    return _read(f"{folder}/vendor") == NVIDIA and _read(f"{folder}/class").startswith(GPU_CLASSES)


def _kernels_driver() -> str | None:
    """The version of the module that is loaded."""
    return _read("/sys/module/nvidia/version") or None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _add_xids(gpus: list[dict[str, Any]], by_place: dict[str, list[int]] | None) -> None:
    for gpu in gpus:
        if by_place is not None and gpu["pci_bus_id"]:
            gpu["health"]["xids"] = by_place.get(place_of(gpu["pci_bus_id"]), [])


def _add_holders(gpus: list[dict[str, Any]], problems: list[str]) -> None:
    """Those that were found are told; "none" is told only by those who may look at every process."""
    minors = [gpu["minor"] for gpu in gpus if gpu["minor"] is not None]
    if not minors:
        return
    found, complete = holders(minors, without={os.getpid()})
    for gpu in gpus:
        pids = found.get(gpu["minor"], [])
        gpu["holders"] = pids if pids or complete else None
    if not complete:
        problems.append(
            "processes: who has device nodes open is known in part: other users' may not be looked at"
        )


def _add_owners(gpus: list[dict[str, Any]], givers: list[Given]) -> None:
    for gpu in gpus:
        gpu["allocations"] = [words for words in (each.of(gpu) for each in givers) if words]


def _add_leases(gpus: list[dict[str, Any]], folder: str, problems: list[str]) -> None:
    for gpu in gpus:
        slices = [each for each in gpu["mig_devices"] if UUID.fullmatch(each["uuid"])]
        for each in [gpu, *slices]:
            try:
                each["lease"] = holder_of(folder, each["uuid"])
            except (OSError, LocksUnusable) as error:
                each["lease"] = "somebody whose lock may not be looked at"
                problems.append(f"locks: that of {each['uuid']}, on GPU {gpu['index']}: {error}")
