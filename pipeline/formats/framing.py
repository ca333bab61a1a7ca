"""How a message says which schema of a registry it is written by.

0, id in 4 bytes, body               the prefix that Confluent's serializers write
header __value_schema_id             1 and a GUID in 16 bytes, or 0 and an id; the value is all body
"""

from typing import Any
from uuid import UUID

from pipeline.messages.lookup import ABSENT, Record
from pipeline.messages.unreadable import Fault
from pipeline.records import Kind

HEADER = "__value_schema_id"
PREFIX = 5
GUID = 17
LARGEST_ID = 2**31 - 1
SchemaId = int | str
"""A number, or a GUID."""


def split_frame(value: bytes, record: Record) -> tuple[SchemaId, bytes, bytes] | Fault:
    """Return the id of a message's schema, what follows it in a header, and the rest of the value."""
    header: Any = record.header_bytes(HEADER)
    if header is not ABSENT and header:
        found = _read(header)
        if found is None:
            return Fault(Kind.ENCODING, f"not an event: the header {HEADER} ({header[:8].hex(' ')}) is no schema's id")
        return found[0], header[found[1] :], value
    found = _read(value) if value[0] == 0 else None
    if found is None:
        return Fault(
            Kind.ENCODING,
            f"not an event: neither the 5 bytes of a schema registry (it begins with {value[:8].hex(' ')}) nor the "
            f"header {HEADER}; use the registry's serializer, or set input.format",
        )
    return found[0], b"", value[found[1] :]


def _read(content: bytes) -> tuple[SchemaId, int] | None:
    """Read an id: it and the place after it; None if there is none."""
    if content[0] == 0 and len(content) >= PREFIX:
        number = int.from_bytes(content[1:PREFIX], "big")
        return (number, PREFIX) if number <= LARGEST_ID else None
    if content[0] == 1 and len(content) >= GUID:
        return str(UUID(bytes=content[1:GUID])), GUID
    return None
