"""A decoded message to readings, by the mapping that the table [input] declares.

    bytes -> a value of JSON -> Mapping.read -> rows of names, times, numbers -> Events, or one dead letter

A message is read whole or not at all: the first part of it that is bad makes all of it one dead letter.
"""

from dataclasses import dataclass, field
from typing import Any

from pipeline.fields import Path, is_template, parse_path, parse_template
from pipeline.grid.times import number_reader
from pipeline.messages.absent import explain_absence
from pipeline.messages.lookup import ABSENT, Getter, Moment, Record, Scope, getter
from pipeline.messages.scalars import BAD, read_name, read_number, read_piece, read_time
from pipeline.messages.unreadable import (
    Fault,
    describe,
    explain_moment,
    explain_name,
    explain_number,
    explain_shape,
    is_name,
    misnamed,
    outside,
)
from pipeline.messages.unwrap import NOTHING, unwrapper
from pipeline.records import Kind
from pipeline.settings import InputSettings
from pipeline.visible import shown

SERIES = "input.series_id"


@dataclass(slots=True)
class Rows:
    """Readings as columns, their times not yet judged; `message` is the place of each one's message.

    `time` is in microseconds, or OUTSIDE where `sent` is no time. A covariate is NaN where it is missing.
    """

    message: list[int] = field(default_factory=list)
    series: list[str] = field(default_factory=list)
    time: list[int] = field(default_factory=list)
    sent: list[Any] = field(default_factory=list)
    value: list[float | None] = field(default_factory=list)
    covariates: list[tuple[float | None, ...]] = field(default_factory=list)

    def __len__(self) -> int:
        """Count the readings."""
        return len(self.message)

    def cut(self, size: int) -> None:
        """Drop what was added after there were so many."""
        for column in (self.message, self.series, self.time, self.sent, self.value, self.covariates):
            del column[size:]


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


class Mapping:
    """What settings say of where the parts of a reading are."""

    def __init__(self, settings: InputSettings) -> None:
        self._rule = settings.time_rule()
        self._number = number_reader(self._rule)
        self._unwrap = unwrapper(settings.envelope, refuse_deletes=settings.tombstones == "refuse")
        self._series = Name(settings.series_id)
        self._time = Part.of("input.timestamp", settings.timestamp)
        self._value = Part.of("input.value", settings.value)
        self._covariates = [Part.of("input.covariates", name) for name in settings.covariates]

    def read(self, value: Any, record: Record, message: int, rows: Rows) -> Fault | None:
        """Add the readings of a message to `rows`, which may be none, or return why it is bad and add nothing."""
        size = len(rows)
        fault = self._read(value, record, message, rows)
        if fault is not None:
            rows.cut(size)
        return fault

    def _read(self, value: Any, record: Record, message: int, rows: Rows) -> Fault | None:
        scope = self._unwrap(value, record)
        if isinstance(scope, Fault):
            return scope
        if scope is NOTHING:
            return None
        if type(scope.value) is not dict:
            return Fault(Kind.EVENT, f"not an event: {explain_shape(scope.value)}")
        return self._read_one(scope, message, rows)

    def _read_one(self, scope: Scope, message: int, rows: Rows) -> Fault | None:
        name = self._series.read(scope)
        if isinstance(name, Fault):
            return name
        sent = self._time.find(scope)
        time = read_time(sent, self._number, self._rule)
        if time is BAD:
            return _explain_time(self._time, sent, scope)
        number = _number(self._value, scope)
        if isinstance(number, Fault):
            return number
        covariates = []
        for part in self._covariates:
            found = _number(part, scope, optional=True)
            if isinstance(found, Fault):
                return found
            covariates.append(found)
        rows.message.append(message)
        rows.series.append(name)
        rows.time.append(time)
        rows.sent.append(sent)
        rows.value.append(number)
        rows.covariates.append(tuple(covariates))
        return None


class Name:
    """The name of a series: a part of a message, or a text with parts in it."""

    def __init__(self, text: str) -> None:
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
        name = read_name(found)
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


def _explain_time(part: Part, found: Any, scope: Scope) -> Fault:
    if found is ABSENT:
        return explain_absence(part.path, part.setting, scope)
    fault = explain_moment(part.shown, found)
    assert fault is not None, "what could be read needs no reason"
    return fault


def _number(part: Part, scope: Scope, *, optional: bool = False) -> Any:
    """Return a number, None where it is missing, or a Fault."""
    found = part.find(scope)
    if found is ABSENT:
        return None if optional else explain_absence(part.path, part.setting, scope)
    if type(found) is Moment:
        return Fault(Kind.FIELD, f"not an event: {part.shown} is a time, not a number")
    number = read_number(found)
    return number if number is not BAD else explain_number(part.shown, found) or outside(part.shown, found)
