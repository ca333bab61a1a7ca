"""Protobuf: bytes by a message of a registry's schema, or of a descriptor set in a file.

A field that is always there has its default where the wire has none of it: 0.0 is a value. One that says whether it is
there (`optional`, a wrapper) is null where it is not, and of a `oneof`, or a message, it is absent.
"""

from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.formats.by_schema import ReadFramed, SchemaDecoder
from pipeline.formats.schemas import BadSchema, Schema, Schemas
from pipeline.formats.values import text_of
from pipeline.messages.lookup import Moment, Record
from pipeline.messages.unreadable import Fault
from pipeline.records import Kind, Messages
from pipeline.visible import shown

SECOND = 1_000_000
MOST_INDEXES = 32
"""Messages within messages, at most."""
OWN_FILE = "tidecast/schema.proto"
"""Name of a schema's own file, which registries give none."""
MISSING = "input.format protobuf needs protobuf: pip install 'tidecast[protobuf]'"
Read = Callable[[bytes], Any]
"""Returns what bytes say, or a Fault."""


def open_protobuf(schemas: Schemas) -> SchemaDecoder:
    """Make the decoder of messages that name a registry's schemas."""
    _import()

    def compile_(schema: Schema) -> ReadFramed:
        file = _file_of(schema)
        readers: dict[tuple[int, ...], Read | Fault] = {}

        def read(beside: bytes, body: bytes) -> Any:
            """Read the message that the indexes name: in the header behind the id, or before the body."""
            found = _indexes(beside or body)
            if found is None:
                return Fault(Kind.ENCODING, "not an event: no indexes of a Protobuf message behind the schema's id")
            indexes, end = found
            if indexes not in readers:
                readers[indexes] = _reader_at(file, indexes)
            reader = readers[indexes]
            return reader if isinstance(reader, Fault) else reader(body if beside else body[end:])

        return read

    return SchemaDecoder(schemas, "PROTOBUF", compile_)


class ProtobufFileDecoder:
    """Reads messages that are all one message of a descriptor set."""

    def __init__(self, file: Path, name: str) -> None:
        pool, descriptors = _import()
        try:
            found = descriptors.FileDescriptorSet.FromString(file.read_bytes())
            for own in found.file:
                pool.Add(own)
            self._read = _reader_of(pool.FindMessageTypeByName(name))
        except _bad() as error:
            why = shown(str(error), 200)
            raise ConfigError(
                f"input.schema_file: {file} is no descriptor set with input.message {name} ({why}); write it by "
                "protoc --include_imports --descriptor_set_out"
            ) from error

    def prepare(self, messages: Messages) -> None:
        """Need nothing."""

    def decode(self, value: bytes, record: Record) -> Any:
        """Return what a message says, or a Fault."""
        return self._read(value)


def _import() -> tuple[Any, Any]:
    """Return a new pool of descriptors, and the module that they are messages of."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool
    except ImportError as error:
        raise ConfigError(MISSING) from error
    return descriptor_pool.DescriptorPool(), descriptor_pb2


def _bad() -> tuple[type[Exception], ...]:
    from google.protobuf.message import DecodeError

    return DecodeError, OSError, ValueError, TypeError, LookupError, RecursionError, NoBase64


def _file_of(schema: Schema) -> Any:
    """Build a schema's file and everything that it imports, imports first, and return its descriptor."""
    pool, descriptors = _import()
    done: set[str] = set()

    def add(file: Any) -> None:
        done.add(file.name)
        for name in file.dependency:
            if name not in done:
                add(_dependency(descriptors, name, schema.references))
        pool.Add(file)

    own = _parsed(descriptors, schema.text, OWN_FILE)
    try:
        add(own)
        return pool.FindFileByName(OWN_FILE)
    except _bad() as error:
        raise BadSchema(str(error)) from error


def _parsed(descriptors: Any, text: str, name: str) -> Any:
    """Read a file's descriptor in base64, as registries write it for format=serialized."""
    try:
        found = descriptors.FileDescriptorProto.FromString(b64decode(text, validate=True))
    except _bad() as error:
        raise BadSchema(
            "the registry gave the text of a .proto file and no descriptor; it knows no ?format=serialized"
        ) from error
    found.name = name
    return found


def _dependency(descriptors: Any, name: str, references: Mapping[str, str]) -> Any:
    """Return the descriptor of an import: a reference of the schema's, or one that comes with Protobuf."""
    from google.protobuf import (  # noqa: F401
        any_pb2,
        descriptor_pool,
        duration_pb2,
        empty_pb2,
        field_mask_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )

    if name in references:
        return _parsed(descriptors, references[name], name)
    try:
        known = descriptor_pool.Default().FindFileByName(name).serialized_pb
    except KeyError as error:
        raise BadSchema(f"it imports {shown(name)}, which is not among its references") from error
    return descriptors.FileDescriptorProto.FromString(known)


