"""Values that JSON does not have, as the mapping reads them."""

from base64 import b64encode
from datetime import datetime, timedelta
from typing import Any

from pipeline.grid.times import EPOCH
from pipeline.messages.lookup import Moment

MICROSECOND = timedelta(microseconds=1)
MOST_SCALE = 400
"""Digits after the point of a decimal: more than any float has."""
MOST_DECIMAL = 64
"""Bytes of a decimal."""


def text_of(content: bytes) -> str:
    """Write bytes in base64, as Kafka Connect and Protobuf write them in JSON."""
    return b64encode(content).decode()


def moment_of(time: datetime) -> Moment:
    """Return a time with an offset."""
    return Moment((time - EPOCH) // MICROSECOND)


def decimal_of(content: bytes, scale: int) -> float | str:
    """Return the number that a decimal's big-endian bytes are; what is beyond any float stays bytes, in base64."""
    if len(content) > MOST_DECIMAL or not 0 <= scale <= MOST_SCALE:
        return text_of(content)
    try:
        return float(int.from_bytes(content, "big", signed=True) / 10**scale)
    except OverflowError:
        return text_of(content)


def plain(value: Any) -> Any:
    """Return a decoded value with bytes, times and names as JSON's mapping has them."""
    kind = type(value)
    if kind is dict:
        return {name if type(name) is str else str(name): plain(own) for name, own in value.items()}
    if kind is list:
        return [plain(own) for own in value]
    if kind is bytes:
        return text_of(value)
    return moment_of(value) if kind is datetime else value
