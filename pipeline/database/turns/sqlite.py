"""Bulk rows on SQLite: one executemany per table on the driver's own connection, plain lists, times as text."""

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from pipeline.database.engine import driver
from pipeline.database.packed import PackedForecasts, pack_forecasts
from pipeline.database.schema.instants import from_texts, to_text, to_texts
from pipeline.database.turns.rows import (
    COVARIATE_COLUMNS,
    FORECAST_COLUMNS,
    FORECASTS,
    OBSERVATION_COLUMNS,
    SHADOW_COLUMNS,
    SHADOWS,
    CovariateRows,
    merge_clause,
    merge_covariate_clause,
)
from pipeline.records import Forecasts, History, Ints, Mask, Observations
from pipeline.settings import Policy

_AFTER_EVERY_TIME = "~"
_FLUSH = 200_000  # rows held as Python tuples before they become columns

_INSERT_OBSERVATION = f"INSERT INTO observations ({OBSERVATION_COLUMNS}) VALUES ({', '.join('?' * 8)})"
_INSERT_COVARIATE = f"INSERT INTO covariates ({COVARIATE_COLUMNS}) VALUES (?, ?, ?, ?, ?)"
_INSERT_FORECAST = f"INSERT INTO {FORECASTS} ({FORECAST_COLUMNS}) VALUES ({', '.join('?' * 16)})"
_INSERT_SHADOW = f"INSERT INTO {SHADOWS} ({SHADOW_COLUMNS}) VALUES ({', '.join('?' * 12)})"
_STORED = "SELECT 1 FROM {} WHERE series_id = ? AND origin = ? AND model_version = ?"
_NEWEST = (
    "SELECT observed_at, value, events FROM observations"
    " WHERE series_id = ? AND observed_at >= ? AND observed_at <= ? ORDER BY observed_at DESC LIMIT ?"
)
_COVARIATES = (
    "SELECT series_id, observed_at, name_id, value, events FROM covariates"
    " WHERE series_id = ? AND observed_at >= ? AND value IS NOT NULL"
)


class SqliteRows:
    """The SQLite side of `Rows`."""

    def insert_observations(self, connection: Connection, new: Observations, topic: int, now: int) -> None:
        """Insert rows that should be new."""
        driver(connection).executemany(_INSERT_OBSERVATION, _observation_rows(new, topic, now))

    def merge_observations(
        self, connection: Connection, new: Observations, topic: int, now: int, policy: Policy
    ) -> None:
        """Insert rows, or combine them with the rows that are there."""
        driver(connection).executemany(
            f"{_INSERT_OBSERVATION} {merge_clause(policy)}", _observation_rows(new, topic, now)
        )

    def insert_covariates(self, connection: Connection, new: CovariateRows) -> None:
        """Insert rows that should be new."""
        driver(connection).executemany(_INSERT_COVARIATE, _covariate_rows(new))

    def merge_covariates(self, connection: Connection, new: CovariateRows, policy: Policy) -> None:
        """Insert rows, or combine them with the rows that are there."""
        driver(connection).executemany(f"{_INSERT_COVARIATE} {merge_covariate_clause(policy)}", _covariate_rows(new))

    def insert_forecasts(self, connection: Connection, new: Forecasts, topic: int) -> None:
        """Insert one row each."""
        for packed in pack_forecasts(new):
            part = packed.forecasts
            source = part.partition.tolist(), part.offset.tolist(), part.calibration.tolist()
            rows = zip(*_forecast_columns(packed), repeat(topic), *source, strict=False)
            driver(connection).executemany(_INSERT_FORECAST, rows)

    def insert_shadow(self, connection: Connection, new: Forecasts) -> None:
        """Insert one row for each of the shadow's."""
        for packed in pack_forecasts(new):
            driver(connection).executemany(_INSERT_SHADOW, zip(*_forecast_columns(packed), strict=True))

    def stored(self, connection: Connection, forecasts: Forecasts, table: str) -> Mask:
        """Say which forecasts are rows already."""
        cursor, query = driver(connection).cursor(), _STORED.format(table)
        keys = zip(
            forecasts.series_id.tolist(), to_texts(forecasts.origin), forecasts.model_version.tolist(), strict=True
        )
        return np.array([cursor.execute(query, key).fetchone() is not None for key in keys], np.bool_)

    def newest(
        self, connection: Connection, series_ids: Ints, depth: int, since: int | None, until: int | None = None
    ) -> History:
        """Return each series' newest observations; one indexed query per series, which costs 10 us."""
        cursor = driver(connection).cursor()
        after = "" if since is None else to_text(since)
        before = _AFTER_EVERY_TIME if until is None else to_text(until)
        counts: list[int] = []
        held: list[tuple[str, float | None, int]] = []
        parts = [_columns([])]
        for series_id in series_ids.tolist():
            found = cursor.execute(_NEWEST, (series_id, after, before, depth)).fetchall()
            counts.append(len(found))
            held.extend(reversed(found))
            if len(held) > _FLUSH:
                parts.append(_columns(held))
                held = []
        parts.append(_columns(held))
        times, values, events = (np.concatenate(column) for column in zip(*parts, strict=True))
        observed = ~np.isnan(values)  # SQLite cannot hold a NaN, so it was a NULL
        return History(
            series_id=series_ids,
            bounds=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
            observed_at=times,
            value=np.where(observed, values, 0.0),
            observed=observed,
            events=events,
            covariates=np.empty((len(times), 0)),
        )

    def covariates(self, connection: Connection, series_ids: Ints, since: Ints, name_ids: Ints) -> CovariateRows:
        """Return the values under these names, series by series as in `newest`."""
        cursor = driver(connection).cursor()
        held: list[tuple[int, str, int, float, int]] = []
        parts = [_covariate_columns([])]
        for key in zip(series_ids.tolist(), to_texts(since), strict=True):
            held.extend(cursor.execute(_COVARIATES, key))
            if len(held) > _FLUSH:
                parts.append(_covariate_columns(held))
                held = []
        parts.append(_covariate_columns(held))
        own, times, names, values, events = (np.concatenate(column) for column in zip(*parts, strict=True))
        found = CovariateRows(own, times, names, values, np.ones(len(own), np.bool_), events)
        return found.take(np.isin(names, name_ids))


