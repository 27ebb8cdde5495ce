"""The library keeps the rules of Jenkins' Groovy: CPS, sandbox, steps; and each rule finds what breaks it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.jenkins_group.farm import GIT, HARNESS
from tests.support.mill import Mill, items

from embedmill.deploy.jenkins import JenkinsSettings, deploy_jenkins
from embedmill.deploy.jenkins.folders import LIBRARY

LINT = "npm-groovy-lint@15.2.2"
IMAGES = f"images: {{cpu: {{image: 'sha256:{'ab' * 32}', runtimes: {{onnx: '1'}}, device: cpu}}}}"
BUILD = Path(__file__).resolve().parents[2] / "build" / "npm-groovy-lint"

BROKEN = {
    "@com.cloudbees.groovy.cps.NonCPS\nvoid call() { sh 'true' }": "a step in a method with @NonCPS",
    "@com.cloudbees.groovy.cps.NonCPS\nvoid call(List all) { all.each { it } }": "a closure in a method",
    "void call(List all) { all.each { echo(it) } }": "a loop of closures",
    'void call(String x) { sh "rm $x" }': "a text with ${}",
    "void call(String x) { sh 'rm ' + x }": "its script is not one constant text",
    "void call(String x) { sh(script: x, returnStatus: true) }": "its script is not one constant text",
    "void call(Map all) { java.util.Iterator each = all.iterator(); echo('x') }": "a local Iterator",
    "void call(String x) { def found = (x =~ /a/); echo('x') }": "a Matcher",
    "void call() { def parse = new groovy.json.JsonSlurper(); echo('x') }": "new JsonSlurper",
    "void call() { timeout(minutes: 3) { echo('x') } }": "timeout: takes no minutes",
    "void call() { lock(label: 'gpu') { echo('x') } }": "a label without a quantity locks all",
    "void call() { node { echo('x') } }": "node: names no label",
    "void call() { retry(conditions: [agent()]) { echo('x') } }": "retry: lacks count",
    "class Some { int value }": "a class that is not Serializable",
    "void call() { def said = this.&echo; sh 'true' }": "a pointer to a method",
    "void call() { 'rm -r /'.execute() }": "execute: is not allowed",
}


def findings(groovy: dict[str, str], files: list[Path]) -> list[str]:
    command = ["groovy", "-cp", str(HARNESS), str(HARNESS / "CheckLibrary.groovy")]
    done = subprocess.run(
        [*command, str(HARNESS / "signatures.json"), *map(str, files)],
        env=groovy,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def generated(folder: Path, model: Path) -> list[Path]:
    """Every file of Groovy that is generated for a pipeline."""
    mill = Mill(folder, model)
    mill.write(items(1))
    mill.open()
    (folder / "fleet.yaml").write_text(f"servers: {{gpu-a: {{mounts: [{folder}]}}}}\nimages: images.yaml\n")
    (folder / "images.yaml").write_text(IMAGES)
    specs = [folder / "pipeline.yaml"]
    deploy_jenkins(folder / "out", specs, folder / "fleet.yaml", JenkinsSettings(GIT), root=folder)
    return [
        *sorted((folder / "out").rglob("*.groovy")),
        folder / "out" / "pipelines" / "test" / "Jenkinsfile",
    ]


def test_the_library_breaks_no_rule(groovy: dict[str, str], tmp_path: Path, tiny_model: Path) -> None:
    files = generated(tmp_path, tiny_model)
    assert len(files) > 10
    assert findings(groovy, files) == []


def test_each_rule_finds_what_breaks_it(groovy: dict[str, str], tmp_path: Path) -> None:
    files = []
    for number, source in enumerate(BROKEN):
        files.append(tmp_path / f"broken{number}.groovy")
        files[-1].write_text(source)
    found = findings(groovy, files)
    for file, expected in zip(files, BROKEN.values(), strict=True):
        assert any(each.startswith(file.name) and expected in each for each in found), (expected, found)


def test_npm_groovy_lint_finds_nothing(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    program = BUILD / "node_modules" / ".bin" / "npm-groovy-lint"
    if not program.is_file():
        install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(BUILD), LINT]
        done = subprocess.run(install, capture_output=True, text=True, timeout=200)
        if done.returncode:
            pytest.skip(f"{LINT} cannot be installed")
    shutil.copytree(LIBRARY, tmp_path / "library")
    shutil.copy(Path(__file__).with_name("groovylintrc.json"), tmp_path / ".groovylintrc.json")
    command = [str(program), "--noserver", "--failon", "info", "--output", "json", "--path", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
