"""Why a timestamp is no time on the grid, in the words of whoever must mend its producer."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from pipeline.grid.times import (
    EPOCH,
    FIRST_TIME,
    NAMES,
    NUMBER,
    OUTSIDE,
    TICKS,
    UNITS,
    TimeRule,
    Unit,
    number_in,
    number_reader,
    read_text,
)
from pipeline.visible import quoted, shown

ADVICE = "send ISO 8601 with an offset, as 2026-01-01T00:00:00Z, or a number of s, ms, us or ns since 1970"
_ZONE = re.compile(r"(.*[0-9])(\s*\[.*\]|\s*[A-Za-z]{1,5}|\s+[A-Za-z]+/[A-Za-z_]+)")
_LEAP = re.compile(r".*[0-9]:[0-5][0-9]:60(?![0-9]).*")
DAY = 86_400.0
SINCE = {"days": DAY, "hours": 3_600.0, "minutes": 60.0}
SPREADSHEET = 25_569  # days from spreadsheets' day 0, 1899-12-30, to 1970
NEAR = (1980, 2060)  # years of which a number is taken for a date
FILETIMES = (119_600_064_000_000_000, 185_862_528_000_000_000)  # of 1980 to 2190
BEYOND = 10**30  # nothing counts so far
COUNTERS = 100_000_000  # as seconds since 1970 this is 1973


def explain_time(time: str | float, rule: TimeRule) -> str:
    """Say what is wrong with a timestamp that is no time by the rule; one line."""
    return f"{explain_text(time, rule) if isinstance(time, str) else explain_number(time, rule)}; {ADVICE}"


def explain_written(text: str) -> str:
    """Say what is wrong with a time on the command line or in a query, where a number may not be configured."""
    number = number_in(text)
    return f"{quoted(text)} is not a time" if number is None else explain_number(number, TimeRule(), None)


def explain_future(time: str | float) -> str:
    """Say what is wrong with a timestamp in the future; one line."""
    about = f"{show_time(time)} is farther in the future than input.max_future_skew"
    stamp = None if isinstance(time, str) else stamp_in(time)
    return f"{about}; it looks like {stamp}, which is no number of seconds" if stamp else about


def explain_number(number: float, rule: TimeRule, keys: str | None = "input.") -> str:
    """Say what a number that is no time by the rule looks like, and which setting reads it.

    `keys` stands before the names of the settings; None: there are none.
    """
    about = show_time(number)
    if not -BEYOND < number < BEYOND:
        return f"{about} is no time"
    if number == 0:
        return f"{about} is 1970, as a clock sends that was never set"
    other = _other_unit(number, rule)
    if other and rule.unit == "auto":
        advice = f": set {keys}time_unit to {other} if it is {NAMES[other]}" if keys is not None else ""
        return f"{about} may be {NAMES[other]} or .NET ticks{advice}"
    if other:
        return f"{about} looks like {NAMES[other]}, and {keys}time_unit is {rule.unit}"
    if looks := stamp_in(number) or _count(number):
        return f"{about} looks like {looks}"
    return f"{about} is {_about_old(number, rule, keys)}"


def _about_old(number: float, rule: TimeRule, keys: str | None) -> str:
    if rule.oldest is not None and (time := number_reader(TimeRule(rule.unit))(number)) != OUTSIDE:
        return f"{_day(time)}, before {keys}oldest_time"
    units: tuple[Unit, ...] = ("s", "ms") if rule.unit == "auto" else (rule.unit,)
    for unit in units:
        if (time := number_reader(TimeRule(unit, FIRST_TIME))(number)) != OUTSIDE:
            about = f"{_day(time)} in {NAMES[unit]}, before {_day(rule.first_number)}"
            more = f", and {keys}time_unit to {unit}" if rule.unit == "auto" else ""
            return about if keys is None else f"{about}: to believe it, set {keys}oldest_time{more}"
    return f"no time from {_day(rule.first_number)} to 2190 in " + (NAMES.get(rule.unit) or "s, ms, us or ns")


def _day(time: int) -> str:
    return f"{EPOCH + timedelta(microseconds=time):%Y-%m-%d}"


def show_time(time: str | float) -> str:
    """Show a timestamp as it was sent."""
    return quoted(time) if isinstance(time, str) else f"the number {shown(repr(time))}"


def stamp_in(number: float) -> str | None:
    """Name the calendar stamp that a number's digits are, or None: a year, YYYYMMDD, YYYYMMDDHHMM and the like."""
    if not 1_900 <= number < 10**17 or number != int(number):
        return None
    digits = str(int(number))
    if len(digits) == 4:
        return "a year" if int(digits) < 2_190 else None
    if len(digits) == 7:
        return "a year and its day, YYYYDDD" if "001" <= digits[4:] <= "366" and _year(digits) else None
    shape = {6: "YYYYMM", 8: "YYYYMMDD", 10: "YYYYMMDDHH", 12: "YYYYMMDDHHMM", 14: "YYYYMMDDHHMMSS"}.get(
        len(digits), "YYYYMMDDHHMMSSmmm" if len(digits) == 17 else None
    )
    if shape is None or not _year(digits):
        return None
    parts = [int(digits[at : at + 2]) for at in range(4, min(len(digits), 14), 2)]
    month, day, hour, minute, second = (*parts, *(1, 1, 0, 0, 0)[len(parts) :])
    try:
        datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    what = {6: "a month", 8: "a date"}.get(len(digits), "a date and time")
    return f"{what}, {shape}"


