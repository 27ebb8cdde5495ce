"""What every document is: frozen values with a schema, as canonical JSON. Times are UTC, in ISO 8601."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from embedmill.errors import StoreError


def written(moment: datetime) -> str:
    """A moment in UTC, as documents write it."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def now() -> str:
    """The present, as documents write it."""
    return written(datetime.now(UTC))


class Part(BaseModel):
    """A piece of a document; frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Document(Part):
    """A whole document: its JSON has `schema`, sorted keys, and a newline at the end."""

    SCHEMA: ClassVar[str]

    def to_bytes(self) -> bytes:
        """The canonical bytes: equal documents have equal bytes."""
        return canonical_json(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The document as JSON values, with its schema."""
        return {"schema": self.SCHEMA, **self.model_dump(mode="json")}

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """Parse a document; `where` names it in errors.

        Raises:
            StoreError: It is damaged, or has another schema.
        """
        try:
            values = json.loads(data)
            schema = values.pop("schema")
        except (ValueError, KeyError, AttributeError, TypeError):
            raise StoreError(f"{where}: not a {cls.SCHEMA} document") from None
        if schema != cls.SCHEMA:
            raise StoreError(f"{where}: found schema {schema}, expected {cls.SCHEMA}")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"]))
            raise StoreError(f"{where}: not a valid {cls.SCHEMA}: {field}: {first['msg']}") from None

    @classmethod
    def other_version(cls, data: bytes) -> str:
        """The schema, if this is such a document of another version; empty if not."""
        try:
            schema = json.loads(data)["schema"]
        except (ValueError, KeyError, TypeError):
            return ""
        same_name = isinstance(schema, str) and schema.partition("/")[0] == cls.SCHEMA.partition("/")[0]
        return schema if same_name and schema != cls.SCHEMA else ""


def canonical_json(values: dict[str, Any]) -> bytes:
    """Sorted keys, two spaces, UTF-8, one newline at the end."""
    return (json.dumps(values, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()


def sha256(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()
