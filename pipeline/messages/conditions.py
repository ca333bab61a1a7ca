"""Which messages and elements are skipped: those for which a condition of input.skip holds.

A condition needs evidence: of a part that is not there only `== null` holds, and no other. So a message that lacks a
field is read, and becomes a dead letter if it lacks something.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pipeline.fields import Condition, Path, Plain, parse_condition
from pipeline.messages.lookup import ABSENT, Scope, getter, go_out
from pipeline.settings import InputSettings

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
OF_ELEMENTS = ("field", "value", "name", "index")
Holds = Callable[[Scope], bool]


@dataclass(frozen=True, slots=True)
class Skips:
    """The conditions of the settings, by what they are asked of.

    `at[depth]` are asked of a message (0), of what is on the way to its elements, and of an element (the last one);
    `column` of a field of input.values.
    """

    at: tuple[tuple[Holds, ...], ...]
    column: tuple[Holds, ...]

    @classmethod
    def of(cls, settings: InputSettings, levels: int) -> "Skips":
        """Make the conditions; paths of elements go out of so many `levels` to the message."""
        at: list[list[Holds]] = [[] for _ in range(levels + 1)]
        column = []
        for condition in map(parse_condition, settings.skip):
            path = condition.path
            if path.origin == "column":
                column.append(holds_of(condition))
                continue
            depth = max(0, levels - path.around) if path.origin in OF_ELEMENTS else 0
            outer = replace(path, around=path.around - (levels - depth)) if path.origin == "field" else path
            at[depth].append(holds_of(replace(condition, path=outer)))
        return cls(tuple(map(tuple, at)), tuple(column))


def any_holds(conditions: tuple[Holds, ...], scope: Scope) -> bool:
    """Tell whether one of the conditions holds."""
    return bool(conditions) and any(holds(scope) for holds in conditions)


def holds_of(condition: Condition) -> Holds:
    """Make the function that tells whether a condition holds in a scope."""
    find, wanted = getter(condition.path), condition.values
    if condition.operator in COMPARE:
        compare, bound = COMPARE[condition.operator], wanted[0]

        def is_beyond(scope: Scope) -> bool:
            found = find(scope)
            return type(found) in (int, float) and compare(found, bound)

        return is_beyond
    among = condition.operator in ("==", "in")
    lacking = among and None in wanted

    def is_among(scope: Scope) -> bool:
        found = find(scope)
        if found is ABSENT:
            return lacking and _is_object(scope, condition.path)
        return any(same(found, value) for value in wanted) is among

    return is_among


def _is_object(scope: Scope, path: Path) -> bool:
    """Tell whether the part could be there: a message that is no object has no fields to lack."""
    outer = go_out(scope, path.around)
    return path.origin != "field" or (outer is not None and type(outer.value) is dict)


def same(found: Any, wanted: Plain) -> bool:
    """Tell whether a value of JSON is the one that is wanted: true is not 1, and 1 is 1.0."""
    if type(wanted) is float:
        return type(found) in (int, float) and found == wanted
    return type(found) is type(wanted) and found == wanted
