"""JSON that the serializer of a schema registry wrote: its id is taken off, and the schema is not looked up."""

from typing import Any

from pipeline.formats.framing import split_frame
from pipeline.messages.decoder import JsonDecoder
from pipeline.messages.lookup import Record
from pipeline.messages.unreadable import Fault, find_no_value
from pipeline.records import Messages


class JsonSchemaDecoder:
    """Reads JSON behind an id, or beside a header with one."""

    def __init__(self, *, lenient: bool) -> None:
        self._json = JsonDecoder(lenient=lenient)

    def prepare(self, messages: Messages) -> None:
        """Need nothing."""

    def decode(self, value: bytes, record: Record) -> Any:
        """Return what a message says in JSON, or a Fault."""
        frame = split_frame(value, record)
        if isinstance(frame, Fault):
            return frame
        body = frame[2]
        return find_no_value(body, len(body)) or self._json.decode(body, record)
