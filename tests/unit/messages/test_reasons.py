"""The reason of a dead letter says what a person sees: the field, what was found, and what to send."""

import gzip
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.grid.frequency import Frequency
from pipeline.grid.untimely import ADVICE
from pipeline.messages.codec import Reader
from pipeline.records import DeadLetter, Kind, Messages
from pipeline.settings import InputSettings
from pipeline.visible import SHOWN

NOW = 1_800_000_000_000_000
READER = Reader(InputSettings(covariates=("wind",)), Frequency("h"))
LONGEST = 400


def letter_of(value: bytes | None, reader: Reader = READER) -> DeadLetter:
    _, letters = reader.read(Messages(0, np.array([0]), [None], [value], 1), NOW)
    assert len(letters) == 1, value
    return letters[0]


def sent(**fields: object) -> bytes:
    return json.dumps({"series_id": "a", "timestamp": 1_700_000_000, "value": 1.5, **fields}).encode()


def raw(value: str) -> bytes:
    return b'{"series_id": "a", "timestamp": 1700000000, "value": ' + value.encode() + b"}"


TIMES: dict[object, str] = {
    "20260101": "in quotes, the number 20260101 looks like a date, YYYYMMDD",
    "188": "in quotes, the number 188 looks like an uptime",
    " 1767225600": '" 1767225600" is a number in quotes with white space around it',
    "1767225600,5": "is a number in quotes with a comma",
    "2026-01-01T23:59:60Z": '"2026-01-01T23:59:60Z" has a second 60, and no leap second can be there',
    "2026-01-31T23:59:60.5+01:00": "has a second 60",
    "2026-01-01T24:00:00Z": "has the hour 24: send 00:00 of the next day",
    "2026-01-01T00:00:00 UTC": 'ends in "UTC", which is no offset: write Z for UTC',
    "2026-01-01 00:00:00 CET": 'ends in "CET", which is no offset',
    "2026-01-01T00:00:00 Europe/Berlin": 'ends in "Europe/Berlin", which is no offset',
    "2026-01-01T00:00:00+01:00[Europe/Berlin]": 'ends in "[Europe/Berlin]", which is no offset',
    "2026-01-01T00:00:00": "has no offset: append Z for UTC, or +01:00, or set input.timezone",
    "2026-01-01 00:00": "has no offset",
    "2026-01-01": "is a date without a time and an offset",
    " 2026-01-01T00:00:00Z": "has white space around it",
    "": "the text is empty",
    "  ": "the text is blank",
    "yesterday": '"yesterday" is no time in ISO 8601',
    "01/02/2026 10:00": "is no time in ISO 8601",
    "2026-02-30T00:00:00Z": "is no time in ISO 8601",
    "0001-01-01T00:00:00+23:59": "is no time from 1900 to 2190",
    1e30: "the number 1e+30 is no time",
    -9_000_000_000_000: "the number -9000000000000 is no time from 1980-01-01 to 2190",
}


@pytest.mark.parametrize("time", TIMES)
def test_a_time_that_is_none_says_why(time: object) -> None:
    letter = letter_of(sent(timestamp=time))
    assert letter.kind is Kind.TIME
    assert letter.reason.startswith("timestamp: ")
    assert TIMES[time] in letter.reason
    assert letter.reason.endswith(f"; {ADVICE}")


