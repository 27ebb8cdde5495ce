"""SeaweedFS with a role that may be assumed: its token service makes keys, and holds them to their policy."""

from __future__ import annotations

import base64
import json
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.s3 import BUCKET, S3, as_identity
from tools.seaweedfs import seaweedfs

ROLE = "arn:aws:iam::role/EmbedmillWorkers"


def _allow(actions: list[str], **more: object) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": actions, **more}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _roles() -> dict[str, Any]:
    """A role that everybody may assume, and that may do everything with objects."""
    everything = _allow(["s3:*"], Resource=["arn:aws:s3:::*", "arn:aws:s3:::*/*"])
    role = {
        "roleName": ROLE.rpartition("/")[2],
        "roleArn": ROLE,
        "trustPolicy": _allow(["sts:AssumeRole"], Principal={"AWS": "*"}),
        "attachedPolicies": ["everything"],
    }
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    return {
        "sts": {"tokenDuration": "1h", "maxSessionLength": "12h", "issuer": "tests", "signingKey": key},
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "policies": [{"name": "everything", "document": everything}],
        "roles": [role],
    }


@pytest.fixture(scope="session")
def seaweed_with_roles() -> Iterator[S3]:
    """A server of its own: with roles, SeaweedFS judges everybody by other code."""
    with tempfile.TemporaryDirectory(prefix="weed-roles-", ignore_cleanup_errors=True) as name:
        iam = Path(name, "iam.json")
        iam.write_text(json.dumps(_roles()))
        with seaweedfs(Path(name, "data"), stop_s=0.5, iam=iam) as server:
            server.make_bucket(BUCKET)
            yield S3(server.endpoint, server.admin)


@pytest.fixture
def store_with_roles(seaweed_with_roles: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new store there, and the environment that opens it and asks for roles."""
    as_identity(monkeypatch, seaweed_with_roles.admin, seaweed_with_roles.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", seaweed_with_roles.endpoint)
    return seaweed_with_roles.new_url()
