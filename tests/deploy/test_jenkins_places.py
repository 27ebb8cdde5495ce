"""What agents answered becomes places: words for Groovy, orders for agents, reasons for people."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fleet.facts import gpu, host
from tests.support.mill import Mill, items

from embedmill.cli import main
from embedmill.deploy.jenkins.asking import AnsweredProbe, questions
from embedmill.deploy.jenkins.reporting import junit, report_files
from embedmill.spec.documents import Verdict
from embedmill.spec.fleet import FleetSpec
from embedmill.spec.host import ContainerTool

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
IMAGE = {"image": f"sha256:{'ab' * 32}", "runtimes": {"onnx": "1.22.0"}, "device": "cpu"}


@pytest.fixture
def repository(mill: Mill) -> Path:
    """A pipeline whose catalog has hostile words, a fleet, and what two of its three agents answered."""
    rows = items(20)
    rows[0] |= {"sku": "$(id)", "title": "'; id; \n \U0001f9f5"}
    mill.settings = {"work": {"shard_rows": 4}, "store": str(mill.root / "mill")}
    mill.write(rows)
    mill.open()
    servers = {
        name: {"kind": "jenkins", "mounts": [str(mill.root)], "folder": "/var/tmp/x"} for name in "abc"
    }
    fleet = {"servers": servers, "images": "images.yaml"}
    (mill.root / "fleet.yaml").write_text(yaml.safe_dump(fleet))
    (mill.root / "images.yaml").write_text(yaml.safe_dump({"images": {"cpu": IMAGE}}))
    facts = mill.root / "facts"
    facts.mkdir()
    podman = ContainerTool(name="podman", version="4.3.1", rootless=True, nvidia=False)
    (facts / "a.facts").write_bytes(b"hello\n" + _line(host(gpu(), tools=(podman,))))
    (facts / "b.facts").write_bytes(b"{\n")
    return mill.root


def _line(document: Any) -> bytes:
    return json.dumps(document.to_json()).encode() + b"\n"


def plan(root: Path, *more: str) -> int:
    command = ["jenkins", "plan", str(root / "pipeline.yaml"), "--fleet", str(root / "fleet.yaml")]
    return main([*command, "--facts", str(root / "facts"), "--to", str(root / "places"), "--json", *more])


def test_an_idle_gpu_is_a_branch_and_everything_else_has_a_reason(
    repository: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert plan(repository) == 0
    found = json.loads(capfd.readouterr().out)
    (place,) = found["places"]
    assert (place["worker"], place["label"], place["lock"]) == ("a-0", "a", "embedmill-a-0")
    assert "cannot be understood" in found["passed_over"]["b"]
    assert "gave no answer" in found["passed_over"]["c"]
    assert (repository / "places" / "places.txt").read_text() == "a-0 a embedmill-a-0\n"
    assert (repository / "places" / "run.txt").read_text() == f"{found['run']}\n"


def test_groovy_reads_words_alone_and_orders_have_nothing_of_the_catalog(repository: Path) -> None:
    assert plan(repository, "--lend", "STORE_KEY") == 0
    for name in ("places.txt", "run.txt"):
        words = (repository / "places" / name).read_text().split()
        assert all(WORD.fullmatch(word) for word in words)
    text = (repository / "places" / "a-0.json").read_text()
    assert "\U0001f9f5" not in text
    assert "$(id)" not in text
    order = json.loads(text)
    assert order["secrets"] == ["STORE_KEY"]
    assert order["command"][0] == "podman"
    assert order["command"][-1] == "--environment-stdin"
    assert order["gpus"] == ["GPU-1"]


def test_a_second_plan_finds_the_open_run(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plan(repository)
    first = json.loads(capfd.readouterr().out)
    plan(repository)
    again = json.loads(capfd.readouterr().out)
    assert (again["run"], again["resumed"]) == (first["run"], True)


def test_reconcile_says_by_its_exit_code_whether_shards_are_left(repository: Path, mill: Mill) -> None:
    assert plan(repository) == 0
    command = ["jenkins", "reconcile", str(repository / "pipeline.yaml")]
    assert main(command) == 75
    mill.worked()
    assert main(command) == 0


def test_variables_that_are_lent_have_names(repository: Path) -> None:
    assert plan(repository, "--lend", "A B") == 2


def test_every_agent_has_a_question_and_a_line(repository: Path) -> None:
    others = {"b": {"kind": "kubernetes"}, "here": {"kind": "local"}}
    fleet = FleetSpec.model_validate({"servers": {"a": None, **others}})
    found = questions(fleet)
    assert set(found) == {"host.py", "servers.txt", "a.json"}
    assert found["servers.txt"] == b"a a\n"
    compile(found["host.py"], "host.py", "exec")


def test_servers_that_are_no_agents_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fleet.yaml").write_text("servers: {a: , here: {kind: local}}\n")
    assert main(["jenkins", "ask", str(tmp_path / "fleet.yaml"), "--to", str(tmp_path / "to")]) == 0
    assert "left out: here (local); " in capfd.readouterr().err
    assert (tmp_path / "to" / "servers.txt").read_text() == "a a\n"


def test_a_server_of_another_engine_is_no_agent(tmp_path: Path) -> None:
    fleet = FleetSpec.model_validate({"servers": {"b": {"kind": "kubernetes"}}})
    (server,) = AnsweredProbe(tmp_path)(fleet, ["b"], baseline_mib=None).servers
    assert "kind kubernetes" in server.reason


def test_verdicts_are_tests_whatever_their_messages_say() -> None:
    verdicts = [
        Verdict(gate="empty", passed=True, message="ok"),
        Verdict(gate="churn", passed=False, accepted=True, message="accepted"),
        Verdict(gate="quarantine", passed=False, message="<&\"' \x00 \U0001f9f5"),
    ]
    text = junit("gates", verdicts).decode()
    assert "tests='3' failures='1'" in text
    assert "&lt;&amp;" in text
    assert "\x00" not in text
    assert "<skipped/>" in junit("production", []).decode()


def test_what_nobody_declared_was_not_tested(mill: Mill, tmp_path: Path) -> None:
    mill.settings = {"store": str(tmp_path / "mill")}
    mill.run(items(5))
    files = report_files(mill.home, mill.live().name)
    text = files["production.xml"].decode()
    assert "tests='2' failures='0' skipped='2'" in text
    assert "no server of production is declared" in text
    assert "skipped='0'" in files["gates.xml"].decode()
