"""What is a time: numbers by unit and size, texts, and the same rule for one number, an array and a message."""

import json
from datetime import date, timedelta

import click
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.commands.display import read_moment
from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency
from pipeline.grid.times import (
    AUTO,
    EPOCH,
    FIRST_NUMBER,
    LAST_TIME,
    OUTSIDE,
    UNITS,
    TimeRule,
    Unit,
    midnight,
    number_reader,
    open_zone,
    read_numbers,
    read_text,
    read_written,
)
from pipeline.grid.untimely import explain_number
from pipeline.messages.codec import Reader
from pipeline.records import DeadLetter, Kind, Messages
from pipeline.settings import InputSettings
from pipeline.settings.sources import load
from pipeline.web.documents import read_time

SECOND = 1_000_000
NEW_YEAR = 1_767_225_600 * SECOND  # 2026-01-01
NOW = 1_800_000_000 * SECOND
PER = {"s": SECOND, "ms": 1_000, "us": 1}
OLD = midnight(date(1900, 1, 1))
RULES = [AUTO, *(TimeRule(unit) for unit in UNITS), TimeRule("s", OLD), TimeRule("auto", midnight(date(2020, 1, 1)))]


def in_unit(time: int, unit: str) -> int:
    return time * 1_000 if unit == "ns" else time // PER[unit]


