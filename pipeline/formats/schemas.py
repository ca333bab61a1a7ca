"""The schemas of a registry, in the decoders' words."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from pipeline.formats.framing import SchemaId


class BadSchema(ValueError):
    """A schema that nothing can be read with; the words say why."""


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema's text, its kind (AVRO, PROTOBUF, JSON), and the texts of all that it refers to, by their names."""

    kind: str
    text: str
    references: Mapping[str, str]


class Schemas(Protocol):
    """Schemas by id, which never change."""

    def fetch(self, ids: Collection[SchemaId]) -> None:
        """Learn the schemas of these ids, or that there are none. Raises Unavailable, or ConfigError."""
        ...

    def get(self, id_: SchemaId) -> Schema | None:
        """Return a schema that was fetched; None if the registry has none of that id."""
        ...
