"""Everything around the pod: what keeps so many of them, finds them, and lets nobody else in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedmill.deploy.kubernetes.pod import PORT, labels, pod_template, release_labels, release_notes

if TYPE_CHECKING:
    from embedmill.deploy.kubernetes.plan import ServingPlan
    from embedmill.deploy.yaml_files import Resource

DNS_PORT = 53


def deployment(plan: ServingPlan, name: str, selector: dict[str, str]) -> Resource:
    """Pods of one release. A new one must be ready before an old one is told to end.

    `replicas` is absent: the autoscaler, which never goes below its minimum, owns it.
    """
    return {
        **_head("apps/v1", "Deployment", name, release_labels(plan), release_notes(plan)),
        "spec": {
            "revisionHistoryLimit": 5,
            "minReadySeconds": 5,
            "progressDeadlineSeconds": 2 * plan.sizes.start_s + 600,
            "selector": {"matchLabels": selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": pod_template(plan, selector),
        },
    }


def service(plan: ServingPlan, selector: dict[str, str]) -> Resource:
    """One name for all pods that are ready."""
    return {
        **_head("v1", "Service", plan.name, labels(plan)),
        "spec": {
            "type": "ClusterIP",
            "selector": selector,
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def disruption_budget(plan: ServingPlan, name: str, selector: dict[str, str]) -> Resource:
    """Whoever drains nodes takes one pod at a time."""
    return {
        **_head("policy/v1", "PodDisruptionBudget", name, labels(plan)),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector},
        },
    }


def autoscaler(plan: ServingPlan, name: str) -> Resource:
    """More pods when they compute much; fewer only after ten quiet minutes."""
    metric = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    return {
        **_head("autoscaling/v2", "HorizontalPodAutoscaler", name, labels(plan)),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": plan.settings.replicas,
            "maxReplicas": plan.settings.max_replicas,
            "metrics": [{"type": "Resource", "resource": metric}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},
        },
    }


def network_policy(plan: ServingPlan) -> Resource:
    """In: pods of this namespace, and of those that are named. Out: names, and the store."""
    peers: list[dict[str, Any]] = [{"podSelector": {}}]
    peers += [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
        for name in plan.settings.scrapers
    ]
    names = [{"port": DNS_PORT, "protocol": protocol} for protocol in ("UDP", "TCP")]
    return {
        **_head("networking.k8s.io/v1", "NetworkPolicy", plan.name, labels(plan)),
        "spec": {
            "podSelector": {"matchLabels": labels(plan)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": peers, "ports": [{"port": PORT, "protocol": "TCP"}]}],
            "egress": [
                {"ports": names},
                {"ports": [{"port": plan.settings.store_port, "protocol": "TCP"}]},
            ],
        },
    }


def service_account(plan: ServingPlan) -> Resource:
    """An identity that the cluster's API lets do nothing, and whose token no pod gets."""
    return {
        **_head("v1", "ServiceAccount", plan.name, labels(plan)),
        "automountServiceAccountToken": False,
    }


def _head(
    version: str, kind: str, name: str, own: dict[str, str], notes: dict[str, str] | None = None
) -> Resource:
    metadata: Resource = {"name": name, "labels": own}
    if notes:
        metadata["annotations"] = notes
    return {"apiVersion": version, "kind": kind, "metadata": metadata}
