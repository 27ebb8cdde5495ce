"""What a URL and the environment open: names, endpoints, credentials; and what is refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from tests.support.s3 import S3, as_identity

from embedmill.errors import SpecError, StoreDenied
from embedmill.store import open_store
from embedmill.store.cloud import CloudStore
from embedmill.store.cloud_config import Place, s3_access

SECRET = "s3cr3t-canary"  # noqa: S105 - a canary
STATIC = {"AWS_ACCESS_KEY_ID": "env-key", "AWS_SECRET_ACCESS_KEY": SECRET}
VIRTUAL = "AWS_VIRTUAL_HOSTED_STYLE_REQUEST"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variables of any cloud, and a home of one's own."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("az://container/a", "az://container/a"),
    ],
)
def test_a_url_is_one_name_however_it_is_written(
    written: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "token")
    assert open_store(written).url == url
    assert open_store(url).url == url


@pytest.mark.parametrize(
    "url",
    [
        f"s3://key:{SECRET}@bucket/x",
        f"s3://{SECRET}@bucket",
        f"s3://bucket/x?X-Amz-Signature={SECRET}",
        f"s3://bucket/x#{SECRET}",
        f"https://user:{SECRET}@host/x",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(SpecError) as caught:
        open_store(url)
    assert SECRET not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize("url", ["s3://", "s3:///x", "s3://bucket:9000/x", "s3://bucket/a/../b", "s3:bucket"])
def test_a_url_that_names_nothing_is_refused(url: str) -> None:
    with pytest.raises(SpecError):
        open_store(url)


def test_an_unknown_scheme_says_what_is_allowed() -> None:
    with pytest.raises(SpecError, match=re.escape("s3://bucket/prefix")) as caught:
        open_store("ftp://host/x")
    assert "memory" not in caught.value.hint


@pytest.mark.parametrize(
    "endpoint", [f"http://user:{SECRET}@host", "ftp://host", "host:9000", f"https://host?key={SECRET}"]
)
def test_an_endpoint_that_cannot_be_used_is_refused_by_its_variable(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(SpecError, match="AWS_ENDPOINT_URL") as caught:
        open_store("s3://bucket")
    assert SECRET not in str(caught.value)


def test_azure_wants_an_account() -> None:
    with pytest.raises(SpecError, match="AZURE_STORAGE_ACCOUNT_NAME"):
        open_store("az://container")


def test_an_option_that_cannot_be_read_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_COPY_IF_NOT_EXISTS", "nonsense")
    with pytest.raises(SpecError, match="AWS_"):
        open_store("s3://bucket")


# The files of AWS's tools


def write_files(home: Path, credentials: str, config: str = "") -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(credentials)
    (home / ".aws" / "config").write_text(config)


def keys_of(seaweed: S3) -> str:
    return (
        f"aws_access_key_id = {seaweed.admin.access_key}\naws_secret_access_key = {seaweed.admin.secret_key}"
    )


@pytest.mark.parametrize("profile", ["", "mill"])
def test_a_profile_has_keys_region_and_endpoint(
    seaweed: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, profile: str
) -> None:
    section = f"profile {profile}" if profile else "default"
    write_files(
        tmp_path,
        f"[{profile or 'default'}]\n{keys_of(seaweed)}\n",
        f"[{section}]\nregion = us-east-1\nendpoint_url = {seaweed.endpoint}\n",
    )
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    store = open_store(seaweed.new_url())
    store.put_if_absent("a", b"1")
    assert store.get("a") == b"1"


def test_keys_in_the_environment_come_before_those_in_files(
    seaweed: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    as_identity(monkeypatch, seaweed.admin, seaweed.endpoint)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name)
    write_files(tmp_path, f"[default]\naws_access_key_id = x\naws_secret_access_key = {SECRET}\n")
    open_store(seaweed.new_url()).put("a", b"1")


@pytest.mark.parametrize(
    ("credentials", "config", "said"),
    [
        ("[other]\n", "", r"no profile 'mill' \(looked for it in /\S+/credentials and /\S+/config\)"),
        ("", "[profile mill]\nrole_arn = arn:aws:iam::1:role/x\n", "not static keys"),
        ("", "[profile mill]\nsso_session = x\n", "not static keys"),
        (f"no section {SECRET}\n", "", "cannot be read"),
    ],
)
def test_a_profile_that_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, credentials: str, config: str, said: str
) -> None:
    write_files(tmp_path, credentials, config)
    monkeypatch.setenv("AWS_PROFILE", "mill")
    with pytest.raises(SpecError, match=said) as caught:
        open_store("s3://bucket")
    assert SECRET not in f"{caught.value} {caught.value.__cause__}"


# Without obstore


def test_without_obstore_the_error_names_the_extra() -> None:
    script = """
