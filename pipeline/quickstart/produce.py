"""A long-format file (one row per observation) as input messages, in event-time order."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from pipeline.codec import MILLISECONDS_FROM
from pipeline.errors import ConfigError
from pipeline.settings import InputSettings

MISSING = ("", "NA", "NaN", "nan", "null", "NULL", "None")
PARQUET = (".parquet", ".pq")
Message = tuple[bytes, bytes, list[tuple[str, bytes]]]


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of a file's columns."""

    series_id: str = "series_id"
    timestamp: str = "timestamp"
    value: str = "value"
    covariates: tuple[str, ...] = ()


def read(file: Path, columns: Columns, since: int | None = None, until: int | None = None) -> pd.DataFrame:
    """Read a CSV or Parquet file as series_id, timestamp (UTC), value, ordered by time: [since, until) microseconds.

    Covariates follow under their own names. A timestamp without an offset is UTC. ConfigError says what does not fit,
    with the row.
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
    table["series_id"] = table["series_id"].astype(str)
    table["timestamp"] = _times(table["timestamp"], file)
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

    ConfigError for a covariate with the name of another field of the message.
    """
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


def _named_alone(columns: Columns, taken: set[str]) -> dict[str, str]:
    """Map covariates to themselves; ConfigError when a name is given twice or means something else."""
    for place, name in enumerate(columns.covariates):
        if name in taken or name in columns.covariates[:place]:
            raise ConfigError(f"--covariate {name}: the column is named twice, or has the name of another part")
    return {name: name for name in columns.covariates}


def _load(file: Path, columns: Columns) -> pd.DataFrame:
    try:
        if file.suffix in PARQUET:
            return pd.read_parquet(file)
        missing = {name: list(MISSING) for name in (columns.value, *columns.covariates)} | {columns.series_id: [""]}
        return pd.read_csv(file, dtype={columns.series_id: str}, keep_default_na=False, na_values=missing)
    except ImportError as error:
        raise ConfigError("reading Parquet needs pyarrow: pip install 'tidecast[parquet]'") from error
    except (ValueError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{file} is not a readable CSV or Parquet file: {error}") from error


def _times(stamps: "pd.Series[str]", file: Path) -> "pd.Series[pd.Timestamp]":
    if pd.api.types.is_numeric_dtype(stamps):  # as in the topic: epoch seconds, or milliseconds when too large for that
        unit = "ms" if stamps.abs().max() >= MILLISECONDS_FROM else "s"
        return pd.to_datetime(stamps, utc=True, unit=unit)
    times = pd.to_datetime(stamps, utc=True, errors="coerce", format="ISO8601")
    _refuse(times.isna(), stamps, file, "not an ISO 8601 time")
    return times


def _numbers(values: "pd.Series[float]", file: Path) -> "pd.Series[float]":
    numbers = pd.to_numeric(values, errors="coerce").astype(np.float64)
    _refuse(~np.isfinite(numbers) & values.notna(), values, file, "not a finite number")
    return numbers


def _refuse(bad: "pd.Series[bool]", column: "pd.Series[str]", file: Path, reason: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad.to_numpy())[0])
        raise ConfigError(f"{file} row {row + 1}: {column.name} {column.iloc[row]!r} is {reason}")
