"""A model's live errors one step ahead, step of time by step of time and group by group, for the detection of drift."""

from typing import NamedTuple

from sqlalchemy import Connection, Engine, bindparam, func, select, text

from pipeline.database.engine import reading
from pipeline.database.jobs.matured import read_grid
from pipeline.database.jobs.pruned import read_pruned
from pipeline.database.schema.instants import Instant
from pipeline.database.schema.monitor_tables import series_groups

STEPS = 168
"""Steps of time that one query looks at, a week of hours, or fewer where they would be of more than"""
FORECASTS = 200_000
"""so many forecasts, some seconds' work."""

# CROSS JOIN makes SQLite go series by series through the index of origins; it would read all forecasts otherwise.
_MATURED = """
FROM series_groups g
CROSS JOIN forecast_vs_actual v
"""
_CHOSEN = "g.series_group = :group AND v.series_id = g.series_id AND v.step = 1 AND v.model_version = :version"
_NEXT = f"SELECT MIN(v.origin) AS origin {_MATURED} WHERE {_CHOSEN} AND v.origin > :after"
_MEANS = f"""
SELECT v.origin, AVG(v.absolute_error / e.scale) AS error, AVG(-v.naive_error / e.scale) AS level
{_MATURED}
LEFT JOIN evaluations e ON e.series_id = v.series_id AND e.model_version = v.model_version AND e.day = v.day
                       AND e.horizon_from = 1
WHERE {_CHOSEN} AND v.origin >= :first AND v.origin <= :last
GROUP BY v.origin
ORDER BY v.origin
"""


class StepMeans(NamedTuple):
    """Means over a group's series, in units of their scales; None where no series has evidence.

    `error` is the mean absolute error one step ahead, `level` the mean of observation minus the one a season before.
    """

    origin: int  # microseconds UTC
    error: float | None
    level: float | None


class LiveErrors:
    """Means of matured forecasts; each method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def groups(self) -> list[str]:
        """List the groups of series that there are."""
        query = select(series_groups.c.series_group).distinct().order_by(series_groups.c.series_group)
        with reading(self._engine) as connection:
            return list(connection.execute(query).scalars())

    def step_means(self, group: str, version: int, after: int | None) -> list[StepMeans]:
        """Return the next steps of time after an origin, so many, in order; none when there are no more yet.

        None begins where retention has left all forecasts: those of one hour of the day are no measure for the others.
        A step is returned once the group has matured forecasts of a later one: by then most of its actuals are there.
        """
        with reading(self._engine) as connection:
            first = _next(connection, group, version, read_pruned(connection) if after is None else after)
            if first is None:
                return []
            members = select(func.count()).where(series_groups.c.series_group == group)
            steps = max(1, min(STEPS, FORECASTS // max(1, connection.execute(members).scalar_one())))
            last = first + round((steps - 1) * (read_grid(connection).step_seconds or 0) * 1e6)
            times = [bindparam(name, type_=Instant()) for name in ("first", "last")]
            query = text(_MEANS).bindparams(*times).columns(origin=Instant)
            found = connection.execute(query, {"group": group, "version": version, "first": first, "last": last})
            means = [StepMeans(*row) for row in found]
            if means and _next(connection, group, version, means[-1].origin) is None:
                means.pop()
            return means


def _next(connection: Connection, group: str, version: int, after: int) -> int | None:
    query = text(_NEXT).bindparams(bindparam("after", type_=Instant())).columns(origin=Instant)
    found: int | None = connection.execute(query, {"group": group, "version": version, "after": after}).scalar()
    return found
