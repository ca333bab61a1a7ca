"""Messages that say by which schema of a registry each is written."""

from collections.abc import Callable
from typing import Any

from pipeline.formats.framing import SchemaId, split_frame
from pipeline.formats.schemas import BadSchema, Schema, Schemas
from pipeline.messages.lookup import Record
from pipeline.messages.unreadable import Fault
from pipeline.records import Kind, Messages
from pipeline.visible import shown

ReadFramed = Callable[[bytes, bytes], Any]
"""Takes what follows the id in a header, and the rest of the value; returns what they say, or a Fault."""


Compile = Callable[[Schema], ReadFramed]
"""Makes the function that reads what a schema wrote. BadSchema for one that is none."""


class SchemaDecoder:
    """Reads messages by the schemas of a registry of one `kind`, each compiled once."""

    def __init__(self, schemas: Schemas, kind: str, compile_: Compile) -> None:
        self._schemas, self._kind, self._compile = schemas, kind, compile_
        self._readers: dict[SchemaId, ReadFramed | Fault] = {}

    def prepare(self, messages: Messages) -> None:
        """Fetch the schemas that are new among those of these messages. Raises Unavailable, or ConfigError."""
        new: dict[SchemaId, None] = {}
        for i, value in enumerate(messages.values):
            frame = split_frame(value, Record(messages, i, "")) if value else None
            if frame is not None and not isinstance(frame, Fault) and frame[0] not in self._readers:
                new[frame[0]] = None
        if new:
            self._schemas.fetch(tuple(new))

    def decode(self, value: bytes, record: Record) -> Any:
        """Return what a message says, or a Fault."""
        frame = split_frame(value, record)
        if isinstance(frame, Fault):
            return frame
        id_, beside, body = frame
        reader = self._readers.get(id_)
        if reader is None:
            reader = self._reader(id_)
        return reader if isinstance(reader, Fault) else reader(beside, body)

    def _reader(self, id_: SchemaId) -> ReadFramed | Fault:
        schema = self._schemas.get(id_)
        if schema is None:
            return Fault(Kind.ENCODING, f"not an event: the schema registry has no schema {id_}; register it again")
        self._readers[id_] = self._made(id_, schema)
        return self._readers[id_]

    def _made(self, id_: SchemaId, schema: Schema) -> ReadFramed | Fault:
        if schema.kind != self._kind:
            reason = f"schema {id_} is of {shown(schema.kind)}, and input.format is {self._kind.lower()}"
            return Fault(Kind.ENCODING, f"not an event: {reason}")
        try:
            return self._compile(schema)
        except BadSchema as error:
            return Fault(Kind.ENCODING, f"not an event: schema {id_} cannot be used: {shown(str(error), 200)}")
