"""Columns of a frame to arrays: series, times and numbers, or a ConfigError that names the row (counted from 1)."""

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any

import numpy as np
import pandas as pd

from pipeline.codec import MILLISECONDS_FROM
from pipeline.errors import ConfigError
from pipeline.grid import Frequency
from pipeline.records import Floats, Ints, Mask

LARGEST = 1e30
"""The models compute in float32, and squares and sums of values must fit."""
EARLIEST_NUMBER = 100_000_000  # epoch seconds of 1973: smaller numbers are counters, not times


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


def read_times(column: "pd.Series[Any]", frequency: Frequency) -> tuple[Ints, tzinfo | None]:
    """Read times as microseconds in UTC (N,), with the zone that they were written in."""
    zone: tzinfo | None = None
    if pd.api.types.is_datetime64_any_dtype(column):
        zone = column.dt.tz
        stamps = column.dt.tz_localize("UTC") if zone is None else column.dt.tz_convert("UTC")
    elif pd.api.types.is_numeric_dtype(column):
        numbers = column.astype(np.float64)
        _refuse(~(numbers.abs() >= EARLIEST_NUMBER), column, "not a time: numbers are epoch seconds or milliseconds")
        unit = "ms" if numbers.abs().max() >= MILLISECONDS_FROM else "s"
        stamps = pd.to_datetime(numbers, unit=unit, utc=True, errors="coerce")
    else:
        stamps = pd.to_datetime(column, utc=True, errors="coerce", format="ISO8601")
        first = stamps.first_valid_index()
        zone = None if first is None else pd.Timestamp(column[first]).tz and stamps.dt.tz
    _refuse(stamps.isna(), column, "not a time: write ISO 8601, as 2026-01-31T12:00:00Z")
    times = stamps.dt.as_unit("us").astype(np.int64).to_numpy()
    _refuse(pd.Series(~frequency.holds(times)), column, "outside the grid, which covers 1900 to 2190")
    return times, zone


def read_numbers(column: "pd.Series[Any]", *, hint: str = "") -> Floats:
    """Read numbers (N,), NaN where there is none; `hint` says what to do about one that is none."""
    kinds = pd.api.types
    if kinds.is_datetime64_any_dtype(column) or kinds.is_timedelta64_dtype(column) or kinds.is_complex_dtype(column):
        raise ConfigError(f"column {column.name} holds {column.dtype}, not numbers")
    numbers: Floats = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.isnan(numbers) & column.notna().to_numpy()
    _refuse(pd.Series(wrong), column, f"not a number{hint}")
    _refuse(pd.Series(np.isinf(numbers)), column, "not finite: make it NaN if it is missing")
    _refuse(pd.Series(np.abs(numbers) > LARGEST), column, f"larger than {LARGEST:g}: scale the values")
    return numbers


def _refuse(bad: "pd.Series[bool]", column: "pd.Series[Any]", reason: str) -> None:
    wrong: Mask = bad.to_numpy(dtype=np.bool_)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ConfigError(f"row {row + 1}: {column.name} {column.iloc[row]!s:.60} is {reason}")