def _indexes(content: bytes) -> tuple[tuple[int, ...], int] | None:
    """Read the places of a message within its file, and the place after them; None if there are none."""
    numbers: list[int] = []
    at = wanted = 0
    while len(numbers) <= wanted:
        value = shift = 0
        while True:
            if at >= len(content) or shift > 28:
                return None
            byte = content[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        number = (value >> 1) ^ -(value & 1)
        if number < 0 or (not numbers and number > MOST_INDEXES):
            return None
        wanted = wanted if numbers else number
        numbers.append(number)
    return tuple(numbers[1:]) or (0,), at


def _reader_at(file: Any, indexes: tuple[int, ...]) -> Read | Fault:
    """Make the reader of the message at these places: of the file, then within the message before.

    The entries of maps are messages within, too, as Confluent's Python library counts them.
    """
    proto = file_proto(file)
    names = [file.package] if file.package else []
    among = proto.message_type
    for index in indexes:
        if index >= len(among):
            return Fault(Kind.ENCODING, f"not an event: the schema has no Protobuf message {list(indexes)}")
        names.append(among[index].name)
        among = among[index].nested_type
    return _reader_of(file.pool.FindMessageTypeByName(".".join(names)))


def file_proto(file: Any) -> Any:
    """Return a file's descriptor as a message, in which messages have the order of the file."""
    from google.protobuf import descriptor_pb2

    return descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)


def _reader_of(descriptor: Any) -> Read:
    from google.protobuf.message import DecodeError
    from google.protobuf.message_factory import GetMessageClass

    parse = GetMessageClass(descriptor).FromString
    convert = _Plans().of(descriptor)

    def read(body: bytes) -> Any:
        try:
            return convert(parse(body))
        except (DecodeError, UnicodeDecodeError) as error:
            return Fault(
                Kind.ENCODING, f"not an event: not written by this Protobuf message ({shown(str(error), 120)})"
            )
        except RecursionError:
            return Fault(Kind.EVENT, "not an event: nested too deeply")

    return read


Convert = Callable[[Any], Any]


class _Plans:
    """How messages become values, made once for each kind of message."""

    def __init__(self) -> None:
        self._made: dict[str, Convert] = {}

    def of(self, descriptor: Any) -> Convert:
        """Return the function that converts messages of a kind, which may be within themselves."""
        known = SPECIAL.get(descriptor.full_name)
        if known is not None:
            return known
        if descriptor.full_name not in self._made:
            fields: list[tuple[str, Convert, bool, bool]] = []

            def convert(message: Any) -> dict[str, Any]:
                found: dict[str, Any] = {}
                for name, read, sees, nullable in fields:
                    if not sees or message.HasField(name):
                        found[name] = read(getattr(message, name))
                    elif nullable:
                        found[name] = None
                return found

            self._made[descriptor.full_name] = convert
            fields += [self._field(own) for own in descriptor.fields]
        return self._made[descriptor.full_name]

    def _field(self, field: Any) -> tuple[str, Convert, bool, bool]:
        """Return a field's name, how its value is read, whether it may not be there, and whether it is null then."""
        message = field.message_type
        if message is not None and message.GetOptions().map_entry:
            key, value = message.fields_by_name["key"], message.fields_by_name["value"]
            return field.name, _map(self._one(value), boolean=key.cpp_type == key.CPPTYPE_BOOL), False, False
        read = self._one(field)
        if field.is_repeated:
            return field.name, lambda values: [read(own) for own in values], False, False
        union = field.containing_oneof
        chosen = union is not None and not (len(union.fields) == 1 and union.name == f"_{field.name}")
        plain = message is None or message.full_name in WRAPPERS
        return field.name, read, field.has_presence, plain and not chosen

    def _one(self, field: Any) -> Convert:
        if field.message_type is not None:
            return self.of(field.message_type)
        if field.enum_type is not None:
            names = {number: own.name for number, own in field.enum_type.values_by_number.items()}
            return lambda number: names.get(number, number)
        return text_of if field.type == field.TYPE_BYTES else _same


def _map(read: Convert, *, boolean: bool) -> Convert:
    name: Convert = (lambda key: "true" if key else "false") if boolean else str
    return lambda entries: {name(key): read(entries[key]) for key in entries}


def _same(value: Any) -> Any:
    return value


def _value(message: Any) -> Any:
    """Convert google.protobuf.Value, which is any value of JSON."""
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    found = getattr(message, kind)
    return _struct(found) if kind == "struct_value" else _list(found) if kind == "list_value" else found


def _struct(message: Any) -> dict[str, Any]:
    return {name: _value(message.fields[name]) for name in message.fields}


def _list(message: Any) -> list[Any]:
    return [_value(own) for own in _values(message)]


def _values(message: Any) -> Iterable[Any]:
    values: Iterable[Any] = message.values
    return values


def _unwrapped(read: Convert) -> Convert:
    return lambda message: read(message.value)


WRAPPERS: dict[str, Convert] = {
    f"google.protobuf.{name}Value": text_of if name == "Bytes" else _same
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
}
SPECIAL: dict[str, Convert] = {
    "google.protobuf.Timestamp": lambda message: Moment(message.seconds * SECOND + message.nanos // 1_000),
    "google.protobuf.Duration": lambda message: message.seconds + message.nanos / 1e9,
    "google.protobuf.Struct": _struct,
    "google.protobuf.Value": _value,
    "google.protobuf.ListValue": _list,
    **{name: _unwrapped(read) for name, read in WRAPPERS.items()},
}
"""Messages that come with Protobuf and mean a value."""
