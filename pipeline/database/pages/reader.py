"""The read side for jobs and people: rows as plain values that JSON can hold.

Times in rows are text, 'YYYY-MM-DD HH:MM:SS[.ffffff]' in UTC, the same on both databases; times in arguments and in
`History` are microseconds UTC.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, TextClause, bindparam, func, select, text

from models.config import QUANTILE_NAMES
from pipeline.database.engine import inspecting, reading
from pipeline.database.pages.steps import stream_steps
from pipeline.database.schema.instants import FIRST, LAST, Instant
from pipeline.database.schema.packed_sql import newest
from pipeline.database.schema.tables import dead_letters, left_in_sql, series
from pipeline.database.turns.covariates import with_covariates
from pipeline.database.turns.dialects import rows_of
from pipeline.database.turns.letters import COLUMNS, letter_of
from pipeline.errors import ConfigError, Corrupt, Unavailable
from pipeline.records import DEAD_LETTER, DeadLetter, History, Ints

Row = dict[str, Any]

_STREAM = {"stream_results": True, "yield_per": 2000}
_STEP = "f.target_time, f.origin, f.step, f.issued_at, f.model_version, f.quality, " + ", ".join(
    f"f.{name}" for name in (*QUANTILE_NAMES, "calibration")
)
_AS_OF = """
SELECT s.name AS series, f.series_id, {step}
FROM series s
{newest}
JOIN forecasts f ON f.series_id = p.series_id AND f.origin = p.origin AND f.model_version = p.model_version
WHERE p.series_id IS NOT NULL{only}
ORDER BY s.name, f.step
"""
_OBSERVATIONS = """
SELECT s.name AS series, o.observed_at, o.value, o.events, t.topic AS source_topic, o.source_partition,
       o.source_offset, o.recorded_at
FROM observations o
JOIN series s ON s.series_id = o.series_id
LEFT JOIN topics t ON t.topic_id = o.source_topic
WHERE o.observed_at >= :since AND o.observed_at < :until{only}
ORDER BY o.series_id, o.observed_at
"""
_COUNTS = """
SELECT (SELECT COUNT(*) FROM series) AS series,
       (SELECT COUNT(*) FROM observations) AS observations,
       (SELECT COALESCE(SUM(events), 0) FROM observations) AS events,
       (SELECT COUNT(*) FROM packed_forecasts) AS forecasts,
       (SELECT COALESCE(SUM(steps), 0) FROM packed_forecasts) AS forecast_rows,
       (SELECT COUNT(*) FROM dead_letters) AS dead_letters
