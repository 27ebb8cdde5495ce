"""Worker loops as Indexed Jobs of a Kubernetes cluster.

manifest (data ─▶ a Job) ─▶ engine ─▶ api ─▶ the cluster ─▶ api ─▶ observed (Jobs and pods ─▶ states of loops)
"""

from embedmill.engines.kubernetes.api import check_client
from embedmill.engines.kubernetes.engine import KubernetesEngine
from embedmill.engines.kubernetes.manifest import Cluster, Family, Requirement

__all__ = ["Cluster", "Family", "KubernetesEngine", "Requirement", "check_client"]
