"""Avro schemas made fit for messages that anybody may have written.

fastavro's reader in C follows a schema that holds itself as deep as a message says, and ends the process when the stack
is full; for such a schema its reader in Python is taken, which raises. An array of elements that take no bytes may have
2**63 of them in ten bytes; its schema is refused.
"""

import json
from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from pipeline.formats.schemas import BadSchema
from pipeline.formats.values import decimal_of, text_of
from pipeline.grid.times import EPOCH
from pipeline.messages.lookup import Moment

DAY = 86_400_000_000
MOST_DEPTH = 100
PREFIX = "tidecast-"
"""Of the logical types that fastavro reads by these functions instead of its own."""
TOP = "tidecast_value"
"""The field that a schema which is no record is put into, which changes no byte."""
Read = Callable[[Any, Any, Any], Any]


@dataclass(slots=True)
class Prepared:
    """A schema for fastavro, whether it holds itself, and whether it was put into a record."""

    schema: dict[str, Any]
    recursive: bool
    wrapped: bool


def prepare(text: str, references: Mapping[str, str]) -> Prepared:
    """Make a schema fit; `references` are the schemas that it names, by name. BadSchema for one that is not."""
    walk = _Walk({name: _parse(own) for name, own in references.items()})
    try:
        schema = walk.visit(_parse(text), "", 0)
    except (TypeError, AttributeError, KeyError, RecursionError) as error:
        raise BadSchema("it is no schema of Avro") from error
    record = isinstance(schema, dict) and schema.get("type") == "record"
    if record:
        return Prepared(schema, walk.recursive, wrapped=False)
    top = {"type": "record", "name": TOP, "fields": [{"name": TOP, "type": schema}]}
    return Prepared(top, walk.recursive, wrapped=True)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()  # a name, as "string" without quotes


@dataclass(slots=True)
class _Walk:
    """Goes over a schema once; names are written out in full where they are first used."""

    references: Mapping[str, Any]
    recursive: bool = False
    inside: set[str] = field(default_factory=set)
    empty: dict[str, bool] = field(default_factory=dict)

    def visit(self, schema: Any, space: str, depth: int) -> Any:
        if depth > MOST_DEPTH:
            raise BadSchema(f"it is nested more than {MOST_DEPTH} deep")
        if isinstance(schema, list):
            return [self.visit(own, space, depth + 1) for own in schema]
        if isinstance(schema, str):
            return self._name(schema, space, depth)
        kind = schema["type"]
        if isinstance(kind, dict | list):
            return self.visit(kind, space, depth + 1)
        if kind in ("record", "error", "enum", "fixed"):
            return self._named(schema, kind, space, depth)
        if kind == "array":
            items = self.visit(schema["items"], space, depth + 1)
            if self._takes_none(items, space):
                raise BadSchema("it has an array of elements that take no bytes")
            return {"type": "array", "items": items}
        if kind == "map":
            return {"type": "map", "values": self.visit(schema["values"], space, depth + 1)}
        found = self._name(kind, space, depth)
        return found if isinstance(found, dict) and "name" in found else _primitive(kind, schema, found)

    def _name(self, name: str, space: str, depth: int) -> Any:
        if name in PRIMITIVES:
            return {"type": "bytes", "logicalType": f"{PREFIX}bytes"} if name == "bytes" else name
        full = _full(name, space)
        if full in self.inside:
            self.recursive = True
        elif full not in self.empty and full in self.references:
            return self.visit(self.references[full], space, depth + 1)
        elif full not in self.empty and name in self.empty | dict(self.references):  # a name without a namespace
            return name if name in self.empty else self.visit(self.references[name], space, depth + 1)
        return full

    def _named(self, schema: Mapping[str, Any], kind: str, space: str, depth: int) -> Any:
        full = _full(schema["name"], schema.get("namespace", space))
        kept = {name: schema[name] for name in ("aliases", "symbols", "size", "default") if name in schema}
        made = {"type": kind, "name": full, **kept}
        if kind in ("enum", "fixed"):
            self.empty[full] = kind == "fixed" and schema["size"] == 0
            return made if kind == "enum" else made | _logical("fixed", schema, plain="bytes")
        inner = full.rpartition(".")[0]
        self.empty[full] = False
        self.inside.add(full)
        fields = [{**own, "type": self.visit(own["type"], inner, depth + 1)} for own in schema["fields"]]
        self.inside.discard(full)
        self.empty[full] = all(self._takes_none(own["type"], inner) for own in fields)
        return made | {"fields": fields} | _logical("record", schema)

    def _takes_none(self, schema: Any, space: str) -> bool:
        if isinstance(schema, dict):
            kind = schema["type"]
            return kind == "null" or bool(self.empty.get(schema.get("name", "")))
        return schema == "null" or (isinstance(schema, str) and bool(self.empty.get(_full(schema, space))))


