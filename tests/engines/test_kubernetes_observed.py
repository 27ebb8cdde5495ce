"""What documents of the API mean for loops: an index's newest pod speaks, until its Job has the last word."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embedmill.engines.kubernetes.manifest import INDEX
from embedmill.engines.kubernetes.observed import Seen, indexes, observed

NOW = datetime(2026, 1, 30, 12, 0, tzinfo=UTC)


def job(
    name: str = "j", *, start: int = 1, template: str = f"gpu-{INDEX}", count: int = 2, **status: Any
) -> Any:
    notes = {"embedmill/worker": template, "embedmill/start": str(start)}
    return {
        "metadata": {"name": name, "annotations": notes},
        "spec": {"completions": count},
        "status": status,
    }


def pod(index: int = 0, *, job: str = "j", age_s: float = 60, uid: str = "u", **status: Any) -> Any:
    return {
        "metadata": {
            "name": f"{job}-{index}-x",
            "uid": uid,
            "labels": {"batch.kubernetes.io/job-name": job},
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
            "creationTimestamp": stamp(-age_s),
        },
        "spec": {"nodeName": "node-7"},
        "status": status,
    }


def stamp(later_s: float) -> str:
    return (NOW + timedelta(seconds=later_s)).strftime("%Y-%m-%dT%H:%M:%SZ")


def failed(code: int, message: str = "", reason: str = "Error", **more: Any) -> dict[str, Any]:
    ended = {"exitCode": code, "reason": reason, "message": message}
    return {
        "phase": "Failed",
        "containerStatuses": [{"name": "worker", "state": {"terminated": ended}}],
        **more,
    }


def waiting(reason: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": "no such image"}}
    return {"phase": "Pending", "containerStatuses": [{"name": "worker", "state": state}]}


def seen(*documents: Any, worker: str = "gpu-0") -> Seen:
    jobs = [each for each in documents if "completions" in each["spec"]]
    pods = [each for each in documents if "completions" not in each["spec"]]
    return observed(jobs, pods, NOW)[worker]


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        ({"phase": "Pending"}, None, ""),
        ({"phase": "Running"}, None, ""),
        ({"phase": "Succeeded"}, 0, ""),
        (failed(75, "a\nasked to stop\n"), 75, "asked to stop"),
        (failed(1, "no run"), 1, "no run"),
        (failed(42, "error: no GPU here"), 42, "no GPU here"),
        (failed(137, "loading"), -9, "loading"),
        (failed(137, "", "OOMKilled"), -9, "OOMKilled"),
        (failed(143, "x"), -15, "x"),
        (failed(255, "x"), 255, "x"),
    ],
)
def test_a_pod_says_what_its_loop_does(status: dict[str, Any], code: int | None, said: str) -> None:
    found = seen(job(), pod(**status))
    assert (found.exit_code, found.said, found.final) == (code, said, False)


def test_whatever_a_disrupted_pod_ends_with_it_was_taken_away() -> None:
    why = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "p"}
    found = seen(job(), pod(**failed(137, "at work", conditions=[why])))
    assert (found.exit_code, found.said) == (
        75,
        "pod j-0-x was taken away: PreemptionByScheduler: p; at work",
    )


def test_a_pod_that_failed_without_its_container_is_lost() -> None:
    found = seen(job(), pod(phase="Failed", reason="NodeShutdown", message="the node shuts down"))
    assert (found.exit_code, found.said) == (255, "NodeShutdown: the node shuts down")


def test_the_newest_pod_speaks_for_its_index() -> None:
    old, new = pod(age_s=60, uid="old", **failed(137)), pod(age_s=5, uid="new", phase="Running")
    assert seen(job(), old, new) == seen(job(), new, old) == Seen("j", 1, None, witness="new")
    same = pod(age_s=60, uid="same", phase="Pending")
    assert seen(job(), old, same).witness == "same"


def test_a_job_has_the_last_word() -> None:
    over = job(completedIndexes="0", failedIndexes="1")
    assert seen(over, pod(0, phase="Running")).exit_code == 0
    lost = seen(over, pod(1, **failed(1, "no run")), worker="gpu-1")
    assert (lost.exit_code, lost.said, lost.final) == (1, "no run", True)


def test_a_job_past_its_deadline_takes_all_its_loops_with_it() -> None:
    over = {
        "type": "Failed",
        "status": "True",
        "reason": "DeadlineExceeded",
        "message": "Job was active longer",
    }
    found = seen(job(conditions=[over]))
    assert (found.exit_code, found.final, found.said) == (255, True, "j: Job was active longer")


def test_a_later_start_of_a_loop_counts() -> None:
    first = job("a", failedIndexes="0")
    again = job("b", start=2, template="gpu-0", count=1)
    for jobs in ([first, again], [again, first]):
        found = observed(jobs, [], NOW)
        assert (found["gpu-0"].job, found["gpu-0"].exit_code) == ("b", None)
        assert found["gpu-1"].job == "a"


def test_a_job_that_is_being_deleted_has_no_loops() -> None:
    going = job()
    going["metadata"]["deletionTimestamp"] = stamp(-1)
    assert observed([going], [pod(phase="Running")], NOW) == {}


def test_a_pod_on_a_node_that_gives_no_answer_is_lost_after_a_while() -> None:
    silent = pod(phase="Running")
    silent["metadata"]["deletionTimestamp"] = stamp(-30)
    assert seen(job(), silent).exit_code is None
    silent["metadata"]["deletionTimestamp"] = stamp(-90)
    found = seen(job(), silent)
    assert found.exit_code == 255
    assert "node-7 does not say that it has" in found.said


def test_a_pod_that_cannot_start_is_hopeless_after_a_while_and_says_why() -> None:
    young = seen(job(), pod(age_s=60, **waiting("ImagePullBackOff")))
    assert (young.exit_code, young.said) == (None, "ImagePullBackOff: no such image")
    old = seen(job(), pod(age_s=400, **waiting("ImagePullBackOff")))
    assert (old.exit_code, old.said) == (42, "pod j-0-x cannot start: ImagePullBackOff: no such image")
    assert seen(job(), pod(age_s=400, **waiting("ContainerCreating"))).exit_code is None


def test_a_pod_that_no_node_takes_waits_and_says_why() -> None:
    why = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    found = seen(job(), pod(age_s=90_000, phase="Pending", conditions=[why]))
    assert (found.exit_code, found.said, found.waits) == (None, "0/3 nodes are available", True)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [(None, []), ("", []), ("0", [0]), ("1,3-5,7", [1, 3, 4, 5, 7]), ("0-1", [0, 1])],
)
def test_indexes_are_read_as_a_status_writes_them(text: str | None, numbers: list[int]) -> None:
    assert list(indexes(text)) == numbers
