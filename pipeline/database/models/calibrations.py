"""Calibrations of models, and the matured forecasts they are found from. Times are microseconds UTC."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Row, select

from models.config import QUANTILE_LEVELS
from pipeline.database.engine import reading, writing
from pipeline.database.packed import longest_reach, packed_columns_of, unpack_steps
from pipeline.database.schema.instants import FIRST
from pipeline.database.schema.tables import calibrations, observations, packed_forecasts, series
from pipeline.forecasting.calibration import Calibration, MaturedSteps
from pipeline.records import Ints

_CHUNK = 1_000  # forecasts held at once
_SERIES_PER_QUERY = 200
COUNT = len(QUANTILE_LEVELS)
_COLUMNS = (
    calibrations.c.version,
    calibrations.c.model_version,
    calibrations.c.created_at,
    calibrations.c["from"].label("first"),
    calibrations.c["to"].label("last"),
    calibrations.c.n,
    calibrations.c.factors,
    calibrations.c.metrics,
)


class Calibrations:
    """The calibrations table; satisfies the ports of forecasting/scorer.py and of upkeep/calibrate.py."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def newest(self, model_version: int, after: int = 0) -> Calibration | None:
        """Return a model's newest calibration if its version is higher than `after`."""
        found = self._list(1, calibrations.c.model_version == model_version, calibrations.c.version > after)
        return found[0] if found else None

    def versions(self, model_version: int, versions: Sequence[int]) -> list[Calibration]:
        """Return those of a model's calibrations that have these versions, newest first."""
        wanted = calibrations.c.version.in_(list(versions))
        return self._list(len(versions), calibrations.c.model_version == model_version, wanted)

    def recent(self, limit: int = 20) -> list[Calibration]:
        """Return the newest calibrations of all models, newest first."""
        return self._list(limit)

    def record(
        self,
        model_version: int,
        *,
        between: tuple[int, int],
        n: int,
        factors: Sequence[Sequence[float]],
        metrics: Mapping[str, Any],
        now: int,
    ) -> int:
        """Store a calibration found from `n` steps with targets `between` two times; return its version, 1 or more."""
        values = {
            "model_version": model_version,
            "created_at": now,
            "from": between[0],
            "to": between[1],
            "n": n,
            "factors": [list(row) for row in factors],
            "metrics": dict(metrics),
        }
        new = calibrations.insert().values(values).returning(calibrations.c.version)
        with writing(self._engine) as connection:
            return int(connection.execute(new).scalar_one())

    def series(self) -> Ints:
        """Return the ids of all series, ascending."""
        with reading(self._engine) as connection:
            found = connection.execute(select(series.c.series_id).order_by(series.c.series_id)).scalars().all()
        return np.array(found, np.int64)

    def newest_observation(self, series_ids: Ints) -> int | None:
        """Return the time of the newest observed value of some series."""
        own = observations.c
        newest: list[int] = []
        with reading(self._engine) as connection:
            for series_id in series_ids.tolist():
                query = (
                    select(own.observed_at)
                    .where(own.series_id == series_id, own.value.is_not(None))
                    .order_by(own.observed_at.desc())
                    .limit(1)
                )
                newest += connection.execute(query).scalars().all()
        return max(newest, default=None)

    def matured(self, model_version: int, series_ids: Ints, target_times: Ints) -> MaturedSteps:
        """Return every forecast step of a model for these series and targets whose target has a value."""
        columns: list[list[NDArray[Any]]] = [[] for _ in MaturedSteps.__dataclass_fields__]
        if len(series_ids) and len(target_times):
            with reading(self._engine) as connection:
                reach = longest_reach(connection)
                for start in range(0, len(series_ids), _SERIES_PER_QUERY):
                    some = series_ids[start : start + _SERIES_PER_QUERY]
                    actuals = _read_actuals(connection, some, target_times)
                    for rows in _read_forecasts(connection, model_version, some, target_times, reach):
                        for place, column in enumerate(_judge(rows, target_times, actuals)):
                            columns[place].append(column)
        empty: list[NDArray[Any]] = [*(np.empty(0, np.int64) for _ in range(4)), np.empty((0, COUNT)), np.empty(0)]
        return MaturedSteps(*(np.concatenate([first, *rest]) for first, rest in zip(empty, columns, strict=True)))

    def _list(self, limit: int, *where: Any) -> list[Calibration]:
        query = select(*_COLUMNS).where(*where).order_by(calibrations.c.version.desc()).limit(limit)
        with reading(self._engine) as connection:
            return [Calibration(**row) for row in connection.execute(query).mappings()]


def _read_actuals(connection: Connection, series_ids: Ints, target_times: Ints) -> dict[tuple[int, int], float]:
    """Return the values observed between the first and the last target, by (series, time)."""
    row = observations.c
    first, last = int(target_times.min()), int(target_times.max())
    query = select(row.series_id, row.observed_at, row.value).where(
        row.series_id.in_(series_ids.tolist()), row.observed_at.between(first, last), row.value.is_not(None)
    )
    return {(own, time): value for own, time, value in connection.execute(query)}


def _read_forecasts(
    connection: Connection, model_version: int, series_ids: Ints, target_times: Ints, reach: int
) -> Iterator[Sequence[Row[Any]]]:
    """Read the forecasts that may have one of the targets, so many at a time."""
    made = packed_forecasts.c
    query = select(made.series_id, made.origin, made.calibration, *packed_columns_of(packed_forecasts)).where(
        made.series_id.in_(series_ids.tolist()),
        made.origin >= max(int(target_times.min()) - reach, FIRST),
        made.origin < int(target_times.max()),
        made.model_version == model_version,
    )
    options = {"stream_results": True, "yield_per": _CHUNK}
    yield from connection.execute(query, execution_options=options).partitions()


def _judge(
    rows: Sequence[Row[Any]], target_times: Ints, actuals: Mapping[tuple[int, int], float]
) -> list[NDArray[Any]]:
    """Lay out the steps with these targets that have an actual, as columns of MaturedSteps."""
    own = np.array([row.series_id for row in rows], np.int64)
    calibration = np.array([row.calibration for row in rows], np.int64)
    parts = []
    for steps in unpack_steps(np.array([row.origin for row in rows], np.int64), rows):
        forecast, step = np.nonzero(np.isin(steps.target_times, target_times))
        place, times = steps.places[forecast], steps.target_times[forecast, step]
        found = [actuals.get(key, np.nan) for key in zip(own[place].tolist(), times.tolist(), strict=True)]
        actual = np.array(found, np.float64)
        matured = ~np.isnan(actual)
        quantiles = steps.quantiles[forecast, step]
        columns = own[place], step + 1, times, calibration[place], quantiles, actual
        parts.append([column[matured] for column in columns])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
