"""Times in SQL: int microseconds since 1970 in UTC here, real timestamps there, exact in both directions.

PostgreSQL stores timestamptz. SQLite has no such type and stores text, 'YYYY-MM-DD HH:MM:SS' in UTC, followed by six
decimals when there are any: people can read it, SQLite's date functions accept it, and it sorts in time order.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import DateTime, String
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from pipeline.errors import Corrupt
from pipeline.grid.times import EPOCH
from pipeline.records import Ints

MICROSECOND = timedelta(microseconds=1)
FIRST = -62_135_596_800_000_000  # the first microsecond of year 1
LAST = 253_402_300_799_999_999  # the last one of year 9999


class Instant(TypeDecorator[int]):
    """A column of int microseconds UTC: timestamptz on PostgreSQL, sortable text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose text where there is no time type."""
        return dialect.type_descriptor(String() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        """Turn microseconds into what the driver takes."""
        if value is None:
            return None
        return to_text(value) if dialect.name == "sqlite" else to_datetime(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        """Turn what the driver returns into microseconds."""
        if value is None:
            return None
        return from_text(value) if dialect.name == "sqlite" else from_datetime(value)


def to_datetime(instant: int) -> datetime:
    """Return the aware datetime of microseconds; Corrupt outside years 1 to 9999."""
    if not FIRST <= instant <= LAST:
        raise Corrupt(f"time {instant} is outside years 1 to 9999: the decoder should have refused it")
    return EPOCH + timedelta(microseconds=int(instant))


def from_datetime(moment: datetime) -> int:
    """Return the microseconds of an aware datetime."""
    return (moment - EPOCH) // MICROSECOND


def to_text(instant: int) -> str:
    """Return 'YYYY-MM-DD HH:MM:SS[.ffffff]' in UTC."""
    return to_datetime(instant).replace(tzinfo=None).isoformat(sep=" ")


def from_text(text: str) -> int:
    """Return the microseconds of such a text."""
    return from_datetime(datetime.fromisoformat(text).replace(tzinfo=UTC))


def to_texts(instants: Ints) -> list[str]:
    """Turn a column of microseconds into texts; each distinct time is formatted once."""
    distinct, inverse = np.unique(instants, return_inverse=True)
    texts: NDArray[np.object_] = np.array([to_text(instant) for instant in distinct.tolist()], dtype=object)
    return texts[inverse.reshape(-1)].tolist() if len(distinct) else []


def from_texts(texts: Sequence[str]) -> Ints:
    """Turn a column of texts into microseconds; each distinct text is parsed once."""
    distinct = dict.fromkeys(texts)
    parsed = np.array(list(distinct), dtype="datetime64[us]").astype(np.int64)
    known = dict(zip(distinct, parsed.tolist(), strict=True))
    return np.fromiter(map(known.__getitem__, texts), np.int64, len(texts))
