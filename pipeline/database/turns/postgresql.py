"""Bulk rows on PostgreSQL: binary COPY encoded by NumPy in, arrays per series out."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from pipeline.database.engine import driver
from pipeline.database.packed import pack_forecasts
from pipeline.database.schema.instants import to_datetime
from pipeline.database.turns import copy
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
from pipeline.errors import Corrupt
from pipeline.records import Forecasts, History, Ints, Mask, Observations
from pipeline.settings import Policy

_SERIES_PER_QUERY = 1000  # bounds the server's arrays and the time of one statement
_PIECE = 1 << 20  # bytes handed to libpq at once

_COPY_OBSERVATIONS = f"COPY observations ({OBSERVATION_COLUMNS}) FROM STDIN (FORMAT BINARY)"
_COPY_COVARIATES = f"COPY covariates ({COVARIATE_COLUMNS}) FROM STDIN (FORMAT BINARY)"
_COPY_FORECASTS = f"COPY {FORECASTS} ({FORECAST_COLUMNS}) FROM STDIN (FORMAT BINARY)"
_COPY_SHADOW = f"COPY {SHADOWS} ({SHADOW_COLUMNS}) FROM STDIN (FORMAT BINARY)"
# Seconds and the rest apart: PostgreSQL multiplies intervals in double precision, exact this way up to year 9999.
_TIME = (
    "timestamptz '1970-01-01 00:00:00+00' + interval '1 second' * (n.{0} / 1000000)"
    " + interval '1 microsecond' * (n.{0} %% 1000000)"
)
_MERGE = (
    f"INSERT INTO observations ({OBSERVATION_COLUMNS})"
    f" SELECT n.series_id, {_TIME.format('observed_at')}, CASE WHEN n.observed THEN n.value END, n.events, %s, n.part,"
    " n.source_offset, %s FROM unnest(%s::int[], %s::bigint[], %s::float8[], %s::bool[], %s::int[], %s::int[],"
    " %s::bigint[]) AS n (series_id, observed_at, value, observed, events, part, source_offset) "
)
_MERGE_COVARIATES = (
    f"INSERT INTO covariates ({COVARIATE_COLUMNS}) SELECT n.series_id, {_TIME.format('observed_at')}, n.name_id,"
    " CASE WHEN n.observed THEN n.value END, n.events"
    " FROM unnest(%s::int[], %s::bigint[], %s::int[], %s::float8[], %s::bool[], %s::int[])"
    " AS n (series_id, observed_at, name_id, value, observed, events) "
)
_STORED = (
    "SELECT n.place FROM unnest(%s::int[], %s::bigint[], %s::int[])"
    " WITH ORDINALITY AS n (series_id, origin, version, place)"
    " WHERE EXISTS (SELECT FROM {table} f WHERE f.series_id = n.series_id"
    f" AND f.origin = {_TIME.format('origin')} AND f.model_version = n.version)"
)
_NEWEST = (
    "SELECT w.n, array_send(a.times), array_send(a.vals), array_send(a.present), array_send(a.events)"
    " FROM unnest(%s::int[]) WITH ORDINALITY AS w (series_id, n) CROSS JOIN LATERAL ("
    "SELECT array_agg(x.observed_at) AS times, array_agg(COALESCE(x.value, 0)) AS vals,"
    " array_agg((x.value IS NOT NULL)::int) AS present, array_agg(x.events) AS events FROM ("
    "SELECT o.observed_at, o.value, o.events FROM observations o WHERE o.series_id = w.series_id"
    " AND o.observed_at >= %s AND o.observed_at <= %s ORDER BY o.observed_at DESC LIMIT %s) x) a"
    " WHERE a.times IS NOT NULL"
)
_COVARIATES = (
    "SELECT n.series_id, array_send(a.times), array_send(a.names), array_send(a.vals), array_send(a.events)"
    " FROM unnest(%s::int[], %s::bigint[]) AS n (series_id, since) CROSS JOIN LATERAL ("
    "SELECT array_agg(c.observed_at) AS times, array_agg(c.name_id) AS names, array_agg(c.value) AS vals,"
    " array_agg(c.events) AS events FROM covariates c WHERE c.series_id = n.series_id"
    f" AND c.observed_at >= {_TIME.format('since')} AND c.name_id = ANY(%s::int[]) AND c.value IS NOT NULL) a"
    " WHERE a.times IS NOT NULL"
)


class PostgresRows:
    """The PostgreSQL side of `Rows`."""

    def insert_observations(self, connection: Connection, new: Observations, topic: int, now: int) -> None:
        """Insert rows that should be new: one COPY, the rows with a value first."""
        batches = []
        for chosen, values in ((new.observed, new.value), (~new.observed, None)):
            count = int(chosen.sum())
            if not count:
                continue
            narrow = np.int32
            batches.append(
                copy.encode(
                    (count,),
                    (
                        new.series_id[chosen].astype(narrow),
                        copy.timestamps(new.observed_at[chosen]),
                        None if values is None else values[chosen],
                        new.events[chosen].astype(narrow),
                        np.array(topic, narrow),
                        new.partition[chosen].astype(narrow),
                        new.offset[chosen],
                        copy.timestamps(np.array(now)),
                    ),
                )
            )
        _copy_in(connection, _COPY_OBSERVATIONS, batches)

    def merge_observations(
        self, connection: Connection, new: Observations, topic: int, now: int, policy: Policy
    ) -> None:
        """Insert rows, or combine them with the rows that are there: one INSERT over arrays."""
        columns = (
            new.series_id,
            new.observed_at,
            new.value,
            new.observed,
            new.events,
            new.partition,
            new.offset,
        )
        with driver(connection).cursor() as cursor:
            cursor.execute(
                _MERGE + merge_clause(policy), (topic, to_datetime(now), *(column.tolist() for column in columns))
            )

    def insert_covariates(self, connection: Connection, new: CovariateRows) -> None:
        """Insert rows that should be new: one COPY, the rows with a value first."""
        narrow = np.int32
        batches = []
        for part, known in ((new.take(new.observed), True), (new.take(~new.observed), False)):
            if len(part.series_id):
                fields = (
                    part.series_id.astype(narrow),
                    copy.timestamps(part.observed_at),
                    part.name_id.astype(narrow),
                    part.value if known else None,
                    part.events.astype(narrow),
                )
                batches.append(copy.encode(part.series_id.shape, fields))
        _copy_in(connection, _COPY_COVARIATES, batches)

    def merge_covariates(self, connection: Connection, new: CovariateRows, policy: Policy) -> None:
        """Insert rows, or combine them with the rows that are there: one INSERT over arrays."""
        columns = (new.series_id, new.observed_at, new.name_id, new.value, new.observed, new.events)
        with driver(connection).cursor() as cursor:
            cursor.execute(
                _MERGE_COVARIATES + merge_covariate_clause(policy), tuple(column.tolist() for column in columns)
            )

    def insert_forecasts(self, connection: Connection, new: Forecasts, topic: int) -> None:
        """Insert one row each: one COPY, layout by layout."""
        _copy_in(connection, _COPY_FORECASTS, _forecast_batches(new, topic))

    def insert_shadow(self, connection: Connection, new: Forecasts) -> None:
        """Insert one row for each of the shadow's, likewise."""
        _copy_in(connection, _COPY_SHADOW, _forecast_batches(new, None))

    def stored(self, connection: Connection, forecasts: Forecasts, table: str) -> Mask:
        """Say which forecasts are rows already."""
        keys = (forecasts.series_id, forecasts.origin, forecasts.model_version)
        present = np.zeros(len(forecasts), np.bool_)
        with driver(connection).cursor() as cursor:
            cursor.execute(_STORED.replace("{table}", table), tuple(key.tolist() for key in keys))
            present[[place - 1 for (place,) in cursor]] = True
        return present

    def newest(
        self, connection: Connection, series_ids: Ints, depth: int, since: int | None, until: int | None = None
    ) -> History:
        """Return each series' newest observations: four arrays per series, decoded without a loop over rows."""
        after = to_datetime(since) if since is not None else "-infinity"
        before = to_datetime(until) if until is not None else "infinity"
        parts: list[list[NDArray[Any]]] = [[np.empty(0, np.int64), np.empty(0), np.empty(0, np.int32)]]
        parts[0].append(parts[0][2])
        counts = np.zeros(len(series_ids), np.int64)
        with driver(connection).cursor(binary=True) as cursor:
            for start in range(0, len(series_ids), _SERIES_PER_QUERY):
                ids = series_ids[start : start + _SERIES_PER_QUERY].tolist()
                cursor.execute(_NEWEST, (ids, after, before, depth))
                for n, times, values, present, events in sorted(cursor):
                    observed_at = copy.instants(times)[::-1]
                    if not np.all(np.diff(observed_at) > 0):
                        raise Corrupt("PostgreSQL returned a series out of time order")
                    counts[start + n - 1] = len(observed_at)
                    columns = copy.vector(values, ">f8"), copy.vector(present, ">i4"), copy.vector(events, ">i4")
                    parts.append([observed_at, *(column[::-1] for column in columns)])
        times, values, present, events = (np.concatenate(column) for column in zip(*parts, strict=True))
        return History(
            series_id=series_ids,
            bounds=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            observed_at=times,
            value=values,
            observed=present.astype(np.bool_),
            events=events.astype(np.int64),
            covariates=np.empty((len(times), 0)),
        )

    def covariates(self, connection: Connection, series_ids: Ints, since: Ints, name_ids: Ints) -> CovariateRows:
        """Return the values under these names: four arrays per series, as in `newest`."""
        empty = np.empty(0, np.int64)
        parts: list[tuple[NDArray[Any], ...]] = [(empty, empty, empty, np.empty(0), empty)]
        with driver(connection).cursor(binary=True) as cursor:
            for start in range(0, len(series_ids), _SERIES_PER_QUERY):
                some = slice(start, start + _SERIES_PER_QUERY)
                cursor.execute(_COVARIATES, (series_ids[some].tolist(), since[some].tolist(), name_ids.tolist()))
                for series_id, times, names, values, events in cursor:
                    at = copy.instants(times)
                    own = np.full(len(at), series_id)
                    columns = copy.vector(names, ">i4"), copy.vector(values, ">f8"), copy.vector(events, ">i4")
                    parts.append((own, at, *columns))
        own, at, names, values, events = (np.concatenate(column) for column in zip(*parts, strict=True))
        return CovariateRows(own, at, names, values, np.ones(len(at), np.bool_), events)


