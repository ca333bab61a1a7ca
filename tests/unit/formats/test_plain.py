"""MessagePack, CSV lines, and JSON behind the id of a schema registry."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.formats.opened import open_decoder
from pipeline.messages.lookup import Record
from pipeline.messages.unreadable import Fault
from pipeline.records import Envelope, Kind, Messages
from pipeline.settings import InputSettings
from tests.unit.messages.reading import AT, read, readings, refused

PACKED = InputSettings(format="msgpack")
LINES = InputSettings(format="csv", columns=("series_id", "timestamp", "value"))
HEADED = InputSettings(format="csv", delimiter=";", decimal_comma=True)
SCHEMED = InputSettings(format="json-schema")
EVENT = b'{"series_id": "a", "timestamp": 1700000000, "value": 2.5}'
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5)
)


def pack(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def decode(settings: InputSettings, value: bytes, *headers: tuple[str, bytes | None]) -> Any:
    messages = Messages(0, np.array([0]), [None], [value], 1, envelope=lambda _: Envelope(None, headers))
    return open_decoder(settings).decode(value, Record(messages, 0, "plant"))


def test_messagepack_is_read_like_json() -> None:
    at = datetime.fromtimestamp(AT, UTC)
    sent = [{"series_id": "a", "timestamp": time, "value": 2.5} for time in (AT, at, "2023-11-14T22:13:20Z")]
    assert readings(PACKED, *map(pack, sent)) == [("a", AT, 2.5)] * 3


def test_binary_in_messagepack_is_base64_and_names_become_texts() -> None:
    assert decode(PACKED, pack({1: b"\xff\x00", "x": [b"ab"]})) == {"1": "/wA=", "x": ["YWI="]}
    assert decode(PACKED, b"\xd4\x05a") == "YQ=="


@given(st.recursive(SCALARS, lambda own: st.lists(own, max_size=3) | st.dictionaries(st.text(max_size=3), own)))
def test_what_json_has_comes_out_of_messagepack_as_it_went_in(value: object) -> None:
    assert decode(PACKED, pack(value)) == value


@pytest.mark.parametrize(
    "value",
    [b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 100_000, b"\x81\x80\x01", b"\xc1", b"\x01\x01"],
)
def test_no_bytes_of_messagepack_take_memory_or_raise(value: bytes) -> None:
    assert isinstance(decode(PACKED, value), Fault)
    assert refused(PACKED, value).kind in (Kind.ENCODING, Kind.EVENT)


def test_nan_is_missing_only_where_the_settings_are_lenient() -> None:
    sent = pack({"series_id": "a", "timestamp": AT, "value": float("nan")})
    assert refused(PACKED, sent).kind == Kind.NUMBER
    assert readings(PACKED.model_copy(update={"lenient": True}), sent) == [("a", AT, None)]


def test_a_csv_line_has_the_columns_that_the_settings_name() -> None:
    assert readings(LINES, b"a,1700000000,2.5", b'"b, c",2023-11-14T22:13:20Z,\r\n') == [
        ("a", AT, 2.5),
        ("b, c", AT, None),
    ]


def test_csv_lines_without_named_columns_begin_with_their_names() -> None:
    many = HEADED.model_copy(update={"each": "$value"})
    sent = "\ufeffseries_id;timestamp;value\n007;1700000000;2,5\n\nb;1700000001;3\n".encode()
    assert readings(many, sent) == [("007", AT, 2.5), ("b", AT + 1, 3.0)]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"a,1700000000", "line 0 has 2 columns, and 3 have names"),
        (b"a,1,2\nb,1,2", "2 CSV lines, not one"),
        (b"\n", "0 CSV lines, not one"),
        (b'a,"1,2', "no CSV line"),
        (b"a,1700000000,\xff", "byte 0xff at 13 is not UTF-8"),
        (b"a,1700000000,x", 'value is the text "x"'),
    ],
)
def test_a_bad_csv_line_says_why(value: bytes, reason: str) -> None:
    assert reason in refused(LINES, value).reason


def test_two_columns_of_one_name_are_refused() -> None:
    assert "two columns have one name: a, a" in refused(InputSettings(format="csv"), b"a,a\n1,2").reason


def test_json_is_read_behind_the_id_of_its_schema() -> None:
    assert readings(SCHEMED, b"\0\0\0\0\x07" + EVENT) == [("a", AT, 2.5)]
    assert readings(SCHEMED, EVENT, headers=(("__value_schema_id", b"\x01" + bytes(16)),)) == [("a", AT, 2.5)]
    assert readings(SCHEMED, EVENT, headers=(("__value_schema_id", b"\0\0\0\0\x07"),)) == [("a", AT, 2.5)]


def test_json_without_the_id_of_a_schema_is_refused() -> None:
    assert "neither the 5 bytes of a schema registry (it begins with 7b 22" in refused(SCHEMED, EVENT).reason
    assert refused(SCHEMED, b"\0\0\0\0\x07").kind == Kind.EMPTY
    assert "is no schema's id" in refused(SCHEMED, EVENT, headers=(("__value_schema_id", b"\x02"),)).reason


@given(st.binary(min_size=1, max_size=60), st.sampled_from([PACKED, LINES, HEADED, SCHEMED]))
def test_any_bytes_are_an_event_or_a_dead_letter(value: bytes, settings: InputSettings) -> None:
    events, letters = read(settings, value)
    assert len(events) + len(letters) == 1


def test_what_the_format_would_ignore_is_refused() -> None:
    with pytest.raises(ValidationError, match="columns are of CSV lines, and format is json"):
        InputSettings(columns=("a",))
    with pytest.raises(ValidationError, match="columns must be different names"):
        InputSettings(format="csv", columns=("a", "a"))
    with pytest.raises(ValidationError, match="no quote, line end or blank"):
        InputSettings(format="csv", delimiter='"')
