"""The four requests that the engine makes, by the official client; the only file that imports it.

    create a Job    201, or it is there (409 AlreadyExists): both are an answer
    list Jobs       by label, in pages; a page whose list is too old (410) begins the list anew
    list pods       the same
    delete a Job    200, or it is gone (404)

Everything else is an error: no answer (connections, 408, 429, 5xx, which are asked again for a while) or no.
Sources: kubernetes.io, "Kubernetes API Concepts"; kubernetes-client/python.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from embedmill.engines.telling import Waiting
from embedmill.errors import EngineRefused, EngineUnavailable, SpecError
from embedmill.extras import optional

PAGE = 500
AGAIN = frozenset({408, 429, 500, 502, 503, 504})
EXPIRED, MISSING, CONFLICT = 410, 404, 409
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
IN_CLUSTER = "KUBERNETES_SERVICE_HOST"


def check_client() -> None:
    """Whether the client is installed.

    Raises:
        MissingExtra: It is not.
    """
    with optional("the Kubernetes client", "kubernetes", extra="kubernetes"):
        import kubernetes  # noqa: F401 - whether it is there


class Api:
    """One namespace of one cluster."""

    def __init__(self, namespace: str, context: str | None = None, *, answer_s: float = 20.0) -> None:
        """Read the kubeconfig (`KUBECONFIG`), or what a pod has; nothing is asked yet.

        Args:
            namespace: Where Jobs are.
            context: Of the kubeconfig; its current one where None.
            answer_s: How long one answer may take.

        Raises:
            MissingExtra: The client is not installed.
            SpecError: There is no such configuration.
        """
        self._namespace, self._timeout = namespace, (min(5.0, answer_s), answer_s)
        check_client()
        from kubernetes import client

        configured = _configuration(context)
        configured.retries = False  # a repeated create is ours to judge
        made = client.ApiClient(configured)
        self._batch, self._core, self._close = client.BatchV1Api(made), client.CoreV1Api(made), made.close
        self.where = f"{configured.host} (namespace {namespace})"

    def create_job(self, manifest: Mapping[str, Any], patience_s: float) -> bool:
        """Create a Job; False if one of its name is there.

        Raises:
            EngineRefused: The cluster says no.
            EngineUnavailable: No answer for so long; the Job may or may not be there.
        """
        try:
            self._ask(
                lambda: self._batch.create_namespaced_job(
                    self._namespace, dict(manifest), _preload_content=False, _request_timeout=self._timeout
                ),
                patience_s,
            )
        except _Said as said:
            if said.status == CONFLICT and said.reason == "AlreadyExists":
                return False
            raise self._refused(said) from None
        return True

    def jobs(self, selector: str, patience_s: float = 0.0) -> list[dict[str, Any]]:
        """All Jobs with a label.

        Raises:
            EngineRefused: The cluster says no.
            EngineUnavailable: No answer for so long.
        """
        return self._all(self._batch.list_namespaced_job, selector, patience_s)

    def pods(self, selector: str, patience_s: float = 0.0) -> list[dict[str, Any]]:
        """All pods with a label.

        Raises:
            EngineRefused: The cluster says no.
            EngineUnavailable: No answer for so long.
        """
        return self._all(self._core.list_namespaced_pod, selector, patience_s)

    def delete_job(self, name: str, patience_s: float) -> None:
        """Delete a Job, and its pods before it; one that is gone is deleted.

        Raises:
            EngineRefused: The cluster says no.
            EngineUnavailable: No answer for so long.
        """
        try:
            self._ask(
                lambda: self._batch.delete_namespaced_job(
                    name,
                    self._namespace,
                    propagation_policy="Foreground",
                    _preload_content=False,
                    _request_timeout=self._timeout,
                ),
                patience_s,
            )
        except _Said as said:
            if said.status != MISSING:
                raise self._refused(said) from None

    def close(self) -> None:
        """Close its connections."""
        self._close()

    def _all(self, listing: Callable[..., Any], selector: str, patience_s: float) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        where: dict[str, Any] = {"label_selector": selector, "limit": PAGE}
        while True:
            try:
                page = self._ask(partial(self._page, listing, where), patience_s)
            except _Said as said:
                if said.status != EXPIRED or "_continue" not in where:
                    raise self._refused(said) from None
                found, where = [], {"label_selector": selector}  # all of it at once: no page can be too old
                continue
            found += page.get("items") or ()
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return found
            where["_continue"] = more

    def _page(self, listing: Callable[..., Any], where: Mapping[str, Any]) -> Any:
        return listing(self._namespace, **where, _preload_content=False, _request_timeout=self._timeout)

    def _ask(self, request: Callable[[], Any], patience_s: float) -> dict[str, Any]:
        """The document of an answer; asks again, ever more seldom, while there is none, and says so.

        Raises:
            _Said: An answer that is no.
            EngineUnavailable: None for so long.
        """
        waiting, pause_s = Waiting(self.where), FIRST_PAUSE_S
        while True:
            try:
                found = _answer(request)
            except _NoAnswer as error:
                wait_s, left_s = max(pause_s, error.after_s), patience_s - waiting.waited_s()
                words = f"{self.where}: gives no answer: {error}"
                if wait_s > left_s:
                    raise EngineUnavailable(words, hint="`embedmill resume` goes on") from error
                waiting.tell(words, left_s)
                time.sleep(wait_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                waiting.answered()
                return found

    def _refused(self, said: _Said) -> EngineRefused:
        return EngineRefused(
            f"{self.where}: {said.status} {said.reason}: {said.message}",
            hint="`embedmill deploy batch` renders the account and the rights that it needs",
        )


class _Said(Exception):
    """An answer that is no."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message = status, reason, message


