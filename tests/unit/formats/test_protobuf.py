"""Protobuf by a descriptor set and by the schemas of a registry, written by Google's own library."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.errors import ConfigError
from pipeline.formats.opened import open_decoder
from pipeline.grid.frequency import Frequency
from pipeline.messages.codec import Reader
from pipeline.messages.lookup import Moment
from pipeline.messages.unreadable import Fault
from pipeline.records import Kind
from pipeline.registry.client import RegistryClient
from pipeline.registry.schemas import RegistrySchemas
from pipeline.settings import InputSettings, RegistrySettings
from tests.registry import SchemaRegistry
from tests.unit.formats.test_by_schema import frame, read
from tests.unit.formats.test_plain import decode
from tests.unit.messages.reading import AT, refused

Field = descriptor_pb2.FieldDescriptorProto
TYPES = {
    "string": Field.TYPE_STRING,
    "double": Field.TYPE_DOUBLE,
    "int64": Field.TYPE_INT64,
    "bytes": Field.TYPE_BYTES,
    "bool": Field.TYPE_BOOL,
}
IMPORTS = [f"google/protobuf/{name}.proto" for name in ("timestamp", "duration", "struct", "wrappers")]
PROTOBUF = InputSettings(format="protobuf")


def add(message: Any, name: str, kind: str, *, repeated: bool = False, union: int | None = None) -> Any:
    """Add a field to a message's descriptor; a kind with a point is a message, one with a ! an enum."""
    label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=len(message.field) + 1, label=label)
    if kind in TYPES:
        field.type = TYPES[kind]
    else:
        field.type = Field.TYPE_ENUM if kind.endswith("!") else Field.TYPE_MESSAGE
        field.type_name = kind.removesuffix("!")
    if union is not None:
        field.oneof_index = union
    return field


def make_file() -> Any:
    """A file with a message of every kind of field, a message within it, and a reading."""
    file = descriptor_pb2.FileDescriptorProto(name="plant.proto", package="plant", syntax="proto3", dependency=IMPORTS)
    state = file.enum_type.add(name="State")
    state.value.add(name="OFF", number=0)
    state.value.add(name="ON", number=1)
    every = file.message_type.add(name="Every")
    for name, kind in (("text", "string"), ("count", "int64"), ("raw", "bytes"), ("state", ".plant.State!")):
        add(every, name, kind)
    for name, of in (("at", "Timestamp"), ("span", "Duration"), ("free", "Struct"), ("wrapped", "DoubleValue")):
        add(every, name, f".google.protobuf.{of}")
    add(every, "many", "double", repeated=True)
    add(every, "inner", ".plant.Every")
    entry = every.nested_type.add(name="TagsEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    add(entry, "key", "bool")
    add(entry, "value", "double")
    add(every, "tags", ".plant.Every.TagsEntry", repeated=True)
    for name in ("choice", "_maybe"):
        every.oneof_decl.add(name=name)
    add(every, "this", "double", union=0)
    add(every, "that", "string", union=0)
    add(every, "maybe", "double", union=1).proto3_optional = True
    reading = every.nested_type.add(name="Reading")
    for name, kind in (("series_id", "string"), ("timestamp", "int64"), ("value", "double")):
        add(reading, name, kind)
    return file


FILE = make_file()
POOL = descriptor_pool.DescriptorPool()
for own in (timestamp_pb2, duration_pb2, struct_pb2, wrappers_pb2):
    POOL.AddSerializedFile(own.DESCRIPTOR.serialized_pb)
POOL.Add(FILE)
Every = GetMessageClass(POOL.FindMessageTypeByName("plant.Every"))
Reading = GetMessageClass(POOL.FindMessageTypeByName("plant.Every.Reading"))


def reading() -> bytes:
    content: bytes = Reading(series_id="a", timestamp=AT, value=2.5).SerializeToString()
    return content


@pytest.fixture(scope="module")
def by_file(tmp_path_factory: pytest.TempPathFactory) -> InputSettings:
    known = (timestamp_pb2, duration_pb2, struct_pb2, wrappers_pb2)
    files = [descriptor_pb2.FileDescriptorProto.FromString(own.DESCRIPTOR.serialized_pb) for own in known]
    file = tmp_path_factory.mktemp("schema") / "plant.desc"
    file.write_bytes(descriptor_pb2.FileDescriptorSet(file=[*files, FILE]).SerializeToString())
    return InputSettings(format="protobuf", schema_file=file, message="plant.Every")


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as found:
        yield found


def reader(registry: SchemaRegistry) -> Reader:
    client = RegistryClient(RegistrySettings(url=registry.url), lambda: 0)
    schemas = RegistrySchemas(client, lambda: 0, serialized=True, pause=lambda _: None)
    return Reader(PROTOBUF, Frequency("1s"), "plant", open_decoder(PROTOBUF, schemas))


def test_what_is_not_on_the_wire_has_its_default_or_is_missing_or_absent(by_file: InputSettings) -> None:
    bare = {"text": "", "count": 0, "raw": "", "state": "OFF", "wrapped": None, "many": [], "tags": {}, "maybe": None}
    assert decode(by_file, Every(text="a").SerializeToString()) == bare | {"text": "a"}


def test_every_kind_of_field_becomes_what_the_mapping_reads(by_file: InputSettings) -> None:
    sent = Every(count=-(2**63), raw=b"ab", state=7, many=[0.5, 1.5], tags={True: 2.0}, this=0.0, maybe=0.0)
    sent.at.FromSeconds(AT)
    sent.at.nanos = 5_999
    sent.span.FromMilliseconds(1_500)
    sent.free.update({"a": [1, None, {"b": True}]})
    sent.wrapped.value = 0.0
    sent.inner.state = 1
    found = decode(by_file, sent.SerializeToString())
    inner = found.pop("inner")
    assert inner["state"] == "ON"
    assert type(found["at"]) is Moment
    assert found == {
        "text": "",
        "count": -(2**63),
        "raw": "YWI=",
        "state": 7,
        "many": [0.5, 1.5],
        "tags": {"true": 2.0},
        "at": AT * 1_000_000 + 5,
        "span": 1.5,
        "free": {"a": [1.0, None, {"b": True}]},
        "wrapped": 0.0,
        "this": 0.0,
        "maybe": 0.0,
    }


def test_a_message_within_another_is_found_by_its_indexes(registry: SchemaRegistry) -> None:
    known = registry.register("s", "text", "PROTOBUF", serialized=FILE.SerializeToString())
    by = reader(registry)
    events, letters = read(by, frame(known, b"\x04\x00\x02" + reading()))
    assert letters == ()
    assert events.value.tolist() == [2.5]
    header = (("__value_schema_id", b"\x01" + registry.guid(known).bytes + b"\x04\x00\x02"),)
    assert len(read(by, reading(), headers=header)[0]) == 1
    assert registry.asked[0] == f"/schemas/ids/{known}?format=serialized"


def test_the_first_message_of_a_file_is_the_index_zero(registry: SchemaRegistry) -> None:
    own = descriptor_pb2.FileDescriptorProto(syntax="proto3", message_type=[FILE.message_type[0].nested_type[1]])
    known = registry.register("s", "text", "PROTOBUF", serialized=own.SerializeToString())
    for indexes in (b"\0", b"\x02\0"):
        events, letters = read(reader(registry), frame(known, indexes + reading()))
        assert letters == ()
        assert len(events) == 1


def test_imports_are_found_among_the_references(registry: SchemaRegistry) -> None:
    unit = descriptor_pb2.FileDescriptorProto(syntax="proto3", package="unit")
    add(unit.message_type.add(name="Unit"), "name", "string")
    own = descriptor_pb2.FileDescriptorProto(syntax="proto3", dependency=["unit.proto"])
    own.message_type.add().CopyFrom(FILE.message_type[0].nested_type[1])
    add(own.message_type[0], "unit", ".unit.Unit")
    registry.register("unit", "text", "PROTOBUF", serialized=unit.SerializeToString())
    content = own.SerializeToString()
    with_it = registry.register("s", "text", "PROTOBUF", [("unit.proto", "unit", 1)], content)
    without = registry.register("t", "text", "PROTOBUF", serialized=content)
    assert len(read(reader(registry), frame(with_it, b"\0" + reading()))[0]) == 1
    _, (letter,) = read(reader(registry), frame(without, b"\0" + reading()))
    assert "it imports unit.proto, which is not among its references" in letter.reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no indexes of a Protobuf message"),
        (b"\x42\0", "no indexes of a Protobuf message"),
        (b"\x02\x01", "no indexes of a Protobuf message"),
        (b"\xff" * 9, "no indexes of a Protobuf message"),
        (b"\x02\x0e", "no Protobuf message [7]"),
        (b"\0\xff", "not written by this Protobuf message"),
    ],
)
def test_a_message_that_the_schema_did_not_write_is_a_dead_letter(
    registry: SchemaRegistry, body: bytes, reason: str
) -> None:
    known = registry.register("s", "text", "PROTOBUF", serialized=FILE.SerializeToString())
    _, (letter,) = read(reader(registry), frame(known, body))
    assert reason in letter.reason