@pytest.mark.parametrize("unit", UNITS)
@given(st.integers(FIRST_NUMBER // SECOND, LAST_TIME // SECOND - 1))
def test_every_second_from_1980_to_2190_is_read_in_every_unit_without_being_told(unit: Unit, second: int) -> None:
    time = second * SECOND
    if unit == "ns" and midnight(date(1989, 10, 16)) <= time < midnight(date(1991, 1, 1)):
        return  # where nanoseconds may be .NET ticks
    assert number_reader(AUTO)(in_unit(time, unit)) == time
    assert number_reader(TimeRule(unit))(in_unit(time, unit)) == time


NO_TIMES: dict[float, str] = {
    0: "the number 0 is 1970, as a clock sends that was never set",
    1: "looks like an uptime or another counter",
    188: "looks like an uptime or another counter",
    4_294_967: "looks like an uptime or another counter",
    2026: "looks like a year",
    1900: "looks like a year",
    202601: "looks like a month, YYYYMM",
    2026031: "looks like a year and its day, YYYYDDD",
    20260101: "looks like a date, YYYYMMDD",
    202601012359: "looks like a date and time, YYYYMMDDHHMM",
    20260101235959: "looks like a date and time, YYYYMMDDHHMMSS",
    20260101235959999: "looks like a date and time, YYYYMMDDHHMMSSmmm",
    20_454: "looks like days since 1970",
    20_454.25: "looks like days since 1970",
    46_023: "looks like days of a spreadsheet",
    490_896: "looks like hours since 1970",
    29_454_240: "looks like minutes since 1970",
    123_456_789: "is 1973-11-29 in seconds, before 1980-01-01: to believe it, set input.oldest_time, and",
    -86_400: "is 1969-12-31 in seconds, before 1980-01-01: to believe it",
    -9_000_000_000: "is 1969-09-18 in milliseconds, before 1980",
    638_000_000_000_000_000: "may be nanoseconds or .NET ticks: set input.time_unit to ns if it is nanoseconds",
    134_000_000_000_000_000: "looks like Windows file time",
    1e25: "the number 1e+25 is no time from 1980-01-01 to 2190 in s, ms, us or ns",
    1e30: "the number 1e+30 is no time",
    -1e25: "is no time from 1980-01-01",
    10**400: "is no time",
    float("nan"): "the number nan is no time",
    float("inf"): "the number inf is no time",
}


@pytest.mark.parametrize("number", NO_TIMES)
def test_a_number_that_is_no_time_says_what_it_looks_like(number: float) -> None:
    assert number_reader(AUTO)(number) == OUTSIDE
    assert NO_TIMES[number] in explain_number(number, AUTO)


@pytest.mark.parametrize(
    ("rule", "number", "words"),
    [
        (TimeRule("s"), 1_767_225_600_000, "looks like milliseconds, and input.time_unit is s"),
        (TimeRule("ms"), 1_767_225_600, "looks like seconds, and input.time_unit is ms"),
        (TimeRule("ns"), 1_767_225_600_000_000, "looks like microseconds, and input.time_unit is ns"),
        (TimeRule("s"), 0, "is 1970"),
        (TimeRule("s"), 2026, "looks like a year"),
        (
            TimeRule("s"),
            157_766_400,
            "is 1975-01-01 in seconds, before 1980-01-01: to believe it, set input.oldest_time",
        ),
        (RULES[-1], 1_500_000_000, "is 2017-07-14, before input.oldest_time"),
        (TimeRule("s", OLD), -9_000_000_000, "is no time from 1900-01-01 to 2190 in seconds"),
    ],
)
def test_a_number_that_the_settings_do_not_read_says_which_would(rule: TimeRule, number: float, words: str) -> None:
    assert number_reader(rule)(number) == OUTSIDE
    assert words in explain_number(number, rule)


def test_a_unit_and_an_oldest_time_read_numbers_before_1980_and_before_1970() -> None:
    read = number_reader(TimeRule("s", OLD))
    assert [read(number) for number in (0, -86_400, 157_766_400)] == [0, -86_400 * SECOND, 157_766_400 * SECOND]
    assert number_reader(TimeRule("ns"))(638_000_000_000_000_000) == 638_000_000_000_000
    assert number_reader(TimeRule("auto", OLD))(157_766_400) == OUTSIDE, "without a unit, it could be anything"


NUMBERS = (
    st.sampled_from([*NO_TIMES, 2**63, 2**64, -(2**63)])
    | st.integers(-(10**19), 10**19)
    | st.floats()
    | st.builds(
        lambda seconds, unit: in_unit(seconds * SECOND, unit), st.integers(0, 7 * 10**9), st.sampled_from(UNITS)
    )
)


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(numbers=st.lists(NUMBERS, min_size=1, max_size=5))
def test_an_array_is_read_as_each_of_its_numbers_is(rule: TimeRule, numbers: list[float]) -> None:
    for number in numbers:
        one = number_reader(rule)(number)
        assert one == OUTSIDE or rule.first_number <= one <= LAST_TIME
        kinds = [np.float64] if isinstance(number, float) else []
        if isinstance(number, int):
            kinds += [kind for kind in (np.int64, np.uint64) if np.iinfo(kind).min <= number <= np.iinfo(kind).max]
        for kind in kinds:
            assert read_numbers(np.array([number], kind), rule).tolist() == [one]
        explained = explain_number(number, rule)
        assert explained.isprintable() and len(explained) < 200


@pytest.mark.parametrize("kind", ["int32", "uint32", "int64", "uint64", "float64"])
def test_narrow_numbers_do_not_overflow(kind: str) -> None:
    assert read_numbers(np.array([1_767_225_600], kind), AUTO).tolist() == [NEW_YEAR]
    assert read_numbers(np.array([100], "int8"), AUTO).tolist() == [OUTSIDE]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-01T00:00:00Z", NEW_YEAR),
        ("2026-01-01T01:00:00+01:00", NEW_YEAR),
        ("2026-01-01t00:00:00z", NEW_YEAR),
        ("2026-01-01 00:00:00z", NEW_YEAR),
        ("2026-01-01T00:00:00.123456789z", NEW_YEAR + 123_456),
        ("2025-12-31T23:59:60Z", NEW_YEAR - 1),
        ("2025-12-31T15:59:60.25-08:00", NEW_YEAR - 1),
        ("2025-12-30T23:59:60Z", OUTSIDE),
        ("2025-12-31T23:58:60Z", OUTSIDE),
        ("2025-12-31T23:59:60+01:00", OUTSIDE),
        ("2025-12-31T23:59:61Z", OUTSIDE),
        ("9999-12-31T23:59:60Z", OUTSIDE),
        ("1901-01-01T00:00:00Z", midnight(date(1901, 1, 1))),
        ("1970-01-01T00:00:00Z", 0),
        ("1767225600", NEW_YEAR),
        ("1767225600.5", NEW_YEAR + SECOND // 2),
        ("1.7672256e9", NEW_YEAR),
        ("1767225600000", NEW_YEAR),
        ("1210120341234", 1_210_120_341_234_000),
        ("1850-01-01T00:00:00Z", OUTSIDE),
        ("2026", OUTSIDE),
        ("20260101", OUTSIDE),
        ("2026-01-01T00:00:00", OUTSIDE),
        ("0", OUTSIDE),
        ("1" * 400, OUTSIDE),
        ("٢٠٢٦", OUTSIDE),
        (" 1767225600", OUTSIDE),
        ("", OUTSIDE),
    ],
)
def test_a_text_is_iso_8601_or_a_number(text: str, time: int) -> None:
    assert read_written(text) == time


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026", NEW_YEAR),
        ("2026-01-01", NEW_YEAR),
        ("20260101", NEW_YEAR),
        ("2026-01-01 00:00", NEW_YEAR),
        ("2026-01-01T01:00+01:00", NEW_YEAR),
        ("1767225600", NEW_YEAR),
        ("1210120341234", 1_210_120_341_234_000),
        ("1901-05-01", midnight(date(1901, 5, 1))),
        ("0000", OUTSIDE),
        ("9999", OUTSIDE),
        ("99999999", OUTSIDE),
        ("2026-13-01", OUTSIDE),
    ],
)
def test_where_utc_is_understood_a_text_needs_no_offset(text: str, time: int) -> None:
    assert read_written(text, utc=True) == time


