"""`catalog.source` as the URL of a database: secrets are references such as `${DB_PASSWORD}`, not values."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""An environment variable in a URL; it is read when the database is opened, and written nowhere."""

NOT_DATABASES = frozenset({"s3", "gs", "az", "abfs", "abfss", "http", "https", "file"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+_.-]*)://")
_SECRET_OPTION = re.compile(r"pass|pwd|secret|token", re.IGNORECASE)
_SECRET_INSIDE = re.compile(r"\b(?:pwd|password)\s*=\s*(?!\$\{)", re.IGNORECASE)
_HINT = (
    "a spec never holds a password: write ${NAME} for an environment variable, or leave it to the driver "
    "(PostgreSQL reads PGPASSWORD, PGPASSFILE and PGSERVICE); other `:` and `@` are written %3A and %40"
)


def database_scheme(source: str) -> str:
    """`postgresql` of `postgresql://host/db`; empty for files, which have no scheme."""
    found = _SCHEME.match(source)
    return found[1].lower() if found else ""


def checked_database(source: str) -> str:
    """The URL, if it holds no secret. What is refused is not repeated in the message.

    Raises:
        ValueError: It holds one, or is the URL of something that is no database.
    """
    scheme = database_scheme(source)
    if scheme in NOT_DATABASES:
        raise ValueError(f"{scheme}:// is no database; files are given by path, or as store:PATH")
    rest = source.partition("://")[2]
    user, at, _ = rest.rpartition("@")  # the last one: passwords have been seen with / ? # and @ in them
    _, colon, password = user.partition(":")
    if at and colon and not REFERENCE.fullmatch(password):
        raise ValueError(f"the URL has a password in it; {_HINT}")
    for name, value in parse_qsl(rest.partition("?")[2], keep_blank_values=True):
        named = _SECRET_OPTION.search(name) and name.lower() != "passfile" and not REFERENCE.fullmatch(value)
        if named or _SECRET_INSIDE.search(value):
            raise ValueError(f"the option {name} of the URL has a password in it; {_HINT}")
    return source
