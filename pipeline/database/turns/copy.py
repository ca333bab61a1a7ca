"""PostgreSQL's binary COPY format, encoded by NumPy in one go: every row of a batch has the same width.

A row is int16 field count, then per field int32 size and the bytes, all big-endian; NULL is size -1 without bytes. So
rows are fixed-width as long as a batch agrees on which fields are NULL and on its texts; callers split by those.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Ints

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)  # signature, no flags, no extension
TRAILER = b"\xff\xff"

Field = NDArray[Any] | bytes | None
"""One value per row (int32, int64 or float64 array, bytes as a uint8 array with an axis more), the same text for all
rows (bytes), or NULL for all rows."""

_WIRE = {"int32": ">i4", "int64": ">i8", "float64": ">f8"}
_EPOCH_2000 = 946_684_800_000_000  # microseconds from 1970 to 2000, where PostgreSQL counts from


def encode(shape: tuple[int, ...], fields: Sequence[Field]) -> bytes:
    """Encode rows, without header and trailer, in C order of `shape`.

    An array broadcasts to `shape`; one of uint8 has a dimension more, the bytes of a field.
    """
    layout = [("count", np.dtype(">i2")), *((str(index), _cell(field)) for index, field in enumerate(fields))]
    rows = np.empty(shape, np.dtype(layout))
    rows["count"] = len(fields)
    for index, field in enumerate(fields):
        column = rows[str(index)]
        if field is None:
            column[...] = -1
        elif isinstance(field, bytes):
            column["size"] = len(field)
            column["value"] = np.frombuffer(field, np.uint8)
        elif field.dtype == np.uint8:
            column["size"] = field.shape[-1]
            column["value"] = field
        else:
            column["size"] = field.dtype.itemsize
            column["value"] = field
    return rows.tobytes()


def stream(batches: Iterable[bytes]) -> Iterator[bytes]:
    """Wrap encoded batches into one COPY stream, a batch at a time."""
    yield HEADER
    yield from batches
    yield TRAILER


def timestamps(instants: Ints) -> Ints:
    """Turn microseconds since 1970 into timestamptz values: microseconds since 2000."""
    return instants - _EPOCH_2000


def vector(sent: bytes, wire: str) -> NDArray[Any]:
    """Decode what array_send() gives for a one-dimensional array without NULLs; `wire` is a big-endian dtype.

    The format: int32 dimensions, has-NULL flag, element type, length, lower bound; then size and bytes per element.
    """
    cells = np.frombuffer(sent, np.dtype([("size", ">i4"), ("value", wire)]), offset=20)
    return cells["value"].astype(np.dtype(wire).newbyteorder("="))


def instants(sent: bytes) -> Ints:
    """Decode an array of timestamptz to microseconds since 1970."""
    decoded: Ints = vector(sent, ">i8") + _EPOCH_2000
    return decoded


def _cell(field: Field) -> np.dtype[Any]:
    if field is None:
        return np.dtype(">i4")
    if isinstance(field, bytes):
        return np.dtype([("size", ">i4"), ("value", "u1", (len(field),))])
    if field.dtype == np.uint8:
        return np.dtype([("size", ">i4"), ("value", "u1", (field.shape[-1],))])
    return np.dtype([("size", ">i4"), ("value", _WIRE[field.dtype.name])])
