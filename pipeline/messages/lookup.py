"""Finds the parts of a message that settings name by a path; `pipeline.fields` has the grammar.

Nothing raises: a part that is not there is ABSENT, which is another thing than null. Keys and headers are read when a
path asks for them, and once a message.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from pipeline.fields import Path, place_in_list
from pipeline.messages.letters import TIME_DIGITS, WRITTEN
from pipeline.records import Envelope, Messages


class Moment(int):
    """A time in microseconds since 1970, which needs no unit to be read."""


class _Absent:
    """The type of ABSENT."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
"""In place of a part that a message does not have."""


class Record:
    """What the record of the i-th message has beside its value.

    Is it `wrapped`, its key is JSON, too, with or without a schema.
    """

    __slots__ = ("_envelope", "_i", "_messages", "_parsed", "_wrapped", "topic")

    def __init__(self, messages: Messages, i: int, topic: str, *, wrapped: bool = False) -> None:
        self.topic = topic
        self._wrapped = wrapped
        self._messages, self._i = messages, i
        self._envelope: Envelope | None = None
        self._parsed: tuple[Any] | None = None

    @property
    def partition(self) -> int:
        """The partition that the message arrived in."""
        return self._messages.partition

    @property
    def timestamp(self) -> Any:
        """The record's own time, a Moment; of a message that was sent again, the time that it had at first."""
        first = self.header(WRITTEN)
        if type(first) is str and len(first) <= TIME_DIGITS and first.isascii() and first.isdigit():
            return Moment(int(first) * 1_000)
        written = self._beside().written_at
        return ABSENT if written is None else Moment(written)

    @property
    def headers(self) -> Sequence[str]:
        """The names of the headers."""
        return [name for name, _ in self._beside().headers]

    def header(self, name: str) -> Any:
        """Return the text of a header, the last of several; ABSENT if it is none, null if it has no value."""
        content = self.header_bytes(name)
        return content if content is None or content is ABSENT else _text(content)

    def header_bytes(self, name: str) -> Any:
        """Return the bytes of a header, the last of several; ABSENT if there is none, null if it has no value."""
        for own, content in reversed(self._beside().headers):
            if own == name:
                return content
        return ABSENT

    def key(self) -> Any:
        """Return the key as text, or what it says in JSON if it is wrapped; ABSENT if it is neither."""
        key = self._messages.keys[self._i]
        if self._wrapped and (said := self.key_value()) is not ABSENT:
            return said
        return ABSENT if key is None else _text(key)

    def key_value(self) -> Any:
        """Return what the key says in JSON; ABSENT if it is none."""
        if self._parsed is None:
            key = self._messages.keys[self._i]
            try:
                self._parsed = (ABSENT if key is None else msgspec.json.decode(key),)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                self._parsed = (ABSENT,)
            said = self._parsed[0]
            if self._wrapped and type(said) is dict and said.keys() == {"schema", "payload"}:
                self._parsed = (said["payload"],)
        return self._parsed[0]

    def _beside(self) -> Envelope:
        if self._envelope is None:
            self._envelope = self._messages.envelope(self._i)
        return self._envelope


class Scope:
    """The object that fields are looked up in, the one around it, and the record of the message.

    An element of an array or object has its place there as `index`, and of an object its `name`. `column` is the field
    of input.values that is read just now.
    """

    __slots__ = ("around", "column", "index", "name", "record", "value")

    def __init__(
        self,
        value: Any,
        record: Record,
        around: "Scope | None" = None,
        *,
        index: int | None = None,
        name: str | None = None,
    ) -> None:
        self.value = value
        self.record = record
        self.around = around
        self.index = index
        self.name = name
        self.column: str | None = None

    def at(self, column: str) -> "Scope":
        """Return the same scope for one field of input.values."""
        own = Scope(self.value, self.record, self.around, index=self.index, name=self.name)
        own.column = column
        return own

    @property
    def nearest_name(self) -> Any:
        """The name of the element, or of the nearest one around that has one; ABSENT if none has."""
        scope: Scope | None = self
        while scope is not None:
            if scope.name is not None:
                return scope.name
            scope = scope.around
        return ABSENT


Getter = Callable[[Scope], Any]
"""Returns a part of a message, ABSENT if it is not there."""


def getter(path: Path) -> Getter:
    """Make the function that finds what a path names."""
    find = _within(path.steps)
    if path.origin == "header":
        name = path.steps[0]
        return lambda scope: scope.record.header(name)
    if path.origin == "key":
        return (lambda scope: find(scope.record.key_value())) if path.steps else lambda scope: scope.record.key()
    if path.origin == "topic":
        return lambda scope: scope.record.topic
    if path.origin == "partition":
        return lambda scope: str(scope.record.partition)
    if path.origin == "timestamp":
        return lambda scope: scope.record.timestamp
    if path.origin == "value":
        return lambda scope: scope.value
    if path.origin == "name":
        return lambda scope: scope.nearest_name
    if path.origin == "index":
        return lambda scope: ABSENT if scope.index is None else scope.index
    if path.origin == "column":
        return lambda scope: ABSENT if scope.column is None else scope.column
    if not path.around:
        return lambda scope: find(scope.value)

    def find_around(scope: Scope) -> Any:
        outer = go_out(scope, path.around)
        return ABSENT if outer is None else find(outer.value)

    return find_around


def go_out(scope: Scope, levels: int) -> Scope | None:
    """Return the scope so many levels around one, None if there are fewer."""
    outer: Scope | None = scope
    for _ in range(levels):
        outer = None if outer is None else outer.around
    return outer


def _within(steps: Sequence[str]) -> Callable[[Any], Any]:
    wholes = [".".join(steps[place:]) for place in range(len(steps))]
    if len(steps) > 1:
        return lambda value: _descend(value, steps, wholes)
    return lambda value: value.get(steps[0], ABSENT) if type(value) is dict else _descend(value, steps, wholes)


def descend(value: Any, steps: Sequence[str]) -> Any:
    """Follow the steps down; where the steps left are one field with points in its name, that is it.

    A text on the way is read as JSON, as bridges from MQTT send what they have received.
    """
    return _descend(value, steps, [".".join(steps[place:]) for place in range(len(steps))])


def _descend(value: Any, steps: Sequence[str], wholes: Sequence[str]) -> Any:
    for step, whole in zip(steps, wholes, strict=True):
        if type(value) is str:
            value = opened(value)
        if type(value) is dict:
            if whole in value:
                return value[whole]
            value = value.get(step, ABSENT)
        elif type(value) is list:
            at = place_in_list(step)
            value = ABSENT if at is None or at >= len(value) else value[at]
        else:
            return ABSENT
    return value


def opened(value: Any) -> Any:
    """Return the object or array that a text is in JSON, and anything else as it is."""
    return _open(value) if type(value) is str and value.lstrip(" \t\r\n").startswith(("{", "[")) else value


@lru_cache(maxsize=2)
def _open(text: str) -> Any:
    """Decode a text, or return it if it is no JSON; kept, because every element of a message may look into one."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return text


def _text(content: bytes) -> Any:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return ABSENT