def _year(digits: str) -> bool:
    return "1900" <= digits[:4] < "2190"


def _other_unit(number: float, rule: TimeRule) -> Unit | None:
    """Return the one other unit in which the number is a time by the rule."""
    if rule.unit == "auto":
        return "ns" if TICKS[0] <= number < TICKS[1] else None
    return next((unit for unit in UNITS if number_reader(TimeRule(unit))(number) != OUTSIDE), None)


def _count(number: float) -> str | None:
    """Name what counts up to such a number, or None where nothing usual does."""
    for name, at in _near(number):
        if NEAR[0] <= at.year < NEAR[1]:
            return name
    if FILETIMES[0] <= number < FILETIMES[1]:
        return "Windows file time, 100 ns since 1601"
    return "an uptime or another counter" if 0 < number < COUNTERS else None


def _near(number: float) -> Iterator[tuple[str, date]]:
    for name, length in SINCE.items():
        if 0 < number * length < 3e9:
            yield f"{name} since 1970, or a counter", (EPOCH + timedelta(seconds=number * length)).date()
        if name == "days" and 0 < number < 60_000:
            yield "days of a spreadsheet", (EPOCH + timedelta(days=number - SPREADSHEET)).date()


def explain_text(text: str, rule: TimeRule, keys: str = "input.") -> str:
    """Say what is wrong with a text that is no time by the rule."""
    bare = text.strip()
    what = quoted(text)
    if not bare:
        return "the text is empty" if not text else "the text is blank"
    number = number_in(text)
    if number is not None:
        return f"in quotes, {explain_number(number, rule, keys)}"
    if NUMBER.fullmatch(bare) or NUMBER.fullmatch(bare.replace(",", ".", 1)):
        return f"{what} is a number in quotes with " + ("a comma" if "," in bare else "white space around it")
    moment = _moment(bare)
    if moment is not None and bare == text:
        return _about_moment(what, moment, bare, rule, keys)
    if moment is not None:
        return f"{what} has white space around it"
    if _LEAP.fullmatch(bare):
        return f"{what} has a second 60, and no leap second can be there: it is the last of a month in UTC"
    if re.search(r"[T ]24:00", bare):
        return f"{what} has the hour 24: send 00:00 of the next day"
    zone = _ZONE.fullmatch(bare)
    if zone and _moment(zone[1]) is not None:
        return f"{what} ends in {quoted(zone[2].strip())}, which is no offset: write Z for UTC, or +01:00"
    return f"{what} is no time in ISO 8601"


def _about_moment(what: str, moment: datetime, text: str, rule: TimeRule, keys: str) -> str:
    if moment.tzinfo is not None:
        if rule.oldest is not None and FIRST_TIME <= read_text(text) < rule.oldest:
            return f"{what} is before {keys}oldest_time"
        return f"{what} is no time from 1900 to 2190"
    if rule.zone is not None and not text.isdecimal():
        return f"{what} is skipped by the clock of {rule.zone}, or no time from 1900 to 2190"
    if len(text) <= len("2026-01-01") and ":" not in text:
        return f"{what} is a date without a time and an offset"
    advice = f", or set {keys}timezone" if keys else ""
    return f"{what} has no offset: append Z for UTC, or +01:00{advice}"


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
