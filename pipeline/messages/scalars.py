"""Values of JSON as names, times and numbers."""

import re
from math import isfinite
from typing import Any, Final

from pipeline.grid.times import OUTSIDE, Instant, TimeRule, read_text, read_written
from pipeline.messages.lookup import Moment
from pipeline.messages.unreadable import LARGEST
from pipeline.settings import InputSettings, parse_seconds


class _Bad:
    """The type of BAD."""

    def __repr__(self) -> str:
        return "BAD"


MOST_WHOLE = 10**40
"""Of an integer in a name: more than a UUID needs, and Python writes no number of thousands of digits."""
MOST_NUMBER_TEXT = 400
"""Characters of a number in quotes, or of a word for a missing one."""
NOT_FINITE = frozenset({"", "nan"} | {f"{sign}{word}" for sign in ("", "+", "-") for word in ("inf", "infinity")})
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
MOST_SPAN = 400 * 86_400
"""Seconds from one element of an array to the next, at most."""
MOST_SPAN_TEXT = 40
_SPAN = re.compile(r"PT(?:([0-9]{1,6})H)?(?:([0-9]{1,8})M)?(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)S)?")
BINARY = ("avro", "msgpack", "protobuf")
"""Formats that have NaN and infinity."""
BAD: Final = _Bad()
"""In place of a value that is not what it should be."""


def read_piece(value: Any) -> Any:
    """Return what a value is within a name, BAD if it is nothing: a text, an integer, true or false."""
    kind = type(value)
    if kind is str:
        return value or BAD
    if kind is bool:
        return "true" if value else "false"
    return str(value) if kind is int and -MOST_WHOLE < value < MOST_WHOLE else BAD


class Scalars:
    """Reads names and numbers, as strictly as the settings say."""

    def __init__(self, settings: InputSettings) -> None:
        self._lenient = settings.lenient
        self._not_finite = settings.lenient and settings.format in BINARY  # in JSON 1e400 is a number too large
        self._texts = settings.lenient or settings.decimal_comma or settings.format == "csv"
        self._comma = settings.decimal_comma
        words = {word.strip().casefold() for word in settings.missing}
        self._missing = frozenset(words | NOT_FINITE if settings.lenient else words)
        self._missing_numbers = frozenset(settings.missing_numbers)

    def name(self, value: Any) -> Any:
        """Return the text that a name is, BAD if it is none."""
        if type(value) is str:
            return value
        return str(value) if self._lenient and type(value) is int and abs(value) < MOST_WHOLE else BAD

    def number(self, value: Any) -> Any:
        """Return a number as float, None if it is missing, BAD if it is none or beyond bounds."""
        if value is None:
            return None
        if type(value) is str:
            value = self._in_text(value)
        if (type(value) is float or type(value) is int) and -LARGEST <= value <= LARGEST:
            return None if value in self._missing_numbers else float(value)
        if self._not_finite and type(value) is float and not isfinite(value):
            return None
        return value if value is None else BAD

    def _in_text(self, text: str) -> float | str | None:
        """Return the number that a text is, None for a word that says it is missing, or else the text."""
        if len(text) > MOST_NUMBER_TEXT:
            return text
        bare = text.strip()
        if bare.casefold() in self._missing:
            return None
        if not self._texts:
            return text
        if self._comma and bare.count(",") == 1 and "." not in bare:
            bare = bare.replace(",", ".")
        return float(bare) if _NUMBER.fullmatch(bare) else text


def read_time(value: Any, number: Instant, rule: TimeRule) -> Any:
    """Return microseconds, OUTSIDE if it is no time, BAD if it is neither text nor number."""
    kind = type(value)
    if kind is str:
        time = read_text(value)
        return time if time != OUTSIDE else read_written(value, rule)
    if kind is int or kind is float:
        return number(value)
    if kind is Moment:
        return int(value) if abs(value) < -OUTSIDE else OUTSIDE
    return BAD


def read_span(value: Any) -> Any:
    """Return the microseconds of a number of seconds, or of a text such as 15 min or PT15M; BAD if it is none."""
    if type(value) is str:
        iso = _SPAN.fullmatch(value.strip()) if len(value) <= MOST_SPAN_TEXT else None
        try:
            seconds = _seconds(iso) if iso else parse_seconds(value) if len(value) <= MOST_SPAN_TEXT else 0.0
        except ValueError:
            return BAD
    elif type(value) is int or type(value) is float:
        seconds = value
    else:
        return BAD
    return round(seconds * 1_000_000) if 0.000_001 <= seconds <= MOST_SPAN else BAD


def _seconds(iso: re.Match[str]) -> float:
    return sum(float(part or 0) * size for part, size in zip(iso.groups(), (3_600, 60, 1), strict=True))
