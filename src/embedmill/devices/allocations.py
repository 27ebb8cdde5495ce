"""To whom GPUs of this host are given already: by Slurm, by the kubelet."""

from __future__ import annotations

import json
import os
import re
from typing import Any, NamedTuple

from embedmill.devices.commands import found, said

CHECKPOINT = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"
USED = re.compile(r"GresUsed=(\S*)")
GPU_GRES = re.compile(r"gpu(?::[^:,(]+)?:(?P<count>\d+)(?:\(IDX:(?P<places>[0-9,-]+|N/A)\))?")


class Given(NamedTuple):
    """What somebody has given away: by UUID, or by number of device node, or perhaps all; in words."""

    words: str = ""
    uuids: dict[str, str] = {}  # noqa: RUF012 - never changed
    nodes: frozenset[int] = frozenset()
    everything: bool = False

    def of(self, gpu: dict[str, Any]) -> str:
        """To whom a GPU was given; empty if to nobody."""
        number = gpu["index"] if gpu["minor"] is None else gpu["minor"]
        return self.uuids.get(gpu["uuid"]) or (self.words if self.everything or number in self.nodes else "")


def unanswered(who: str) -> Given:
    """What is not known to be free is taken for given."""
    return Given(f"{who} gives no answer, and may have given it away", everything=True)


def slurm() -> Given:
    """Slurm numbers GPUs by their device nodes; where it does not tell which are used, all of them are."""
    if found("scontrol") is None:
        return Given()
    host = os.uname().nodename.split(".")[0]
    answer = said("scontrol", "--details", "--oneliner", "show", "node", host)
    if answer.code != 0:
        known = "not found" not in answer.last_line.lower()
        return unanswered(f"Slurm ({answer.last_line})") if known else Given()
    used = USED.search(answer.out)
    nodes, everything = _places(used[1] if used else "")
    jobs = _slurm_jobs(host) if nodes or everything else ""
    return Given(f"Slurm has given it away{jobs}", nodes=nodes, everything=everything)


def _places(used: str) -> tuple[frozenset[int], bool]:
    """Numbers of `GresUsed`, and whether some are used without a number."""
    places: set[int] = set()
    for gres in GPU_GRES.finditer(used):
        if int(gres["count"]) == 0:
            continue
        if gres["places"] in (None, "N/A"):
            return frozenset(), True
        for each in gres["places"].split(","):
            first, _, last = each.partition("-")
            places |= set(range(int(first), int(last or first) + 1))
    return frozenset(places), False


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


def kubelet() -> Given:
    """The kubelet's checkpoint of what its device plugins gave to pods."""
    try:
        with open(CHECKPOINT, encoding="utf-8") as file:
            entries = json.load(file)["Data"]["PodDeviceEntries"] or []
        uuids = {
            uuid.split("::")[0]: f"the kubelet has given it to pod {entry['PodUID']}"
            for entry in entries
            if str(entry["ResourceName"]).startswith("nvidia.com/")
            for uuid in _device_ids(entry["DeviceIDs"])
        }
        return Given(uuids=uuids)
    except FileNotFoundError:
        return Given()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = "may not be read" if isinstance(error, PermissionError) else "cannot be understood"
        return unanswered(f"the kubelet, whose {CHECKPOINT} {why},")


def _device_ids(ids: Any) -> list[str]:
    """By NUMA node since Kubernetes 1.20, a plain list before."""
    if isinstance(ids, dict):
        return [str(each) for some in ids.values() for each in some]
    return [str(each) for each in ids]
