"""Values of JSON as names, times and numbers."""

from typing import Any, Final

from pipeline.grid.times import OUTSIDE, Instant, TimeRule, read_text, read_written
from pipeline.messages.lookup import Moment
from pipeline.messages.unreadable import LARGEST


class _Bad:
    """The type of BAD."""

    def __repr__(self) -> str:
        return "BAD"


BAD: Final = _Bad()
"""In place of a value that is not what it should be."""


def read_name(value: Any) -> Any:
    """Return the text that a name is, BAD if it is none."""
    return value if type(value) is str else BAD


def read_number(value: Any) -> Any:
    """Return a number as float, None if it is missing, BAD if it is none or beyond bounds."""
    if value is None:
        return None
    if (type(value) is float or type(value) is int) and -LARGEST <= value <= LARGEST:
        return float(value)
    return BAD


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
