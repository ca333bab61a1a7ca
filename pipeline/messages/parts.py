"""The parts of a reading: its name, its number, and the time from one element to the next."""

from dataclasses import dataclass
from typing import Any

from pipeline.fields import Path, is_template, parse_path, parse_template
from pipeline.messages.absent import explain_absence
from pipeline.messages.lookup import ABSENT, Getter, Moment, Scope, getter
from pipeline.messages.scalars import BAD, Scalars, read_piece, read_span
from pipeline.messages.unreadable import (
    Fault,
    describe,
    explain_moment,
    explain_name,
    explain_number,
    is_name,
    misnamed,
    outside,
)
from pipeline.records import Kind
from pipeline.visible import shown

SERIES = "input.series_id"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a reading: the setting that names it, the path, and the function that finds it."""

    setting: str
    path: Path
    find: Getter

    @classmethod
    def of(cls, setting: str, text: str) -> "Part":
        """Make the part that a setting names."""
        return cls.at(setting, parse_path(text))

    @classmethod
    def at(cls, setting: str, path: Path) -> "Part":
        """Make the part at a path."""
        return cls(setting, path, getter(path))

    @property
    def shown(self) -> str:
        """The path as a reason shows it."""
        return shown(self.path.text)


class Name:
    """The name of a series: a part of a message, or a text with parts in it."""

    def __init__(self, text: str, scalars: Scalars) -> None:
        self._scalars = scalars
        self._whole = None if is_template(text) else Part.of(SERIES, text)
        pieces = () if self._whole else parse_template(text)
        self._pieces = [piece if isinstance(piece, str) else Part.at(SERIES, piece) for piece in pieces]

    def read(self, scope: Scope) -> str | Fault:
        """Return the name of a reading's series, or why there is none."""
        if self._whole is None:
            return self._join(scope)
        found = self._whole.find(scope)
        if found is ABSENT:
            return explain_absence(self._whole.path, SERIES, scope)
        name = self._scalars.name(found)
        if name is BAD:
            return explain_name(self._whole.shown, found)
        return name if is_name(name) else misnamed(self._whole.shown, name)

    def _join(self, scope: Scope) -> str | Fault:
        texts: list[str] = []
        for piece in self._pieces:
            if isinstance(piece, str):
                texts.append(piece)
                continue
            found = piece.find(scope)
            if found is ABSENT:
                return explain_absence(piece.path, SERIES, scope)
            text = read_piece(found)
            if text is BAD:
                what = "empty" if found == "" else describe(found)
                reason = f"{piece.shown} is {what}, and a part of a name is a text or an integer"
                return Fault(Kind.FIELD, f"not an event: {reason}")
            texts.append(text)
        name = "".join(texts)
        return name if is_name(name) else misnamed(SERIES, name)


class Interval:
    """The time from one element of an array to the next: so many seconds, or what the part of this path says."""

    def __init__(self, text: str, seconds: float | None) -> None:
        self._constant = round((seconds or 0.0) * 1_000_000)
        self._part = None if seconds else Part.of("input.interval", text)

    def read(self, scope: Scope) -> int | Fault:
        """Return the microseconds from the first element to this one, or why nothing says them."""
        assert scope.index is not None, "an interval goes with input.each"
        if scope.name is not None:
            return Fault(Kind.FIELD, "not an event: input.interval wants an array, and this is an object")
        if self._part is None:
            return scope.index * self._constant
        found = self._part.find(scope)
        if found is ABSENT:
            return explain_absence(self._part.path, self._part.setting, scope)
        span = read_span(found)
        if span is BAD:
            reason = f"{self._part.shown} is {describe(found)}, not a number of seconds or a duration such as 15 min"
            return Fault(Kind.FIELD, f"not an event: {reason}")
        return scope.index * int(span)


def explain_time(part: Part, found: Any, scope: Scope) -> Fault:
    """Say why a part is no time."""
    if found is ABSENT:
        return explain_absence(part.path, part.setting, scope)
    fault = explain_moment(part.shown, found)
    assert fault is not None, "what could be read needs no reason"
    return fault


def number_of(part: Part, scope: Scope, scalars: Scalars, *, optional: bool = False, found: Any = None) -> Any:
    """Return the number of a part, None where it is missing, or a Fault; `found` is what is there, if that is known."""
    found = part.find(scope) if found is None else found
    if found is ABSENT:
        return None if optional else explain_absence(part.path, part.setting, scope)
    if type(found) is Moment:
        return Fault(Kind.FIELD, f"not an event: {part.shown} is a time, not a number")
    number = scalars.number(found)
    if number is not BAD:
        return number
    field = part.shown if scope.column is None else shown(scope.column)
    return explain_number(field, found) or outside(field, found)
