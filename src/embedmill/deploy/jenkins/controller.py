"""Jenkins' configuration as code: agents, credentials by reference, a lock for each GPU, the library.

    https://github.com/jenkinsci/configuration-as-code-plugin

No secret is in it: `${…}` is filled in by the controller, from its own environment or secret files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedmill.deploy.jenkins.settings import AGENTS, address_of, agent_of, lock_of

if TYPE_CHECKING:
    from embedmill.deploy.jenkins.settings import JenkinsSettings
    from embedmill.deploy.yaml_files import Resource
    from embedmill.spec.fleet import FleetSpec, ServerSpec

AGENTS_CREDENTIAL = "embedmill-agents"
AGENTS_USER, AGENTS_KEY = "EMBEDMILL_AGENTS_USER", "EMBEDMILL_AGENTS_KEY"
VERIFY_KEY = "EMBEDMILL_VERIFY_KEY"
SECRET = "EMBEDMILL_SECRET_"  # noqa: S105 - the beginning of a name
LABEL = "embedmill-gpu"
REMOTE = "/var/lib/jenkins-agent"


def controller(settings: JenkinsSettings, fleet: FleetSpec) -> Resource:
    """The whole file.

    Raises:
        SpecError: A name or an address of fleet.yaml cannot stand in it.
    """
    ours = [name for name, server in fleet.servers.items() if server.kind in AGENTS]
    nodes = [_node(name, fleet.servers[name], settings) for name in ours if fleet.servers[name].kind == "ssh"]
    return {
        "jenkins": {"nodes": nodes},
        "credentials": {"system": {"domainCredentials": [{"credentials": _credentials(settings, fleet)}]}},
        "unclassified": {
            "lockableResourcesManager": {
                "declaredResources": [
                    _resource(agent_of(name, fleet.servers[name]), f"{name}-{gpu}", gpu)
                    for name in ours
                    for gpu in range(settings.gpus)
                ]
            },
            "globalLibraries": {"libraries": [_library(settings)]},
        },
    }


def secrets_needed(settings: JenkinsSettings, fleet: FleetSpec) -> list[str]:
    """Names of what the controller fills in."""
    names = [AGENTS_USER, AGENTS_KEY] if _starts_agents(fleet) else []
    names += [f"{SECRET}{variable}" for variable in settings.secrets]
    return [*names, VERIFY_KEY] if settings.verify_key else names


def _starts_agents(fleet: FleetSpec) -> bool:
    """Whether there are agents that the controller starts by ssh, with a user and key of theirs."""
    return any(server.kind == "ssh" for server in fleet.servers.values())


def _node(name: str, server: ServerSpec, settings: JenkinsSettings) -> dict[str, Any]:
    """An executor for each GPU, and one for the probe."""
    host, port = address_of(name, server)
    return {
        "permanent": {
            "name": agent_of(name, server),
            "labelString": LABEL,
            "mode": "EXCLUSIVE",
            "numExecutors": settings.gpus + 1,
            "remoteFS": REMOTE,
            "retentionStrategy": "always",
            "launcher": {
                "ssh": {
                    "host": host,
                    "port": port,
                    "credentialsId": AGENTS_CREDENTIAL,
                    "sshHostKeyVerificationStrategy": "knownHostsFileKeyVerificationStrategy",
                }
            },
        }
    }


def _credentials(settings: JenkinsSettings, fleet: FleetSpec) -> list[dict[str, Any]]:
    """Just those whose values `secrets_needed` names."""
    agents = {
        "scope": "SYSTEM",
        "id": AGENTS_CREDENTIAL,
        "username": f"${{{AGENTS_USER}}}",
        "privateKeySource": {"directEntry": {"privateKey": f"${{{AGENTS_KEY}}}"}},
    }
    secrets = [
        {"string": {"scope": "GLOBAL", "id": credential, "secret": f"${{{SECRET}{variable}}}"}}
        for variable, credential in settings.secrets.items()
    ]
    key = {
        "scope": "GLOBAL",
        "id": settings.verify_key,
        "fileName": "key",
        "secretBytes": f"${{base64:${{{VERIFY_KEY}}}}}",
    }
    return [
        *([{"basicSSHUserPrivateKey": agents}] if _starts_agents(fleet) else []),
        *secrets,
        *([{"file": key}] if settings.verify_key else []),
    ]


def _resource(agent: str, worker: str, gpu: int) -> dict[str, str]:
    return {"name": lock_of(worker), "description": f"GPU {gpu} of {agent}", "labels": LABEL}


def _library(settings: JenkinsSettings) -> dict[str, Any]:
    """Global, so trusted: it is part of the controller's configuration."""
    return {
        "name": "embedmill",
        "defaultVersion": "main",
        "allowVersionOverride": False,
        "retriever": {"modernSCM": {"scm": {"git": {"remote": settings.library}}}},
    }
