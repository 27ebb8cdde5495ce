"""`~/.aws/credentials` and `~/.aws/config`: static keys, region and endpoint of a profile.

Only what stands there literally is read. Profiles that name a role, SSO or a program are refused by name,
because ignoring them would use somebody else's credentials.
"""

from __future__ import annotations

import configparser
import os
from dataclasses import dataclass
from pathlib import Path

from embedmill.errors import SpecError

CONFIG = ("AWS_CONFIG_FILE", "config")
CREDENTIALS = ("AWS_SHARED_CREDENTIALS_FILE", "credentials")
DYNAMIC = ("role_arn", "sso_session", "sso_start_url", "credential_process", "web_identity_token_file")


@dataclass(frozen=True)
class Profile:
    """What the files say of one profile; "" where they say nothing."""

    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    region: str = ""
    endpoint_url: str = ""

    def __repr__(self) -> str:
        return f"Profile(region={self.region!r}, endpoint_url={self.endpoint_url!r})"


def read_profile(*, needs_keys: bool) -> Profile:
    """The profile that $AWS_PROFILE names, or `default`. Its keys are read only where they are needed.

    Raises:
        SpecError: $AWS_PROFILE names one that is not there, or whose credentials are not static.
    """
    named = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    name = named or "default"
    config = _section(*CONFIG, name if name == "default" else f"profile {name}")
    keys = _section(*CREDENTIALS, name)
    if named and config is None and keys is None:
        files = (_file(*CREDENTIALS), _file(*CONFIG))
        hint = f"looked for it in {files[0]} and {files[1]}"
        raise SpecError(f"AWS_PROFILE: there is no profile {name!r}", hint=hint)
    found = {**(config or {}), **(keys or {})}
    static = bool(found.get("aws_access_key_id") and found.get("aws_secret_access_key"))
    if named and needs_keys and not static and any(found.get(option) for option in DYNAMIC):
        raise SpecError(
            f"AWS_PROFILE: the credentials of {name!r} are not static keys",
            hint='eval "$(aws configure export-credentials --format env)"',
        )
    use_keys = needs_keys and static
    return Profile(
        access_key_id=found.get("aws_access_key_id", "") if use_keys else "",
        secret_access_key=found.get("aws_secret_access_key", "") if use_keys else "",
        session_token=found.get("aws_session_token", "") if use_keys else "",
        region=found.get("region", ""),
        endpoint_url=found.get("endpoint_url", ""),
    )


def _file(variable: str, file_name: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / ".aws" / file_name).expanduser()


def _section(variable: str, file_name: str, section: str) -> dict[str, str] | None:
    """One section of a file; None where there is no such file or section."""
    file = _file(variable, file_name)
    parser = configparser.ConfigParser(interpolation=None, default_section="\0")
    try:
        parser.read_string(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        # configparser quotes the line that it cannot read, which may be a secret.
        raise SpecError(f"{file}: cannot be read as an AWS {file_name} file") from (
            error if isinstance(error, OSError) else None
        )
    return dict(parser[section]) if parser.has_section(section) else None
