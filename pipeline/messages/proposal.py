"""A mapping for messages that nobody has described: what in them looks like a name, a time and numbers.

A guess for a person to read, from names of fields and kinds of values. Nothing here decides anything.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from pipeline.grid.times import AUTO, OUTSIDE, number_reader, read_local, read_text, read_written
from pipeline.messages.lookup import Moment, opened
from pipeline.messages.unwrap import convert

DEPTH = 5
MOST_FIELDS = 20
NUMBER_KINDS = (int, float)
UNNAMED = frozenset('.*{}"\\')
"""Characters of names that no path can hold."""
UNIQUE = 5
"""So many values that are all different name messages, and not what they are of."""
TIMES = ("timestamp", "timeunixnano", "sourcetimestamp", "time", "ts", "ts_ms", "at", "date", "$date", "received_at")
DEVICES = ("deviceid", "device_id", "devicename", "deveui", "clientid", "device", "sensor", "meter", "tagname", "tag")
OTHERS = ("host", "src", "source", "serial", "name", "metric", "n", "id", "s", "slave", "address", "logger")
NAMES = ("series_id", "entity_id", *DEVICES, *OTHERS, "assetid", "propertyid")
VALUES = ("value", "v", "val", "reading", "state", "asdouble", "doublevalue", "kwh", "$numberdecimal")
INTERVALS = ("interval", "step", "resolution", "period")
BESIDE = ("rssi", "snr", "seq", "offset", "version", "qos", "port", "f_port", "fport", "battery", "linkquality", "xid")
"""Names of numbers that say something of the message, and nothing that one would forecast."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part of messages that is no object: its path, and the values that it has in them."""

    path: str
    values: tuple[Any, ...]

    @property
    def name(self) -> str:
        """The last step of the path, in small letters."""
        return self.path.lstrip("^").rpartition(".")[2].casefold()

    def rank(self, names: Sequence[str]) -> int:
        """Return the place of its name in a list, or of a name that it ends in; behind the list if it has none."""
        exact = next((i for i, each in enumerate(names) if self.name == each), None)
        ends = (i for i, each in enumerate(names) if len(each) > 2 and self.name.endswith(each))
        return exact if exact is not None else len(names) + next(ends, len(names))


def propose(messages: Sequence[Any], *, keyed: bool) -> dict[str, Any]:
    """Propose settings of [input] for decoded messages, of which there are some; `keyed`: they have texts as keys."""
    envelope, rows, around = _unwrap(messages)
    found: dict[str, Any] = {} if envelope == "none" else {"envelope": envelope}
    each, elements, outer = _elements(rows)
    leaves = list(_leaves(elements))
    beside = [Leaf(f"^{leaf.path}", leaf.values) for leaf in _leaves(outer if each else around)]
    if each:
        found["each"] = each
    time = _time(leaves) or _time(beside)
    found["timestamp"] = time.path if time else "$timestamp"
    if time and any(isinstance(value, str) and _is_local(value) for value in time.values):
        found["timezone"] = "UTC"
    numbers, lenient = _numbers(leaves, time)
    names = [leaf.path for leaf in _names(leaves, numbers, time)] + [leaf.path for leaf in _names(beside, [], time)]
    if each and _in_objects(each, rows):
        names.append("$name")
    if each and not isinstance(elements[0], dict | list):
        found["value"] = "$value"
        if interval := next((leaf.path for leaf in beside if leaf.name in INTERVALS), None):
            found["interval"] = interval
        names = [leaf.path for leaf in _names(beside, [], time)]
    elif len(numbers) == 1:
        found["value"] = numbers[0].path
    elif numbers:
        found["values"] = _columns(numbers)
        names = [*names, "$field"]
    if lenient:
        found["lenient"] = True
    found["series_id"] = _template(names, keyed=keyed)
    return found