"""
_DEPTHS = """
SELECT s.series_id, (
    SELECT COUNT(*) FROM (SELECT 1 FROM observations o WHERE o.series_id = s.series_id LIMIT :depth) newest
)
FROM series s
ORDER BY s.series_id
"""
READ_ONLY = "25006"  # SQLSTATE; from a worker it means a replica after a failover, which passes
_ALWAYS = (FIRST, LAST)


class SqlReader:
    """Queries; each method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rows = rows_of(engine)

    def training_history(
        self, since: int | None, depth: int, covariates: Sequence[str] = (), *, series_ids: Ints | None = None
    ) -> tuple[list[str], History]:
        """Return the names of all series, or of `series_ids`, and each one's newest `depth` observations since `since`.

        The columns take 25 bytes an observation, and 16 for each covariate; without covariates little more is held
        while they are read. A covariate is NaN where it is missing, and everywhere if it was never stored.
        """
        with reading(self._engine) as connection:
            found = connection.execute(select(series.c.series_id, series.c.name).order_by(series.c.series_id)).all()
            if series_ids is not None:
                wanted = set(series_ids.tolist())
                found = [row for row in found if row.series_id in wanted]
            ids = np.array([row.series_id for row in found], np.int64)
            history = self._rows.newest(connection, ids, depth, since)
            return [row.name for row in found], with_covariates(connection, self._rows, history, covariates)

    def count_history(self, depth: int) -> tuple[Ints, Ints]:
        """Return the ids (S,) of all series, ascending, and how many of its newest `depth` observations each has.

        Each count ends at `depth`, so that a series of years costs no more than one of `depth` observations.
        """
        with reading(self._engine) as connection:
            found = connection.execute(text(_DEPTHS), {"depth": depth}).all()
        pairs = np.array([tuple(row) for row in found], np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def forecasts_latest(self, name: str | None = None, limit: int = 1000) -> list[Row]:
        """Return the current forecast, step by step, of one series or of all in name order."""
        only = "" if name is None else "WHERE series = :series"
        query = text(f"SELECT * FROM current_forecast {only} ORDER BY series, step LIMIT :limit")
        return self._fetch(query, {"limit": limit} | _named(name))

    def forecasts_as_of(self, at: int, name: str | None = None) -> list[Row]:
        """Return what `forecasts_latest` would have shown at a past moment: only forecasts issued by then."""
        sql = _AS_OF.replace("{newest}", newest(self._engine.dialect.name, until="at"))
        query = text(_spelled(sql, name)).bindparams(bindparam("at", type_=Instant()))
        return self._fetch(query, {"at": at} | _named(name))

    def observations(self, name: str | None = None, since: int = _ALWAYS[0], until: int = _ALWAYS[1]) -> Iterator[Row]:
        """Stream observations with since <= observed_at < until, series by series in time order."""
        yield from self._stream(_OBSERVATIONS, name, since, until)

    def forecasts(self, name: str | None = None, since: int = _ALWAYS[0], until: int = _ALWAYS[1]) -> Iterator[Row]:
        """Stream every forecast step with since <= target_time < until, series by series in time order."""
        with reading(self._engine) as connection:
            yield from stream_steps(connection, name, since, until)

    def dead_letters(self, limit: int = 100, *, waiting: bool = False) -> list[Row]:
        """Return the newest dead letters, bytes shown as text; with `waiting` only those not requeued yet.

        `left_in_sql` is why its topic refused one, otherwise None.
        """
        only = " WHERE requeued_at IS NULL" if waiting else ""
        query = text(
            "SELECT topic, source_partition, source_offset, reason, key, value, recorded_at, requeued_at,"
            " (SELECT l.reason FROM left_in_sql l WHERE l.source_topic = d.topic AND l.message = :message"
            " AND l.source_partition = d.source_partition AND l.source_offset = d.source_offset) AS left_in_sql"
            f" FROM dead_letters d{only}"
            " ORDER BY recorded_at DESC, topic DESC, source_partition DESC, source_offset DESC LIMIT :limit"
        )
        return self._fetch(query, {"limit": limit, "message": DEAD_LETTER})

    def left_in_sql(self, since: int) -> dict[str, int]:
        """Count the messages that their topics refused since a time, by topic."""
        noted = left_in_sql.c
        query = select(noted.topic, func.count()).where(noted.noted_at >= since).group_by(noted.topic)
        with reading(self._engine) as connection:
            return {topic: int(count) for topic, count in connection.execute(query)}

    def dead_letter(self, topic: str, partition: int, offset: int) -> DeadLetter:
        """Return one dead letter with its raw bytes; ConfigError if there is none."""
        letter = dead_letters.c
        query = select(*COLUMNS).where(
            letter.topic == topic, letter.source_partition == partition, letter.source_offset == offset
        )
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise ConfigError(f"there is no dead letter {topic}/{partition}/{offset}; see tidecast dead-letters list")
        return letter_of(row)

    def counts(self) -> dict[str, int]:
        """Count series, observations, the events in them, forecasts, forecast_rows (one per step) and dead_letters."""
        return {name: int(count) for name, count in self._fetch(text(_COUNTS), {})[0].items()}

    def count_spread(self) -> tuple[int, int]:
        """Count the series that arrive in several partitions, and all series."""
        query = "SELECT COUNT(spread) AS spread, COUNT(*) AS series FROM series"
        found = self._fetch(text(query), {})[0]
        return int(found["spread"]), int(found["series"])

    def count_off_grid(self, topic: str) -> tuple[int, int]:
        """Count the events of a topic between two steps of the grid, and all of its messages."""
        query = "SELECT SUM(off_grid) AS off, SUM(next_offset) AS messages FROM ingest_state WHERE topic = :topic"
        found = self._fetch(text(query), {"topic": topic})[0]
        return int(found["off"] or 0), int(found["messages"] or 0)

    def accuracy(self) -> list[Row]:
        """Return the view forecast_accuracy, newest day first."""
        return self.query("SELECT * FROM forecast_accuracy ORDER BY day DESC, model_version, horizon_from")

    def partitions(self) -> list[Row]:
        """Return every partition's owner, epoch and next offset."""
        return self.query("SELECT * FROM ingest_state ORDER BY topic, partition")

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """Return the rows of one SELECT with :named parameters; ConfigError if it is wrong or would write."""
        try:
            with inspecting(self._engine) as connection:
                return _plain_rows(connection, text(sql), params or {})
        except (Corrupt, Unavailable) as error:
            if isinstance(error, Unavailable) and _state(error) != READ_ONLY:
                raise
            raise ConfigError(f"the query was refused: {error}") from error

    def _fetch(self, query: TextClause, params: Mapping[str, Any]) -> list[Row]:
        with reading(self._engine) as connection:
            return _plain_rows(connection, query, params)

    def _stream(self, sql: str, name: str | None, since: int, until: int) -> Iterator[Row]:
        bounds = bindparam("since", type_=Instant()), bindparam("until", type_=Instant())
        query = text(_spelled(sql, name)).bindparams(*bounds)
        params = {"since": since, "until": until} | _named(name)
        with reading(self._engine) as connection:
            for row in connection.execute(query, params, execution_options=_STREAM).mappings():
                yield {name: plain(value) for name, value in row.items()}


def _spelled(sql: str, name: str | None) -> str:
    return sql.format(step=_STEP, only="" if name is None else " AND s.name = :series")


def _named(name: str | None) -> dict[str, Any]:
    return {} if name is None else {"series": name}


def _state(error: Exception) -> str | None:
    state: str | None = getattr(getattr(error.__cause__, "orig", None), "sqlstate", None)
    return state


def plain(value: Any) -> Any:
    """Turn a driver's value into one that JSON can hold and that is the same on both databases."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    return json.dumps(value) if isinstance(value, dict | list) else value


def _plain_rows(connection: Connection, query: TextClause, params: Mapping[str, Any]) -> list[Row]:
    found = connection.execute(query, params).mappings()
    return [{name: plain(value) for name, value in row.items()} for row in found]
