"""Bodies that are refused at their first fault.

pydantic notes every fault of a body: for a few megabytes of wrong values that takes minutes, in which nobody
else is answered.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

T = TypeVar("T")
Each: TypeAlias = Annotated[list[T], Field(fail_fast=True)]
"""A list that is refused at its first wrong value."""
LONGEST = 80
"""Characters of a key that are told."""


class StrictBody(BaseModel):
    """A JSON body without unknown keys; lists in it are `Each`."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": False})

    @model_validator(mode="after")
    def _nothing_unknown(self) -> StrictBody:
        for name in self.model_extra or ():
            known = ", ".join(type(self).model_fields)
            said = f"there is no {name[:LONGEST]!r}; there are: {known}"
            raise PydanticCustomError("unknown_key", "{said}", {"said": said})
        return self
