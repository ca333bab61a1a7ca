"""Columns of a frame to arrays: times and numbers, or a ConfigError that names the data row, from 1 on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency
from pipeline.grid.stamps import Stamps, explain_cell, read_floats, read_stamps
from pipeline.grid.times import OUTSIDE, TimeRule
from pipeline.records import Floats, Ints, Mask

KNOWN = {"series_id": ("series_id", "unique_id"), "time": ("time", "timestamp", "ds"), "value": ("value", "y")}
"""Names that are looked for when none is given; a frame that has two of a kind is asked about."""
LARGEST = 1e30
"""The models compute in float32, and squares and sums of values must fit."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of a frame's columns; None: look for the KNOWN ones."""

    series_id: str | None = None
    time: str | None = None
    value: str | None = None

    @classmethod
    def of(cls, names: Mapping[str, str | None] | None) -> Self:
        """Read them from a mapping; ConfigError for an unknown key."""
        unknown = sorted(set(names or {}) - set(KNOWN))
        if unknown:
            raise ConfigError(f"columns: unknown key {', '.join(unknown)}; there are {', '.join(KNOWN)}")
        return cls(**(names or {}))

    def to_dict(self) -> dict[str, str | None]:
        """Plain values for JSON; `of` reads them back."""
        return asdict(self)


def read_times(column: "pd.Series[Any]", frequency: Frequency, rule: TimeRule, series: Ints) -> Stamps:
    """Read times as microseconds in UTC (N,) that the grid holds; `series` (N,) numbers the rows' series."""
    stamps = read_stamps(column, rule, series)
    wrong = stamps.times == OUTSIDE
    if wrong.any():
        row = int(wrong.argmax())
        raise ConfigError(f"data row {row + 1}: {column.name} {explain_cell(column, stamps, row, rule, '')}")
    refuse(pd.Series(~frequency.holds(stamps.times)), column, "outside the grid, which covers 1900 to 2190")
    return stamps


def read_numbers(column: "pd.Series[Any]", *, hint: str = "") -> Floats:
    """Read numbers (N,), NaN where there is none; `hint` says what to do about one that is none."""
    kinds = pd.api.types
    if kinds.is_datetime64_any_dtype(column) or kinds.is_timedelta64_dtype(column) or kinds.is_complex_dtype(column):
        raise ConfigError(f"column {column.name} holds {column.dtype}, not numbers")
    numbers: Floats = read_floats(column)
    wrong = np.isnan(numbers) & column.notna().to_numpy()
    refuse(pd.Series(wrong), column, f"not a number{hint}")
    refuse(pd.Series(np.isinf(numbers)), column, "not finite: make it NaN if it is missing")
    refuse(pd.Series(np.abs(numbers) > LARGEST), column, f"larger than {LARGEST:g}: scale the values")
    return numbers


def refuse(bad: "pd.Series[bool]", column: "pd.Series[Any]", reason: str) -> None:
    """ConfigError for the first row (counted from 1) of a column that is bad."""
    wrong: Mask = bad.to_numpy(dtype=np.bool_)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ConfigError(f"data row {row + 1}: {column.name} {column.iloc[row]!s:.60} is {reason}")