GOOD = sent()
JSON = GOOD.decode()
BYTES: dict[str, tuple[bytes, str]] = {
    "schema registry": (b"\0\0\0\0\x2a\x02a\x10", "the 5 bytes of a schema registry (schema 42)"),
    "JSON Schema": (b"\0\0\0\0\x7b" + GOOD, "the 5 bytes of a schema registry (schema 123)"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, "begins with a byte order mark; send UTF-8 without one"),
    "gzip": (gzip.compress(GOOD), "compressed with gzip; set the producer's compression.type"),
    "zlib": (zlib.compress(GOOD), "compressed with zlib"),
    "zstd": (b"\x28\xb5\x2f\xfd" + GOOD, "compressed with zstd"),
    "Latin-1": ('{"series_id": "ä"}'.encode("latin-1"), "byte 0xe4 at 15 is not UTF-8"),
    "Protobuf": (b"\n\x05meter\x11\0\0", "binary (it begins with 0a 05 6d 65 74 65 72 11)"),
    "Avro without a registry": (b"\x0ameter\x02\x80\x90", "binary"),
    "MessagePack": (b"\x83\xa9series_id\xa1a", "binary"),
    "Java": (b"\xac\xed\0\x05", "binary"),
}
BYTES |= {
    name: (JSON.encode(name), f"text in {name[:6].upper()}; send UTF-8")
    for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes_that_are_no_plain_text_are_recognized(name: str) -> None:
    value, reason = BYTES[name]
    letter = letter_of(value)
    assert letter.kind is Kind.ENCODING
    assert reason in letter.reason


TEXTS: dict[str, tuple[bytes, str]] = {
    "blank": (b" \n", "nothing but white space"),
    "words": (b"hello", 'the value is no JSON, it begins with "hello"'),
    "CSV": (b"a;2026-01-01;3,2", 'it begins with "a;2026-01-01;3,2"'),
    "XML": (b"<event/>", "XML or HTML"),
    "an array": (b"[" + GOOD + b"," + GOOD + b"]", "a JSON array of 2, not an object; send one object a message"),
    "a number": (b"17", "the number 17, not a JSON object"),
    "null": (b"null", "null, not a JSON object"),
    "encoded twice": (json.dumps(JSON).encode(), "encoded twice"),
    "two values": (GOOD + GOOD, "two JSON values in one message; send one JSON object a message"),
    "two lines": (GOOD + b"\n" + GOOD, "two JSON values in one message"),
    "two and a comma": (GOOD + b"," + GOOD, "two JSON values in one message"),
    "something behind": (GOOD + b" x", '"x" after the JSON value'),
    "Python": (str(json.loads(GOOD)).encode(), "single quotes, as Python prints a dict"),
    "None": (raw("None"), 'the word "None", which JSON does not have'),
    "a trailing comma": (raw("1,"), "a comma before '}'"),
    "no quotes": (b'{series_id: "a"}', "a field's name without double quotes"),
    "half": (GOOD[:-6], "ends in the middle"),
    "half a text": (GOOD[:15], "ends in the middle"),
    "a line end in a text": (b'{"series_id": "a\nb"}', "a line end or control character inside a text"),
    "a comment": (b'{"series_id": "a", // x\n', 'at "// x'),
    "a point first": (raw(".5"), 'no JSON from ".5}" on'),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_is_no_json_object_says_what_it_is(name: str) -> None:
    value, reason = TEXTS[name]
    letter = letter_of(value)
    assert letter.kind is Kind.EVENT
    assert letter.reason.startswith("not an event: ")
    assert reason in letter.reason


EVENT = json.loads(GOOD)
FIELDS: dict[str, tuple[object, str]] = {
    "other names": (
        {"meter": "a", "at": 1},
        "no timestamp and no value; the message has meter, at; set input.series_id",
    ),
    "one other name": (
        {"series_id": "a", "timestamp": 1, "kwh": 2},
        "no field value; the message has series_id, timestamp, kwh; set input.value if",
    ),
    "another case": (
        {"series_id": "a", "Timestamp": 1, "value": 2},
        'no field timestamp, but "Timestamp"; set input.timestamp',
    ),
    "none": ({}, "the message has no fields"),
    "Connect": ({"schema": {}, "payload": EVENT}, "inside payload (Kafka Connect: set value.converter.schemas"),
    "Debezium": ({"before": None, "after": EVENT, "op": "c"}, "inside after (Debezium: unwrap it)"),
    "both": ({"schema": 1, "payload": {"before": None, "after": EVENT}}, "inside payload.after (Debezium"),
    "another envelope": ({"data": EVENT}, "inside data; send it at the top"),
    "a decimal comma": (EVENT | {"value": "3,2"}, "send a number without quotes, with a decimal point"),
    "a number as text": (EVENT | {"value": "3.2"}, 'value is the text "3.2", not a number; send a number'),
    "true": (EVENT | {"value": True}, "value is true, not a number"),
    "a list": (EVENT | {"value": [1, 2]}, "value is a list of 2, not a number"),
    "an object": (EVENT | {"wind": {"x": 1}}, "wind is an object, not a number"),
    "an integer name": (EVENT | {"series_id": 17}, 'is the number 17, not a text; send it in quotes, as "17"'),
    "no name": (EVENT | {"series_id": None}, "series_id is null, not a text"),
    "no time": (EVENT | {"timestamp": None}, "timestamp is null, not a time; send ISO 8601"),
    "MongoDB": (EVENT | {"timestamp": {"$date": 1}}, "timestamp is an object, not a time"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_is_missing_or_of_another_type_is_named(name: str) -> None:
    value, reason = FIELDS[name]
    letter = letter_of(json.dumps(value).encode())
    assert letter.kind is Kind.FIELD
    assert reason in letter.reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (raw("NaN"), "value is NaN, which JSON does not have; send null"),
        (raw("-Infinity"), "value is -Infinity, which JSON does not have"),
        (raw('1, "wind": NaN'), "wind is NaN"),
        (raw('1, "other": [NaN]'), "NaN in it"),
        (raw("9" * 400), "value: a number of 400 digits is not a finite number within +-1e18"),
        (raw("1e400"), "value: inf is not a finite number within"),
        (raw("1e300"), "value: 1e+300 is not a finite number within"),
        (raw("9" * 9000), "thousands of digits"),
    ],
)
def test_a_number_that_is_none_says_so(value: bytes, reason: str) -> None:
    letter = letter_of(value)
    assert letter.kind is Kind.NUMBER
    assert reason in letter.reason


def test_a_name_that_is_none_is_shown() -> None:
    assert '"a\\x00b" holds a NUL; a name has 1 to 256 bytes' in letter_of(sent(series_id="a\0b")).reason
    assert "it is empty" in letter_of(sent(series_id="")).reason
    long = letter_of(sent(series_id="x" * 300)).reason
    assert "…" in long and "has 300 bytes" in long and len(long) < 160


def test_the_names_of_the_settings_are_used() -> None:
    reader = Reader(InputSettings(series_id="meter", timestamp="at", value="kwh"), Frequency("h"))
    assert "no field meter and no at and no kwh" in letter_of(GOOD, reader).reason
    assert "set input.value if" in letter_of(b'{"meter": "a", "at": 1, "value": 2}', reader).reason


def check(letter: DeadLetter, value: bytes | None) -> None:
    reason = letter.reason
    assert reason.isprintable() and 0 < len(reason) <= LONGEST, reason
    text = (value or b"").decode(errors="replace")
    pieces = (text[at : at + SHOWN + 1] for at in range(max(0, len(text) - SHOWN)))
    assert not any(piece in reason for piece in pieces), "more than SHOWN characters of the message's own"


PARTS = (
    '{"series_id":|"a"|,"timestamp":|1767225600|"2026-01-01|T00:00:00|Z"|,"value":|1.5|}|[|]|NaN|null|true|,|"| |1e999'
)
ODD = ["|", "'", "\\", "\x1b[31m", "\n", "\u2028", "\ud800", "ä", "\0", "x" * 70, "\ufeff", "\u202e"]
FRAGMENTS = st.sampled_from([*PARTS.split("|"), *ODD])


@given(st.lists(FRAGMENTS, max_size=12))
def test_any_text_is_an_event_or_has_a_short_reason_on_one_line(parts: list[str]) -> None:
    value = "".join(parts).encode(errors="surrogatepass")
    _, letters = READER.read(Messages(0, np.array([0]), [None], [value], 1), NOW)
    for letter in letters:
        check(letter, value)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\0", b"{", GOOD[:30], b"\x1f\x8b", b"\xff\xfe", b'{"x": "']))
def test_any_bytes_are_an_event_or_have_a_short_reason_on_one_line(value: bytes, before: bytes) -> None:
    _, letters = READER.read(Messages(0, np.array([0]), [None], [before + value], 1), NOW)
    for letter in letters:
        check(letter, before + value)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=90)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=90), inner))


@given(st.dictionaries(st.sampled_from(["series_id", "timestamp", "value", "wind", "payload", "x" * 90, "\n"]), VALUES))
def test_any_object_is_an_event_or_has_a_short_reason_on_one_line(found: dict[str, object]) -> None:
    value = json.dumps(found).encode()
    _, letters = READER.read(Messages(0, np.array([0]), [None], [value], 1), NOW)
    for letter in letters:
        check(letter, value)


@pytest.mark.parametrize("name", ["x" * 100, "ä" * 80, "a b", "$.x"])
def test_field_names_of_the_settings_are_shown_short_too(name: str) -> None:
    reader = Reader(InputSettings(series_id=name), Frequency("h"))
    for found in (EVENT, {name: 5, "timestamp": 1, "value": 2}, {name: ""} | EVENT):
        reason = letter_of(json.dumps(found).encode(), reader).reason
        assert reason.isprintable() and len(reason) <= LONGEST
