"""The nodes of a Ray cluster, as its head has them: asked without becoming a node or a driver."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedmill.engines.ray.bridge import SETTINGS
from embedmill.engines.ray.refusals import NOT_ITS_HEAD, not_listening
from embedmill.errors import EngineRefused, EngineUnavailable, MissingExtra
from embedmill.extras import optional

CONNECT_S = 5.0
ANSWER_S = 10.0


@dataclass(frozen=True)
class RayNode:
    """A node: `alive` as the head sees it; `port`: of the raylet, which others must reach."""

    id: str
    address: str
    port: int
    alive: bool
    labels: Mapping[str, str]


class Head:
    """The head of a cluster, by HOST:PORT; `token_file` has the cluster's token."""

    def __init__(self, address: str, token_file: Path | None) -> None:
        """Ask nothing yet. Ray reads these variables once in a process."""
        self.address = address
        self._client: Any = None
        os.environ.update(SETTINGS)
        os.environ["RAY_AUTH_MODE"] = "disabled" if token_file is None else "token"
        if token_file is not None:
            os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file)

    def version(self) -> str:
        """Of Ray in the cluster.

        Raises:
            EngineUnavailable: It gives no answer.
            EngineRefused: It does not take the token.
        """
        return str(self._asked(self._metadata)["ray_version"])

    def nodes(self) -> list[RayNode]:
        """All that it knows of, dead ones too.

        Raises:
            EngineUnavailable, EngineRefused: See `version`.
        """
        found = self._asked(lambda: self._gcs().get_all_node_info(timeout=ANSWER_S))
        return [
            RayNode(
                id=info.node_id.hex(),
                address=info.node_manager_address,
                port=info.node_manager_port,
                alive=info.state == 0,  # GcsNodeInfo.ALIVE
                labels=dict(info.labels),
            )
            for info in found.values()
        ]

    def _metadata(self) -> Any:
        from ray._common.usage.usage_lib import get_cluster_metadata

        return get_cluster_metadata(self._gcs())

    def _asked(self, question: Callable[[], Any]) -> Any:
        try:
            with optional("Ray", "ray", extra="ray"):
                return question()
        except (EngineUnavailable, EngineRefused, MissingExtra):
            raise
        except Exception as error:
            self._client = None
            raise _translated(self.address, error) from error

    def _gcs(self) -> Any:
        """A client, once the head listens: Ray's own waits for minutes."""
        if self._client is None:
            from ray._raylet import GcsClient

            if why := not_listening(self.address, CONNECT_S):
                raise EngineUnavailable(f"Ray at {self.address}: {why}", hint=NOT_ITS_HEAD)
            self._client = GcsClient(address=self.address)
        return self._client


def _translated(address: str, error: Exception) -> EngineUnavailable | EngineRefused:
    words = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "nauthenticated" in words or "InvalidAuthToken" in words or "token" in words.lower():
        hint = "is it the token of this cluster, and does the cluster want one?"
        return EngineRefused(f"Ray at {address} does not take the token: {words}", hint=hint)
    return EngineUnavailable(f"Ray at {address} gives no answer: {words}", hint="is its head alive?")
