"""Decoders that read lines of JSON right into the parts of an event, several times as fast as a mapping does.

A flat event has its parts as fields of its object. A nested one has them within other objects, and no field anywhere on
the way whose name is what is left of the path, for that one would win: then the mapping reads it.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from pipeline.fields import parse_path, place_in_list
from pipeline.settings import InputSettings

Lines = Callable[[bytes], list[Any] | None]
"""Decodes lines into events, None if one of them is not read like this. Raises what msgspec raises."""
_ABSENT = object()
TIME = str | int | float
NUMBER = float | None


def part_types(settings: InputSettings) -> list[tuple[str, Any, str]]:
    """List the parts of an event: its attribute, its type, and the name or path in messages."""
    parts = [("series", str, settings.series_id), ("time", TIME, settings.timestamp), ("value", NUMBER, settings.value)]
    return parts + [(f"covariate_{i}", NUMBER, name) for i, name in enumerate(settings.covariates)]


def flat_decoder(settings: InputSettings) -> "msgspec.json.Decoder[Any]":
    """Make the decoder of a flat event.

    A covariate may be absent; one with points in its name may then still be within another field.
    """
    parts = part_types(settings)
    names = {own: name for own, _, name in parts}
    optional = {own for own, _, name in parts[3:] if "." not in name}
    fields: list[Any] = [(own, kind, None) if own in optional else (own, kind) for own, kind, _ in parts]
    return msgspec.json.Decoder(msgspec.defstruct("Event", fields, rename=names.get, gc=False, kw_only=True))


def nested_lines(settings: InputSettings) -> Lines | None:
    """Make the function that decodes nested events.

    None if no part is in another object, if a path has a place in a list, or if one goes on where another ends. A
    covariate may be absent where the object that it is in is there.
    """
    parts = part_types(settings)
    paths = [parse_path(name).steps for _, _, name in parts]
    if all(len(steps) == 1 for steps in paths):
        return None
    if any(place_in_list(step) is not None for steps in paths for step in steps):
        return None
    if any(one != other and other[: len(one)] == one for one in paths for other in paths):
        return None
    node = _Node()
    for (own, kind, _), steps in zip(parts, paths, strict=True):
        node.add(steps, kind, optional=own.startswith("covariate"))
    decode = msgspec.json.Decoder(node.struct()).decode_lines
    find = attrgetter(*(node.attribute(steps) for steps in paths))
    guards = node.guards()
    hide = _getter(guards)
    event = msgspec.defstruct("Event", [(own, Any) for own, _, _ in parts], gc=False)

    def read(lines: bytes) -> list[Any] | None:
        decoded = decode(lines)
        if guards and any(found is not _ABSENT for each in decoded for found in hide(each)):
            return None
        return [event(*find(each)) for each in decoded]

    return read


class _Node:
    """An object on the way to parts: its fields by name, and the names that would win over a path."""

    def __init__(self) -> None:
        self._leaves: dict[str, tuple[Any, bool]] = {}
        self._nodes: dict[str, _Node] = {}
        self._hidden: list[str] = []

    def add(self, steps: Sequence[str], kind: Any, *, optional: bool) -> None:
        """Add the way to a part."""
        if len(steps) == 1:
            self._leaves[steps[0]] = (kind, optional)
            return
        self._hidden.append(".".join(steps))
        self._nodes.setdefault(steps[0], _Node()).add(steps[1:], kind, optional=optional)

    def struct(self) -> Any:
        """Make the struct that an object is decoded into."""
        fields: list[Any] = [(f"node_{i}", node.struct()) for i, node in enumerate(self._nodes.values())]
        leaves = enumerate(self._leaves.values())
        fields += [(f"leaf_{i}", kind, None) if optional else (f"leaf_{i}", kind) for i, (kind, optional) in leaves]
        fields += [(f"hidden_{i}", Any, _ABSENT) for i in range(len(self._hidden))]
        named = {f"{what}_{i}": name for what, names in self._named() for i, name in enumerate(names)}
        return msgspec.defstruct("Object", fields, rename=named.get, gc=False, kw_only=True)

    def attribute(self, steps: Sequence[str]) -> str:
        """Return where in the struct a part is."""
        if len(steps) == 1:
            return f"leaf_{list(self._leaves).index(steps[0])}"
        place = list(self._nodes).index(steps[0])
        return f"node_{place}.{self._nodes[steps[0]].attribute(steps[1:])}"

    def guards(self) -> list[str]:
        """List where in the struct the fields are that would win over a path."""
        inner = [f"node_{i}.{own}" for i, node in enumerate(self._nodes.values()) for own in node.guards()]
        return [f"hidden_{i}" for i in range(len(self._hidden))] + inner

    def _named(self) -> list[tuple[str, Sequence[str]]]:
        return [("node", list(self._nodes)), ("leaf", list(self._leaves)), ("hidden", self._hidden)]


def _getter(attributes: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Make the function that returns these attributes, of one also as a tuple."""
    if not attributes:
        return lambda each: ()
    find = attrgetter(*attributes)
    return find if len(attributes) > 1 else lambda each: (find(each),)