def _forecast_batches(new: Forecasts, topic: int | None) -> Iterator[bytes]:
    """Encode the rows of `packed_forecasts`, or without a topic those of `packed_shadow_forecasts`."""
    narrow = np.int32
    for packed in pack_forecasts(new):
        quality = np.array(packed.forecasts.quality, object)
        for text in dict.fromkeys(packed.forecasts.quality):
            alike = np.flatnonzero(quality == text)
            part = packed.forecasts.take(alike)
            fields: list[copy.Field] = [
                part.series_id.astype(narrow),
                copy.timestamps(part.origin),
                part.model_version.astype(narrow),
                copy.timestamps(part.issued_at),
                text.encode(),
                np.array(part.horizon, narrow),
                None if packed.step_seconds is None else packed.step_seconds[alike],
                None if packed.step_ends is None else packed.step_ends[alike],
                packed.base[alike],
                packed.scale[alike],
                np.array(packed.width, narrow),
                packed.quantiles[alike],
            ]
            if topic is not None:
                fields += [
                    np.array(topic, narrow),
                    part.partition.astype(narrow),
                    part.offset,
                    part.calibration.astype(narrow),
                ]
            yield copy.encode((len(part),), fields)


def _copy_in(connection: Connection, statement: str, batches: Iterable[bytes]) -> None:
    with driver(connection).cursor() as cursor, cursor.copy(statement) as writer:
        for batch in copy.stream(batches):
            whole = memoryview(batch)
            for start in range(0, len(whole), _PIECE):
                writer.write(whole[start : start + _PIECE])
