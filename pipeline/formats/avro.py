"""Avro: bytes by a schema, of a file or of a registry."""

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from struct import error as struct_error
from typing import Any

from pipeline.errors import ConfigError
from pipeline.formats.avro_schema import TOP, prepare, register
from pipeline.formats.by_schema import ReadFramed, SchemaDecoder
from pipeline.formats.schemas import BadSchema, Schema, Schemas
from pipeline.messages.lookup import Record
from pipeline.messages.unreadable import Fault
from pipeline.records import Kind, Messages
from pipeline.visible import shown

SINGLE = b"\xc3\x01"
"""With the fingerprint of the schema in 8 bytes, what a single object begins with."""
CONTAINER = b"Obj\x01"
Read = Callable[[bytes], Any]
"""Returns what bytes say, or a Fault."""


def reader_of(text: str, references: Mapping[str, str], into: str | None = None) -> Read:
    """Make the function that reads what was written by a schema, `into` the reader's. BadSchema for one that is none.

    ConfigError without the library.
    """
    fastavro, in_python = _import()
    writer, wanted = prepare(text, references), None if into is None else prepare(into, {})
    if wanted and wanted.wrapped != writer.wrapped:
        raise BadSchema("one of it and the schema of input.schema_file is a record, and the other is not")
    schema, reader = (None if own is None else _parsed(fastavro, own.schema) for own in (writer, wanted))
    read = (in_python if writer.recursive else fastavro).schemaless_reader
    wrapped = writer.wrapped
    bad = (
        *(EOFError, ArithmeticError, LookupError, ValueError, TypeError, AttributeError, RecursionError, struct_error),
        fastavro.read.SchemaResolutionError,
    )

    def read_one(body: bytes) -> Any:
        content = BytesIO(body)
        try:
            found = read(content, schema, reader)
        except bad as error:
            said = shown(f"{type(error).__name__}: {error}", 120)
            return Fault(Kind.ENCODING, f"not an event: not written by this schema of Avro ({said})")
        if rest := len(body) - content.tell():
            return Fault(Kind.ENCODING, f"not an event: not written by this schema of Avro ({rest} bytes are left)")
        return found[TOP] if wrapped else found

    return read_one


class AvroFileDecoder:
    """Reads messages that are all written by the schema of one file, bare or as single objects."""

    def __init__(self, file: Path) -> None:
        text = _checked(file)
        self._read = reader_of(text, {})
        self._mark = SINGLE + _fingerprint(text)

    def prepare(self, messages: Messages) -> None:
        """Need nothing."""

    def decode(self, value: bytes, record: Record) -> Any:
        """Return what a message says, or a Fault."""
        if value.startswith(CONTAINER):
            return Fault(Kind.ENCODING, "not an event: a whole file of Avro; send one record a message")
        return self._read(value.removeprefix(self._mark))


def open_avro(schemas: Schemas, file: Path | None) -> SchemaDecoder:
    """Make the decoder of messages that name a registry's schemas; they are read into the schema of a file if any."""
    into = None if file is None else _checked(file)
    _import()

    def compile_(schema: Schema) -> ReadFramed:
        read = reader_of(schema.text, schema.references, into)
        return lambda _, body: read(body)

    return SchemaDecoder(schemas, "AVRO", compile_)


def _checked(file: Path) -> str:
    """Return the text of a file with a schema."""
    try:
        text = file.read_text(encoding="utf-8")
        reader_of(text, {})
        _fingerprint(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"input.schema_file: {file} is no schema of Avro ({shown(str(error), 200)})") from error
    return text


def _parsed(fastavro: Any, schema: dict[str, Any]) -> Any:
    try:
        return fastavro.parse_schema(schema)
    except (fastavro.schema.SchemaParseException, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadSchema(f"{type(error).__name__}: {error}") from error


def _fingerprint(text: str) -> bytes:
    from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

    canonical = to_parsing_canonical_form(parse_schema(json.loads(text)))
    return bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))


def _import() -> tuple[Any, Any]:
    try:
        import fastavro
        import fastavro._read_py
        import fastavro.read
        import fastavro.schema
    except ImportError as error:
        raise ConfigError("input.format avro needs fastavro: pip install 'tidecast[avro]'") from error
    register(fastavro.read.LOGICAL_READERS)
    return fastavro, fastavro._read_py
