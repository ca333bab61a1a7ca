"""Durations: a number of seconds, or text such as '10 min'."""

import re

from pipeline.settings.texts import parse_number

_SECONDS = {
    "ms|millisecond|milliseconds|millis": 0.001,
    "s|sec|secs|second|seconds": 1.0,
    "min|mins|minute|minutes": 60.0,
    "h|hr|hour|hours": 3_600.0,
    "d|day|days": 86_400.0,
    "w|week|weeks": 604_800.0,
}
_UNITS = {unit: seconds for units, seconds in _SECONDS.items() for unit in units.split("|")}
_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*")
_CLOCK = re.compile(r"(?:([0-9]+) days? )?([0-9]{1,2}):([0-5][0-9]):([0-5][0-9](?:\.[0-9]+)?)")


def parse_seconds(text: object) -> float:
    """Turn '10 min', '2h', '1 day 12 h', '00:10:00' or a number of seconds, also as text, into seconds.

    Raises ValueError for what is no duration or could be two: '1M' and 'P1M' (minute or month), '1,5h'.
    """
    number = parse_number(text.strip()) if isinstance(text, str) else text
    if isinstance(number, int | float) and not isinstance(number, bool):
        return float(number)
    seconds = _sum_parts(text) if isinstance(text, str) else None
    if seconds is None:
        raise ValueError(f"{text!r} is not a duration; write '90s', '10 min', '2h' or '1 day', or seconds as a number")
    return seconds


def _sum_parts(text: str) -> float | None:
    clock = _CLOCK.fullmatch(text.strip())
    if clock:
        days, hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    total, at = 0.0, 0
    while at < len(text):
        part = _PART.match(text, at)
        unit = part and _seconds_of(part[2])
        if part is None or unit is None:
            return None
        total, at = total + float(part[1]) * unit, part.end()
    return total if at else None


def _seconds_of(unit: str) -> float | None:
    return 60.0 if unit == "m" else _UNITS.get(unit.lower())
