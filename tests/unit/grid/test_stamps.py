"""A column of times: every kind of cell, mixed ones, offsets and zones; one rule with the stream."""

import datetime as dt
import json
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.grid.frequency import Frequency
from pipeline.grid.stamps import Stamps, explain_cell, read_floats, read_stamps
from pipeline.grid.times import AUTO, OUTSIDE, TimeRule, midnight
from pipeline.messages.codec import Reader
from pipeline.records import Messages
from pipeline.settings import InputSettings

NEW_YEAR = 1_767_225_600_000_000  # 2026-01-01
HOUR = 3_600_000_000
BERLIN = ZoneInfo("Europe/Berlin")
LOCAL = TimeRule(zone=BERLIN)
EAST = dt.timezone(dt.timedelta(hours=1))


def read(cells: Any, rule: TimeRule = AUTO, series: Any = None) -> Stamps:
    return read_stamps(pd.Series(cells), rule, series)


def times(cells: Any, rule: TimeRule = AUTO) -> list[int]:
    return read(cells, rule).times.tolist()


def reason(cells: Any, row: int = 0, rule: TimeRule = AUTO) -> str:
    column = pd.Series(cells)
    stamps = read_stamps(column, rule)
    assert stamps.times[row] == OUTSIDE
    words = explain_cell(column, stamps, row, rule, "input.")
    assert words.isprintable() and len(words) < 300
    return words


ONE_TIME: list[Any] = [
    "2026-01-01T00:00:00Z",
    "2026-01-01T01:00:00+01:00",
    "2026-01-01",
    "20260101",
    "2026",
    "1767225600",
    "1767225600000",
    "1.7672256e9",
    " 1767225600 ",
    1_767_225_600,
    1_767_225_600.0,
    1_767_225_600_000,
    1_767_225_600_000_000,
    1_767_225_600_000_000_000,
    np.int32(1_767_225_600),
    np.uint64(1_767_225_600_000_000_000),
    Decimal("1767225600"),
    dt.date(2026, 1, 1),
    dt.datetime(2026, 1, 1),  # noqa: DTZ001 - without a zone is the case
    dt.datetime(2026, 1, 1, 1, tzinfo=BERLIN),
    pd.Timestamp("2026-01-01"),
    pd.Timestamp("2026-01-01T01:00", tz="Europe/Berlin"),
    np.datetime64("2026-01-01", "D"),
    np.datetime64("2026-01-01T00:00:00.000000000", "ns"),
    pd.Period("2026-01", "M"),
    pd.Period("2026", "Y"),
]


@pytest.mark.parametrize("cell", ONE_TIME, ids=repr)
def test_every_kind_of_cell_is_one_time_alone_and_among_others(cell: Any) -> None:
    assert times([cell]) == [NEW_YEAR]
    assert times(pd.Series([cell], dtype=object)) == [NEW_YEAR]
    assert times(pd.Series([cell, *ONE_TIME], dtype=object)) == [NEW_YEAR] * (1 + len(ONE_TIME))


@pytest.mark.parametrize(
    "kind",
    [
        *(f"datetime64[{unit}]" for unit in ("s", "ms", "us", "ns")),
        "datetime64[ns, Europe/Berlin]",
        "category",
        "string",
        "period[h]",
        "timestamp[ms][pyarrow]",
        "timestamp[us, tz=Europe/Berlin][pyarrow]",
        "date32[pyarrow]",
    ],
)
def test_every_kind_of_column_is_read(kind: str) -> None:
    pytest.importorskip("pyarrow", reason="columns of Arrow need pyarrow")
    zone = "UTC" if "Berlin" in kind else None
    column = pd.Series(pd.date_range("2026-01-01", periods=3, freq="D", tz=zone)).astype(kind)
    stamps = read_stamps(column, AUTO)
    assert stamps.times.tolist() == [NEW_YEAR, NEW_YEAR + 24 * HOUR, NEW_YEAR + 48 * HOUR]
    assert str(stamps.zone) == ("Europe/Berlin" if zone else "None")


