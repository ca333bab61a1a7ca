"""docs/reference/settings.md: every key, from the pydantic models and the docstring below each of their attributes."""

import ast
import inspect
import json
import types
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from pipeline.settings import Settings, parse_seconds
from pipeline.settings.address import parse_address
from pipeline.settings.challengers import COMMON
from pipeline.settings.removed import REMOVED
from pipeline.settings.values import _check_skew, parse_day, parse_keeping, parse_off, parse_phase
from tests.reference.tables import code, page, table

EXPERT = "Expert: "
HEADS = ("key", "type", "default", "meaning")
OFF = {parse_off, parse_keeping, parse_address, parse_day}
WORDS = {
    parse_seconds: "duration",
    parse_keeping: "duration",
    parse_address: "host:port",
    parse_day: "date",
    parse_phase: "duration or `auto`",
    _check_skew: "duration or `N steps`",
}
DURATIONS = {parse_seconds, parse_keeping}
PLAIN = {
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    str: "text",
    Path: "file",
    SecretStr: "secret",
}
UNITS = ((86_400, "day", "days"), (3_600, "h", "h"), (60, "min", "min"))
INTRODUCTION = """\
Settings come from `tidecast.toml`, then from `TIDECAST_TABLE__KEY` in the environment, then from
`tidecast --set table.key=value`. An unknown key is an error. `tidecast config show` writes what is in force,
`tidecast config check` says what is wrong.
A duration is a number of seconds, or text such as `"10 min"`, `"2h"` or `"1 day"`. A default of `-` is none.

The second table of a section holds its expert keys: their defaults fit nearly every deployment.
"""
REMOVED_KEYS = (
    "These were settings once. A deployment that still sets one starts, each command says so on stderr, and the value "
    "has no effect."
)


def write() -> str:
    """Write the page."""
    parts = [INTRODUCTION]
    for section, field in Settings.model_fields.items():
        model = field.annotation
        parts.append(f"## [{section}]")
        parts += [_challengers()] if section == "challengers" else list(_section(section, model))
    return page("Settings", *parts, "## Removed keys", REMOVED_KEYS, list_removed())


def list_removed() -> str:
    """Table of what happens now that a key is gone."""
    return table(("key", "now"), sorted((code(key), now) for key, now in REMOVED.items()))


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Read the docstring below each attribute of a model; ValueError for a key that has none."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(model)).body if isinstance(node, ast.ClassDef))
    found = {}
    for node, following in pairwise(body):
        match node, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
    for name in model.model_fields:
        if name not in found:
            raise ValueError(f"{model.__name__}.{name} has no meaning: write a docstring below the attribute")
    return found


def _section(section: str, model: Any) -> Iterator[str]:
    texts = meanings(model)
    yield inspect.cleandoc(model.__doc__)
    rows: dict[bool, list[tuple[str, str, str, str]]] = {False: [], True: []}
    for name, field in model.model_fields.items():
        expert = texts[name].startswith(EXPERT)
        meaning = texts[name].removeprefix(EXPERT)
        rows[expert].append((code(f"{section}.{name}"), describe(field), _default(name, field), meaning))
    yield table(HEADS, rows[False])
    if rows[True]:
        yield f"Expert keys of `[{section}]`:"
        yield table(HEADS, rows[True])


def _challengers() -> str:
    common = ", ".join(code(name) for name in sorted(COMMON))
    return (
        "`[challengers.NAME]` names a model that a retraining fits beside others. It takes any key of `[model]` and "
        f"`[training]` without its table's name, except those that are the same for all: {common}. A key that it "
        "leaves away is as in these tables."
    )


def describe(field: FieldInfo) -> str:
    """Say in words what may be written for a key."""
    annotation: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return _describe(annotation)


def _describe(annotation: Any) -> str:
    marks = list(_marks(annotation))
    readers = {mark.func for mark in marks if isinstance(mark, BeforeValidator)}
    kind = _bare(annotation)
    said = next((words for reader, words in WORDS.items() if reader in readers), None) or _words_of(kind)
    if parse_off in readers and kind is str:
        said = "cron expression, interval"
    limits = [] if parse_phase in readers else list(_limits(marks, readers))
    off = ["`off`"] if readers & OFF else []
    return ", ".join([" or ".join([said, *off]), *limits])


def _marks(annotation: Any) -> Iterator[Any]:
    """Yield every validator and limit, also those within an optional type."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _marks(inner[0])
        for mark in inner[1:]:
            yield from mark.metadata if isinstance(mark, FieldInfo) else [mark]
    elif origin in (Union, types.UnionType):
        for each in inner:
            yield from _marks(each)


def _bare(annotation: Any) -> Any:
    """Return the type beneath annotations and beside None."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _bare(inner[0])
    if origin in (Union, types.UnionType):
        return next(_bare(each) for each in inner if each is not type(None))
    return annotation


def _words_of(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(code(str(word)) for word in inner)
    if origin is tuple and inner[-1] is ...:
        return f"list of {_plural(_describe(inner[0]))}"
    if origin is tuple:
        return f"list of {len(inner)} {_plural(_describe(inner[0]))}"
    if origin is dict:
        return f"table of {_plural(_describe(inner[1]))}"
    return PLAIN[kind]


def _plural(words: str) -> str:
    noun, comma, rest = words.partition(",")
    return words if words.startswith("`") else f"{noun}s{comma}{rest}"


def _limits(marks: list[Any], readers: set[Any]) -> Iterator[str]:
    """Say each limit; those of durations with their unit."""

    def spell(value: Any) -> str:
        return duration(value) if readers & DURATIONS and value else f"{value:,}" if value >= 10_000 else str(value)

    for mark in marks:
        if isinstance(mark, annotated_types.Ge):
            yield f"{spell(mark.ge)} or more"
        elif isinstance(mark, annotated_types.Gt) and not readers & DURATIONS:
            yield f"above {spell(mark.gt)}"
        elif isinstance(mark, annotated_types.Le):
            yield f"{spell(mark.le)} at most"
        elif isinstance(mark, annotated_types.Lt):
            yield f"below {spell(mark.lt)}"
        elif isinstance(mark, annotated_types.MaxLen):
            yield f"{mark.max_length} at most"


def duration(seconds: float) -> str:
    """Spell seconds as a person writes them; reading it again gives the same."""
    unit, one, many = next((each for each in UNITS if seconds >= each[0] and seconds % each[0] == 0), (1, "s", "s"))
    count = seconds / unit
    text = f"{count:g} {one if count == 1 else many}"
    assert parse_seconds(text) == seconds, text
    return text


def _default(name: str, field: FieldInfo) -> str:
    if name == "instance":
        return "the host's name and `-0`"
    annotation: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    readers = {mark.func for mark in _marks(annotation) if isinstance(mark, BeforeValidator)}
    value = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if parse_phase in readers:
        value = "auto" if value is None else value
    elif value is None:
        return code('"off"') if readers & OFF else ""
    elif readers & DURATIONS:
        value = duration(value)
    elif _check_skew in readers:
        value = str(value)
    return code(json.dumps(value))
