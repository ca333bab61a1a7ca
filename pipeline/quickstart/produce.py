"""A long-format file (one row per observation) as input messages, in event-time order."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from pipeline.errors import ConfigError
from pipeline.grid.stamps import as_written, explain_cell, read_floats, read_stamps, show_cell
from pipeline.grid.times import AUTO, OUTSIDE, TimeRule
from pipeline.messages.unreadable import LARGEST
from pipeline.settings import InputSettings

MISSING = ("", "NA", "NaN", "nan", "null", "NULL", "None")
PARQUET = (".parquet", ".pq")
Message = tuple[bytes, bytes, list[tuple[str, bytes]]]


@dataclass(frozen=True, slots=True)
class FileColumns:
    """The names of a file's columns."""

    series_id: str = "series_id"
    timestamp: str = "timestamp"
    value: str = "value"
    covariates: tuple[str, ...] = ()


def read(
    file: Path, columns: FileColumns, since: int | None = None, until: int | None = None, *, times: TimeRule = AUTO
) -> pd.DataFrame:
    """Read a CSV or Parquet file as series_id, timestamp (UTC), value, ordered by time: [since, until) microseconds.

    Covariates follow under their own names. A timestamp without an offset is UTC. ConfigError says what does not fit,
    with the data row: counted from 1, without the header and empty lines.
    """
    if not file.is_file():
        raise ConfigError(f"file {file} does not exist")
    names = {columns.series_id: "series_id", columns.timestamp: "timestamp", columns.value: "value"}
    names |= _named_alone(columns, {*names, *names.values()})
    table = _load(file, columns)
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise ConfigError(
            f"{file} has no column {', '.join(missing)}: it has {', '.join(map(str, table.columns))}; "
            "name them with --series-id, --timestamp, --value and --covariate"
        )
    table = table[list(names)].rename(columns=names)
    _refuse(table["series_id"].isna(), table["series_id"], file, "not a name")
    try:
        table["series_id"] = table["series_id"].astype(str)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: column {columns.series_id} holds bytes that are no text in UTF-8") from error
    table["timestamp"] = _times(table["timestamp"], table["series_id"], file, times)
    for name in ("value", *columns.covariates):
        table[name] = _numbers(table[name], file)
    keep = pd.Series(True, index=table.index)
    if since is not None:
        keep &= table["timestamp"] >= pd.Timestamp(since, unit="us", tz="UTC")
    if until is not None:
        keep &= table["timestamp"] < pd.Timestamp(until, unit="us", tz="UTC")
    return table[keep].sort_values("timestamp", kind="stable", ignore_index=True)


def messages(table: pd.DataFrame, fields: InputSettings, covariates: Sequence[str] = ()) -> Iterator[Message]:
    """Encode rows as input messages keyed by series; a value or covariate that is missing becomes null.

    ConfigError for a covariate with the name of another field of the message, and for fields that no flat event has.
    """
    if not fields.may_be_flat:
        raise ConfigError("this sends flat events, and the mapping of [input] reads none: use another producer")
    taken = set(covariates) & {fields.series_id, fields.timestamp, fields.value}
    if taken:
        raise ConfigError(f"--covariate {taken.pop()}: a message has another field of this name; rename the column")
    encode = msgspec.json.Encoder().encode
    stamps = table["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    numbers = zip(*(table[name] for name in ("value", *covariates)), strict=True)
    names = (fields.value, *covariates)
    for series, stamp, row in zip(table["series_id"], stamps, numbers, strict=True):
        body = {fields.series_id: series, fields.timestamp: stamp}
        body |= {name: None if isnan(number) else number for name, number in zip(names, row, strict=True)}
        yield series.encode(), encode(body), []


def paced(
    messages: Iterable[Message],
    rate: float | None,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Message]:
    """Let at most `rate` messages a second through."""
    start = now()
    for count, message in enumerate(messages):
        early = start + count / rate - now() if rate else 0.0
        if early > 0:
            sleep(early)
        yield message


def _named_alone(columns: FileColumns, taken: set[str]) -> dict[str, str]:
    """Map covariates to themselves; ConfigError when a name is given twice or means something else."""
    for place, name in enumerate(columns.covariates):
        if name in taken or name in columns.covariates[:place]:
            raise ConfigError(f"--covariate {name}: the column is named twice, or has the name of another part")
    return {name: name for name in columns.covariates}


def _load(file: Path, columns: FileColumns) -> pd.DataFrame:
    try:
        if file.suffix in PARQUET:
            return pd.read_parquet(file)
        missing = {name: list(MISSING) for name in (columns.value, *columns.covariates)} | {columns.series_id: [""]}
        texts = {columns.series_id: str}
        table = pd.read_csv(file, dtype=texts, keep_default_na=False, na_values=missing, low_memory=False)
    except ImportError as error:
        raise ConfigError("reading Parquet needs pyarrow: pip install 'tidecast[parquet]'") from error
    except (ValueError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{file} is not a readable CSV or Parquet file: {' '.join(str(error).split())}") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise ConfigError(f"{file}: rows have more cells than the header; put a cell with a comma in quotes")
    if columns.timestamp in table.columns:
        table[columns.timestamp] = as_written(table[columns.timestamp])
    return table


def _times(stamps: "pd.Series[Any]", series: "pd.Series[str]", file: Path, rule: TimeRule) -> "pd.Series[pd.Timestamp]":
    read = read_stamps(stamps, rule, pd.factorize(series)[0].astype(np.int64))
    wrong = read.times == OUTSIDE
    if wrong.any():
        row = int(wrong.argmax())
        raise ConfigError(f"{file} data row {row + 1}: {stamps.name} {explain_cell(stamps, read, row, rule, 'input.')}")
    return pd.Series(read.times.astype("datetime64[us]"), stamps.index).dt.tz_localize("UTC")


def _numbers(values: "pd.Series[Any]", file: Path) -> "pd.Series[float]":
    kinds = pd.api.types
    if kinds.is_datetime64_any_dtype(values) or kinds.is_timedelta64_dtype(values) or kinds.is_complex_dtype(values):
        raise ConfigError(f"{file}: column {values.name} holds {values.dtype}, not numbers")
    numbers = pd.Series(read_floats(values), values.index)
    _refuse(
        (~np.isfinite(numbers) & values.notna()) | (numbers.abs() > LARGEST),
        values,
        file,
        "not a finite number within +-1e18",
    )
    return numbers


def _refuse(bad: "pd.Series[bool]", column: "pd.Series[Any]", file: Path, reason: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad.to_numpy())[0])
        raise ConfigError(f"{file} data row {row + 1}: {column.name} {show_cell(column.iloc[row])} is {reason}")