@pytest.mark.parametrize("kind", ["int64[pyarrow]", "double[pyarrow]", "Int64", "Float64", "uint32", "float64"])
def test_every_kind_of_number_is_read(kind: str) -> None:
    pytest.importorskip("pyarrow", reason="columns of Arrow need pyarrow")
    assert times(pd.Series([1_767_225_600, 1_767_229_200], dtype=kind)) == [NEW_YEAR, NEW_YEAR + HOUR]


NO_TIME: list[tuple[Any, str]] = [
    ("soon", '"soon" is no time in ISO 8601'),
    ("now", '"now" is no time'),
    ("today", '"today" is no time'),
    ("", "the text is empty"),
    ("2026-01-01 00:00 UTC", 'ends in "UTC", which is no offset'),
    ("1850-01-01", '"1850-01-01" is outside 1900 to 2190'),
    ("-2026-01-01", "is outside 1900 to 2190"),
    ("202601010000", "looks like a date and time, YYYYMMDDHHMM"),
    ("767", "looks like an uptime"),
    ("x" * 500, "is no time in ISO 8601"),
    ("a\nb", '"a\\nb" is no time'),
    (None, "is missing"),
    (np.nan, "is missing"),
    (pd.NaT, "is missing"),
    (pd.NA, "is missing"),
    (np.datetime64("NaT"), "is missing"),
    (True, "True is no time"),
    (np.bool_(False), "False is no time"),
    (0, "the number 0 is 1970"),
    (np.float64("inf"), "the number inf is no time"),
    (20260101, "the number 20260101 looks like a date, YYYYMMDD"),
    (10**400, "is no time"),
    (1 + 2j, "(1+2j) is no time"),
    (b"2026", "b'2026' is no time"),
    ([1], "[1] is no time"),
    ({}, "{} is no time"),
    (dt.time(1), "01:00:00 is no time"),
    (dt.timedelta(1), "is no time"),
    (dt.datetime(1850, 1, 1, tzinfo=dt.UTC), "is outside 1900 to 2190"),
    (np.datetime64("9999-12-31T00:00:00", "s"), "is outside 1900 to 2190"),
]


@pytest.mark.parametrize(("cell", "words"), NO_TIME, ids=str)
def test_a_cell_that_is_no_time_is_named_with_what_it_looks_like(cell: Any, words: str) -> None:
    assert words in reason(pd.Series([cell], dtype=object))
    column = pd.Series(["2026-01-01", 1_767_225_600, cell, "2026-01-02"], dtype=object)
    assert (read_stamps(column, AUTO).times == OUTSIDE).tolist() == [False, False, True, False]
    assert words in reason(column, 2)


def test_a_number_is_not_made_wrong_by_the_texts_beside_it() -> None:
    assert times(["1767225600", "soon", "2026-01-01"]) == [NEW_YEAR, OUTSIDE, NEW_YEAR]
    assert times(["1767225600", None]) == [NEW_YEAR, OUTSIDE]
    assert times(["1767225600123456789", "1767225600"]) == [NEW_YEAR + 123_456, NEW_YEAR]


@pytest.mark.parametrize("kind", [np.int64, np.float64, str])
def test_a_column_of_dates_and_hours_is_not_taken_for_seconds_of_the_2030s(kind: Any) -> None:
    hours = np.array([2026010100, 2026010101, 2026010102])
    column = [str(hour) for hour in hours] if kind is str else hours.astype(kind)
    assert "looks like a date and time, YYYYMMDDHH" in reason(column)
    assert "set input.time_unit to s if it is seconds" in reason(column)
    assert times(column, TimeRule("s"))[0] == 2026010100 * 1_000_000
    assert times([*column, "2026010160" if kind is str else 2026010160])[0] == 2026010100 * 1_000_000


@pytest.mark.parametrize(
    "numbers", [[1_767_225_600, 1_767_229_200], [1_767_225_600_000], [1_767_225_600_000_000], [1.7e9]]
)
def test_numbers_that_pandas_took_for_nanoseconds_are_refused(numbers: list[float]) -> None:
    assert "give pandas.to_datetime its unit" in reason(pd.to_datetime(numbers))
    assert times(pd.date_range("1970-01-01", periods=3, freq="1s"))[0] == 0, "unless it begins with 1970"
    assert times(pd.date_range("1970-01-10", periods=30, freq="D"))[0] == 9 * 24 * HOUR


