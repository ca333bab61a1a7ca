"""A decoded message to readings, by the mapping that the table [input] declares.

    bytes -> a value of JSON -> Mapping.read -> rows of names, times, numbers -> Events, or one dead letter

A message is read whole or not at all: the first part of it that is bad makes all of it one dead letter, which says
where that part is.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.fields import parse_column, parse_levels, parse_path
from pipeline.grid.times import OUTSIDE, number_reader
from pipeline.messages.absent import explain_absence
from pipeline.messages.conditions import Skips, any_holds
from pipeline.messages.lookup import ABSENT, Record, Scope, opened
from pipeline.messages.parts import Interval, Name, Part, explain_time, number_of
from pipeline.messages.scalars import BAD, Scalars, read_time
from pipeline.messages.unreadable import Fault, describe, explain_shape
from pipeline.messages.unwrap import NOTHING, unwrapper
from pipeline.records import Kind
from pipeline.settings import InputSettings
from pipeline.visible import shown

Row = tuple[int, str, int, Any, float | None, tuple[float | None, ...], Scope]
"""A reading: the place of its message, its series, its time in microseconds (or OUTSIDE) and as it was sent (None where
it was computed), its value and covariates, None where missing, and the scope that it was read in. The time is not yet
judged."""


@dataclass(slots=True)
class _Message:
    """The message that is read: its place among the others, how many elements it had so far, and the rows before it."""

    place: int
    size: int
    elements: int = 0


class Mapping:
    """What settings say of where the parts of a reading are."""

    def __init__(self, settings: InputSettings) -> None:
        self._rule = settings.time_rule()
        self._number = number_reader(self._rule)
        self._unwrap = unwrapper(settings.envelope, refuse_deletes=settings.tombstones == "refuse")
        self._levels = [Part.at("input.each", path) for path in parse_levels(settings.each)] if settings.each else []
        self._most = settings.max_readings
        self._skips = Skips.of(settings, len(self._levels))
        self._scalars = Scalars(settings)
        self._series = Name(settings.series_id, self._scalars)
        self._time = Part.of("input.timestamp", settings.timestamp)
        self._interval = Interval(settings.interval, settings.fixed_interval) if settings.interval else None
        self._value = Part.of("input.value", settings.value)
        self._covariates = [Part.of("input.covariates", name) for name in settings.covariates]
        self._columns = [_Column(text, settings) for text in settings.values]

    def read(self, value: Any, record: Record, message: int, rows: list[Row]) -> Fault | None:
        """Add the readings of a message to `rows`, which may be none, or return why it is bad and add nothing."""
        size = len(rows)
        fault = self._read(value, record, _Message(message, size), rows)
        if fault is not None:
            del rows[size:]
        return fault

    def _read(self, value: Any, record: Record, message: _Message, rows: list[Row]) -> Fault | None:
        scope = self._unwrap(value, record)
        if isinstance(scope, Fault):
            return scope
        if scope is NOTHING:
            return None
        if self._levels:
            return self._read_elements(scope, 0, message, rows)
        if type(scope.value) is not dict and not any_holds(self._skips.at[0], scope):
            return Fault(Kind.EVENT, f"not an event: {explain_shape(scope.value)}")
        return self._read_element(scope, message, rows)

    def _read_elements(self, around: Scope, level: int, message: _Message, rows: list[Row]) -> Fault | None:
        if any_holds(self._skips.at[level], around):
            return None
        part = self._levels[level]
        found = opened(part.find(around))
        if type(found) is not dict and type(found) is not list:
            return self.locate(around, _explain_container(part, found, around))
        message.elements += len(found)
        if message.elements > self._most:
            return self._too_many()
        last = level + 1 == len(self._levels)
        for scope in _elements(found, around):
            if last:
                fault = self._read_element(scope, message, rows)
                fault = None if fault is None else self.locate(scope, fault)
            else:
                fault = self._read_elements(scope, level + 1, message, rows)
            if fault is not None:
                return fault
        return None

    def _read_element(self, scope: Scope, message: _Message, rows: list[Row]) -> Fault | None:
        if any_holds(self._skips.at[-1], scope):
            return None
        name = None if self._columns else self._series.read(scope)
        if isinstance(name, Fault):
            return name
        sent = self._time.find(scope)
        time = read_time(sent, self._number, self._rule)
        if time is BAD:
            return explain_time(self._time, sent, scope)
        if self._interval and time != OUTSIDE:
            later = self._interval.read(scope)
            if isinstance(later, Fault):
                return later
            time, sent = time + later, None
        covariates = self._read_covariates(scope) if self._covariates else ()
        if isinstance(covariates, Fault):
            return covariates
        if name is None:
            return self._read_columns(scope, (time, sent, covariates), message, rows)
        number = number_of(self._value, scope, self._scalars)
        if isinstance(number, Fault):
            return number
        rows.append((message.place, name, time, sent, number, covariates, scope))
        return None

    def _read_covariates(self, scope: Scope) -> tuple[float | None, ...] | Fault:
        numbers = [number_of(part, scope, self._scalars, optional=True) for part in self._covariates]
        bad = next((found for found in numbers if isinstance(found, Fault)), None)
        return tuple(numbers) if bad is None else bad

    def _read_columns(
        self, scope: Scope, shared: tuple[int, Any, tuple[float | None, ...]], message: _Message, rows: list[Row]
    ) -> Fault | None:
        """Add a reading for each field of input.values that is there; `shared` are their time, sent and covariates."""
        time, sent, covariates = shared
        there: set[str] = set()
        for column in self._columns:
            for column_name, part, found in column.find(scope):
                if column_name in there:
                    reason = f"two of input.values are called {shown(column_name)}, and would be one series"
                    return Fault(Kind.FIELD, f"not an event: {reason}")
                there.add(column_name)
                own = scope.at(column_name)
                if any_holds(self._skips.column, own):
                    continue
                number = number_of(part, own, self._scalars, found=found)
                if isinstance(number, Fault):
                    return number
                name = self._series.read(own)
                if isinstance(name, Fault):
                    return name
                rows.append((message.place, name, time, sent, number, covariates, own))
        if len(rows) - message.size > self._most:
            return self._too_many()
        return None if there else self._explain_none(scope)

    def _too_many(self) -> Fault:
        return Fault(Kind.SIZE, f"the message has more than {self._most} readings, as many as input.max_readings")

    def _explain_none(self, scope: Scope) -> Fault:
        wanted = shown(", ".join(column.text for column in self._columns))
        found = scope.value
        names = shown(", ".join(map(str, found))) if isinstance(found, dict) and found else describe(found)
        return Fault(Kind.FIELD, f"not an event: none of input.values ({wanted}) in {names}")

    def locate(self, scope: Scope, fault: Fault) -> Fault:
        """Add to the reason where in the message it is: the place of the element, as a path."""
        places: list[str] = []
        own: Scope | None = scope
        while own is not None:
            if own.index is not None:
                places.insert(0, str(own.index) if own.name is None else own.name)
            own = own.around
        steps = [
            step
            for part, place in zip(self._levels, places, strict=False)  # a message may end before the last level
            for step in ((part.path.text, place) if part.path.steps else (place,))
        ]
        if not steps:
            return fault
        lead = "not an event: " if fault.reason.startswith("not an event: ") else ""
        return Fault(fault.kind, f"{lead}{shown('.'.join(steps))}: {fault.reason.removeprefix(lead)}")


class _Column:
    """A field of input.values, or every number of an object that no other setting names."""

    def __init__(self, text: str, settings: InputSettings) -> None:
        path, self._every = parse_column(text)
        self.text = text
        self._part = Part.at("input.values", path)
        others = (parse_path(name) for name in (settings.timestamp, *settings.covariates))
        named = (own for own, every in map(parse_column, settings.values) if not every)
        taken = (*settings.series_paths(), *others, *named)
        depth = len(path.steps)
        self._taken = {
            own.steps[depth]
            for own in taken
            if own.inner and own.steps[:depth] == path.steps and len(own.steps) > depth
        } | {own.text for own in taken if own.inner and not depth}

    def find(self, scope: Scope) -> Iterable[tuple[str, Part, Any]]:
        """Yield the name and value of each field, and the part that it is of."""
        found = opened(self._part.find(scope)) if self._every else self._part.find(scope)
        if not self._every:
            if found is not ABSENT:
                yield self.text, self._part, found
        elif type(found) is dict:
            for name, value in found.items():
                if (type(value) is float or type(value) is int) and name not in self._taken:
                    yield name, self._part, value


def _elements(found: dict[str, Any] | list[Any], around: Scope) -> Iterator[Scope]:
    if isinstance(found, dict):
        for index, (name, value) in enumerate(found.items()):
            yield Scope(value, around.record, around, index=index, name=name)
    else:
        for index, value in enumerate(found):
            yield Scope(value, around.record, around, index=index)


def _explain_container(part: Part, found: Any, scope: Scope) -> Fault:
    if found is ABSENT:
        return explain_absence(part.path, part.setting, scope)
    what = part.shown if part.path.steps else "it"
    reason = f"{what} is {describe(found)}, and input.each wants an array or an object"
    return Fault(Kind.FIELD, f"not an event: {reason}")
