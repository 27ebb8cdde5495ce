"""Asks many servers at once what their GPUs are doing: one that hangs, or is gone, never hides the others.

server ─▶ ssh ─▶ python3: devices/host.py ─▶ host/1 ─▶ judge ─▶ idle, busy, … with the reason
              └▶ no python3: nvidia-smi -q -x ─┘
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from embedmill.devices import smi
from embedmill.devices.reach import NO_PYTHON, SSH_FAILED, Answer, end_group, run_command, run_there
from embedmill.errors import SpecError, StoreError
from embedmill.fleet.idle import judge
from embedmill.fleet.reaching import CONNECT_S, Silence, host_of, silence_of_ssh
from embedmill.spec.document import now, written
from embedmill.spec.fleet_reports import FleetProbe, ServerProbe
from embedmill.spec.host import HostFacts

if TYPE_CHECKING:
    from embedmill.devices.reach import Started
    from embedmill.spec.fleet import FleetSpec
    from embedmill.types import Host

OWN_SHARE = 0.6
"""Of `timeout_s`, for the server's own work; the rest is for connections."""
CANNOT_RUN = 126
OLD_PYTHON = ("SyntaxError", "No module named 'importlib.abc'")
LESS_TOLD = "{lack} there: nvidia-smi was asked instead, which tells less, and seldom"
ABSENT, OLD = "python3 is not installed", "python3 is older than 3.8"

OnServer = Callable[[ServerProbe], object]


def probe_fleet(
    spec: FleetSpec,
    names: Sequence[str] = (),
    *,
    window_s: float | None = None,
    on_server: OnServer | None = None,
    baseline_mib: Mapping[str, int] | None = None,
) -> FleetProbe:
    """What every server answered, in the order of fleet.yaml; waits for the slowest, or until it is late.

    `names`: of servers and pools; all where there are none. `window_s`: how long GPUs are watched, and must
    be idle; the spec's where None. `on_server` hears of each answer as it comes, in this thread.

    Raises:
        SpecError: There is no server or pool of a name.
    """
    if window_s is not None:
        spec = with_window(spec, window_s)
    begun, taken = time.monotonic(), now()
    answers = _ask_all(spec, members(spec, names), on_server, baseline_mib)
    return FleetProbe(taken=taken, seconds=_since(begun), servers=answers)


def with_window(spec: FleetSpec, window_s: float) -> FleetSpec:
    """The same fleet, whose GPUs are watched for so long; 0: looked at once."""
    return spec.model_copy(update={"idle": spec.idle.model_copy(update={"window_s": window_s})})


def members(spec: FleetSpec, names: Sequence[str]) -> list[str]:
    """Servers by their names or those of pools, in the order of fleet.yaml; all where there are none.

    Raises:
        SpecError: There is no server or pool of a name.
    """
    try:
        asked = set(spec.members(tuple(names)))
    except KeyError as error:
        known = ", ".join([*spec.servers, *spec.pools])
        raise SpecError(f"no server or pool {error.args[0]!r}", hint=f"there are: {known}") from None
    return [name for name in spec.servers if name in asked]


def only_server(spec: FleetSpec, name: str) -> str:
    """The name of one server; a pool is several.

    Raises:
        SpecError: There is no server of that name.
    """
    if name not in spec.servers:
        known = ", ".join(spec.servers)
        raise SpecError(f"no server {name!r}", hint=f"one of them is needed: {known}")
    return name


def _ask_all(
    spec: FleetSpec, names: list[str], on_server: OnServer | None, baseline_mib: Mapping[str, int] | None
) -> tuple[ServerProbe, ...]:
    """By threads that nothing waits for at exit: who interrupts this ends all that was started here."""
    running: set[subprocess.Popen[bytes]] = set()
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    answers: queue.SimpleQueue[ServerProbe | BaseException] = queue.SimpleQueue()
    for name in names:
        waiting.put(name)

    def work() -> None:
        while not waiting.empty():
            try:
                answers.put(ask_server(spec, waiting.get_nowait(), baseline_mib, running.add))
            except queue.Empty:
                return
            except BaseException as error:  # noqa: BLE001 - a bug, which the caller must hear of
                answers.put(error)

    for _ in range(min(spec.parallel, len(names))):
        threading.Thread(target=work, daemon=True).start()
    found: dict[str, ServerProbe] = {}
    try:
        for _ in names:
            answer = answers.get()
            if isinstance(answer, BaseException):
                raise answer
            if on_server is not None:
                on_server(answer)
            found[answer.server] = answer
    finally:
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.get_nowait()
        for process in [each for each in list(running) if each.poll() is None]:
            end_group(process)
    return tuple(found[name] for name in names)


def ask_server(
    spec: FleetSpec,
    name: str,
    baseline_mib: Mapping[str, int] | None = None,
    started: Started | None = None,
) -> ServerProbe:
    """One server's facts, judged; or why there are none. `started` hears of what is started here for it."""
    begun = time.monotonic()
    facts = facts_of(spec, name, started)
    return judged(spec, name, facts, baseline_mib, seconds=_since(begun))


