"""Why a timestamp is no time on the grid, in the words of whoever must mend its producer."""

import re
from datetime import datetime

from pipeline.shown import quoted, shown

ADVICE = "send ISO 8601 with an offset, as 2026-01-01T00:00:00Z, or epoch seconds or milliseconds, from 1900 to 2190"
_NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]*)?([eE][+-]?[0-9]+)?")
_ZONE = re.compile(r"(.*[0-9])(\s*\[.*\]|\s*[A-Za-z]{1,5}|\s+[A-Za-z]+/[A-Za-z_]+)")
_LEAP = re.compile(r".*[0-9]:[0-5][0-9]:60(?![0-9]).*")
MICROSECONDS_FROM = 10**14


def explain_time(time: str | float) -> str:
    """Say what is wrong with a timestamp that is no time from 1900 to 2190; one line."""
    found = _about_text(time) if isinstance(time, str) else _about_number(time)
    return f"{found}; {ADVICE}"


def show_time(time: str | float) -> str:
    """Show a timestamp as it was sent."""
    return quoted(time) if isinstance(time, str) else f"the number {shown(repr(time))}"


def _about_number(time: float) -> str:
    if abs(time) > MICROSECONDS_FROM:
        unit = "microseconds" if abs(time) < 10**17 else "nanoseconds" if abs(time) < 10**20 else None
        return f"{show_time(time)} " + (f"looks like {unit}" if unit else "is no time")
    return f"{show_time(time)} is no time from 1900 to 2190"


def _about_text(text: str) -> str:
    bare = text.strip()
    what = quoted(text)
    if not bare:
        return "the text is empty" if not text else "the text is blank"
    if _NUMBER.fullmatch(bare) and _moment(bare) is None:
        return f"{what} is a number in quotes: send it without them"
    moment = _moment(bare)
    if moment is not None and bare == text:
        return _about_moment(what, moment, bare)
    if moment is not None:
        return f"{what} has white space around it"
    if _LEAP.fullmatch(bare):
        return f"{what} is a leap second, which no clock here has: send the second before or after it"
    if re.search(r"[T ]24:00", bare):
        return f"{what} has the hour 24: send 00:00 of the next day"
    zone = _ZONE.fullmatch(bare)
    if zone and _moment(zone[1]) is not None:
        ending = zone[2].strip()
        if ending == "z":
            return f"{what} ends in a small z: write Z"
        return f"{what} ends in {quoted(ending)}, which is no offset: write Z for UTC, or +01:00"
    return f"{what} is no time in ISO 8601"


def _about_moment(what: str, moment: datetime, text: str) -> str:
    if moment.tzinfo is not None:
        return f"{what} is no time from 1900 to 2190"
    if len(text) <= len("2026-01-01") and ":" not in text:
        return f"{what} is a date without a time and an offset"
    return f"{what} has no offset: append Z for UTC, or +01:00"


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