def test_a_registry_that_gives_a_text_is_named(registry: SchemaRegistry) -> None:
    known = registry.register("s", 'syntax = "proto3";', "PROTOBUF")
    _, (letter,) = read(reader(registry), frame(known, b"\0" + reading()))
    assert "no descriptor; it knows no ?format=serialized" in letter.reason


def test_messages_within_messages_are_followed_only_as_deep_as_is_safe(by_file: InputSettings) -> None:
    content = b""
    for _ in range(2_000):
        size = len(content)
        length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
        content = b"\x52" + length + content
    assert isinstance(decode(by_file, content), Fault)


@given(st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_value_or_a_fault(by_file: InputSettings, content: bytes) -> None:
    assert isinstance(decode(by_file, content), dict | Fault)


def test_a_file_or_a_message_that_is_none_is_refused(by_file: InputSettings, tmp_path: Path) -> None:
    for wrong in ({"schema_file": tmp_path / "gone"}, {"message": "plant.None"}, {"schema_file": Path(__file__)}):
        with pytest.raises(ConfigError, match="write it by protoc --include_imports"):
            open_decoder(by_file.model_copy(update=wrong))
    with pytest.raises(ValidationError, match="it names the message in there"):
        InputSettings(format="protobuf", schema_file=Path("a"))


@pytest.mark.parametrize("seconds", [2**63 - 1, -(2**63)])
def test_a_time_beyond_the_calendar_is_a_dead_letter(by_file: InputSettings, seconds: int) -> None:
    mapping = by_file.model_copy(update={"series_id": "text", "timestamp": "at", "value": "this"})
    sent = Every(text="a", this=2.5)
    sent.at.seconds = seconds
    assert refused(mapping, sent.SerializeToString()).kind in (Kind.TIME, Kind.FUTURE)
