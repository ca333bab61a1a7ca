"""Why a part of a message that a path names is not there, in the words of whoever must mend the mapping."""

from collections.abc import Sequence
from typing import Any

from pipeline.fields import Path
from pipeline.messages.lookup import Scope, descend, go_out
from pipeline.messages.unreadable import Fault, describe, explain_shape
from pipeline.records import Kind
from pipeline.visible import shown


def explain_absence(path: Path, setting: str, scope: Scope) -> Fault:
    """Say that a path leads nowhere, what is where it ends, and which setting names it."""
    if path.origin == "field":
        return Fault(Kind.FIELD, f"not an event: {_explain_field(path, setting, scope)}")
    return Fault(Kind.FIELD, f"not an event: no {shown(path.text)}: {_explain_record(path, scope)}")


def _explain_record(path: Path, scope: Scope) -> str:
    record = scope.record
    if path.origin == "name":
        return "the elements are in an array, and $index is their place there"
    if path.origin == "header":
        names = ", ".join(dict.fromkeys(record.headers))
        return f"the record has the headers {shown(names)}" if names else "the record has no headers"
    if path.origin == "timestamp":
        return "the record has no time"
    if not path.steps:
        return "the record has no key that is text in UTF-8"
    found = record.key_value()
    return f"the key has {_names(found)}" if isinstance(found, dict) else "the key is no JSON object"


def _explain_field(path: Path, setting: str, scope: Scope) -> str:
    outer = go_out(scope, path.around)
    if outer is None:
        return f"no field {shown(path.text)}: there is no object around; set {setting}"
    if not isinstance(outer.value, dict | list):
        if outer.index is None:
            return explain_shape(outer.value)
        advice = f"set {setting} to $value if that is it"
        return f"no field {shown(path.text)}: the element is {describe(outer.value)}; {advice}"
    reached = next(
        size
        for size in range(len(path.steps) - 1, -1, -1)
        if isinstance(descend(outer.value, path.steps[:size]), dict | list)
    )
    within = descend(outer.value, path.steps[:reached])
    above = ".".join(path.steps[:reached])
    what = shown(above) if above else _name_object(outer)
    found = path.steps[reached : reached + 1]
    if reached + 1 < len(path.steps) and isinstance(within, dict) and found[0] in within:
        return (
            f"no field {shown(path.text)}: {shown('.'.join(path.steps[: reached + 1]))} is "
            f"{describe(within[found[0]])}; set {setting} if it is elsewhere"
        )
    return f"no field {shown(path.text)}; {what} has {_names(within)}; set {setting} if it is elsewhere"


def _name_object(scope: Scope) -> str:
    if scope.index is not None:
        return "the element"
    return "the message" if scope.around is None else "it"


def _names(found: Any) -> str:
    if isinstance(found, list):
        return f"{len(found)} elements"
    names: Sequence[str] = [str(name) for name in found]
    return shown(", ".join(names)) if names else "no fields"
