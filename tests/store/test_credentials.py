"""What a worker on a borrowed server is given: keys that end and open one folder, and never more unasked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.support.sts import ROLE

from embedmill.errors import SpecError, StoreDenied
from embedmill.store import Store, open_store
from embedmill.store.credentials import EXPIRATION, Lending, has_expired, lent_environment

LASTING = {"AWS_ACCESS_KEY_ID": "AKIACANARY", "AWS_SECRET_ACCESS_KEY": "secret-canary"}
ENDING = {**LASTING, "AWS_SESSION_TOKEN": "token-canary", EXPIRATION: "2030-01-01T00:00:00Z"}


def test_keys_of_a_role_open_the_pipelines_folder(
    store_with_roles: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(store_with_roles).put("shop/runs/plan.json", b"a plan")
    store = as_a_worker(store_with_roles, Lending(role=ROLE), monkeypatch)
    store.put_if_absent("shop/runs/commits/00000.json", b"done")
    assert store.get("shop/runs/plan.json") == b"a plan"
    assert [info.key for info in store.list("shop/runs")] == [
        "shop/runs/commits/00000.json",
        "shop/runs/plan.json",
    ]
    store.delete("shop/runs/commits/00000.json")


@pytest.mark.parametrize(
    "deed",
    [
        lambda store: store.get("other/x"),
        lambda store: store.put("other/y", b""),
        lambda store: store.delete("other/x"),
        lambda store: list(store.list("other")),
        lambda store: list(store.list("")),
        lambda store: store.put("shopping/x", b""),
    ],
    ids=["get", "put", "delete", "list", "list-all", "beginning-alike"],
)
def test_keys_of_a_role_open_nothing_else(
    store_with_roles: str, monkeypatch: pytest.MonkeyPatch, deed: Callable[[Store], object]
) -> None:
    open_store(store_with_roles).put("other/x", b"of others")
    store = as_a_worker(store_with_roles, Lending(role=ROLE), monkeypatch)
    with pytest.raises(StoreDenied):
        deed(store)


def test_folders_of_images_may_be_read_and_not_written(
    store_with_roles: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(store_with_roles).put("images/x.jpg", b"jpeg")
    store = as_a_worker(store_with_roles, Lending(role=ROLE, reads=("images/",)), monkeypatch)
    assert store.get("images/x.jpg") == b"jpeg"
    with pytest.raises(StoreDenied):
        store.put("images/x.jpg", b"")


def test_keys_of_a_role_say_when_they_end(store_with_roles: str) -> None:
    lent = lent_environment(store_with_roles, "shop", Lending(role=ROLE, role_lasts_s=900))
    left = datetime.fromisoformat(lent[EXPIRATION]) - datetime.now(UTC)
    assert timedelta(minutes=14) < left <= timedelta(minutes=15, seconds=5)


def test_a_role_that_is_refused_is_named_with_the_services_word(store_with_roles: str) -> None:
    with pytest.raises(
        StoreDenied, match=r"role/Nobody: keys for workers were refused \(4\d\d \w+\)"
    ) as caught:
        lent_environment(store_with_roles, "shop", Lending(role=ROLE.replace("EmbedmillWorkers", "Nobody")))
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)


def test_keys_that_last_are_lent_only_where_the_spec_says_so(environment: Callable[..., None]) -> None:
    environment(LASTING)
    with pytest.raises(SpecError, match=r"these keys of S3 last.*work\.role.*lend_keys: true") as caught:
        lent_environment("s3://bucket/x", "shop", Lending())
    assert "canary" not in str(caught.value)
    assert lent_environment("s3://bucket/x", "shop", Lending(keys=True)).items() >= LASTING.items()


def test_keys_that_end_are_lent_with_their_end(environment: Callable[..., None]) -> None:
    environment(ENDING)
    assert lent_environment("s3://bucket/x", "shop", Lending()).items() >= ENDING.items()


def test_keys_of_a_profile_are_lent_as_variables_for_its_file_stays_here(
    environment: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text(
        "[work]\naws_access_key_id = A\naws_secret_access_key = B\naws_session_token = C\n"
    )
    environment({"AWS_PROFILE": "work", "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")})
    lent = lent_environment("s3://bucket/x", "shop", Lending())
    assert lent == {
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "A",
        "AWS_SECRET_ACCESS_KEY": "B",
        "AWS_SESSION_TOKEN": "C",
    }


def test_only_variables_that_open_a_store_are_lent(environment: Callable[..., None]) -> None:
    environment({**ENDING, "AWS_WEB_IDENTITY_TOKEN_FILE": "/secret", "AWS_CANARY": "x", "PASSWORD": "y"})
    lent = lent_environment("s3://bucket/x", "shop", Lending())
    assert lent.keys() == {"AWS_REGION", *ENDING}


def test_without_any_keys_it_is_said_how_to_have_some(environment: Callable[..., None]) -> None:
    environment({})
    with pytest.raises(SpecError, match="export-credentials"):
        lent_environment("s3://bucket/x", "shop", Lending(keys=True))


def test_a_google_key_that_lies_in_a_file_is_lent_as_text(
    environment: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "key.json").write_text(json.dumps({"private_key": "canary"}))
    environment({"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json")})
    with pytest.raises(SpecError, match="lasts"):
        lent_environment("gs://bucket/x", "shop", Lending())
    lent = lent_environment("gs://bucket/x", "shop", Lending(keys=True))
    assert json.loads(lent["GOOGLE_SERVICE_ACCOUNT_KEY"]) == {"private_key": "canary"}


def test_of_azure_a_sas_is_lent_and_the_accounts_key_is_not(environment: Callable[..., None]) -> None:
    account = {"AZURE_STORAGE_ACCOUNT_NAME": "mill", "AZURE_STORAGE_ACCOUNT_KEY": "canary"}
    environment(account)
    with pytest.raises(SpecError, match="SAS"):
        lent_environment("az://container/x", "shop", Lending())
    environment({**account, "AZURE_STORAGE_SAS_KEY": "sig=1"})
    lent = lent_environment("az://container/x", "shop", Lending())
    assert lent == {"AZURE_STORAGE_ACCOUNT_NAME": "mill", "AZURE_STORAGE_SAS_KEY": "sig=1"}


def test_a_folder_needs_no_credentials(environment: Callable[..., None]) -> None:
    environment(LASTING)
    assert lent_environment("/mnt/mill", "shop", Lending()) == {}


@pytest.mark.parametrize(
    ("end", "expired"),
    [("2026-01-01T00:00:00Z", True), ("2026-01-01T02:00:01+00:00", False), ("soon", False)],
)
def test_credentials_have_expired_when_their_end_is_past(
    environment: Callable[..., None], end: str, expired: bool
) -> None:
    environment({EXPIRATION: end})
    assert has_expired(datetime(2026, 1, 1, 2, tzinfo=UTC)) is expired


def as_a_worker(url: str, lending: Lending, patch: pytest.MonkeyPatch) -> Store:
    """The store, opened with what a worker would be given and nothing else."""
    lent = lent_environment(url, "shop", lending)
    replace_environment(patch, lent)
    return open_store(url)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], None]:
    return lambda variables: replace_environment(monkeypatch, variables)


def replace_environment(patch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
        patch.delenv(name)
    patch.setenv("AWS_CONFIG_FILE", os.devnull)
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    for name, value in variables.items():
        patch.setenv(name, value)
