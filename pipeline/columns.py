"""Records whose fields are columns: select rows of one, join several. A column more needs no line here.

Arrays and sequences are columns, of one row a fact. Any other field belongs to the whole record.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Record = TypeVar("Record", bound=DataclassInstance)
else:
    Record = TypeVar("Record")


def concat(parts: Sequence[Record]) -> Record:
    """Join records in the order given, of which there must be one; fields that are no columns are the first one's."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return replace(first, **{name: _join([getattr(part, name) for part in parts]) for name in _names(first)})


def take(record: Record, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Record:
    """Select rows by index or mask, in the order given."""
    index: NDArray[np.int64] = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64, copy=False)
    return replace(record, **{name: _take(getattr(record, name), index) for name in _names(record)})


def _names(record: Any) -> list[str]:
    return [field.name for field in fields(record) if _is_column(getattr(record, field.name))]


def _is_column(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (isinstance(value, Sequence) and not isinstance(value, str | bytes))


def _join(columns: list[Any]) -> Any:
    if isinstance(columns[0], np.ndarray):
        return np.concatenate(columns)
    return list(chain.from_iterable(columns))


def _take(column: Any, index: NDArray[np.int64]) -> Any:
    if isinstance(column, np.ndarray):
        return column[index]
    return [column[at] for at in index.tolist()]