def test_texts_and_datetimes_are_believed_from_1900_on_or_from_the_oldest_time_on() -> None:
    early = ["1901-01-01", "1969-12-31", "1970-01-01"]
    assert times(early) == times(pd.to_datetime(early)) == [midnight(dt.date.fromisoformat(day)) for day in early]
    rule = TimeRule(oldest=midnight(dt.date(1970, 1, 1)))
    for column in (early, pd.to_datetime(early)):
        assert times(column, rule) == [OUTSIDE, OUTSIDE, 0]
        assert "is before input.oldest_time" in reason(column, 1, rule)


@pytest.mark.parametrize(
    ("cells", "zone", "note"),
    [
        (["2026-01-01", "2026-07-01"], None, None),
        (["2026-01-01T00:00Z", "2026-07-01T00:00+00:00"], "UTC", None),
        (["2026-01-01T00:00+01:00", "2026-07-01T00:00+01:00"], "UTC+01:00", None),
        (["2026-01-01T00:00-0530", "2026-07-01T00:00-05:30"], "UTC-05:30", None),
        (["2026-01-01T00:00-05", "2026-07-01T00:00-05"], "UTC-05:00", None),
        (["2026-01-01T00:00+01:00", "2026-07-01T00:00+02:00"], "UTC", "more than one offset (UTC+01:00, UTC+02:00)"),
        (["2026-01-01T00:00-05", "2026-07-01T00:00-04"], "UTC", "more than one offset (UTC-04:00, UTC-05:00)"),
        (["2026-01-01T00:00+01:00", "2026-07-01"], "UTC", "1 times have no offset, though others do"),
        ([dt.datetime(2026, 1, 1, tzinfo=BERLIN), dt.datetime(2026, 7, 1, tzinfo=BERLIN)], "Europe/Berlin", None),
        ([dt.datetime(2026, 1, 1, tzinfo=EAST), dt.datetime(2026, 7, 1, tzinfo=dt.UTC)], "UTC", "more than one offset"),
        ([dt.datetime(2026, 1, 1, tzinfo=EAST), "2026-07-01T00:00+01:00"], "UTC+01:00", None),
        (pd.date_range("2026-01-01", periods=2, tz="Europe/Berlin"), "Europe/Berlin", None),
        (pd.date_range("2026-01-01", periods=2, tz="UTC"), "UTC", None),
        ([1_767_225_600], None, None),
        (["1767225600", "2026-07-01T00:00+02:00"], "UTC+02:00", None),
    ],
)
def test_the_zone_is_the_one_that_all_times_share(cells: Any, zone: str | None, note: str | None) -> None:
    stamps = read(cells)
    assert OUTSIDE not in stamps.times
    assert (None if stamps.zone is None else str(stamps.zone)) == zone
    assert (note is None and stamps.notes == ()) or (note is not None and note in stamps.notes[0])
    assert str(read(cells, LOCAL).zone) == "Europe/Berlin", "a zone that is given wins"


def test_times_without_an_offset_are_local_times_of_the_zone_that_is_given() -> None:
    summer = midnight(dt.date(2026, 7, 1))
    naive: list[Any] = ["2026-07-01", dt.date(2026, 7, 1), pd.Timestamp("2026-07-01"), np.datetime64("2026-07-01")]
    assert times(pd.Series(naive, dtype=object), LOCAL) == [summer - 2 * HOUR] * 4
    assert times(pd.to_datetime(["2026-07-01"]), LOCAL) == [summer - 2 * HOUR]
    assert times(["2026-07-01T00:00Z", "2026-07-01"], LOCAL) == [summer, summer - 2 * HOUR]
    assert times([1_767_225_600], LOCAL) == [NEW_YEAR], "a number counts from 1970 in UTC"


