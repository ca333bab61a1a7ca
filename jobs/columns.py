"""Columns of a frame to arrays: series, times and numbers, or a ConfigError that names the data row, from 1 on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import ConfigError
from pipeline.grid import Frequency
from pipeline.records import Floats, Ints, Mask
from pipeline.stamps import Stamps, explain_cell, read_floats, read_stamps
from pipeline.times import OUTSIDE, TimeRule

LARGEST = 1e30
"""The models compute in float32, and squares and sums of values must fit."""


def number_rows(frame: Any) -> pd.DataFrame:
    """Take names out of the index, where Nixtla's older frames have unique_id, and number the rows."""
    if not isinstance(frame, pd.DataFrame):
        raise ConfigError(f"a pandas DataFrame is needed, not {type(frame).__name__}")
    named = [name for name in frame.index.names if name is not None and name not in frame.columns]
    if named:
        frame = frame.reset_index(level=named)
    return frame.reset_index(drop=True)


def read_series(frame: pd.DataFrame, name: str | None) -> tuple[Ints, Sequence[str], Sequence[Any]]:
    """Number the series (N,), with their names as text, in order, and as they are in the frame; None: all are one."""
    if name is None:
        return np.zeros(len(frame), np.int64), ("series",), ("series",)
    column = frame[name]
    _refuse(column.isna(), column, "not a name")
    try:
        code, labels = pd.factorize(column.astype(object) if isinstance(column.dtype, pd.CategoricalDtype) else column)
    except TypeError as error:
        raise ConfigError(f"column {name} holds what cannot be a name: {error}") from error
    place, names = pd.factorize(pd.Series(labels).astype(str), sort=True)  # so that the order of rows changes nothing
    first = np.unique(place, return_index=True)[1]
    return place[code].astype(np.int64), [str(name) for name in names], pd.Series(labels).iloc[first].tolist()


def read_times(column: "pd.Series[Any]", frequency: Frequency, rule: TimeRule, series: Ints) -> Stamps:
    """Read times as microseconds in UTC (N,) that the grid holds; `series` (N,) numbers the rows' series."""
    stamps = read_stamps(column, rule, series)
    wrong = stamps.times == OUTSIDE
    if wrong.any():
        row = int(wrong.argmax())
        raise ConfigError(f"data row {row + 1}: {column.name} {explain_cell(column, stamps, row, rule, '')}")
    _refuse(pd.Series(~frequency.holds(stamps.times)), column, "outside the grid, which covers 1900 to 2190")
    return stamps


def read_numbers(column: "pd.Series[Any]", *, hint: str = "") -> Floats:
    """Read numbers (N,), NaN where there is none; `hint` says what to do about one that is none."""
    kinds = pd.api.types
    if kinds.is_datetime64_any_dtype(column) or kinds.is_timedelta64_dtype(column) or kinds.is_complex_dtype(column):
        raise ConfigError(f"column {column.name} holds {column.dtype}, not numbers")
    numbers: Floats = read_floats(column)
    wrong = np.isnan(numbers) & column.notna().to_numpy()
    _refuse(pd.Series(wrong), column, f"not a number{hint}")
    _refuse(pd.Series(np.isinf(numbers)), column, "not finite: make it NaN if it is missing")
    _refuse(pd.Series(np.abs(numbers) > LARGEST), column, f"larger than {LARGEST:g}: scale the values")
    return numbers


def _refuse(bad: "pd.Series[bool]", column: "pd.Series[Any]", reason: str) -> None:
    wrong: Mask = bad.to_numpy(dtype=np.bool_)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ConfigError(f"data row {row + 1}: {column.name} {column.iloc[row]!s:.60} is {reason}")
