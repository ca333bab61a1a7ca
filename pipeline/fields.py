"""How a setting names a part of a message. Only the grammar: `pipeline.messages.lookup` finds the parts.

    value                 a field of the object that is read
    payload.after.value   a field of objects within it; digits are a place in a list
    ^device               a field of the object around it; ^^device of the one around that
    $key, $key.id         the record's key, as text or a field of it
    $header.site          a header of the record
    $topic, $partition, $timestamp
    $value                the object itself, or an element of input.each that is none
    $name, $index         the name or place of an element of input.each
    $field                the field of input.values that is read
    type != 'reading'     a condition on a part
    {device}/{metric}     a template, where a text is wanted: paths in braces; {{ and }} are braces

A name is never split where it is a field as it is written: `payload.value` is first that very field. Other names that
begin with $ are fields.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Origin = Literal["field", "key", "header", "topic", "partition", "timestamp", "value", "name", "index", "column"]
WORDS: dict[str, Origin] = {
    "$key": "key",
    "$header": "header",
    "$topic": "topic",
    "$partition": "partition",
    "$timestamp": "timestamp",
    "$value": "value",
    "$name": "name",
    "$index": "index",
    "$field": "column",
}
EVERY = "*"
"""In place of a name: all of them."""
INDEX_DIGITS = 9
"""Of a place in a list, at most."""


_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_PIECE = re.compile(r"(?P<text>(?:\{\{|\}\}|[^{}])+)|\{(?P<path>[^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Path:
    """Where a part of a message is.

    `steps` are the names on the way down, and `around` the objects to go out of before. For a header the one step is
    its name.
    """

    text: str
    origin: Origin
    around: int
    steps: tuple[str, ...]

    @property
    def flat(self) -> bool:
        """Whether it is a field of the object itself, whatever the object holds."""
        return self.origin == "field" and not self.around and len(self.steps) == 1

    @property
    def inner(self) -> bool:
        """Whether it is a field of the object itself or of one within it."""
        return self.origin == "field" and not self.around


def parse_path(text: str) -> Path:
    """Read a path. Raises ValueError for what is none: an empty one, $header without a name, a $topic with fields."""
    if not text or not text.isprintable() or set(text) & {'"', "\\"}:
        raise ValueError(f"{text!r} cannot be a field: write a name without quotes, backslashes and line ends")
    word, dot, rest = text.partition(".")
    origin = WORDS.get(word)
    if origin is not None:
        return Path(text, origin, 0, _steps_of_record(text, origin, rest, dotted=bool(dot)))
    bare = text.lstrip("^")
    if not bare:
        raise ValueError(f"{text!r} names no field: write one behind the {'^' * len(text)}")
    return Path(text, "field", len(text) - len(bare), _steps(bare))


def _steps_of_record(text: str, origin: Origin, rest: str, *, dotted: bool) -> tuple[str, ...]:
    if origin == "header":
        if not rest:
            raise ValueError(f"{text!r} names no header: write $header.NAME")
        return (rest,)
    if origin == "key" and (rest or not dotted):
        return _steps(rest) if rest else ()
    if dotted:
        raise ValueError(f"{text!r} has no fields: write {text.partition('.')[0]}")
    return ()


def _steps(text: str) -> tuple[str, ...]:
    """Split at the points; a name with a point at an end, or two in a row, is one step."""
    steps = tuple(text.split("."))
    return steps if all(steps) else (text,)


def place_in_list(step: str) -> int | None:
    """Return the place in a list that a step is, None for a name."""
    return int(step) if step.isascii() and step.isdigit() and len(step) <= INDEX_DIGITS else None


def is_template(text: str) -> bool:
    """Tell whether a text is a template, which has braces, and no path."""
    return "{" in text or "}" in text


def parse_template(text: str) -> tuple[str | Path, ...]:
    """Read a template: its texts, and the paths between them. Raises ValueError for what is none."""
    pieces: list[str | Path] = []
    at = 0
    while at < len(text):
        piece = _PIECE.match(text, at)
        if piece is None:
            raise ValueError(f"{text!r} has a single brace: write {{PATH}}, and {{{{ or }}}} for a brace itself")
        own = piece["text"]
        pieces.append(parse_path(piece["path"]) if own is None else own.replace("{{", "{").replace("}}", "}"))
        at = piece.end()
    return tuple(pieces)


def paths_in(text: str) -> tuple[Path, ...]:
    """List the paths of a template, or the one path that a text is."""
    if not is_template(text):
        return (parse_path(text),)
    return tuple(piece for piece in parse_template(text) if isinstance(piece, Path))


def parse_levels(text: str) -> tuple[Path, ...]:
    """Read what input.each names: the path of an array or object, and after each * the path within its elements."""
    groups: list[list[str]] = [[]]
    for step in text.split("."):
        if step == EVERY:
            groups.append([])
        else:
            groups[-1].append(step)
    return tuple(_inner(".".join(group)) for group in groups)


def parse_column(text: str) -> tuple[Path, bool]:
    """Read one of input.values: a path, and whether it means every number of the object there."""
    if text == EVERY or text.endswith(f".{EVERY}"):
        return _inner(text[: -len(EVERY)].removesuffix(".")), True
    return parse_path(text), False


def _inner(text: str) -> Path:
    """Read a path that begins in the object itself, which it is without a step."""
    path = parse_path(text or "$value")
    if not path.inner and path.origin != "value":
        raise ValueError(f"{text!r} cannot hold elements: write a path that begins in the message")
    return path


Plain = str | float | bool | None
_OPERATOR = re.compile(
    r"(?P<path>.+?)\s*(?P<operator>==|!=|<=|>=|<|>|\snot\s+in(?=[\s\[])|\sin(?=[\s\[]))\s*(?P<literal>.*)"
)
_WORDS: dict[str, Plain] = {"null": None, "true": True, "false": False}
ORDER = ("<", "<=", ">", ">=")


@dataclass(frozen=True, slots=True)
class Condition:
    """What a part of a message is compared with: one value, or several after `in` and `not in`."""

    path: Path
    operator: str
    values: tuple[Plain, ...]


def parse_condition(text: str) -> Condition:
    """Read a condition such as type != 'reading', op in ['t', 'm'], or quality < 192. Raises ValueError for none."""
    found = _OPERATOR.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"{text!r} is no condition: write PATH == VALUE, with !=, <, <=, >, >=, in [...] or not in [...]"
        )
    operator = " ".join(found["operator"].split())
    literal = found["literal"].strip()
    if operator in ("in", "not in"):
        if not (literal.startswith("[") and literal.endswith("]")):
            raise ValueError(f"{text!r}: write values in brackets behind {operator}, as ['a', 'b']")
        values = tuple(_values(text, literal[1:-1]))
    else:
        values = (_value(text, literal),)
    if operator in ORDER and (isinstance(values[0], bool | str) or values[0] is None):
        raise ValueError(f"{text!r}: write a number behind {operator}")
    return Condition(parse_path(found["path"].strip()), operator, values)


def _values(text: str, inside: str) -> Iterator[Plain]:
    rest = inside.strip()
    while rest:
        end = rest.find(rest[0], 1) + 1 if rest[0] in "'\"" else rest.find(",") if "," in rest else len(rest)
        yield _value(text, rest[:end].strip())
        rest = rest[end:].strip()
        if rest and not rest.startswith(","):
            raise ValueError(f"{text!r}: write commas between the values")
        rest = rest[1:].strip()


def _value(text: str, literal: str) -> Plain:
    if len(literal) > 1 and literal[0] in "'\"" and literal[-1] == literal[0] and literal[0] not in literal[1:-1]:
        return literal[1:-1]
    if literal in _WORDS:
        return _WORDS[literal]
    if _NUMBER.fullmatch(literal):
        return float(literal)
    raise ValueError(f"{text!r}: {literal!r} is no value; write a text in single quotes, a number, true, false or null")
