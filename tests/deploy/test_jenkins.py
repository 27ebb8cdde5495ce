"""Files for Jenkins: what stands in them, and what may not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedmill.cli import main
from embedmill.deploy.jenkins import JenkinsSettings, deploy_jenkins
from embedmill.deploy.jenkins.controller import secrets_needed
from embedmill.deploy.jenkins.folders import LIBRARY
from embedmill.errors import SpecError
from embedmill.spec.loading import load_fleet_spec
from embedmill.use_case import UseCase

GIT = "https://git.example.org/embedmill-library.git"
PLAIN = JenkinsSettings(GIT)
SHOP = "library/resources/embedmill/pipelines/shop.txt"
IMAGES = f"images: {{cpu: {{image: 'sha256:{'ab' * 32}', runtimes: {{onnx: '1'}}, device: cpu}}}}"
ELSEWHERE = """\
engine: jenkins
jenkins: {url: 'https://ci', job: w, user: m, token_file: t, families: {a: {}}}
"""
FLEET = """\
images: images.yaml
servers:
  gpu-01:
  gpu-02: {address: me@10.0.0.7, port: 2222}
  gpu-03: {kind: jenkins, address: agent-seven}
  here: {kind: local}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("shop", "blog"):
        (tmp_path / f"{name}.yaml").write_text(
            f"name: {name}\ncatalog: {{source: items.parquet, id: sku}}\nmodel: model\nstore: s3://bucket/mill\n"
        )
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "images.yaml").write_text(IMAGES)
    return tmp_path


def deployed(repository: Path, settings: JenkinsSettings = PLAIN) -> Path:
    specs = [repository / "shop.yaml", repository / "blog.yaml"]
    deploy_jenkins(repository / "out", specs, repository / "fleet.yaml", settings, root=repository)
    return repository / "out"


def controller(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "controller" / "embedmill.yaml").read_text())
    return found


def test_several_pipelines_share_one_library_in_the_standard_layout(repository: Path) -> None:
    out = deployed(repository)
    for name in ("shop", "blog"):
        text = (out / "pipelines" / name / "Jenkinsfile").read_text()
        assert text == f"@Library('embedmill') _\n\nembedmillPipeline('{name}')\n"
        settings = (out / "library" / "resources" / "embedmill" / "pipelines" / f"{name}.txt").read_text()
        assert f"spec {name}.yaml\nfleet fleet.yaml\n" in settings
    assert (out / "library" / "vars" / "embedmillPipeline.groovy").is_file()
    assert (out / "library" / "src" / "embedmill" / "Lines.groovy").is_file()


def test_no_name_changes_a_file_of_groovy(repository: Path) -> None:
    out = deployed(repository)
    for file in LIBRARY.rglob("*.groovy"):
        copy = out / "library" / file.relative_to(LIBRARY)
        assert copy.read_bytes() == file.read_bytes()


def test_a_server_of_the_fleet_is_an_agent_and_each_gpu_a_lock(repository: Path) -> None:
    found = controller(deployed(repository, JenkinsSettings(GIT, gpus=2)))
    nodes = {each["permanent"]["name"]: each["permanent"] for each in found["jenkins"]["nodes"]}
    assert set(nodes) == {"gpu-01", "gpu-02"}, "an agent of kind jenkins is there, and this machine is none"
    assert nodes["gpu-02"]["launcher"]["ssh"]["host"] == "10.0.0.7"
    assert nodes["gpu-02"]["launcher"]["ssh"]["port"] == 2222
    assert nodes["gpu-01"]["numExecutors"] == 3
    resources = found["unclassified"]["lockableResourcesManager"]["declaredResources"]
    assert [each["name"] for each in resources] == [
        f"embedmill-{server}-{gpu}" for server in ("gpu-01", "gpu-02", "gpu-03") for gpu in (0, 1)
    ]


def test_one_more_server_is_one_more_line(repository: Path) -> None:
    before = controller(deployed(repository))
    (repository / "fleet.yaml").write_text(f"{FLEET}  gpu-04:\n")
    after = controller(deployed(repository))
    assert len(after["jenkins"]["nodes"]) == len(before["jenkins"]["nodes"]) + 1


