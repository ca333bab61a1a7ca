"""Avro by the schema of a file, written by fastavro itself."""

import io
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.formats.avro import reader_of
from pipeline.formats.avro_schema import BadSchema
from pipeline.formats.opened import open_decoder
from pipeline.messages.lookup import Moment
from pipeline.messages.unreadable import Fault
from pipeline.records import Kind
from pipeline.settings import InputSettings
from tests.unit.messages.reading import AT, readings, refused

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
EVENT = {
    "type": "record",
    "name": "Reading",
    "namespace": "plant",
    "fields": [
        {"name": "series_id", "type": "string"},
        {"name": "timestamp", "type": MILLIS},
        {"name": "value", "type": ["null", "double"], "default": None},
    ],
}
NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
FIXED_DECIMAL = {"type": "fixed", "name": "D", "size": 4, "logicalType": "decimal", "precision": 6, "scale": 1}
NOTHING = {"type": "array", "items": {"type": "record", "name": "Empty", "fields": [{"name": "n", "type": "null"}]}}
PLAIN = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
    "string": st.text(max_size=5),
}


def write(schema: Any, value: object) -> bytes:
    content = io.BytesIO()
    fastavro.schemaless_writer(content, fastavro.parse_schema(schema), value)
    return content.getvalue()


def decode(schema: Any, content: bytes, into: Any = None) -> Any:
    return reader_of(json.dumps(schema), {}, None if into is None else json.dumps(into))(content)


def by_file(folder: Path, schema: Any = EVENT, **more: Any) -> InputSettings:
    file = folder / "schema.avsc"
    file.write_text(json.dumps(schema))
    return InputSettings(format="avro", schema_file=file, **more)


def test_a_record_of_avro_is_a_reading(tmp_path: Path) -> None:
    sent = [write(EVENT, {"series_id": "a", "timestamp": AT * 1000, "value": value}) for value in (2.5, None)]
    assert readings(by_file(tmp_path), *sent) == [("a", AT, 2.5), ("a", AT, None)]


def test_a_single_object_of_the_same_schema_is_a_reading(tmp_path: Path) -> None:
    canonical = fastavro.schema.to_parsing_canonical_form(fastavro.parse_schema(EVENT))
    mark = b"\xc3\x01" + bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
    sent = write(EVENT, {"series_id": "a", "timestamp": AT * 1000, "value": 2.5})
    assert readings(by_file(tmp_path), mark + sent) == [("a", AT, 2.5)]
    assert refused(by_file(tmp_path), b"\xc3\x01" + bytes(8) + sent).kind == Kind.ENCODING


def test_nan_is_missing_only_where_the_settings_are_lenient(tmp_path: Path) -> None:
    for number in (math.nan, math.inf):
        sent = write(EVENT, {"series_id": "a", "timestamp": AT * 1000, "value": number})
        assert refused(by_file(tmp_path), sent).kind == Kind.NUMBER
        assert readings(by_file(tmp_path, lenient=True), sent) == [("a", AT, None)]