PRIMITIVES = frozenset(("null", "boolean", "int", "long", "float", "double", "bytes", "string"))


def _full(name: str, space: str) -> str:
    return name if "." in name or not space else f"{space}.{name}"


def _primitive(kind: str, schema: Mapping[str, Any], plain: Any) -> Any:
    own = _logical(kind, schema)
    return {"type": kind} | own if own else plain


def _logical(kind: str, schema: Mapping[str, Any], plain: str | None = None) -> dict[str, Any]:
    """Return what a type means, by its logical type or by the name that Kafka Connect gave it."""
    connect = schema.get("connect.name")
    meant = next((name for name in (schema.get("logicalType"), connect) if f"{kind}-{PREFIX}{name}" in READS), plain)
    return {"logicalType": f"{PREFIX}{meant}", "scale": schema.get("scale", 0)} if meant else {}


def register(reads: dict[str, Read]) -> None:
    """Give fastavro the functions that read logical types, under names that only our schemas use."""
    reads.update(READS)


def _count(numerator: int, denominator: int = 1) -> Read:
    return lambda value, _, __: Moment(value * numerator // denominator)


def _local(unit: int) -> Read:
    def read(value: int, _: Any, __: Any) -> str:
        try:
            return (EPOCH + timedelta(microseconds=value * unit)).replace(tzinfo=None).isoformat()
        except OverflowError:
            return f"{value} in local time"

    return read


def _decimal(value: bytes, schema: Mapping[str, Any], _: Any) -> float | str:
    scale = schema["scale"]
    return decimal_of(value, scale if type(scale) is int else 0)


def _uuid(value: bytes, _: Any, __: Any) -> str:
    return str(UUID(bytes=value)) if len(value) == 16 else text_of(value)


def _variable_decimal(value: dict[str, Any], _: Any, __: Any) -> Any:
    try:
        return decimal_of(b64decode(value["value"], validate=True), value["scale"])
    except (NoBase64, KeyError, TypeError):
        return value


READS: dict[str, Read] = {
    f"{kind}-{PREFIX}{name}": read
    for kind, name, read in (
        ("long", "timestamp-millis", _count(1_000)),
        ("long", "timestamp-micros", _count(1)),
        ("long", "timestamp-nanos", _count(1, 1_000)),
        ("long", "local-timestamp-millis", _local(1_000)),
        ("long", "local-timestamp-micros", _local(1)),
        ("int", "date", _count(DAY)),
        ("bytes", "decimal", _decimal),
        ("fixed", "decimal", _decimal),
        ("fixed", "uuid", _uuid),
        ("bytes", "bytes", lambda value, _, __: text_of(value)),
        ("fixed", "bytes", lambda value, _, __: text_of(value)),
        ("long", "org.apache.kafka.connect.data.Timestamp", _count(1_000)),
        ("int", "org.apache.kafka.connect.data.Date", _count(DAY)),
        ("long", "io.debezium.time.Timestamp", _count(1_000)),
        ("long", "io.debezium.time.MicroTimestamp", _count(1)),
        ("long", "io.debezium.time.NanoTimestamp", _count(1, 1_000)),
        ("int", "io.debezium.time.Date", _count(DAY)),
        ("record", "io.debezium.data.VariableScaleDecimal", _variable_decimal),
    )
}