def _forecast_columns(packed: PackedForecasts) -> list[Any]:
    new = packed.forecasts
    count, none = len(new), [None] * len(new)
    return [
        new.series_id.tolist(),
        to_texts(new.origin),
        new.model_version.tolist(),
        to_texts(new.issued_at),
        new.quality,
        [new.horizon] * count,
        none if packed.step_seconds is None else packed.step_seconds.tolist(),
        none if packed.step_ends is None else _cells(packed.step_ends),
        packed.base.tolist(),
        packed.scale.tolist(),
        [packed.width] * count,
        _cells(packed.quantiles),
    ]


def _cells(rows: NDArray[np.uint8]) -> list[bytes]:
    """Cut rows of bytes (N, W) into cells."""
    whole, width = rows.tobytes(), rows.shape[1]
    return [whole[start : start + width] for start in range(0, len(whole), width)]


def _observation_rows(new: Observations, topic: int, now: int) -> Any:
    return zip(
        new.series_id.tolist(),
        to_texts(new.observed_at),
        _values(new),
        new.events.tolist(),
        repeat(topic),
        new.partition.tolist(),
        new.offset.tolist(),
        repeat(to_text(now)),
        strict=False,
    )


def _covariate_rows(new: CovariateRows) -> Any:
    columns = new.series_id.tolist(), to_texts(new.observed_at), new.name_id.tolist(), _values(new), new.events.tolist()
    return zip(*columns, strict=True)


def _values(new: Observations | CovariateRows) -> list[float | None]:
    values: list[float | None] = new.value.tolist()
    for index in np.flatnonzero(~new.observed).tolist():
        values[index] = None
    return values


def _columns(rows: Sequence[tuple[str, float | None, int]]) -> tuple[Ints, Any, Ints]:
    if not rows:
        return np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64)
    times, values, events = zip(*rows, strict=True)
    return from_texts(times), np.array(values, np.float64), np.array(events, np.int64)


def _covariate_columns(rows: Sequence[tuple[int, str, int, float, int]]) -> tuple[Ints, Ints, Ints, Any, Ints]:
    if not rows:
        empty = np.empty(0, np.int64)
        return empty, empty, empty, np.empty(0), empty
    own, times, names, values, events = zip(*rows, strict=True)
    return np.array(own), from_texts(times), np.array(names), np.array(values, np.float64), np.array(events)
