"""Rows in the envelopes of Kafka Connect and Debezium, with and without their schemas."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.messages.lookup import Moment
from pipeline.messages.unwrap import convert
from pipeline.records import Kind
from pipeline.settings import InputSettings
from tests.unit.messages.reading import AT, SECOND, read, readings, refused

CONNECT = InputSettings(envelope="connect")
DEBEZIUM = InputSettings(envelope="debezium")
ROW = {"series_id": "a", "timestamp": AT, "value": 1.5}


def field(name: str, kind: str, meaning: str | None = None, **more: object) -> dict[str, object]:
    return {"field": name, "type": kind, "optional": True} | ({"name": meaning} if meaning else {}) | more


def struct(*fields: dict[str, object], **more: object) -> dict[str, object]:
    return {"type": "struct", "fields": list(fields), **more}


def decimal(unscaled: int) -> str:
    return base64.b64encode(unscaled.to_bytes(9, "big", signed=True)).decode()


def test_the_payload_is_the_row() -> None:
    assert readings(CONNECT, {"schema": None, "payload": ROW}, {"payload": ROW}) == [("a", AT, 1.5)] * 2


def test_a_payload_that_is_a_text_of_json_is_the_row_in_it() -> None:
    assert readings(CONNECT, {"schema": {"type": "string"}, "payload": json.dumps(ROW)}) == [("a", AT, 1.5)]
    assert 'the text "x", not a JSON object' in refused(CONNECT, {"payload": "x"}).reason


TIMES = {
    "org.apache.kafka.connect.data.Timestamp": AT * 1_000,
    "io.debezium.time.Timestamp": AT * 1_000,
    "io.debezium.time.MicroTimestamp": AT * 1_000_000,
    "io.debezium.time.NanoTimestamp": AT * 1_000_000_000 + 999,
    "io.debezium.time.ZonedTimestamp": "2023-11-14T22:13:20Z",
}


@pytest.mark.parametrize("meaning", TIMES)
def test_the_schema_says_the_unit_of_a_time(meaning: str) -> None:
    settings = InputSettings(envelope="connect", time_unit="s")  # which the schema overrules
    schema = struct(field("timestamp", "int64", meaning))
    assert readings(settings, {"schema": schema, "payload": ROW | {"timestamp": TIMES[meaning]}}) == [("a", AT, 1.5)]


@pytest.mark.parametrize("meaning", ["org.apache.kafka.connect.data.Date", "io.debezium.time.Date"])
def test_a_date_is_midnight_in_utc(meaning: str) -> None:
    sent = {"schema": struct(field("timestamp", "int32", meaning)), "payload": ROW | {"timestamp": 19_675}}
    assert readings(CONNECT, sent) == [("a", 19_675 * 86_400, 1.5)]


@pytest.mark.parametrize(("unscaled", "scale", "number"), [(12_345, 2, 123.45), (-5, 1, -0.5), (7, 0, 7), (7, -2, 700)])
def test_a_decimal_is_base64_with_its_scale(unscaled: int, scale: int, number: float) -> None:
    meaning = "org.apache.kafka.connect.data.Decimal"
    schema = struct(field("value", "bytes", meaning, parameters={"scale": str(scale)}))
    assert readings(CONNECT, {"schema": schema, "payload": ROW | {"value": decimal(unscaled)}}) == [("a", AT, number)]
    variable = struct(field("value", "struct", "io.debezium.data.VariableScaleDecimal"))
    sent = {"schema": variable, "payload": ROW | {"value": {"scale": scale, "value": decimal(unscaled)}}}
    assert readings(CONNECT, sent) == [("a", AT, number)]


def test_a_decimal_that_is_sent_as_a_number_stays_one() -> None:
    schema = struct(field("value", "bytes", "org.apache.kafka.connect.data.Decimal", parameters={"scale": "2"}))
    assert readings(CONNECT, {"schema": schema, "payload": ROW}) == [("a", AT, 1.5)]


def test_meanings_are_found_within_structs_arrays_and_maps() -> None:
    meaning = "io.debezium.time.MicroTimestamp"
    inner = struct(field("t", "int64", meaning))
    schema = struct(
        field("one", "struct", fields=inner["fields"]),
        field("many", "array", items=inner),
        field("named", "map", keys={"type": "string"}, values=inner),
    )
    found = convert(schema, {"one": {"t": 1}, "many": [{"t": 2}, None], "named": {"x": {"t": 3}}})
    assert found == {"one": {"t": 1}, "many": [{"t": 2}, None], "named": {"x": {"t": 3}}}
    assert all(type(each["t"]) is Moment for each in (found["one"], found["many"][0], found["named"]["x"]))


def change(operation: object, **more: object) -> dict[str, object]:
    return {"before": None, "after": ROW, "source": {"table": "m"}, "op": operation, "ts_ms": AT * 1_000, **more}


@pytest.mark.parametrize("operation", ["c", "u", "r"])
def test_what_is_after_a_change_is_the_row(operation: str) -> None:
    schema = struct(field("after", "struct", fields=[field("timestamp", "int64", "io.debezium.time.MicroTimestamp")]))
    micro = change(operation, after=ROW | {"timestamp": AT * SECOND})
    assert readings(DEBEZIUM, change(operation), {"schema": schema, "payload": micro}) == [("a", AT, 1.5)] * 2


@pytest.mark.parametrize(
    "gone",
    [
        change("d", before=ROW, after=None),
        {"schema": None, "payload": change("d", before=ROW, after=None)},
        {"schema": None, "payload": None},
        None,
    ],
    ids=["delete", "delete with a schema", "no payload", "tombstone"],
)
def test_deletes_are_skipped_unless_tombstones_are_refused(gone: object) -> None:
    events, letters = read(DEBEZIUM, change("c"), gone, change("c"))
    assert (events.offset.tolist(), letters) == ([10, 12], ())
    letter = refused(InputSettings(envelope="debezium", tombstones="refuse"), gone)
    assert letter.kind is Kind.NULL


def test_a_payload_of_null_is_a_tombstone_of_connect() -> None:
    events, letters = read(CONNECT, {"schema": None, "payload": None})
    assert (len(events), letters) == (0, ())
    letter = refused(InputSettings(envelope="connect", tombstones="refuse"), {"schema": None, "payload": None})
    assert "the row was deleted" in letter.reason


@pytest.mark.parametrize("operation", ["t", "m"])
def test_truncations_and_messages_are_skipped_whatever_tombstones_are(operation: str) -> None:
    events, letters = read(InputSettings(envelope="debezium", tombstones="refuse"), change(operation))
    assert (len(events), letters) == (0, ())


def test_the_envelope_is_around_the_row() -> None:
    settings = InputSettings(envelope="debezium", series_id="^source.table", timestamp="^ts_ms")
    assert readings(settings, change("c")) == [("m", AT, 1.5)]


def test_a_key_of_connect_is_what_it_says() -> None:
    settings = InputSettings(envelope="connect", series_id="$key")
    for key in (b"a", b'"a"', b'{"schema": {"type": "string"}, "payload": "a"}'):
        assert readings(settings, {"payload": ROW}, key=key) == [("a", AT, 1.5)]
    settings = InputSettings(envelope="debezium", series_id="$key.id")
    for key in (b'{"id": "a"}', b'{"schema": {}, "payload": {"id": "a"}}'):
        assert readings(settings, change("c"), key=key) == [("a", AT, 1.5)]


BAD: dict[str, tuple[InputSettings, object, str]] = {
    "no payload": (CONNECT, ROW, "no field payload; the message has series_id, timestamp, value; input.envelope is"),
    "no op": (DEBEZIUM, ROW, "no field op; the message has series_id, timestamp, value; input.envelope is debezium"),
    "another op": (DEBEZIUM, change("x"), 'op is the text "x", and Debezium has c, u, r, d, t and m'),
    "an op that is none": (DEBEZIUM, change({}), "op is an object"),
    "no row": (DEBEZIUM, change("c", after=None), "null, not a JSON object"),
    "a text": (DEBEZIUM, "x", 'the text "x", not a JSON object'),
    "a payload that is a number": (CONNECT, {"payload": 5}, "the number 5, not a JSON object"),
    "a payload of Debezium that is a text": (DEBEZIUM, {"payload": "x"}, 'the text "x", not a JSON object'),
    "a decimal without a schema": (CONNECT, {"payload": ROW | {"value": "MDk="}}, 'value is the text "MDk="'),
    "a decimal that is none": (
        CONNECT,
        {
            "schema": struct(field("value", "bytes", "org.apache.kafka.connect.data.Decimal")),
            "payload": ROW | {"value": "*"},
        },
        'value is the text "*", not a number',
    ),
    "a time far away": (
        CONNECT,
        {"schema": struct(field("timestamp", "int64", "io.debezium.time.Date")), "payload": ROW | {"timestamp": 2**62}},
        f"timestamp: the number {2**62 * 86_400_000_000}",
    ),
    "a time for a value": (
        CONNECT,
        {"schema": struct(field("value", "int64", "io.debezium.time.Date")), "payload": ROW | {"value": 1}},
        "value is a time, not a number",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_an_envelope_that_is_none_says_what_is_wrong(name: str) -> None:
    settings, value, reason = BAD[name]
    assert reason in refused(settings, value).reason


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
NAMES = st.sampled_from(
    ["schema", "payload", "op", "after", "before", "type", "fields", "field", "name", "items", "values", "parameters"]
)
WORDS = st.sampled_from(["struct", "array", "map", "c", "d", "scale", "org.apache.kafka.connect.data.Decimal", *TIMES])
TREES: st.SearchStrategy[Any] = st.recursive(
    LEAVES | WORDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=25
)


@given(TREES, TREES, st.sampled_from([CONNECT, DEBEZIUM]))
def test_any_schema_and_any_payload_give_an_event_a_letter_or_nothing(schema: Any, payload: Any, settings: Any) -> None:
    for value in ({"schema": schema, "payload": payload}, payload):
        events, letters = read(settings, json.dumps(value).encode())
        assert len(events) + len(letters) <= 1
