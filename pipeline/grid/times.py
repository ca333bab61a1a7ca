"""What a number or a text means as a time: one rule for messages, files, frames, the command line and the page.

A number counts from 1970 in seconds, milliseconds, microseconds or nanoseconds. `auto` tells them apart by size: from
1980 to 2190 no two units share a number, and no YYYYMMDD, year, uptime or count of days is among them. What is in no
unit's range is no time. Times are microseconds since 1970 in UTC.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Unit = Literal["auto", "s", "ms", "us", "ns"]
Instant = Callable[[float], int]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
OUTSIDE = np.iinfo(np.int64).min
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
UNITS: tuple[Unit, ...] = ("s", "ms", "us", "ns")
NAMES: dict[str, str] = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
TICKS = (624_511_296_000_000_000, 662_380_416_000_000_000)
""".NET's 100 ns since the year 1, of 1980 to 2100; as nanoseconds since 1970 these numbers are of 1989 and 1990."""
SAME_AS_UTC = frozenset({"utc", "etc/utc", "uct", "etc/uct", "zulu", "etc/zulu", "universal", "etc/universal", "z"})
OF_THE_MACHINE = frozenset({"localtime", "posixrules", "Factory"})
"""Files beside the zones that mean another one on each machine, or none."""
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:)([0-9]{2})(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
LEAP = "60"
"""The second that a leap second is, as the last one of a month in UTC."""


def midnight(day: date) -> int:
    """Return the begin of a day in UTC, in microseconds."""
    return (datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH) // MICROSECOND


FIRST_TIME, LAST_TIME = midnight(date(1900, 1, 1)), midnight(date(2190, 1, 1))
FIRST_NUMBER = midnight(date(1980, 1, 1))


@dataclass(frozen=True, slots=True)
class TimeRule:
    """Which unit numbers have, the oldest time (microseconds) that is believed, and the zone of what has no offset.

    With None as the oldest, a text is believed from 1900 on and a number from 1980. With `auto` no number before 1980
    is a time, whatever the oldest is: smaller ones have no unit that could be told. Without a zone, a message needs an
    offset, and columns of files and frames are UTC.
    """

    unit: Unit = "auto"
    oldest: int | None = None
    zone: tzinfo | None = None

    @property
    def first_text(self) -> int:
        """The oldest time that a text may say."""
        return FIRST_TIME if self.oldest is None else self.oldest

    @property
    def first_number(self) -> int:
        """The oldest time that a number may say."""
        if self.oldest is None:
            return FIRST_NUMBER
        return max(self.oldest, FIRST_NUMBER) if self.unit == "auto" else self.oldest

    def bounds(self, unit: str) -> tuple[int, int]:
        """Return the first number of a unit that is a time, and the first one after them."""
        scale = PER_SECOND[unit]
        return -(-self.first_number * scale // 1_000_000), LAST_TIME // 1_000_000 * scale


AUTO = TimeRule()


def number_reader(rule: TimeRule) -> Instant:
    """Make the function that turns a number into microseconds, or into OUTSIDE if it is no time; it never raises."""
    (s, s_end), (ms, ms_end), (us, us_end), (ns, ns_end) = (rule.bounds(unit) for unit in PER_SECOND)
    ticks, ticks_end = TICKS

    def read_any(number: float) -> int:
        if s <= number < s_end:
            return round(number * 1_000_000)
        if ms <= number < ms_end:
            return round(number * 1_000)
        if us <= number < us_end:
            return round(number)
        if ns <= number < ns_end and not ticks <= number < ticks_end:
            return int(number // 1_000)
        return OUTSIDE

    if rule.unit == "auto":
        return read_any
    (first, end), unit = rule.bounds(rule.unit), rule.unit
    scale = 1_000_000 // PER_SECOND[unit] if unit != "ns" else 0

    def read_unit(number: float) -> int:
        if not first <= number < end:
            return OUTSIDE
        return round(number * scale) if scale else int(number // 1_000)

    return read_unit


def read_numbers(numbers: NDArray[Any], rule: TimeRule) -> NDArray[np.int64]:
    """Read integers or floats (N,) as `number_reader` reads each: microseconds, OUTSIDE where it is none."""
    numbers = numbers.astype(np.float64) if numbers.dtype.kind == "f" else numbers  # float16 holds no bound
    times = np.full(numbers.shape, OUTSIDE, np.int64)
    units = list(PER_SECOND) if rule.unit == "auto" else [rule.unit]
    for unit in units:
        first, end = rule.bounds(unit)
        inside = (numbers >= first) & (numbers < end)
        if unit == "ns" and rule.unit == "auto":
            inside &= ~((numbers >= TICKS[0]) & (numbers < TICKS[1]))
        chosen = numbers[inside].astype(np.float64 if numbers.dtype.kind == "f" else np.int64)
        if unit == "ns":
            times[inside] = (chosen // 1_000).astype(np.int64)
        else:
            times[inside] = np.round(chosen * (1_000_000 // PER_SECOND[unit])).astype(np.int64)
    return times


def number_in(text: str) -> float | None:
    """Return the number that a text is, or None."""
    if not NUMBER.fullmatch(text):
        return None
    return int(text) if len(text) <= 20 and text.lstrip("+-").isdecimal() else float(text)


@lru_cache(maxsize=65_536)
def read_text(text: str) -> int:
    """Read ISO 8601 with an offset, OUTSIDE if it is none; cached, because the series of a panel share their times."""
    try:
        moment = datetime.fromisoformat(text)
        return OUTSIDE if moment.tzinfo is None else (moment - EPOCH) // MICROSECOND
    except (ValueError, OverflowError):
        return _read_rfc_3339(text)


def _read_rfc_3339(text: str) -> int:
    """Read what RFC 3339 has beside ISO 8601: a small z, and leap seconds, which are the last microsecond before."""
    found = RFC_3339.fullmatch(text)
    if found is None:
        return OUTSIDE
    day, minute, second, fraction, zone = found.groups()
    leap = second == LEAP
    try:
        moment = datetime.fromisoformat(f"{day}T{minute}{'59' if leap else second}{fraction or ''}{zone.upper()}")
        if not leap:
            return (moment - EPOCH) // MICROSECOND
        after = moment.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
    except (ValueError, OverflowError):
        return OUTSIDE
    ends_month = (after.day, after.hour, after.minute, after.second) == (1, 0, 0, 0)
    return (after - EPOCH) // MICROSECOND - 1 if ends_month else OUTSIDE


@lru_cache(maxsize=65_536)
def read_local(text: str, zone: tzinfo) -> int:
    """Read ISO 8601 without an offset by the clocks of a zone; OUTSIDE if it is none, or they skip it.

    An hour that is there twice is the earlier one, as of a row that is alone. A date is its midnight.
    """
    try:
        local = datetime.fromisoformat(text)
        if local.tzinfo is not None or text.isdecimal():
            return OUTSIDE
        moment = local.replace(tzinfo=zone).astimezone(UTC)
        skipped = moment.astimezone(zone).replace(tzinfo=None) != local
        return OUTSIDE if skipped else (moment - EPOCH) // MICROSECOND
    except (ValueError, OverflowError):
        return OUTSIDE


def read_written(text: str, rule: TimeRule = AUTO, *, utc: bool = False) -> int:
    """Read a time that somebody wrote, ISO 8601 or a number; `utc`: without an offset it is UTC. OUTSIDE if it is none.

    With a zone in the rule, a time without an offset is of its clocks.

    Digits alone are a number, but a year or a YYYYMMDD, which as numbers would be no time, are ISO 8601.
    """
    if (time := read_text(text)) != OUTSIDE:
        return time if rule.first_text <= time < LAST_TIME else OUTSIDE
    if utc and (not text.isdecimal() or len(text) in (4, 8)):
        time = read_text(f"{text}-01-01T00:00Z" if text.isdecimal() and len(text) == 4 else _in_utc(text))
        if time != OUTSIDE:
            return time if rule.first_text <= time < LAST_TIME else OUTSIDE
    if rule.zone is not None and (time := read_local(text, rule.zone)) != OUTSIDE:
        return time if rule.first_text <= time < LAST_TIME else OUTSIDE
    number = number_in(text)
    return OUTSIDE if number is None or not math.isfinite(number) else number_reader(rule)(number)


def open_zone(name: str) -> ZoneInfo:
    """Open a zone of the IANA database; UTC under all its names is UTC. ValueError for what is no zone."""
    try:
        if not name or name != name.strip() or name.startswith("/") or name in OF_THE_MACHINE:
            raise ValueError(name)
        return ZoneInfo("UTC" if name.lower() in SAME_AS_UTC else name)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"{name!r} is not a time zone; write its name, such as Europe/Berlin or Asia/Kolkata"
        ) from error


def _in_utc(text: str) -> str:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).isoformat()
    except ValueError:
        return ""