BERLIN = TimeRule("auto", None, open_zone("Europe/Berlin"))


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-01T01:00:00", NEW_YEAR),
        ("2026-01-01 01:00", NEW_YEAR),
        ("2026-01-02", NEW_YEAR + 23 * 3_600 * SECOND),
        ("2026-01-01T00:00:00Z", NEW_YEAR),
        ("2026-10-25T02:30:00", 1_792_888_200 * SECOND),  # there twice: the earlier one
        ("2026-03-29T02:30:00", OUTSIDE),  # never there
        ("20260101", OUTSIDE),
        ("1767225600", NEW_YEAR),
        ("1850-01-01T00:00:00", OUTSIDE),
        ("0001-01-01T00:00:00", OUTSIDE),
        ("soon", OUTSIDE),
    ],
)
def test_with_a_zone_a_text_needs_no_offset(text: str, time: int) -> None:
    assert read_written(text, BERLIN) == time
    settings = InputSettings(timezone="Europe/Berlin", max_future_skew="100000 days")
    found = sent(text, settings)
    assert found == time if time != OUTSIDE else isinstance(found, DeadLetter)


def test_a_local_time_that_the_clocks_skip_says_so() -> None:
    letter = sent("2026-03-29T02:30:00", InputSettings(timezone="Europe/Berlin"))
    assert isinstance(letter, DeadLetter)
    assert '"2026-03-29T02:30:00" is skipped by the clock of Europe/Berlin' in letter.reason


def test_the_zone_of_messages_holds_for_files_and_theirs_for_files_alone() -> None:
    assert InputSettings().time_rule() == AUTO
    assert str(InputSettings().time_rule("Asia/Kolkata").zone) == "Asia/Kolkata"
    assert str(InputSettings(timezone="Europe/Berlin").time_rule("Asia/Kolkata").zone) == "Europe/Berlin"
    with pytest.raises(ConfigError, match=r"input\.timezone: 'Berlin' is not a time zone"):
        load(sets=["input.timezone=Berlin"])


def test_the_oldest_time_holds_for_texts_too() -> None:
    rule = TimeRule("auto", NEW_YEAR)
    assert read_written("2025-12-31T23:59:59Z", rule) == OUTSIDE
    assert read_written("2026-01-01T00:00:00Z", rule) == NEW_YEAR


@given(st.text(max_size=30) | st.from_regex(r"[0-9T:+.eZ-]{0,20}"))
def test_any_text_is_a_time_from_1900_to_2190_or_none(text: str) -> None:
    for utc in (False, True):
        time = read_written(text, utc=utc)
        assert time == OUTSIDE or OLD <= time < LAST_TIME
    read_text(text)


