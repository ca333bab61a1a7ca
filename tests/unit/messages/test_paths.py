"""A part of a message is found by its path: within objects and lists, in the key, the headers and the record."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.fields import Path, parse_path
from pipeline.grid.frequency import Frequency
from pipeline.messages.codec import Reader
from pipeline.messages.letters import WRITTEN
from pipeline.records import Envelope, Kind, Messages
from pipeline.settings import InputSettings
from tests.unit.messages.reading import AT, NOW, SECOND, read, readings, refused

NESTED = InputSettings(series_id="payload.id", timestamp="payload.after.ts", value="payload.after.values.1")
MESSAGE = {"payload": {"id": "a", "after": {"ts": AT, "values": [1, 2.5]}}}


def test_parts_are_found_within_objects_and_lists() -> None:
    assert readings(NESTED, MESSAGE, MESSAGE) == [("a", AT, 2.5)] * 2


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("value", Path("value", "field", 0, ("value",))),
        ("a.b.0", Path("a.b.0", "field", 0, ("a", "b", "0"))),
        ("a..b", Path("a..b", "field", 0, ("a..b",))),
        (".a", Path(".a", "field", 0, (".a",))),
        ("^^a.b", Path("^^a.b", "field", 2, ("a", "b"))),
        ("$key", Path("$key", "key", 0, ())),
        ("$key.id.x", Path("$key.id.x", "key", 0, ("id", "x"))),
        ("$header.ce.source", Path("$header.ce.source", "header", 0, ("ce.source",))),
        ("$timestamp", Path("$timestamp", "timestamp", 0, ())),
        ("$date", Path("$date", "field", 0, ("$date",))),
        ("$keys.a", Path("$keys.a", "field", 0, ("$keys", "a"))),
    ],
)
def test_a_path_is_read_as_it_is_written(text: str, path: Path) -> None:
    assert parse_path(text) == path


@pytest.mark.parametrize(
    "text", ["", "^", "^^", "$header", "$header.", "$topic.x", "$timestamp.x", "$key.", 'a"b', "a\tb"]
)
def test_what_is_no_path_is_refused_with_the_settings(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|cannot be a field"):
        parse_path(text)
    with pytest.raises(ValidationError):
        InputSettings(value=text)


def test_a_field_that_is_named_with_points_wins_over_the_path() -> None:
    settings = InputSettings(value="a.b", covariates=("c.d",))
    event = {"series_id": "s", "timestamp": AT}
    both = event | {"a.b": 1, "a": {"b": 2}, "c.d": 3, "c": {"d": 4}}
    assert readings(settings, both, both) == [("s", AT, 1.0)] * 2
    assert readings(settings, event | {"a": {"b": 2}}) == [("s", AT, 2.0)]
    events, _ = read(settings, both, event | {"a.b": 1, "c": {"d": 4}}, event | {"a.b": 1})
    np.testing.assert_array_equal(events.covariates, [[3.0], [4.0], [np.nan]])


def test_a_field_with_points_wins_at_every_depth() -> None:
    settings = InputSettings(value="a.b.c")
    event = {"series_id": "s", "timestamp": AT}
    assert readings(settings, event | {"a": {"b.c": 1, "b": {"c": 2}}}) == [("s", AT, 1.0)]
    assert readings(settings, event | {"a": {"b": {"c": 2}}}) == [("s", AT, 2.0)]


def test_flat_events_with_points_in_their_names_read_alike_beside_nested_ones() -> None:
    settings = InputSettings(value="a.b")
    flat = {"series_id": "s", "timestamp": AT, "a.b": 1}
    nested = {"series_id": "s", "timestamp": AT, "a": {"b": 2}}
    assert readings(settings, flat, flat) + readings(settings, nested) == readings(settings, flat, flat, nested)


def test_a_part_may_be_the_records_own() -> None:
    settings = InputSettings(series_id="$key", timestamp="$timestamp", value="v", covariates=("w",))
    assert readings(settings, {"v": 1}, key="ä/1".encode(), written_at=AT * SECOND) == [("ä/1", AT, 1.0)]
    settings = InputSettings(series_id="$header.site", timestamp="t", value="v")
    headers = (("site", b"old"), ("other", b"x"), ("site", b"new"))
    assert readings(settings, {"t": AT, "v": 1}, headers=headers) == [("new", AT, 1.0)]
    settings = InputSettings(series_id="$key.id", timestamp="$header.time", value="v")
    sent = {"key": b'{"id": "m"}', "headers": (("time", b"2023-11-14T22:13:20Z"),)}
    assert readings(settings, {"v": 1}, **sent) == [("m", AT, 1.0)]
    assert readings(InputSettings(series_id="$topic"), {"timestamp": AT, "value": 1}) == [("plant", AT, 1.0)]
    assert readings(InputSettings(series_id="$partition"), {"timestamp": AT, "value": 1}) == [("3", AT, 1.0)]


def test_the_records_time_needs_no_unit() -> None:
    settings = InputSettings(timestamp="$timestamp", time_unit="ns")
    assert readings(settings, {"series_id": "a", "value": 1}, written_at=AT * SECOND) == [("a", AT, 1.0)]


def test_headers_and_times_are_read_only_when_a_path_asks() -> None:
    def never(_: int) -> Envelope:
        raise AssertionError("nobody asked for it")

    value = json.dumps(MESSAGE | {"series_id": "a", "timestamp": AT, "value": 1}).encode()
    messages = Messages(0, np.array([0]), [None], [value], 1, envelope=never)
    for settings in (InputSettings(), NESTED):
        events, letters = Reader(settings, Frequency("1s")).read(messages, NOW)
        assert (len(events), letters) == (1, ())


BY_KEY = InputSettings(series_id="$key.id", timestamp="t", value="v")
ABSENT: dict[str, tuple[InputSettings, object, dict[str, object], str]] = {
    "the last step": (
        NESTED,
        {"payload": {"id": "a", "after": {"ts": AT}}},
        {},
        "payload.after has ts; set input.value",
    ),
    "a step before": (
        NESTED,
        {"payload": {"id": "a"}},
        {},
        "no field payload.after.ts; payload has id; set input.timestamp",
    ),
    "the first step": (NESTED, {"id": "a"}, {}, "no field payload.id; the message has id; set input.series_id"),
    "nothing at all": (NESTED, {}, {}, "the message has no fields"),
    "null above": (
        NESTED,
        {"payload": {"id": "a", "after": None}},
        {},
        "no field payload.after.ts: payload.after is null",
    ),
    "a short list": (
        NESTED,
        {"payload": {"id": "a", "after": {"ts": AT, "values": [1]}}},
        {},
        "no field payload.after.values.1; payload.after.values has 1 elements",
    ),
    "no key": (BY_KEY, {"t": AT, "v": 1}, {}, "no $key.id: the key is no JSON object"),
    "another key": (BY_KEY, {"t": AT, "v": 1}, {"key": b'{"x": 1}'}, "no $key.id: the key has x"),
    "a key that is text": (BY_KEY, {"t": AT, "v": 1}, {"key": b"x"}, "no $key.id: the key is no JSON object"),
    "a key that is no text": (InputSettings(series_id="$key"), {}, {"key": b"\xff"}, "no $key: the record has no key"),
    "no header": (InputSettings(series_id="$header.a"), {}, {"headers": (("b", b""),)}, "the record has the headers b"),
    "no headers": (InputSettings(series_id="$header.a"), {}, {}, "no $header.a: the record has no headers"),
    "no time": (InputSettings(timestamp="$timestamp"), {"series_id": "a"}, {}, "no $timestamp: the record has no time"),
}


@pytest.mark.parametrize("name", ABSENT)
def test_a_path_that_leads_nowhere_says_where_it_ends(name: str) -> None:
    settings, value, record, reason = ABSENT[name]
    letter = refused(settings, value, **record)
    assert letter.kind is Kind.FIELD
    assert reason in letter.reason


WRONG: dict[str, tuple[object, Kind, str]] = {
    "a name": ({"payload": {"id": 5}}, Kind.FIELD, "payload.id is the number 5, not a text"),
    "an empty name": ({"payload": {"id": ""}}, Kind.NAME, "payload.id: it is empty"),
    "a time": ({"payload": {"id": "a", "after": {"ts": True}}}, Kind.FIELD, "payload.after.ts is true, not a time"),
    "no time": (
        {"payload": {"id": "a", "after": {"ts": 5, "values": [1, 2]}}},
        Kind.TIME,
        "payload.after.ts: the number 5",
    ),
    "the future": (
        {"payload": {"id": "a", "after": {"ts": 4_000_000_000, "values": [1, 2]}}},
        Kind.FUTURE,
        "farther in the future",
    ),
    "a number": (
        {"payload": {"id": "a", "after": {"ts": AT, "values": [1, "2"]}}},
        Kind.FIELD,
        'payload.after.values.1 is the text "2", not a number',
    ),
    "a large number": (
        {"payload": {"id": "a", "after": {"ts": AT, "values": [1, 1e19]}}},
        Kind.NUMBER,
        "payload.after.values.1: 1e+19 is not a finite number",
    ),
    "an array": ([1, 2], Kind.EVENT, "a JSON array of 2, not an object"),
    "no JSON": (b"x", Kind.EVENT, "the value is no JSON"),
    "binary": (b"\0\0\0\0\x05xy", Kind.ENCODING, "schema registry (schema 5)"),
    "too deep": (b'{"payload":' * 50_000, Kind.EVENT, "nested too deeply"),
    "empty": (b"", Kind.EMPTY, "the message is empty"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_path_leads_to_is_judged_like_a_field(name: str) -> None:
    value, kind, reason = WRONG[name]
    letter = refused(NESTED, value)
    assert letter.kind is kind
    assert reason in letter.reason


def test_a_message_is_good_or_bad_by_itself() -> None:
    events, letters = read(NESTED, MESSAGE, b"{", None, MESSAGE, {"payload": None})
    assert events.offset.tolist() == [10, 13]
    assert [letter.offset for letter in letters] == [11, 14]


def test_a_path_into_a_text_reads_it_as_json() -> None:
    settings = InputSettings(series_id="clientid", timestamp="payload.ts", value="payload.in.0")
    inside = json.dumps({"ts": AT, "in": [2]})
    assert readings(settings, {"clientid": "a", "payload": inside}) == [("a", AT, 2.0)]
    assert readings(settings, {"clientid": "a", "payload": f" {inside}"}) == [("a", AT, 2.0)]
    for text in ("", "x", "{", '"a"', "[1", "{" * 100_000):
        assert "payload.ts" in refused(settings, {"clientid": "a", "payload": text}).reason
    settings = InputSettings(series_id="{id}/{$field}", timestamp="payload.ts", values=("payload.*",))
    assert readings(settings, {"id": "a", "payload": json.dumps({"ts": AT, "t": 1})}) == [("a/t", AT, 1.0)]
    settings = InputSettings(each="payload", series_id="s", timestamp="t", value="v")
    assert readings(settings, {"payload": json.dumps([{"s": "a", "t": AT, "v": 1}])}) == [("a", AT, 1.0)]


def test_a_message_that_was_sent_again_has_the_time_of_its_first_record() -> None:
    settings = InputSettings(timestamp="$timestamp")
    event = {"series_id": "a", "value": 1}
    sent = {"headers": ((WRITTEN, str(AT * 1_000).encode()),), "written_at": NOW}
    assert readings(settings, event, **sent) == [("a", AT, 1.0)]
    for other in (b"", b"soon", b"-5", b"9" * 40, None):
        assert readings(settings, event, headers=((WRITTEN, other),), written_at=AT * SECOND) == [("a", AT, 1.0)]
    assert settings.reads_record_time and not InputSettings().reads_record_time


HIDING = [
    {"p.q.v": 3},
    {"p": {"q.v": 3}},
    {"p.q.v": None},
    {"p.q.w": 5},
    {"p": {"q.w": 5}},
    {"p.t": AT + 1},
    {"p": {"q": {"v.x": 1}}},
    {"p": {"q": json.dumps({"s": "n", "v": 7})}},
    {"p": [1]},
]


@pytest.mark.parametrize("hiding", HIDING, ids=str)
def test_nested_events_are_read_alike_right_into_their_parts_and_by_the_mapping(hiding: dict[str, object]) -> None:
    settings = InputSettings(series_id="p.q.s", timestamp="p.t", value="p.q.v", covariates=("p.q.w",))
    plain = {"p": {"q": {"s": "n", "v": 1.5, "w": 2}, "t": AT}}
    inner = hiding.get("p")
    other = plain | hiding if not isinstance(inner, dict) else {"p": plain["p"] | inner}

    def told(*values: object) -> object:
        events, letters = read(settings, *values)
        own = events.offset == 10
        found = [list(np.array(events.series)[own]), events.event_time[own].tolist(), events.value[own].tolist()]
        return (
            found,
            events.observed[own].tolist(),
            repr(events.covariates[own].tolist()),
            [letter.reason for letter in letters if letter.offset == 10],
        )

    for value in (plain, other):
        assert told(value) == told(value, plain, plain) == told(value, b"{") == told(value, other)