def test_a_local_time_that_the_clock_skips_is_no_time() -> None:
    column = ["2026-03-29T01:30", "2026-03-29T02:30", "2026-03-29T03:30"]
    assert [time == OUTSIDE for time in times(column, LOCAL)] == [False, True, False]
    assert reason(column, 1, LOCAL) == (
        '"2026-03-29T02:30" is skipped by the clock of Europe/Berlin: write it with an offset'
    )


def test_a_local_hour_that_is_there_twice_is_told_apart_by_the_order_of_a_series_rows() -> None:
    day = pd.date_range("2026-10-24", "2026-10-26", freq="30min", tz="Europe/Berlin")
    local = day.tz_localize(None)
    stamps = read(np.concatenate([local, local]), LOCAL, np.repeat([0, 1], len(day)))
    assert stamps.times.tolist() == [*(day.as_unit("us").astype("int64")), *(day.as_unit("us").astype("int64"))]
    newest_first = read(local[::-1], LOCAL)
    assert newest_first.times.tolist() == stamps.times[: len(day)][::-1].tolist()
    assert "8 times are of an hour that Europe/Berlin has twice" in stamps.notes[0]


LEAST, MOST = dt.datetime(1980, 1, 1), dt.datetime(2060, 1, 1)  # noqa: DTZ001 - hypothesis wants bounds without a zone
OFFSETS = st.sampled_from([dt.UTC, EAST, dt.timezone(-dt.timedelta(hours=5, minutes=30))])
WRITTEN = st.datetimes(LEAST, MOST, timezones=OFFSETS).map(lambda time: time.isoformat())
NUMBERS = st.integers(-(10**18), 2 * 10**18) | st.integers(0, 10**10) | st.floats(-1e18, 2e18)
NUMBERS |= st.sampled_from([0, 1, 2026, 20260101, 1_767_225_600, 1_767_225_600_000, 1_767_225_600_000_000])


RFC_3339 = ["2026-01-01t00:00:00z", "2025-12-31T23:59:60Z", "2025-12-31 15:59:60.5-08:00", "2025-12-30T23:59:60Z"]


@given(st.lists(WRITTEN | NUMBERS | st.sampled_from(RFC_3339), min_size=1, max_size=6))
def test_a_file_gives_the_times_that_its_rows_would_give_as_messages(cells: list[Any]) -> None:
    reader = Reader(InputSettings(max_future_skew="100000 days"), Frequency("1s"))
    sent = [json.dumps({"series_id": "a", "timestamp": cell, "value": 1}).encode() for cell in cells]
    count = len(cells)
    events, _ = reader.read(Messages(0, np.arange(count), [None] * count, sent, count), 10**15)
    expected = np.full(count, OUTSIDE)
    expected[events.offset] = events.event_time
    hours = [cell for cell in cells if not isinstance(cell, str)]
    if hours and all(1_900_010_100 <= hour < 2_189_123_124 for hour in hours):
        return  # a column of YYYYMMDDHH is refused as a whole
    assert times(pd.Series(cells, dtype=object)) == expected.tolist()


CELLS = WRITTEN | NUMBERS | st.text(max_size=12) | st.none() | st.booleans() | st.dates() | st.binary(max_size=3)


@given(st.lists(CELLS, max_size=6), st.sampled_from([AUTO, LOCAL, TimeRule("ns"), TimeRule("s", 0)]))
def test_any_column_is_read_and_every_cell_that_is_no_time_is_explained(cells: list[Any], rule: TimeRule) -> None:
    for column in (pd.Series(cells, dtype=object), pd.Series(cells)):
        stamps = read_stamps(column, rule)
        assert len(stamps.times) == len(cells)
        for row in np.flatnonzero(stamps.times == OUTSIDE).tolist():
            assert explain_cell(column, stamps, row, rule, "").isprintable()


def test_numbers_of_any_length_are_read() -> None:
    assert read_floats(pd.Series([1, "2.5", None, "x", 10**400, "9" * 400], dtype=object)).tolist()[:2] == [1.0, 2.5]
    assert np.isinf(read_floats(pd.Series([1, -(10**400)], dtype=object))).tolist() == [False, True]