def _unwrap(messages: Sequence[Any]) -> tuple[str, list[Any], list[Any]]:
    """Return the envelope, the rows in it, and what is around the rows in the envelope."""
    whole = [message for message in messages if isinstance(message, dict)]
    if whole and all("payload" in each and "schema" in each for each in whole):
        inner = [convert(each["schema"], each["payload"]) for each in whole]
        whole = [each for each in inner if isinstance(each, dict)]
        if not whole or not all("op" in each for each in whole):
            return "connect", whole, []
    if whole and all("op" in each and "after" in each for each in whole):
        rows = [each["after"] for each in whole if isinstance(each["after"], dict)]
        around = [{name: own for name, own in each.items() if name not in ("after", "before")} for each in whole]
        return "debezium", rows, around
    return "none", list(messages), []


def _elements(rows: Sequence[Any]) -> tuple[str, list[Any], list[Any]]:
    """Return the path of what holds the elements ("" if rows are readings), the elements, and the objects around."""
    path, holders, outer = "", list(rows), list(rows)
    while len(path) < 200:
        step = _container(holders)
        if step is None:
            break
        outer = [holder for holder in holders if _inside(holder, step) is not None]
        holders = [own for holder in outer for own in _each_of(_inside(holder, step))]
        path = ".".join(part for part in (path and f"{path}.*", step) if part) or "$value"
        if not holders or not any(isinstance(holder, dict | list) for holder in holders):
            break
        if path == "$value" and all(isinstance(holder, list) for holder in holders):
            path = "*"
            holders = [own for holder in holders for own in holder]
            break
    return path, holders or list(rows), outer


def _container(holders: Sequence[Any]) -> str | None:
    """Return the path of the array that most of these have, "" for themselves, None if there is none."""
    if holders and all(isinstance(holder, list) for holder in holders):
        pairs = all(holder and not any(isinstance(own, dict | list) for own in holder) for holder in holders)
        return None if pairs else ""
    lists = [holder for holder in holders if isinstance(holder, dict) and _lists_only(holder)]
    if holders and len(lists) == len(holders) and len({name for holder in lists for name in holder}) > 1:
        return ""
    counts: Counter[str] = Counter()
    for holder in holders:
        counts.update({path for path, value in _walk(holder) if _holds_elements(path, value)})
    if not counts:
        return None
    path, count = min(counts.items(), key=lambda item: (-item[1], len(item[0])))
    return path if 2 * count >= len(holders) else None


def _holds_elements(path: str, value: Any) -> bool:
    if isinstance(value, list):
        return bool(path and value) and (all(isinstance(each, dict) for each in value) or _are_numbers(value))
    keyed = isinstance(value, dict) and bool(path) and len(value) > 0
    return keyed and all(isinstance(each, dict) and {"Value", "value"} & each.keys() for each in value.values())


def _are_numbers(values: Sequence[Any]) -> bool:
    return len(values) > 1 and all(value is None or type(value) in NUMBER_KINDS for value in values)


def _lists_only(holder: Mapping[str, Any]) -> bool:
    return bool(holder) and all(isinstance(each, list) for each in holder.values())


def _inside(holder: Any, path: str) -> Any:
    return next((value for own, value in [("", holder), *_walk(holder)] if own == path), None)


def _each_of(container: Any) -> list[Any]:
    return list(container.values()) if isinstance(container, dict) else list(container)


def _in_objects(each: str, rows: Sequence[Any]) -> bool:
    """Tell whether elements have names: an object holds them, or those around them."""
    if each == "*":
        return any(isinstance(row, dict) for row in rows)
    holders = list(rows)
    for step in each.split(".*.") if each != "$value" else [""]:
        found = [inside for holder in holders if (inside := _inside(holder, step)) is not None]
        if any(isinstance(inside, dict) for inside in found):
            return True
        holders = [own for inside in found if isinstance(inside, dict | list) for own in _each_of(inside)]
    return False


