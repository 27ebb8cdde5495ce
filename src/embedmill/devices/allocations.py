"""To whom GPUs of this host are given already: by Slurm, by the kubelet, by Embedmill's own locks."""

from __future__ import annotations

import fcntl
import json
import os
import re
from typing import Any

from embedmill.devices.commands import found, said

CHECKPOINT = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"
USED = re.compile(r"GresUsed=(\S*)")
GPU_GRES = re.compile(r"gpu(?::[^:,(]+)?:(?P<count>\d+)(?:\(IDX:(?P<places>[0-9,-]+|N/A)\))?")
WORDS_BYTES = 200


def allocations(gpus: list[dict[str, Any]]) -> tuple[dict[str, list[str]], list[str]]:
    """UUID → who has it, in words; and what could not be learned."""
    words: dict[str, list[str]] = {}
    problems = []
    for ask in (_slurm, _kubelet):
        given, problem = ask(gpus)
        problems += [problem] if problem else []
        for uuid, said_of_it in given.items():
            words.setdefault(uuid, []).append(said_of_it)
    return words, problems


def _slurm(gpus: list[dict[str, Any]]) -> tuple[dict[str, str], str]:
    """Slurm numbers GPUs by their device nodes; where it does not tell which are used, all of them are."""
    if found("scontrol") is None:
        return {}, ""
    host = os.uname().nodename.split(".")[0]
    answer = said("scontrol", "--details", "--oneliner", "show", "node", host)
    if answer.code != 0:
        return ({}, "") if "not found" in answer.last_line.lower() else ({}, f"Slurm: {answer.last_line}")
    used = USED.search(answer.out)
    places = _places(used[1] if used else "", len(gpus))
    jobs = _slurm_jobs(host) if places else ""
    return {
        gpu["uuid"]: f"Slurm has given it away{jobs}"
        for gpu in gpus
        if (gpu["index"] if gpu["minor"] is None else gpu["minor"]) in places
    }, ""


def _places(used: str, count: int) -> set[int]:
    found_places: set[int] = set()
    for gres in GPU_GRES.finditer(used):
        if int(gres["count"]) == 0:
            continue
        if gres["places"] in (None, "N/A"):
            return set(range(max(count, 64)))
        for each in gres["places"].split(","):
            first, _, last = each.partition("-")
            found_places |= set(range(int(first), int(last or first) + 1))
    return found_places


def _slurm_jobs(host: str) -> str:
    """`: job 42 of alice`; nothing where that is not told."""
    answer = said(
        "squeue",
        "--noheader",
        f"--nodelist={host}",
        "--states=running,suspended,completing",
        "--format=%i|%u|%b",
    )
    rows = [line.strip().split("|") for line in answer.out.splitlines() if "gpu" in line]
    told = [f"job {row[0]} of {row[1]}" for row in rows if len(row) == 3]
    return f": {', '.join(told)}" if answer.code == 0 and told else ""


def _kubelet(_: list[dict[str, Any]]) -> tuple[dict[str, str], str]:
    """The kubelet's checkpoint of what its device plugins gave to pods."""
    try:
        with open(CHECKPOINT, encoding="utf-8") as file:
            entries = json.load(file)["Data"]["PodDeviceEntries"] or []
        return {
            uuid.split("::")[0]: f"the kubelet has given it to pod {entry['PodUID']}"
            for entry in entries
            if str(entry["ResourceName"]).startswith("nvidia.com/")
            for uuid in _device_ids(entry["DeviceIDs"])
        }, ""
    except FileNotFoundError:
        return {}, ""
    except PermissionError:
        return {}, f"kubelet: {CHECKPOINT} may not be read: which GPUs pods have is not known"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, f"kubelet: {CHECKPOINT} cannot be understood: which GPUs pods have is not known"


def _device_ids(ids: Any) -> list[str]:
    """By NUMA node since Kubernetes 1.20, a plain list before."""
    if isinstance(ids, dict):
        return [str(each) for some in ids.values() for each in some]
    return [str(each) for each in ids]


def lease_of(folder: str, uuid: str) -> str | None:
    """Who holds Embedmill's lock on a GPU, in words; a shared lock, for a moment, tells whether anybody does.

    Raises:
        OSError: That could not be learned.
    """
    path = os.path.join(folder, "locks", uuid)
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        words = os.read(file, WORDS_BYTES).decode(errors="replace")
        return "".join(each for each in words if each.isprintable()).strip() or "somebody"
    finally:
        os.close(file)