def test_agents_have_as_long_to_answer_as_the_probe_takes(repository: Path) -> None:
    (repository / "fleet.yaml").write_text(f"{FLEET}idle: {{window_s: 900}}\n")
    text = (deployed(repository) / "library/resources/embedmill/pipelines/shop.txt").read_text()
    assert "\nanswerMinutes 19\n" in text


def test_secrets_are_references(repository: Path) -> None:
    settings = JenkinsSettings(GIT, secrets={"AWS_SECRET_ACCESS_KEY": "mill-key"})
    out = deployed(repository, settings)
    credentials = controller(out)["credentials"]["system"]["domainCredentials"][0]["credentials"]
    assert credentials[1] == {
        "string": {
            "scope": "GLOBAL",
            "id": "mill-key",
            "secret": "${EMBEDMILL_SECRET_AWS_SECRET_ACCESS_KEY}",
        }
    }
    text = (out / "library/resources/embedmill/pipelines/shop.txt").read_text()
    assert text.endswith("secret AWS_SECRET_ACCESS_KEY mill-key\n")


@pytest.mark.parametrize("servers", ["{gpu-01: , gpu-03: {kind: jenkins}}", "{gpu-03: {kind: jenkins}}"])
def test_every_secret_that_stands_in_the_file_is_said_to_be_needed(repository: Path, servers: str) -> None:
    """A variable that nobody sets would be taken for the value."""
    (repository / "fleet.yaml").write_text(f"images: images.yaml\nservers: {servers}\n")
    settings = JenkinsSettings(GIT, verify_url="https://x", verify_key="key", secrets={"A": "b"})
    text = (deployed(repository, settings) / "controller" / "embedmill.yaml").read_text()
    needed = secrets_needed(settings, load_fleet_spec(repository / "fleet.yaml"))
    assert set(re.findall(r"EMBEDMILL_[A-Z_]+", text)) == set(needed)
    assert ("EMBEDMILL_AGENTS_KEY" in needed) == ("gpu-01" in servers)


@pytest.mark.parametrize(
    "settings",
    [
        JenkinsSettings("https://x/$(id)"),
        JenkinsSettings("ext::sh -c id"),
        JenkinsSettings(GIT, control="a || b"),
        JenkinsSettings(GIT, cron="H 2 * * *\nsecret A b"),
        JenkinsSettings(GIT, cron="every night"),
        JenkinsSettings(GIT, cron="H 2 * *"),
        JenkinsSettings(GIT, cron="0 0 2 * * *"),
        JenkinsSettings(GIT, cron="@fortnightly"),
        JenkinsSettings(GIT, verify_url="https://x", verify_key="a b"),
        JenkinsSettings(GIT, deploy_job="x'); sh('id"),
        JenkinsSettings(GIT, verify_url="https://x/?a=$(id)"),
        JenkinsSettings(GIT, secrets={"A B": "c"}),
        JenkinsSettings(GIT, secrets={"A": "c d"}),
    ],
)
def test_what_would_need_quotes_is_refused(repository: Path, settings: JenkinsSettings) -> None:
    with pytest.raises(SpecError, match="cannot stand in a file of Jenkins"):
        deployed(repository, settings)
    assert not (repository / "out").exists()


@pytest.mark.parametrize(
    "cron", ["", "@daily", "H 2 * * *", "H/15 * * * *", "H(0-29)/10 8-18 1,15 * 1-5", "30 2 * * 7"]
)
def test_lines_of_jenkins_cron_are_taken(repository: Path, cron: str) -> None:
    text = (deployed(repository, JenkinsSettings(GIT, cron=cron)) / SHOP).read_text()
    assert f"\ncron {cron}".rstrip() in text