def _walk(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield every part of a message within objects: its path and what it is."""
    value = opened(value)
    if path:
        yield path, value
    if isinstance(value, dict) and depth < DEPTH:
        for name, own in value.items():
            if name.isprintable() and not set(name) & UNNAMED and not name.startswith("^"):
                yield from _walk(own, f"{path}.{name}" if path else name, depth + 1)


def _leaves(rows: Sequence[Any]) -> Iterator[Leaf]:
    """Yield the parts that most rows have and that are no objects, in the order of the first row that has each."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        pairs = enumerate(row) if isinstance(row, list) else _walk(row)
        for path, value in pairs:
            if not isinstance(value, dict | list):
                found.setdefault(str(path), []).append(value)
    for path, values in found.items():
        if 2 * len(values) > len(rows) or len(found) <= MOST_FIELDS:
            yield Leaf(path, tuple(values))


def _time(leaves: Sequence[Leaf]) -> Leaf | None:
    fit = [leaf for leaf in leaves if all(_is_time(value) for value in leaf.values)]
    named = [leaf for leaf in fit if leaf.rank(TIMES) < 2 * len(TIMES) or "time" in leaf.name or _is_text(leaf)]
    texts = [leaf for leaf in leaves if leaf.name == "time" and any(_is_time(value) for value in leaf.values)]
    return min([*named, *texts], key=lambda leaf: leaf.rank(TIMES), default=None) or next(
        (leaf for leaf in fit if leaf.path == "0"), None
    )


def _is_text(leaf: Leaf) -> bool:
    return isinstance(leaf.values[0], str)


def _is_time(value: Any) -> bool:
    if isinstance(value, str):
        return read_written(value) != OUTSIDE or _is_local(value)
    return isinstance(value, Moment) or (type(value) in NUMBER_KINDS and number_reader(AUTO)(value) != OUTSIDE)


def _is_local(text: str) -> bool:
    return read_text(text) == OUTSIDE and ":" in text and read_local(text, UTC) != OUTSIDE


def _numbers(leaves: Sequence[Leaf], time: Leaf | None) -> tuple[list[Leaf], bool]:
    """Return what may be values, and whether they are numbers in quotes."""
    others = [leaf for leaf in leaves if leaf != time and leaf.name not in BESIDE and leaf.rank(TIMES) >= len(TIMES)]
    numeric = [leaf for leaf in others if all(value is None or type(value) in NUMBER_KINDS for value in leaf.values)]
    numeric = [leaf for leaf in numeric if any(value is not None for value in leaf.values)]
    most = max((len(leaf.values) for leaf in others), default=0)
    named = [leaf for leaf in others if leaf.name in VALUES and len(leaf.values) == most]
    if plain := [leaf for leaf in named if leaf in numeric]:
        return plain[:1], False
    quoted = [leaf for leaf in named if all(_is_number_text(value) for value in leaf.values)]
    if quoted:
        return quoted[:1], True
    free = [leaf for leaf in numeric if leaf.rank(NAMES) >= len(NAMES)]
    return (free or numeric)[:MOST_FIELDS], False


def _is_number_text(value: Any) -> bool:
    try:
        return value is None or (isinstance(value, str) and len(value) < MOST_FIELDS and float(value) is not None)
    except ValueError:
        return False


def _names(leaves: Sequence[Leaf], numbers: Sequence[Leaf], time: Leaf | None) -> list[Leaf]:
    fit = [leaf for leaf in leaves if leaf not in numbers and leaf != time and leaf.rank(NAMES) < len(NAMES)]
    fit = [leaf for leaf in fit if all((type(value) is str and value) or type(value) is int for value in leaf.values)]
    lasting = [leaf for leaf in fit if len(leaf.values) < UNIQUE or len(set(leaf.values)) < len(leaf.values)]
    return sorted(lasting or fit, key=lambda leaf: leaf.rank(NAMES))[:2]


def _columns(numbers: Sequence[Leaf]) -> list[str]:
    """Name the fields one by one, or together where they are all in one object of their own."""
    parents = {leaf.path.rpartition(".")[0] for leaf in numbers}
    parent = parents.pop()
    return [f"{parent}.*"] if not parents and parent else [leaf.path for leaf in numbers]


def _template(names: Sequence[str], *, keyed: bool) -> str:
    own = [name for name in dict.fromkeys(names) if name != "$field"]
    parts = own or (["$key"] if keyed else ["$topic"])
    parts = [*parts, "$field"] if "$field" in names else parts
    return parts[0] if len(parts) == 1 and parts[0].startswith("$") else "/".join(f"{{{name}}}" for name in parts)
