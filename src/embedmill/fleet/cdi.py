"""A CDI specification of a server's GPUs, for tools that hand out devices by it: podman, containerd, CRI-O.

`podman run --device nvidia.com/gpu=GPU-…` then needs no list of nodes and libraries. It is what
`nvidia-ctk cdi generate` writes where the toolkit is installed; root puts it into /etc/cdi.
Source: https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedmill.fleet.driver import LIBRARIES, mounts_of, nodes_for

if TYPE_CHECKING:
    from embedmill.spec.host import GpuFacts, HostFacts, MigDevice

KIND = "nvidia.com/gpu"
VERSION = "0.5.0"
READ_ONLY = ("ro", "nosuid", "nodev", "bind")


def cdi_spec(facts: HostFacts) -> dict[str, Any]:
    """Every GPU by its UUID, and every slice of those in MIG mode.

    Raises:
        DeviceUnavailable: A node or library is not there.
    """
    devices = [_device(facts, gpu, mig) for gpu in facts.gpus for mig in gpu.mig_devices or (None,)]
    mounts = [
        {"hostPath": source, "containerPath": target, "options": list(READ_ONLY)}
        for source, target in mounts_of(facts)
    ]
    edits = {"env": [f"LD_LIBRARY_PATH={LIBRARIES}"], "mounts": mounts}
    return {"cdiVersion": VERSION, "kind": KIND, "devices": devices, "containerEdits": edits}


def _device(facts: HostFacts, gpu: GpuFacts, mig: MigDevice | None) -> dict[str, Any]:
    nodes = [{"path": path, "permissions": "rw"} for path in nodes_for(facts, gpu, mig)]
    return {"name": gpu.uuid if mig is None else mig.uuid, "containerEdits": {"deviceNodes": nodes}}
