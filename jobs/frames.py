"""Long pandas frames, one row per observation, to a History on the grid and back to frames of forecasts.

series_id  time              value          names: Columns, or found (Nixtla's unique_id, ds, y too)
a          2026-01-01 00:00  3.2            time without an offset is UTC
a          2026-01-01 02:00  NaN            missing, as is the hour that has no row

Reading is total: a frame becomes Readings, or a ConfigError says what is wrong and where.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import tzinfo
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from models.config import QUANTILE_LEVELS
from pipeline.codec import MILLISECONDS_FROM
from pipeline.errors import ConfigError
from pipeline.grid import Frequency
from pipeline.observe import fold
from pipeline.records import Events, Floats, History, Ints, Mask
from pipeline.settings import Policy

KNOWN = {"series_id": ("series_id", "unique_id"), "time": ("time", "timestamp", "ds"), "value": ("value", "y")}
"""Names that are looked for when none is given, in this order."""
LARGEST = 1e30
"""The models compute in float32, and squares and sums of values must fit."""
EARLIEST_NUMBER = 100_000_000  # epoch seconds of 1973: smaller numbers are counters, not times
MOST_STEPS = 100_000_000
RESERVED = {"origin", "step", "quality", "seasonal_naive"}
PARQUET = (".parquet", ".pq")
QUANTILE_COLUMNS = tuple("q" + f"{level:.3f}"[2:].removesuffix("0") for level in QUANTILE_LEVELS)
"""Quantiles are named as in SQL: q025, q05, q10, ... q975."""


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


@dataclass(frozen=True, slots=True)
class Readings:
    """S series of a frame on the grid, each with at least one observed value.

    names (S,) as text, labels (S,) as in the frame; columns: the names found; zone: of the frame's times, None when
    they have none (then they are UTC); merged: rows that shared a step with an earlier one; left_out: series without
    any observed value.
    """

    names: tuple[str, ...]
    labels: tuple[Any, ...]
    history: History
    columns: Columns
    zone: tzinfo | None
    merged: int
    left_out: tuple[str, ...]

    def notes(self) -> list[str]:
        """Say in words what a reader may not expect."""
        notes = []
        if self.left_out:
            shown = ", ".join(self.left_out[:5]) + (", ..." if len(self.left_out) > 5 else "")
            notes.append(f"{len(self.left_out)} series have no observed value and are left out: {shown}")
        if self.merged and self.columns.series_id is None:
            notes.append(
                f"there is no column of series, so this is one series, and {self.merged:,} rows share a step with "
                "another: if it is several series, name their column"
            )
        return notes


def read_table(file: Path, columns: Columns) -> pd.DataFrame:
    """Read a CSV or Parquet file, series as text; ConfigError when it cannot be read."""
    if not file.is_file():
        raise ConfigError(f"file {file} does not exist")
    try:
        if file.suffix in PARQUET:
            return pd.read_parquet(file)
        present = pd.read_csv(file, nrows=0).columns
        series = columns.series_id or next((name for name in KNOWN["series_id"] if name in present), None)
        return pd.read_csv(file, dtype={series: str} if series in present else None, low_memory=False)
    except ImportError as error:
        raise ConfigError("reading Parquet needs pyarrow: pip install 'tidecast[parquet]'") from error
    except (ValueError, OSError) as error:
        raise ConfigError(f"{file} is not a readable CSV or Parquet file: {error}") from error


def read_frame(frame: pd.DataFrame, columns: Columns, *, frequency: Frequency, duplicates: Policy) -> Readings:
    """Lay a long frame on the grid: rows in any order, several in one step merged by the policy, NaN is missing.

    ConfigError says what cannot be read, with the row (counted from 1).
    """
    if not isinstance(frame, pd.DataFrame):
        raise ConfigError(f"a pandas DataFrame is needed, not {type(frame).__name__}")
    named = [name for name in frame.index.names if name is not None and name not in frame.columns]
    if named:  # Nixtla's older frames have unique_id as the index
        frame = frame.reset_index(level=named)
    frame = frame.reset_index(drop=True)
    columns = _find_columns(frame, columns)
    if frame.empty:
        raise ConfigError("there are no rows to read")
    times, zone = _read_times(frame[columns.time], frequency)
    value = _read_values(frame[columns.value])
    row, names, labels = _read_series(frame, columns.series_id)

    order = np.argsort(times, kind="stable")  # the policy goes by event time, then by the frame's order
    ordered = value[order]
    observed = np.isfinite(ordered)
    none = np.empty((len(order), 0))
    events = Events(0, (), times[order], np.where(observed, ordered, 0.0), observed, order.astype(np.int64), none)
    folded = fold(duplicates, row[order], frequency.step_of(times[order]), events)
    some = np.bincount(folded.row, weights=folded.observed, minlength=len(names)) > 0
    if not some.any():
        raise ConfigError(f"column {columns.value} has no observed value: there is nothing to forecast from")
    kept = some[folded.row]
    bounds = np.concatenate([[0], np.cumsum(np.bincount(folded.row[kept], minlength=len(names))[some])])
    _check_span(names, folded.row, folded.step, frequency)
    return Readings(
        names=tuple(name for name, has in zip(names, some, strict=True) if has),
        labels=tuple(label for label, has in zip(labels, some, strict=True) if has),
        history=History(
            series_id=np.arange(1, int(some.sum()) + 1),
            bounds=bounds.astype(np.int64),
            observed_at=frequency.time_of(folded.step[kept]),
            value=folded.value[kept],
            observed=folded.observed[kept],
            events=folded.events[kept],
            covariates=none[: int(kept.sum())],
        ),
        columns=columns,
        zone=zone,
        merged=len(row) - len(folded.row),
        left_out=tuple(name for name, has in zip(names, some, strict=True) if not has),
    )


def write_frame(
    readings: Readings,
    rows: Ints,
    firsts: Ints,
    quantiles: Floats,
    *,
    frequency: Frequency,
    more: Mapping[str, Any],
) -> pd.DataFrame:
    """Write forecasts as a long frame in the words and the time zone of what was read.

    rows (N,) of `readings`; firsts (N,) grid steps of the first targets; quantiles (N, H, Q); `more` are further
    columns, (N,) or (N, H).
    """
    count, horizon = quantiles.shape[:2]
    steps = firsts[:, None] + np.arange(horizon)  # (N, H)
    times = frequency.time_of(steps.ravel()).reshape(steps.shape)
    if (np.diff(times, axis=1) <= 0).any():
        raise ConfigError(f"a horizon of {horizon} steps of {frequency.text} leaves the grid")
    labels = pd.Series(list(readings.labels))
    columns: dict[str, Any] = {
        readings.columns.series_id or "series_id": labels.iloc[np.repeat(rows, horizon)].to_numpy(),
        readings.columns.time or "time": _stamps(times.ravel(), readings.zone),
        "origin": _stamps(np.repeat(frequency.time_of(firsts - 1), horizon), readings.zone),
        "step": np.tile(np.arange(1, horizon + 1), count),
    }
    columns |= {name: quantiles[:, :, q].ravel() for q, name in enumerate(QUANTILE_COLUMNS)}
    for name, values in more.items():
        columns[name] = np.repeat(values, horizon) if np.ndim(values) == 1 else np.ravel(values)
    return pd.DataFrame(columns)


def _find_columns(frame: pd.DataFrame, wanted: Columns) -> Columns:
    present = [str(name) for name in frame.columns]
    found = wanted
    for role, known in KNOWN.items():
        name = getattr(wanted, role) or next((each for each in known if each in present), None)
        if name is None and role != "series_id":
            raise ConfigError(f"no column {' or '.join(known)}: there are {', '.join(present)}; name the {role} column")
        if name is not None and present.count(name) != 1:
            times = "more than one" if name in present else "no"
            raise ConfigError(f"there is {times} column {name}: there are {', '.join(present)}")
        found = replace(found, **{role: name})
    chosen = [name for name in (found.series_id, found.time, found.value) if name is not None]
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"series, time and value must be different columns, not {', '.join(chosen)}")
    taken = sorted(set(chosen) & (RESERVED | set(QUANTILE_COLUMNS)))
    if taken:
        raise ConfigError(f"rename column {', '.join(taken)}: forecasts have a column of that name")
    return found


def _read_series(frame: pd.DataFrame, name: str | None) -> tuple[Ints, Sequence[str], Sequence[Any]]:
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


def _read_times(column: "pd.Series[Any]", frequency: Frequency) -> tuple[Ints, tzinfo | None]:
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


def _read_values(column: "pd.Series[Any]") -> Floats:
    kinds = pd.api.types
    if kinds.is_datetime64_any_dtype(column) or kinds.is_timedelta64_dtype(column) or kinds.is_complex_dtype(column):
        raise ConfigError(f"column {column.name} holds {column.dtype}, not numbers")
    numbers: Floats = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.isnan(numbers) & column.notna().to_numpy()
    _refuse(pd.Series(wrong), column, "not a number")
    _refuse(pd.Series(np.isinf(numbers)), column, "not finite: make it NaN if it is missing")
    _refuse(pd.Series(np.abs(numbers) > LARGEST), column, f"larger than {LARGEST:g}: scale the values")
    return numbers


def _check_span(names: Sequence[str], row: Ints, step: Ints, frequency: Frequency) -> None:
    first, last = np.full(len(names), np.iinfo(np.int64).max), np.full(len(names), np.iinfo(np.int64).min)
    np.minimum.at(first, row, step)
    np.maximum.at(last, row, step)
    span = last - first + 1
    if int(span.sum()) > MOST_STEPS:
        widest = int(span.argmax())
        raise ConfigError(
            f"series {names[widest]} reaches over {int(span[widest]):,} steps of {frequency.text} with "
            f"{int((row == widest).sum()):,} rows: check its times, or choose a longer frequency"
        )


def _refuse(bad: "pd.Series[bool]", column: "pd.Series[Any]", reason: str) -> None:
    wrong: Mask = bad.to_numpy(dtype=np.bool_)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ConfigError(f"row {row + 1}: {column.name} {column.iloc[row]!s:.60} is {reason}")


def _stamps(times: Ints, zone: tzinfo | None) -> "pd.DatetimeIndex":
    stamps = pd.DatetimeIndex(times.astype("datetime64[us]"))
    return stamps if zone is None else stamps.tz_localize("UTC").tz_convert(zone)
