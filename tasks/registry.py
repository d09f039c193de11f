"""A setting that names an entry of a registry: checked, and offered as a choice wherever settings are shown."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from annotated_types import GroupedMetadata
from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError


@dataclass(frozen=True, slots=True)
class OneOf(GroupedMetadata):
    """Annotation for a string setting that must be a key of a registry.

    The names come from the registry, so that a new entry is accepted, listed in messages and drawn as a choice in
    Prefect's form without another line of code.
    """

    registry: Collection[str]
    """The allowed names, in the order in which they are listed."""

    or_none: bool = False
    """Whether nothing may be named."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the validator and the JSON schema, as pydantic wants them."""
        yield AfterValidator(self._check)
        names = {"type": "string", "enum": list(self.registry)}
        yield WithJsonSchema({"anyOf": [names, {"type": "null"}]} if self.or_none else names)

    def _check(self, value: str | None) -> str | None:
        if value not in self.registry and not (self.or_none and value is None):
            raise PydanticCustomError("one_of", "expected one of {allowed}", {"allowed": ", ".join(self.registry)})
        return value