@pytest.mark.parametrize(
    ("schema", "sent", "found"),
    [
        (MILLIS, AT * 1000, Moment(AT * 1_000_000)),
        ({"type": "long", "logicalType": "timestamp-micros"}, 5, Moment(5)),
        ({"type": "long", "logicalType": "timestamp-nanos"}, -1, Moment(-1)),
        ({"type": "long", "connect.name": "io.debezium.time.NanoTimestamp"}, 7_000, Moment(7)),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, 1_500, "1970-01-01T00:00:01.500000"),
        ({"type": "long", "logicalType": "local-timestamp-micros"}, 2**62, f"{2**62} in local time"),
        ({"type": "int", "logicalType": "date"}, 1, Moment(86_400_000_000)),
        ({"type": "int", "logicalType": "time-millis"}, 12, 12),
        ({"type": "long", "logicalType": "of our own"}, 12, 12),
        ({"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}, Decimal("-12.34"), -12.34),
        (
            {"type": "fixed", "name": "D", "size": 4, "logicalType": "decimal", "precision": 6, "scale": 1},
            Decimal("1.5"),
            1.5,
        ),
        ({"type": "string", "logicalType": "uuid"}, str(UUID(int=7)), str(UUID(int=7))),
        ({"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}, UUID(int=7).bytes, str(UUID(int=7))),
        ({"type": "enum", "name": "E", "symbols": ["on", "off"]}, "off", "off"),
        ("bytes", b"ab", "YWI="),
        (["null", "bytes"], b"ab", "YWI="),
        ({"type": "fixed", "name": "F", "size": 2}, b"ab", "YWI="),
        ({"type": "map", "values": ["null", MILLIS]}, {"a": 1, "b": None}, {"a": Moment(1_000), "b": None}),
        ("string", "text", "text"),
    ],
)
def test_what_json_does_not_have_becomes_what_the_mapping_reads(schema: Any, sent: Any, found: Any) -> None:
    raw = sent
    if isinstance(schema, dict) and isinstance(sent, int):  # the writer would convert
        content = write(schema["type"], raw)
    elif isinstance(sent, UUID | bytes) and isinstance(schema, dict):
        content = write({name: own for name, own in schema.items() if name != "logicalType"}, raw)
    else:
        content = write(schema, raw)
    decoded = decode(schema, content)
    assert decoded == found
    assert type(decoded) is type(found)


def test_a_record_of_a_union_is_read_by_its_own_type() -> None:
    schema = [
        {"type": "record", "name": "a.Low", "fields": [{"name": "at", "type": MILLIS}]},
        {
            "type": "record",
            "name": "b.High",
            "fields": [{"name": "at", "type": "long"}, {"name": "low", "type": "a.Low"}],
        },
    ]
    sent = {"at": 5, "low": {"at": 1}}
    assert decode(schema, write(schema, ("b.High", sent))) == {"at": 5, "low": {"at": Moment(1_000)}}


def test_debezium_s_decimals_of_any_scale_are_numbers() -> None:
    schema = {
        "type": "record",
        "name": "VariableScaleDecimal",
        "connect.name": "io.debezium.data.VariableScaleDecimal",
        "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}],
    }
    assert decode(schema, write(schema, {"scale": 2, "value": b"\x04\xd2"})) == 12.34
    assert decode(schema, write(schema, {"scale": 10**9, "value": b"\x04\xd2"})) == "BNI="


def test_a_reader_s_schema_renames_widens_and_fills_in() -> None:
    old = {"type": "record", "name": "R", "fields": [{"name": "v", "type": "int"}, {"name": "gone", "type": "string"}]}
    fields = [{"name": "value", "aliases": ["v"], "type": "double"}, {"name": "unit", "type": "string", "default": "m"}]
    content = write(old, {"v": 3, "gone": "x"})
    assert decode(old, content, {"type": "record", "name": "R", "fields": fields}) == {"value": 3.0, "unit": "m"}
    other = {"type": "record", "name": "R", "fields": [{"name": "w", "type": "double"}]}
    assert isinstance(decode(old, content, other), Fault)


def test_a_schema_that_holds_itself_is_followed_only_as_deep_as_is_safe() -> None:
    deep = b"\x02" * 900_000 + b"\0"
    assert decode(NODE, b"\x02\x02\0") == {"next": {"next": {"next": None}}}
    assert "RecursionError" in decode(NODE, deep).reason
    within = {"type": "record", "name": "Top", "fields": [{"name": "node", "type": NODE}]}
    assert "RecursionError" in decode(within, deep).reason


@pytest.mark.parametrize("items", ["null", {"type": "fixed", "name": "F", "size": 0}, NOTHING["items"]])
def test_an_array_that_needs_no_bytes_is_refused(items: Any) -> None:
    with pytest.raises(BadSchema, match="an array of elements that take no bytes"):
        decode({"type": "array", "items": items}, b"")


@pytest.mark.parametrize(
    "text", ["{", "3", '{"type": "record"}', "no.such.Name", '{"type": "enum", "name": "E"}', "[" * 300]
)
def test_what_is_no_schema_says_so(text: str, tmp_path: Path) -> None:
    (tmp_path / "schema.avsc").write_text(text)
    with pytest.raises(ConfigError, match="is no schema of Avro"):
        open_decoder(InputSettings(format="avro", schema_file=tmp_path / "schema.avsc"))


def test_names_of_other_schemas_are_found_in_their_namespaces() -> None:
    unit = {"type": "enum", "name": "Unit", "namespace": "plant", "symbols": ["m", "s"]}
    top = {"type": "record", "name": "plant.R", "fields": [{"name": at, "type": "Unit"} for at in ("a", "b")]}
    assert reader_of(json.dumps(top), {"plant.Unit": json.dumps(unit)})(b"\x02\0") == {"a": "s", "b": "m"}
    union = reader_of('["plant.Unit", "string"]', {"plant.Unit": json.dumps(unit)})
    assert union(b"\0\x02") == "s"
    with pytest.raises(BadSchema):
        reader_of(json.dumps(top), {})


@st.composite
def written(draw: st.DrawFn) -> tuple[Any, Any]:
    """A schema without logical types, and a value of it."""
    kinds = draw(st.lists(st.sampled_from(sorted(PLAIN)), min_size=1, max_size=4))
    schema = {
        "type": "record",
        "name": "R",
        "fields": [{"name": f"f{i}", "type": kind} for i, kind in enumerate(kinds)],
    }
    value = {f"f{i}": draw(PLAIN[kind]) for i, kind in enumerate(kinds)}
    if draw(st.booleans()) and set(kinds) != {"null"}:
        return {"type": "array", "items": schema}, [value] * draw(st.integers(0, 3))
    return schema, value


@given(written())
def test_what_is_written_is_read(pair: tuple[Any, Any]) -> None:
    schema, value = pair
    assert decode(schema, write(schema, value)) == value


@given(written(), st.binary(max_size=40))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_are_a_value_or_a_fault(pair: tuple[Any, Any], content: bytes) -> None:
    found = decode(pair[0], content)
    assert isinstance(found, dict | list | Fault)


def test_bytes_that_the_schema_did_not_write_are_dead_letters(tmp_path: Path) -> None:
    sent = write(EVENT, {"series_id": "a", "timestamp": AT * 1000, "value": 2.5})
    assert "(1 bytes are left)" in refused(by_file(tmp_path), sent + b"x").reason
    assert "EOFError" in refused(by_file(tmp_path), sent[:-1]).reason
    assert "a whole file of Avro" in refused(by_file(tmp_path), b"Obj\x01" + sent).reason
    long = b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    assert refused(by_file(tmp_path), long).kind == Kind.ENCODING


@pytest.mark.parametrize("milliseconds", [2**63 - 1, -(2**63), 253_402_300_800_000])
def test_a_time_beyond_the_calendar_is_a_dead_letter(tmp_path: Path, milliseconds: int) -> None:
    plain = {**EVENT, "fields": [EVENT["fields"][0], {"name": "timestamp", "type": "long"}, EVENT["fields"][2]]}
    sent = write(plain, {"series_id": "a", "timestamp": milliseconds, "value": 2.5})
    assert refused(by_file(tmp_path), sent).kind in (Kind.TIME, Kind.FUTURE)