import sys
sys.modules["obstore"] = None
sys.modules["obstore.store"] = None
from embedmill.errors import MissingExtra
from embedmill.store import open_store
try:
    open_store("s3://bucket")
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "embedmill[cloud]" in done.stdout


def test_a_local_store_does_not_load_obstore(tmp_path: Path) -> None:
    script = f"""
import sys
from embedmill.store import open_store
open_store({str(tmp_path)!r}).put("a", b"1")
assert not any(name.split(".")[0] == "obstore" for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_store_does_not_show_its_credentials(seaweed: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    as_identity(monkeypatch, seaweed.admin, seaweed.endpoint)
    store = CloudStore(seaweed.new_url())
    assert seaweed.admin.secret_key not in f"{store!r} {store} {vars(store)!r}"


# How requests of our own reach S3


@pytest.mark.parametrize(
    ("environment", "base", "region"),
    [
        ({}, "https://s3.us-east-1.amazonaws.com/bucket", "us-east-1"),
        ({"AWS_REGION": "eu-west-1"}, "https://s3.eu-west-1.amazonaws.com/bucket", "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "https://s3.eu-west-1.amazonaws.com/bucket", "eu-west-1"),
        ({"AWS_ENDPOINT_URL": "http://h:1/below/"}, "http://h:1/below/bucket", "us-east-1"),
        ({VIRTUAL: "true"}, "https://bucket.s3.us-east-1.amazonaws.com", "us-east-1"),
        ({VIRTUAL: "true", "AWS_ENDPOINT_URL": "https://bucket.h"}, "https://bucket.h", "us-east-1"),
    ],
)
def test_our_own_requests_go_where_obstores_go(
    environment: dict[str, str], base: str, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that obstore signs shows where it goes."""
    for name, value in {**STATIC, **environment}.items():
        monkeypatch.setenv(name, value)
    access = s3_access(Place.parse("s3://bucket/x"))
    assert (access.base, access.region) == (base, region)
    link = obstore.sign(CloudStore("s3://bucket/x")._client, "GET", "x/y", timedelta(seconds=60))
    assert link.startswith(f"{base}/x/y?")
    assert f"%2F{region}%2Fs3%2F" in link


def test_our_own_requests_are_signed_by_the_keys_that_obstore_signs_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert_signs_as_obstore("file-key", tmp_path, "[default]\naws_access_key_id = file-key\n", monkeypatch)
    for name, value in {**STATIC, "AWS_SESSION_TOKEN": "token"}.items():
        monkeypatch.setenv(name, value)
    assert_signs_as_obstore("env-key", tmp_path, "[default]\naws_access_key_id = file-key\n", monkeypatch)
    keys = s3_access(Place.parse("s3://bucket/x")).keys
    assert keys is not None
    assert keys.session_token == "token"  # noqa: S105 - a canary
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    assert s3_access(Place.parse("s3://bucket/x")).keys is None


def assert_signs_as_obstore(key: str, home: Path, profile: str, patch: pytest.MonkeyPatch) -> None:
    (home / ".aws").mkdir(exist_ok=True)
    (home / ".aws" / "credentials").write_text(profile + f"aws_secret_access_key = {SECRET}\n")
    access = s3_access(Place.parse("s3://bucket/x"))
    assert access.keys is not None
    assert access.keys.access_key_id == key
    link = obstore.sign(CloudStore("s3://bucket/x")._client, "GET", "y", timedelta(seconds=60))
    assert f"X-Amz-Credential={key}%2F" in link


def test_without_keys_of_ones_own_nothing_is_signed_and_it_is_said_what_to_do() -> None:
    with pytest.raises(StoreDenied, match="only static keys") as caught:
        s3_access(Place.parse("s3://bucket/x"))
    assert "lifecycle rule" in caught.value.hint
