"""Matured live forecasts of the shadow beside the champion's, on the same targets. Times are microseconds UTC."""

from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, Row, bindparam, select, text

from pipeline.database.engine import reading
from pipeline.database.packed import longest_reach, packed_columns_of, unpack_steps
from pipeline.database.schema.instants import FIRST, LAST, Instant
from pipeline.database.schema.shadow_tables import packed_shadow_forecasts
from pipeline.database.schema.tables import series
from pipeline.job_facts import LivePairs

_AT_ONCE = 100  # series in one transaction
# The naive must have an answer, so that all three are judged on the same targets.
_SUMS = """
SELECT v.origin,
       CASE WHEN EXISTS (SELECT 1 FROM {other} o WHERE o.series_id = v.series_id AND o.origin = v.origin
                         AND o.model_version = :other AND o.steps >= v.step) THEN 1 ELSE 0 END AS beside,
       COUNT(*) AS n, MAX(v.step) AS last_step, SUM(ABS(v.actual)) AS size, SUM(ABS(v.naive_error)) AS naive_error,
       SUM(v.absolute_error) AS error, SUM(v.pinball) AS pinball, SUM(v.inside_80) AS inside
FROM {view} v
WHERE v.series_id = :series AND v.origin >= :oldest AND v.target_time >= :first AND v.model_version = :own
  AND v.issued_at >= :since
  AND v.naive_error IS NOT NULL
GROUP BY v.origin, 2
ORDER BY v.origin
"""
_CHAMPION = _SUMS.format(view="forecast_vs_actual", other="packed_shadow_forecasts")
_SHADOW = _SUMS.format(view="shadow_vs_actual", other="packed_forecasts")


class Shadows:
    """Reads what a shadow and the champion forecast live."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def live_pairs(self, shadow: int, champion: int, since: int) -> LivePairs:
        """Sum up the forecasts issued at or after `since` whose targets have matured."""
        with reading(self._engine) as connection:
            ids = connection.execute(select(series.c.series_id).order_by(series.c.series_id)).scalars().all()
        chunks = [ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE)]
        first = LAST
        for chunk in chunks:
            with reading(self._engine) as connection:
                first = min([first, *(_find_first(connection, own, shadow) for own in chunk)])
        rows: list[tuple[Any, ...]] = []
        left_out = 0
        for chunk in chunks if first < LAST else []:
            with reading(self._engine) as connection:
                oldest = max(first - longest_reach(connection), FIRST)
                for own in chunk:
                    bounds = {"series": own, "oldest": oldest, "first": first, "since": since}
                    served = _sum_up(connection, _CHAMPION, bounds | {"own": champion, "other": shadow})
                    left_out += sum(row.n for row in served if not row.beside)
                    tried = {
                        row.origin: row
                        for row in _sum_up(connection, _SHADOW, bounds | {"own": shadow, "other": champion})
                        if row.beside
                    }
                    rows += [_pair(own, row, tried[row.origin]) for row in served if row.beside]
        return _lay_out(rows, left_out)


def _lay_out(rows: list[tuple[Any, ...]], left_out: int) -> LivePairs:
    columns = list(zip(*rows, strict=True)) or [()] * 11
    counts = [np.array(column, np.int64) for column in (*columns[:4], *columns[9:])]
    sums = [np.array(column, np.float64) for column in columns[4:9]]
    return LivePairs(
        series=counts[0],
        origin=counts[1],
        last_step=counts[2],
        n=counts[3],
        size=sums[0],
        naive_error=sums[1],
        shadow_error=sums[2],
        shadow_pinball=sums[3],
        champion_pinball=sums[4],
        shadow_inside=counts[4],
        champion_inside=counts[5],
        left_out=left_out,
    )


def _find_first(connection: Connection, own: int, shadow: int) -> int:
    """Find the first target of a series that the shadow forecast; LAST if there is none."""
    row = packed_shadow_forecasts.c
    query = select(row.origin, *packed_columns_of(packed_shadow_forecasts))
    query = query.where(row.series_id == own, row.model_version == shadow).order_by(row.origin).limit(1)
    found = connection.execute(query).all()
    if not found:
        return LAST
    (steps,) = unpack_steps(np.array([found[0].origin]), found)
    return int(steps.target_times[0, 0])


def _sum_up(connection: Connection, query: str, values: dict[str, int]) -> list[Row[Any]]:
    times = [bindparam(name, type_=Instant()) for name in ("oldest", "first", "since")]
    statement = text(query).bindparams(*times).columns(origin=Instant)
    return list(connection.execute(statement, values))


def _pair(own: int, served: Row[Any], tried: Row[Any]) -> tuple[Any, ...]:
    return (
        own,
        served.origin,
        served.last_step,
        served.n,
        served.size,
        served.naive_error,
        tried.error,
        tried.pinball,
        served.pinball,
        tried.inside,
        served.inside,
    )
