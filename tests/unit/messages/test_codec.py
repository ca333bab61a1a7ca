"""Decoding is total; the poison table; one message per forecast with the same bytes every time."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.config import QUANTILE_LEVELS
from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency
from pipeline.messages import codec
from pipeline.messages.codec import FITS, Reader, check_horizon
from pipeline.records import DeadLetter, Events, Forecasts, Messages
from pipeline.settings import InputSettings

NOW = 1_800_000_000_000_000
READER = Reader(InputSettings(tombstones="refuse"), Frequency("h"))
COVARIATES = Reader(InputSettings(tombstones="refuse", covariates=("temperature", "wind")), Frequency("h"))
GOOD = b'{"series_id": "a", "timestamp": 1700000000, "value": 1.5}'


def read(*values: bytes | None, reader: Reader = READER) -> tuple[Events, tuple[DeadLetter, ...]]:
    messages = Messages(3, np.arange(10, 10 + len(values)), [b"k"] * len(values), list(values), 10 + len(values))
    return reader.read(messages, NOW)


def message(**fields: object) -> bytes:
    return json.dumps({"series_id": "a", "timestamp": 1_700_000_000, "value": 1.5, **fields}).encode()


POISON: dict[str, tuple[bytes | None, str]] = {
    "no value": (None, "no value"),
    "empty": (b"", "empty"),
    "blank": (b"  ", "not an event"),
    "not JSON": (b"hello", "not an event"),
    "null": (b"null", "not an event"),
    "a list": (b"[1, 2]", "not an event"),
    "a number": (b"17", "not an event"),
    "not UTF-8": (b'{"series_id": "\xff\xfe", "timestamp": 1, "value": 1}', "not"),
    "two events": (GOOD + b"," + GOOD, "not an event"),
    "half an event": (GOOD[:-5], "not an event"),
    "NaN": (b'{"series_id": "a", "timestamp": 1700000000, "value": NaN}', "not an event"),
    "Infinity": (b'{"series_id": "a", "timestamp": 1700000000, "value": Infinity}', "not an event"),
    "a huge float": (message(value=1e300), "not a finite number"),
    "beyond float32": (message(value=-3.5e38), "not a finite number"),
    "a 400-digit integer": (b'{"series_id":"a","timestamp":1700000000,"value":' + b"9" * 400 + b"}", "not"),
    "a 400-digit time": (b'{"series_id":"a","timestamp":' + b"9" * 400 + b',"value":1}', "offset"),
    "a bool": (message(value=True), "not an event"),
    "text for a number": (message(value="1.5"), "not an event"),
    "no series": (b'{"timestamp": 1700000000, "value": 1}', "series_id"),
    "no time": (b'{"series_id": "a", "value": 1}', "timestamp"),
    "no value field": (b'{"series_id": "a", "timestamp": 1700000000}', "value"),
    "a number for a name": (message(series_id=17), "series_id"),
    "an empty name": (message(series_id=""), "1 to 256 bytes"),
    "a long name": (message(series_id="x" * 257), "1 to 256 bytes"),
    "a long name in UTF-8": (message(series_id="ä" * 200), "1 to 256 bytes"),
    "NUL in a name": (message(series_id="a\0b"), "NUL"),
    "half a surrogate": (b'{"series_id": "\\ud800", "timestamp": 1700000000, "value": 1}', "not"),
    "a time without offset": (message(timestamp="2026-01-01T00:00:00"), "offset"),
    "a date": (message(timestamp="2026-01-01"), "offset"),
    "words for a time": (message(timestamp="yesterday"), "offset"),
    "year 1 at +23:59": (message(timestamp="0001-01-01T00:00:00+23:59"), "1900"),
    "year 9999 at -23:59": (message(timestamp="9999-12-31T23:59:59-23:59"), "future"),
    "a time of null": (message(timestamp=None), "not an event"),
    "a time of true": (message(timestamp=True), "not an event"),
    "the far future": (message(timestamp=4_000_000_000), "max_future_skew"),
    "the far past": (message(timestamp=-9_000_000_000), "before 1980"),
    "zero": (message(timestamp=0), "as a clock sends that was never set"),
    "an uptime": (message(timestamp=188), "uptime"),
    "a date as a number": (message(timestamp=20260101), "YYYYMMDD"),
    "a time beyond 64 bits": (message(timestamp=1e30), "offset"),
    "200,000 brackets": (b"[" * 200_000, "not an event"),
    "200,000 brackets in a field": (b'{"x":' + b"[" * 200_000, "not"),
    "900 kB and more": (message(note="x" * 900_001), "more than input.max_message_bytes"),
}


WIDE_POISON: dict[str, tuple[bytes, str]] = {
    "text": (message(temperature="1.5"), 'not an event: temperature is the text "1.5", not a number; send a number'),
    "a bool": (message(wind=True), "wind is true, not a number"),
    "a list": (message(wind=[1.0]), "wind is a list of 1"),
    "an object": (message(temperature={}), "temperature is an object"),
    "a huge float": (message(temperature=1e300), "temperature: 1e+300 is not a finite number within +-1e18"),
    "beyond in the second": (message(temperature=1, wind=-1.1e18), "wind: -1.1e+18 is not a finite number"),
    "a 400-digit integer": (b'{"series_id":"a","timestamp":1700000000,"value":1,"wind":' + b"9" * 400 + b"}", "not"),
    "NaN": (b'{"series_id": "a", "timestamp": 1700000000, "value": 1, "wind": NaN}', "not an event"),
    "200,000 brackets": (b'{"series_id": "a", "wind":' + b"[" * 200_000, "not"),
    "the value too": (message(value=1e300, wind=1e300), "value: 1e+300"),
    "the time too": (message(timestamp=4_000_000_000, wind=1e300), "wind: 1e+300"),
}


@pytest.mark.parametrize("name", WIDE_POISON)
def test_a_covariate_that_is_no_number_is_a_dead_letter_that_names_it(name: str) -> None:
    value, reason = WIDE_POISON[name]
    events, letters = read(GOOD, value, message(temperature=2), reader=COVARIATES)
    assert events.offset.tolist() == [10, 12]
    np.testing.assert_array_equal(events.covariates, [[np.nan, np.nan], [2.0, np.nan]])
    assert letters == (DeadLetter(3, 11, letters[0].reason, b"k", value),)
    assert reason in letters[0].reason


@pytest.mark.parametrize("name", POISON)
def test_poison_is_poison_with_covariates_too(name: str) -> None:
    events, letters = read(message(wind=-0.0), POISON[name][0], GOOD, reader=COVARIATES)
    assert events.offset.tolist() == [10, 12]
    assert [letter.offset for letter in letters] == [11]
    np.testing.assert_array_equal(events.covariates, [[np.nan, 0.0], [np.nan, np.nan]])
    assert not np.signbit(events.covariates[0, 1])


def test_a_covariate_that_is_absent_or_null_is_missing_and_integers_are_numbers() -> None:
    sent: list[dict[str, object]] = [
        {},
        {"wind": None},
        {"wind": 3, "temperature": -1.5},
        {"temperature": 1e18, "other": "x"},
    ]
    events, letters = read(*(message(**fields) for fields in sent), reader=COVARIATES)
    assert letters == ()
    nan = np.nan
    np.testing.assert_array_equal(events.covariates, [[nan, nan], [nan, nan], [-1.5, 3.0], [1e18, nan]])


def test_a_single_covariate_is_one_column_and_none_is_no_column() -> None:
    reader = Reader(InputSettings(value="kwh", covariates=("value",)), Frequency("h"))
    sent = b'{"series_id": "a", "timestamp": 1700000000, "kwh": 2, "value": 7}'
    events, _ = read(sent, b"{", sent, reader=reader)
    assert (events.value.tolist(), events.covariates.tolist()) == ([2.0, 2.0], [[7.0], [7.0]])
    assert read(GOOD)[0].covariates.shape == (1, 0)
    assert read(reader=COVARIATES)[0].covariates.shape == (0, 2)


@given(st.lists(st.none() | st.binary(max_size=60) | st.just(GOOD) | st.builds(message, wind=st.floats() | st.none())))
def test_every_byte_string_is_an_event_with_finite_covariates_or_a_dead_letter(values: list[bytes | None]) -> None:
    events, letters = read(*values, reader=COVARIATES)
    offsets = sorted([*events.offset.tolist(), *(letter.offset for letter in letters)])
    assert offsets == list(range(10, 10 + len(values)))
    assert events.covariates.shape == (len(events), 2)
    assert not (np.abs(events.covariates) > 1e18).any()


@pytest.mark.parametrize("name", POISON)
def test_poison_becomes_one_dead_letter_and_its_neighbours_live(name: str) -> None:
    value, reason = POISON[name]
    events, letters = read(GOOD, value, GOOD)
    assert events.offset.tolist() == [10, 12]
    assert list(events.series) == ["a", "a"]
    assert len(letters) == 1
    assert reason in letters[0].reason
    assert letters[0] == DeadLetter(3, 11, letters[0].reason, b"k", value)


def test_all_poison_at_once_leaves_each_with_its_own_reason() -> None:
    events, letters = read(*(value for value, _ in POISON.values()))
    assert len(events) == 0
    assert [letter.offset - 10 for letter in letters] == list(range(len(POISON)))


@given(st.lists(st.none() | st.binary(max_size=60) | st.just(GOOD), max_size=8))
def test_every_byte_string_is_an_event_or_a_dead_letter(values: list[bytes | None]) -> None:
    events, letters = read(*values)
    offsets = sorted([*events.offset.tolist(), *(letter.offset for letter in letters)])
    assert offsets == list(range(10, 10 + len(values)))
    assert np.isfinite(events.value).all()


@given(
    st.lists(
        st.sampled_from(
            [GOOD, b'{"series_id":"a","timestamp":1', b",", b"}", b'{"series_id":"b"', b"\n", b'"value":2}']
        )
    )
)
def test_fragments_never_join_across_messages(values: list[bytes]) -> None:
    events, _ = read(*values)
    assert [10 + i for i, value in enumerate(values) if value == GOOD] == events.offset.tolist()


def outcomes(events: Events, letters: tuple[DeadLetter, ...]) -> dict[int, object]:
    """What became of each offset: the event's own numbers, or the letter's reason and bytes."""
    read = {
        int(at): (name, int(time), float(value), bool(seen))
        for at, name, time, value, seen in zip(
            events.offset, events.series, events.event_time, events.value, events.observed, strict=True
        )
    }
    return read | {letter.offset: (letter.reason, letter.key, letter.value) for letter in letters}


PIECES = (
    GOOD,
    GOOD[:20],
    GOOD[20:],
    b" ",
    b"\n",
    b"\r\n",
    b"\t",
    b",",
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b"\\",
    b"null",
    b"1",
    b"\0",
)


@given(
    st.lists(
        st.none() | st.binary(max_size=20) | st.lists(st.sampled_from(PIECES), max_size=5).map(b"".join), max_size=8
    )
)
@example([GOOD + b" " + GOOD, b" "])
@example([GOOD + b"\r" + GOOD, b"\r"])
@example([b" ", GOOD, GOOD + GOOD])
@example([GOOD[:20], GOOD[20:] + b" " + GOOD])
@example([GOOD + GOOD[:20], GOOD[20:]])
def test_what_becomes_of_a_message_does_not_depend_on_its_neighbours(values: list[bytes | None]) -> None:
    together = outcomes(*read(*values))
    alone: dict[int, object] = {}
    for place, value in enumerate(values):
        messages = Messages(3, np.array([10 + place]), [b"k"], [value], 11 + place)
        alone |= outcomes(*READER.read(messages, NOW))
    assert together == alone


@given(st.data())
def test_any_cut_of_a_stream_of_events_reads_as_its_pieces_do(data: st.DataObject) -> None:
    whole = b" ".join([GOOD, message(series_id="b", value=None), GOOD, message(series_id="\n"), GOOD])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    events, letters = read(*pieces)
    expected = [10 + at for at, piece in enumerate(pieces) if readable(piece)]
    assert events.offset.tolist() == expected
    assert sorted([*expected, *(letter.offset for letter in letters)]) == list(range(10, 10 + len(pieces)))
    assert all(letter.value == pieces[letter.offset - 10] for letter in letters)


def readable(piece: bytes) -> bool:
    """Judge one message without our decoder: one JSON object with a name."""
    try:
        return isinstance(json.loads(piece), dict)
    except ValueError:
        return False


def test_a_pretty_printed_event_is_an_event() -> None:
    pretty = json.dumps(json.loads(GOOD), indent=2).encode()
    events, letters = read(GOOD, pretty)
    assert len(events) == 2
    assert not letters


def test_null_is_an_explicitly_missing_value() -> None:
    events, letters = read(message(value=None))
    assert events.observed.tolist() == [False]
    assert events.value.tolist() == [0.0]
    assert not letters


def test_field_names_are_configurable() -> None:
    reader = Reader(InputSettings(series_id="meter", timestamp="at", value="kwh"), Frequency("h"))
    events, letters = read(b'{"meter": "m", "at": 1700000000, "kwh": 2, "other": [1, {}]}', reader=reader)
    assert (list(events.series), events.value.tolist(), letters) == (["m"], [2.0], ())


def test_an_unreadable_batch_is_one_dead_letter() -> None:
    messages = Messages(0, np.array([7]), [None], [b"\0raw"], 12, "the record batch failed its CRC check")
    events, letters = READER.read(messages, NOW)
    assert len(events) == 0
    assert letters == (DeadLetter(0, 7, "the record batch failed its CRC check", None, b"\0raw"),)


def one_forecast() -> Forecasts:
    return Forecasts(
        series=["ü/1"],
        series_id=np.array([1]),
        origin=np.array([1_700_000_000_000_000]),
        target_times=np.array([[1_700_003_600_000_000, 1_700_007_200_000_000]]),
        quantiles=np.arange(26, dtype=float).reshape(1, 2, 13) / 8,
        model_version=np.array([4]),
        calibration=np.array([3]),
        quality=["ok"],
        issued_at=np.array([NOW + 5]),
        partition=np.array([2]),
        offset=np.array([99]),
    )


def test_a_forecast_is_one_message_that_names_its_source() -> None:
    [(partition, key, value, headers)] = codec.write_forecasts(one_forecast(), "in", "h")
    assert (partition, key) == (2, "ü/1".encode())
    assert msgspec.json.decode(value) == {
        "series_id": "ü/1",
        "origin": "2023-11-14T22:13:20Z",
        "frequency": "h",
        "steps": 2,
        "quantile_levels": list(QUANTILE_LEVELS),
        "quantiles": (np.arange(26).reshape(2, 13) / 8).tolist(),
        "model_version": 4,
        "issued_at": "2027-01-15T08:00:00.000005Z",
        "quality": "ok",
        "calibration": 3,
    }
    assert dict(headers) == {"forecast_id": "ü/1@2023-11-14T22:13:20Z#4".encode(), "source": b"in/2/99"}


def test_a_forecast_has_the_same_bytes_alone_and_among_others() -> None:
    two = one_forecast().take(np.array([0, 0]))
    two.issued_at[1] = NOW
    assert codec.write_forecasts(two, "in", "h")[0] == codec.write_forecasts(one_forecast(), "in", "h")[0]


def test_a_dead_letter_keeps_its_bytes_and_names_reason_and_source() -> None:
    written = codec.write_dead_letter(DeadLetter(1, 5, "why \ud800", b"k", b"\xff"), "in")
    assert written == (1, b"k", b"\xff", [("reason", b"why ?"), ("source", b"in/1/5")])


def test_a_dead_letter_that_no_topic_takes_leaves_its_bytes_to_sql() -> None:
    fits = codec.write_dead_letter(DeadLetter(1, 5, "why", b"k", b"x" * (FITS - 100)), "in")
    assert fits[2] == b"x" * (FITS - 100)
    partition, key, value, headers = codec.write_dead_letter(DeadLetter(1, 5, "why", b"k", b"x" * 2_000_000), "in")
    assert (partition, key, value) == (1, None, b"")
    assert dict(headers) == {"reason": b"why", "source": b"in/1/5", "left-in-sql": b"2000001"}


def test_the_longest_horizon_that_is_accepted_fits_into_a_message() -> None:
    with pytest.raises(ConfigError, match="at most 2952 steps"):
        check_horizon(2953)
    check_horizon(2952)
    widest = np.full((1, 2952, 13), -1.2345678901234567e-300)
    steps = np.arange(2952)[None]
    long = Forecasts(
        ["ü" * 128], *(np.array([0]),) * 2, steps, widest, *(np.array([0]),) * 2, ["degraded"], *(np.array([0]),) * 3
    )
    [(_, key, value, headers)] = codec.write_forecasts(long, "in", "h")
    assert len(key) + len(value) + sum(len(text) for _, text in headers) < FITS
