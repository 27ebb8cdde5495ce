"""What facts of a GPU are evidence of, in words with figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.spec.host import GpuFacts, GpuProcess, Health

XIDS = {
    46: "GPU stopped processing",
    48: "double-bit ECC error",
    63: "memory remapped or retired",
    64: "remapping of memory failed",
    79: "GPU has fallen off the bus",
    94: "contained ECC error",
    95: "uncontained ECC error",
}
"""Events after which a GPU must be reset, or looked at; those of faulty programs (13, 31, 43) are not."""
MOST_NAMED = 3


def gib(size_bytes: int) -> str:
    """Such as 37.2 GiB."""
    return f"{size_bytes / (1 << 30):.1f} GiB"


def illness(health: Health) -> str:
    """Why a GPU must not compute; empty where nothing is known against it."""
    found = []
    if health.remap_failed:
        found.append("row remap failed")
    if health.remap_pending:
        found.append("row remap pending, until a reset")
    if health.ecc_uncorrected:
        found.append(counted(health.ecc_uncorrected, "uncorrectable ECC error"))
    xids = [number for number in dict.fromkeys(health.xids or ()) if number in XIDS]
    found += [f"Xid {number} since boot ({XIDS[number]})" for number in xids]
    return ", ".join(found)


def unknown_health(health: Health) -> str:
    """A remark where nothing at all could be learned."""
    told = (health.ecc_uncorrected, health.remap_pending, health.remap_failed, health.xids)
    return "; nothing of its health could be learned" if all(each is None for each in told) else ""


def settled(gpu: GpuFacts) -> tuple[int, ...]:
    """Samples of utilisation, without the first one where the look itself may have started the driver.

    Starting it scrubs ECC memory, which looks like work; with persistence mode it runs already.
    """
    drop = gpu.persistence is not True and len(gpu.utilisation) > 2
    return gpu.utilisation[1:] if drop else gpu.utilisation


def foreign(processes: Sequence[GpuProcess], exempt: Sequence[str]) -> list[GpuProcess]:
    """Processes that count, those with most memory first. Another worker of Embedmill counts, too."""
    found = [each for each in processes if not _is_exempt(each.name, exempt)]
    return sorted(found, key=lambda each: (-(each.used_bytes or 0), each.pid))


def _is_exempt(name: str | None, exempt: Sequence[str]) -> bool:
    program = (name or "").split(" ")[0].rpartition("/")[2]
    return program.startswith(tuple(each for each in exempt if each))


def processes_in_words(processes: Sequence[GpuProcess]) -> str:
    """Such as `pid 4242 (python, alice) holds 37.2 GiB`."""
    named = [_in_words(each) for each in processes[:MOST_NAMED]]
    more = len(processes) - len(named)
    return ", ".join([*named, *([f"and {more} more"] if more else [])])


def _in_words(process: GpuProcess) -> str:
    who = [
        part for part in (process.name, process.user, "a worker of Embedmill" if process.ours else "") if part
    ]
    called = f"pid {process.pid}" + (f" ({', '.join(who)})" if who else "")
    if process.used_bytes is None:
        return f"{called} has a context"
    return f"{called} holds {gib(process.used_bytes)}"


def open_in_words(holders: Sequence[int] | None) -> str:
    """A remark on who has the device node open, listed as a process or not."""
    if not holders:
        return ""
    shown = ", ".join(map(str, holders[:MOST_NAMED]))
    more = len(holders) - MOST_NAMED
    pids = f"{shown} and {more} more" if more > 0 else shown
    return (
        f"; {'pid' if len(holders) == 1 else 'pids'} {pids} {'has' if len(holders) == 1 else 'have'} it open"
    )