def sent(time: object, settings: InputSettings | None = None) -> int | DeadLetter:
    reader = Reader(settings or InputSettings(max_future_skew="100000 days"), Frequency("1s"))
    value = json.dumps({"series_id": "a", "timestamp": time, "value": 1}).encode()
    events, letters = reader.read(Messages(0, np.array([0]), [None], [value], 1), NOW)
    return letters[0] if letters else int(events.event_time[0])


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(number=NUMBERS.filter(lambda number: -(10**300) < number < 10**300))
def test_a_message_is_read_by_the_same_rule(rule: TimeRule, number: float) -> None:
    day = None if rule.oldest is None else (EPOCH + timedelta(microseconds=rule.oldest)).date()
    settings = InputSettings(time_unit=rule.unit, oldest_time=day, max_future_skew="100000 days")
    expected = number_reader(settings.time_rule())(number)
    found = sent(number, settings)
    if expected == OUTSIDE or expected >= LAST_TIME:
        assert isinstance(found, DeadLetter) and found.kind in (Kind.TIME, Kind.NUMBER, Kind.FIELD)
    else:
        assert found == expected
    if -(2**63) <= number < 2**63 and not isinstance(found, DeadLetter):
        assert sent(repr(number), settings) == found, "in quotes, too"


@pytest.mark.parametrize("number", [number for number in NO_TIMES if abs(number) < 1e400 or isinstance(number, int)])
def test_a_number_that_is_no_time_is_a_dead_letter_with_these_words(number: float) -> None:
    for time in (number, repr(number)):
        letter = sent(time)
        assert isinstance(letter, DeadLetter) and letter.kind is Kind.TIME
        assert NO_TIMES[number] in letter.reason


def test_a_date_and_hour_as_a_number_is_the_future_and_says_so() -> None:
    letter = sent(2026010100, InputSettings())
    assert isinstance(letter, DeadLetter) and letter.kind is Kind.FUTURE
    assert "looks like a date and time, YYYYMMDDHH, which is no number of seconds" in letter.reason


def test_settings_say_the_unit_and_the_oldest_time() -> None:
    settings = load(sets=["input.time_unit=ns", "input.oldest_time=1950-06-01"]).input
    assert settings.time_rule() == TimeRule("ns", midnight(date(1950, 6, 1)))
    assert load(sets=["input.oldest_time=off"]).input.time_rule() == AUTO
    letter = sent("2019-12-31T00:00:00Z", InputSettings(oldest_time="2020-01-01"))
    assert isinstance(letter, DeadLetter) and "is before input.oldest_time" in letter.reason
    for bad in ("input.oldest_time=1899-12-31", "input.oldest_time=2020", "input.oldest_time=5", "input.time_unit=m"):
        with pytest.raises(ConfigError, match=bad.split("=")[0]):
            load(sets=[bad])


@pytest.mark.parametrize(
    "text", ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "1767225600", "1767225600000000"]
)
def test_the_command_line_and_the_page_read_the_same_times(text: str) -> None:
    assert read_moment(text, "--at") == read_time(text) == NEW_YEAR


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("202601010000", "looks like a date and time, YYYYMMDDHHMM"),
        ("0", "is 1970, as a clock sends that was never set"),
        ("123456789", "is 1973-11-29 in seconds, before 1980-01-01"),
        ("638000000000000000", "may be nanoseconds or .NET ticks"),
        ("soon", ""),
        ("0001-01-01T00:00+23:59", ""),
        ("9999-12-31T00:00Z", ""),
        ("9" * 5_000, "is no time"),
        ("", ""),
    ],
)
def test_the_command_line_and_the_page_refuse_the_same_in_words(text: str, words: str) -> None:
    with pytest.raises(click.UsageError, match="write 2026-01-31") as refused:
        read_moment(text, "--at")
    with pytest.raises(ValueError, match="time") as asked:
        read_time(text)
    for said in (str(refused.value), str(asked.value)):
        assert words in said and said.isprintable() and "input." not in said