class _NoAnswer(Exception):
    """None, or one that says to ask again, after so many seconds."""

    def __init__(self, words: str, after_s: float = 0.0) -> None:
        super().__init__(words)
        self.after_s = after_s


def _answer(request: Callable[[], Any]) -> dict[str, Any]:
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        response = request()
        status, body, headers = response.status, response.data, response.headers
    except ApiException as error:
        status, body, headers = error.status or 0, error.body or b"", error.headers or {}
        if not status:
            raise _NoAnswer(str(error.reason)) from error
    except (HTTPError, OSError) as error:
        raise _NoAnswer(_words(error)) from error
    document = _document(body)
    if status in AGAIN or status >= 500 or _is_a_race(status, document):
        raise _NoAnswer(f"{status} {document.get('message', '')}".strip(), _seconds(headers))
    if status >= 300:
        raise _Said(status, document.get("reason", ""), document.get("message", ""))
    if not document:
        raise _NoAnswer(f"{status} with a body that is cut off")
    return document


def _is_a_race(status: int, document: Mapping[str, Any]) -> bool:
    """A 409 that asks for another try, as two changes of one quota at once."""
    return status == CONFLICT and document.get("reason") == "Conflict"


def _document(body: bytes | str) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(headers: Mapping[str, str]) -> float:
    text = headers.get("Retry-After") or "0"
    return min(float(text), 30.0) if text.isdigit() else 0.0


def _words(error: Exception) -> str:
    """Of what was the matter, without the client's own words around it."""
    reason = getattr(error, "reason", None) or error
    return str(reason).rpartition(": ")[2] or type(error).__name__


def _configuration(context: str | None) -> Any:
    from kubernetes import client, config

    made = client.Configuration()
    file = os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    there = any(Path(each).is_file() for each in file.split(os.pathsep))
    try:
        if there or context is not None or IN_CLUSTER not in os.environ:
            config.load_kube_config(file, context=context, client_configuration=made, persist_config=False)
        else:
            config.load_incluster_config(client_configuration=made)
    except config.ConfigException as error:
        said = str(error).splitlines()[0]
        raise SpecError(
            f"engine kubernetes: {said}", hint="set KUBECONFIG, or `kubernetes.context`"
        ) from error
    return made
