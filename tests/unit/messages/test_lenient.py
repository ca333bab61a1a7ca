"""What is no strict JSON or another type is read only where the settings declare it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records import Kind
from pipeline.settings import InputSettings
from tests.unit.messages.reading import AT, read, readings, refused

LENIENT = InputSettings(lenient=True)
EVENT = {"series_id": "a", "timestamp": AT, "value": 1}


def raw(value: str) -> bytes:
    return json.dumps(EVENT).replace('"value": 1', f'"value": {value}').encode()


NUMBERS: dict[str, float | None] = {
    '"1.5"': 1.5,
    '" -3e2 "': -300.0,
    '"+.5"': 0.5,
    '"5."': 5.0,
    '""': None,
    '"  "': None,
    '"NaN"': None,
    '"-Infinity"': None,
    '"inf"': None,
    "NaN": None,
    "Infinity": None,
    "-Infinity": None,
    "null": None,
    "2.5": 2.5,
}


@pytest.mark.parametrize("sent", NUMBERS)
def test_numbers_in_quotes_and_words_for_missing_ones_are_read_when_lenient(sent: str) -> None:
    assert readings(LENIENT, raw(sent)) == [("a", AT, NUMBERS[sent])]
    strict, letters = read(InputSettings(), raw(sent))
    assert (len(strict), len(letters)) == ((1, 0) if sent in ("null", "2.5") else (0, 1))


@pytest.mark.parametrize(
    "sent", ['"1,5"', '"1.2.3"', '"0x10"', '"1 000"', '"abc"', '"1e999999"', '"1e400"', "1e400", "true", "[1]", '"٥"']
)
def test_what_is_no_number_is_a_dead_letter_however_lenient(sent: str) -> None:
    assert refused(LENIENT, raw(sent)).kind in (Kind.FIELD, Kind.NUMBER)


@pytest.mark.parametrize(
    ("sent", "number"), [('"1,5"', 1.5), ('"-3,25e1"', -32.5), ('"1.5"', 1.5), ('"7"', 7.0), ("2", 2.0)]
)
def test_a_decimal_comma_is_declared(sent: str, number: float) -> None:
    assert readings(InputSettings(decimal_comma=True), raw(sent)) == [("a", AT, number)]


@pytest.mark.parametrize("sent", ['"1.234,5"', '"1,234,5"', '","', '""', '"NaN"'])
def test_thousands_have_no_separator(sent: str) -> None:
    assert "not a number" in refused(InputSettings(decimal_comma=True), raw(sent)).reason


def test_words_and_numbers_can_mean_a_missing_value() -> None:
    settings = InputSettings(missing=("unavailable", "Unknown", "-9999"), covariates=("wind",))
    for sent in ('"unavailable"', '"UNKNOWN"', "-9999", "-9999.0", "null"):
        assert readings(settings, raw(sent)) == [("a", AT, None)]
    assert readings(settings, raw("-9998")) == [("a", AT, -9998.0)]
    assert "not a number" in refused(settings, raw('"5"')).reason
    events, _ = read(settings, EVENT | {"wind": -9999})
    np.testing.assert_array_equal(events.covariates, [[np.nan]])


def test_integers_are_names_when_lenient() -> None:
    assert readings(LENIENT, EVENT | {"series_id": 17}) == [("17", AT, 1.0)]
    assert "set input.lenient" in refused(InputSettings(), EVENT | {"series_id": 17}).reason
    for name in (1.5, True, None, 10**60):
        assert refused(LENIENT, EVENT | {"series_id": name}).kind is Kind.FIELD


def test_a_byte_order_mark_is_read_over_when_lenient() -> None:
    value = b"\xef\xbb\xbf" + json.dumps(EVENT).encode()
    assert readings(LENIENT, value) == [("a", AT, 1.0)]
    assert "set input.lenient" in refused(InputSettings(), value).reason
    assert refused(LENIENT, json.dumps(EVENT).encode("utf-16")).kind is Kind.ENCODING


def test_times_in_quotes_are_read_strictly_or_not() -> None:
    assert readings(InputSettings(), EVENT | {"timestamp": str(AT)}) == [("a", AT, 1.0)]
    settings = InputSettings(timezone="Europe/Berlin", timestamp="at.local")
    assert readings(settings, EVENT | {"at": {"local": "2023-11-14 23:13:20"}}) == [("a", AT, 1.0)]


ANY = st.sampled_from([*NUMBERS, '"x"', "true", "[1]", "1e400", '"1,5"'])


@given(st.lists(ANY, max_size=6))
def test_strict_messages_read_alike_beside_lenient_ones(sent: list[str]) -> None:
    events, letters = read(LENIENT, *map(raw, sent))
    alone = [read(LENIENT, raw(each)) for each in sent]
    assert events.value.tolist() == [number for own, _ in alone for number in own.value.tolist()]
    assert [letter.reason for letter in letters] == [letter.reason for _, own in alone for letter in own]


@given(st.binary(max_size=40), st.booleans(), st.booleans())
def test_any_bytes_are_an_event_or_a_letter_however_lenient(value: bytes, lenient: bool, comma: bool) -> None:
    settings = InputSettings(lenient=lenient, decimal_comma=comma, missing=("x", "5"))
    for sent in (value, raw(value.decode("latin-1"))):
        events, letters = read(settings, sent)
        assert len(events) + len(letters) == 1


@pytest.mark.parametrize("sent", ["100000000000000000000", "1e19", "9" * 40, "9223372036854775808", "-0.0", "9" * 400])
def test_the_fast_and_the_lenient_way_read_a_number_alike(sent: str) -> None:
    def told(*values: bytes) -> tuple[list[str], list[str]]:
        events, letters = read(LENIENT, *values)
        own = [letter.reason for letter in letters if letter.offset == 10]
        return [repr(value) for value in events.value.tolist()], own

    assert told(raw(sent)) == told(raw(sent), b"{"), "a neighbour that is no JSON makes both be read the lenient way"