def judged(
    spec: FleetSpec,
    name: str,
    facts: HostFacts | Silence,
    baseline_mib: Mapping[str, int] | None = None,
    *,
    seconds: float = 0.0,
) -> ServerProbe:
    """What a server's facts, or its silence, say of its GPUs now. `seconds`: how long it took to ask."""
    if isinstance(facts, Silence):
        return ServerProbe(server=name, state=facts.state, reason=facts.reason, seconds=seconds)
    silence = _no_gpu(facts)
    if silence is not None:
        return ServerProbe(
            server=name, state=silence.state, reason=silence.reason, seconds=seconds, facts=facts
        )
    verdicts = judge(name, spec, facts, now=datetime.now(UTC), baseline_mib=baseline_mib)
    return ServerProbe(server=name, state="ok", reason="", seconds=seconds, facts=facts, gpus=verdicts)


def question(spec: FleetSpec, folder: str) -> dict[str, object]:
    """What `devices/host.py` is to be asked on a server whose locks are in this folder."""
    return {
        "window_s": spec.idle.window_s,
        "every_s": spec.idle.every_s,
        "deadline_s": OWN_SHARE * spec.timeout_s,
        "folder": folder,
    }


def facts_of(spec: FleetSpec, name: str, started: Started | None = None) -> HostFacts | Silence:
    """What a server tells of itself, over the window of `spec.idle`."""
    connect_s = max(1, min(CONNECT_S, int(spec.timeout_s / 3)))
    try:
        host = host_of(name, spec.servers[name], connect_s=connect_s)
    except SpecError as error:
        return Silence("failed", f"{error.message.removeprefix(f'{name}: ')}; {error.hint}")
    asked = question(spec, host.folder)
    timeout_s = spec.idle.window_s + spec.timeout_s
    try:
        data = json.dumps(asked).encode()
        answer = run_there(host.reach, "host", data=data, timeout_s=timeout_s, started=started)
        lack = _lack_of_python(answer)
        if lack:
            return _ask_smi(host, spec, lack, started)
        return _understood(answer, host, timeout_s)
    except OSError as error:
        return Silence("failed", f"{error.filename or 'ssh'}: {(error.strerror or str(error)).lower()}")


def _lack_of_python(answer: Answer) -> str:
    """Why the program did not run there, if it was for want of Python; else nothing."""
    if answer.code in (NO_PYTHON, CANNOT_RUN):
        return ABSENT
    if answer.code and any(words in answer.words for words in OLD_PYTHON):
        return OLD
    return ""


def _understood(answer: Answer, host: Host, timeout_s: float) -> HostFacts | Silence:
    if answer.code is None:
        return Silence("timeout", f"no answer in {timeout_s:.0f} s: it hangs, or is overloaded")
    if answer.code == SSH_FAILED and host.reach:
        return silence_of_ssh(answer)
    line = answered(answer)
    if line is None:
        said = answer.last_line or f"it ended with exit code {answer.code}"
        return Silence("failed", f"the program that was sent there failed: {said}")
    try:
        return HostFacts.from_bytes(line, host.name)
    except StoreError as error:
        return Silence("failed", f"its answer cannot be understood: {error.message}")


def answered(answer: Answer) -> bytes | None:
    """The line of JSON that a program printed; a shell's start file may print whatever it likes before."""
    lines = [line for line in answer.out.splitlines() if line.startswith(b"{")]
    return lines[-1] if lines and answer.code == 0 else None


def _ask_smi(host: Host, spec: FleetSpec, lack: str, started: Started | None) -> HostFacts | Silence:
    idle, timeout_s = spec.idle, spec.idle.window_s + spec.timeout_s
    asked = smi.command(idle.window_s, idle.every_s)
    answer = run_command(host.reach, asked, b"", timeout_s, started)
    if answer.code is None:
        return Silence("timeout", f"nvidia-smi gave no answer in {timeout_s:.0f} s: the driver hangs")
    if answer.code == NO_PYTHON:
        return _neither(lack)
    text = answer.out.decode(errors="replace")
    try:
        found = smi.parse(text, smi.pause_of(idle.window_s, idle.every_s))
    except smi.SmiError as error:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = answer.last_line or (lines[-1] if lines else str(error))
        return Silence("failed", f"nvidia-smi: {said}")
    return HostFacts.model_validate(
        {
            "hostname": host.name,
            "taken": written(datetime.now(UTC)),
            "source": "nvidia-smi",
            "problems": (LESS_TOLD.format(lack=lack),),
            **found,
        }
    )


def _neither(lack: str) -> Silence:
    """No nvidia-smi either. An old Python may hide a driver; where nothing is installed, none is."""
    if lack == OLD:
        return Silence("failed", f"{OLD} there, and nvidia-smi is not installed", lacks_python=True)
    return Silence("no-gpu", "neither python3 nor nvidia-smi is installed there", lacks_python=True)


def _no_gpu(facts: HostFacts) -> Silence | None:
    """Why there is no GPU among the facts: because of the driver, or because there is none."""
    if facts.gpus:
        return None
    failed = [each for each in facts.problems if each.startswith(("driver: ", "GPU "))]
    if failed:
        return Silence("failed", failed[0])
    return Silence("no-gpu", "no NVIDIA GPU, and no driver" if facts.driver is None else "no GPU")


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 3)
