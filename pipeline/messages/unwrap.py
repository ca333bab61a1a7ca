"""The envelopes of Kafka Connect and Debezium: what of a message is the row, and what the values in it mean.

    connect     {"schema": {...}, "payload": {...}}                      the payload
    debezium    {"before": ..., "after": {...}, "op": "c", ...}          what is after the change
                {"schema": {...}, "payload": {"before": ..., ...}}       the same, with the schema

A schema tells what numbers and texts are times and decimals; they become a Moment or a number.
"""

import binascii
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.messages.lookup import Moment, Record, Scope, opened
from pipeline.messages.unreadable import Fault, describe, explain_shape
from pipeline.records import Kind
from pipeline.visible import shown

DAY = 86_400_000_000
MOST_SCALE = 400
"""Digits after the point of a decimal: more than any float has."""
MOST_BYTES = 64
"""Of a decimal."""
KEPT, DELETED, PASSED = ("c", "u", "r"), "d", ("t", "m")
"""Operations of Debezium: a row is there, it is gone, and no row at all."""


class _Nothing:
    """The type of NOTHING."""

    def __repr__(self) -> str:
        return "NOTHING"


NOTHING = _Nothing()
"""In place of a row where a message tells of none: it is skipped."""
Unwrap = Callable[[Any, Record], Any]
"""Returns the Scope of a message's row, NOTHING, or a Fault."""


def unwrapper(envelope: str, *, refuse_deletes: bool) -> Unwrap:
    """Make the function that unwraps an envelope: none, connect or debezium."""

    def unwrap_none(value: Any, record: Record) -> Any:
        return Scope(value, record)

    def unwrap_connect(value: Any, record: Record) -> Any:
        if type(value) is not dict:
            return Fault(Kind.EVENT, f"not an event: {explain_shape(value)}")
        if "payload" not in value:
            return _no_envelope("payload", value, "connect")
        row = opened(convert(value.get("schema"), value["payload"]))
        return _deleted(refuse=refuse_deletes) if row is None else Scope(row, record)

    def unwrap_debezium(value: Any, record: Record) -> Any:
        if type(value) is dict and "payload" in value and "op" not in value:
            value = convert(value.get("schema"), value["payload"])
            if value is None:
                return _deleted(refuse=refuse_deletes)
        if type(value) is not dict:
            return Fault(Kind.EVENT, f"not an event: {explain_shape(value)}")
        if "op" not in value:
            return _no_envelope("op", value, "debezium")
        operation = value["op"]
        if operation == DELETED:
            return _deleted(refuse=refuse_deletes)
        if operation in PASSED:
            return NOTHING
        if operation not in KEPT:
            return Fault(Kind.FIELD, f"not an event: op is {describe(operation)}, and Debezium has c, u, r, d, t and m")
        return Scope(value.get("after"), record, Scope(value, record))

    return {"none": unwrap_none, "connect": unwrap_connect, "debezium": unwrap_debezium}[envelope]


def _deleted(*, refuse: bool) -> Any:
    return Fault(Kind.NULL, "the row was deleted, and input.tombstones refuses that") if refuse else NOTHING


def _no_envelope(name: str, value: Mapping[str, Any], envelope: str) -> Fault:
    names = shown(", ".join(map(str, value))) if value else "no fields"
    reason = f"no field {name}; the message has {names}; input.envelope is {envelope}, set it to what the topic has"
    return Fault(Kind.FIELD, f"not an event: {reason}")


def convert(schema: Any, value: Any) -> Any:
    """Return a value with its times and decimals as what the schema says they are; what it cannot say stays."""
    if value is None or type(schema) is not dict:
        return value
    meaning = schema.get("name")
    if type(meaning) is str and meaning in _LOGICAL:
        return _LOGICAL[meaning](value, schema)
    kind = schema.get("type")
    if kind == "struct" and type(value) is dict:
        fields = schema.get("fields")
        for own in fields if type(fields) is list else ():
            name = own.get("field") if type(own) is dict else None
            if type(name) is str and name in value:
                value[name] = convert(own, value[name])
    elif kind == "array" and type(value) is list:
        return [convert(schema.get("items"), each) for each in value]
    elif kind == "map" and type(value) is dict:
        return {name: convert(schema.get("values"), each) for name, each in value.items()}
    return value


def _time(numerator: int, denominator: int = 1) -> Callable[[Any, Mapping[str, Any]], Any]:
    """Read a count of numerator / denominator microseconds since 1970."""

    def read(value: Any, _: Mapping[str, Any]) -> Any:
        return Moment(value * numerator // denominator) if type(value) is int else value

    return read


def _decimal(value: Any, schema: Mapping[str, Any]) -> Any:
    parameters = schema.get("parameters")
    scale = parameters.get("scale") if type(parameters) is dict else None
    digits = scale if type(scale) is str and len(scale) < 5 and scale.lstrip("-").isdecimal() else "0"
    return _unscaled(value, int(digits) if digits.isascii() else 0)


def _variable_decimal(value: Any, _: Mapping[str, Any]) -> Any:
    if type(value) is not dict or type(value.get("scale")) is not int:
        return value
    number = _unscaled(value.get("value"), value["scale"])
    return value if type(number) is str else number


def _unscaled(value: Any, scale: int) -> Any:
    """Read the big-endian bytes in base64 of a decimal without its point; what is none stays."""
    if type(value) is not str or abs(scale) > MOST_SCALE or len(value) > 2 * MOST_BYTES:
        return value
    try:
        whole = int.from_bytes(b64decode(value, validate=True), "big", signed=True)
        return whole / 10**scale if scale >= 0 else float(whole * 10**-scale)
    except (binascii.Error, OverflowError, ValueError):
        return value


_LOGICAL: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "org.apache.kafka.connect.data.Timestamp": _time(1_000),
    "org.apache.kafka.connect.data.Date": _time(DAY),
    "org.apache.kafka.connect.data.Decimal": _decimal,
    "io.debezium.time.Timestamp": _time(1_000),
    "io.debezium.time.MicroTimestamp": _time(1),
    "io.debezium.time.NanoTimestamp": _time(1, 1_000),
    "io.debezium.time.Date": _time(DAY),
    "io.debezium.data.VariableScaleDecimal": _variable_decimal,
}