def test_the_key_of_a_server_is_a_secret_file_by_reference(repository: Path) -> None:
    settings = JenkinsSettings(GIT, verify_url="https://shop.example.org", verify_key="shop-key")
    out = deployed(repository, settings)
    credentials = controller(out)["credentials"]["system"]["domainCredentials"][0]["credentials"]
    assert credentials[-1]["file"] == {
        "scope": "GLOBAL",
        "id": "shop-key",
        "fileName": "key",
        "secretBytes": "${base64:${EMBEDMILL_VERIFY_KEY}}",
    }
    assert "\nverifyKey shop-key\n" in (out / SHOP).read_text()
    with pytest.raises(SpecError, match="no server that it is for"):
        deployed(repository, JenkinsSettings(GIT, verify_key="shop-key"))


@pytest.mark.parametrize("server", ["{kind: jenkins, address: 'a||b'}", "{address: 'a$(id)'}"])
def test_a_server_that_is_no_word_is_refused(repository: Path, server: str) -> None:
    (repository / "fleet.yaml").write_text(f"images: images.yaml\nservers:\n  gpu-01: {server}\n")
    with pytest.raises(SpecError, match="gpu-01"):
        deployed(repository)


def test_a_store_that_no_agent_can_open_is_refused(repository: Path) -> None:
    spec = repository / "shop.yaml"
    spec.write_text(spec.read_text().replace("s3://bucket/mill", "./mill"))
    with pytest.raises(SpecError, match=r"/mill: is a folder of this machine, .* gpu-01, gpu-02, gpu-03 can"):
        deployed(repository)
    spec.write_text(spec.read_text() + ELSEWHERE)
    deployed(repository)  # its runs are driven from where the folder is


def test_a_fleet_without_images_is_refused_before_the_first_build_is(repository: Path) -> None:
    (repository / "images.yaml").unlink()
    with pytest.raises(SpecError, match=r"images.yaml: no such file"):
        deployed(repository)


def test_the_worker_job_takes_runs_of_the_store_as_they_are_named(repository: Path) -> None:
    """`engine: jenkins` hands a run's URL to the job, which takes those of these stores alone."""
    spec = repository / "shop.yaml"
    spec.write_text(spec.read_text().replace("s3://bucket/mill", "../mill") + ELSEWHERE)
    text = (deployed(repository) / "library/resources/embedmill/worker.txt").read_text()
    assert f"\nstore {UseCase.from_file(spec).home.url}\n" in text


def test_specs_lie_in_the_repository_under_plain_names(repository: Path, tmp_path_factory: Any) -> None:
    with pytest.raises(SpecError, match="does not lie in"):
        deploy_jenkins(
            repository / "out",
            [repository / "shop.yaml"],
            repository / "fleet.yaml",
            JenkinsSettings(GIT),
            root=tmp_path_factory.mktemp("elsewhere"),
        )
    odd = repository / "a b.yaml"
    odd.write_text((repository / "shop.yaml").read_text())
    with pytest.raises(SpecError, match="cannot stand"):
        deploy_jenkins(
            repository / "out",
            [odd],
            repository / "fleet.yaml",
            JenkinsSettings(GIT),
            root=repository,
        )


def test_two_pipelines_of_one_name_are_refused(repository: Path) -> None:
    (repository / "blog.yaml").write_text((repository / "shop.yaml").read_text())
    with pytest.raises(SpecError, match="another pipeline has the name shop"):
        deployed(repository)


def test_the_command_writes_the_folder(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["deploy", "jenkins", str(repository / "shop.yaml"), "--fleet", str(repository / "fleet.yaml")]
    command += ["--library", GIT, "--root", str(repository), "--out", str(repository / "out")]
    assert main([*command, "--secret", "A=b"]) == 0
    said = capfd.readouterr().err
    assert [line.split()[-1] for line in said.splitlines() if "needs the secret" in line] == [
        "EMBEDMILL_AGENTS_USER",
        "EMBEDMILL_AGENTS_KEY",
        "EMBEDMILL_SECRET_A",
    ]
    assert "gpu-02: its agent logs in as EMBEDMILL_AGENTS_USER, not as me" in said
    assert "left out: here (local); a build runs on agents: servers of kind ssh or jenkins" in said
    assert (repository / "out" / "pipelines" / "shop" / "Jenkinsfile").is_file()
