"""Calibrations of models, and the matured forecasts they are found from. Times are microseconds UTC."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Engine, select

from models.config import QUANTILE_NAMES
from pipeline.database.engine import reading, writing
from pipeline.database.schema.tables import calibrations, forecasts, observations, series
from pipeline.forecasting.calibration import Calibration, MaturedSteps
from pipeline.records import Ints

_CHUNK = 10_000  # rows held as Python tuples before they become columns
_SERIES_PER_QUERY = 200
_HEAD = ("series_id", "step", "target_time", "calibration")
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
        """Return every forecast step of a model for these series and targets whose target has a value.

        The columns take 150 bytes a step; little more is held while they are read.
        """
        made, seen = forecasts.c, observations.c
        query = (
            select(*(made[name] for name in _HEAD), seen.value, *(made[name] for name in QUANTILE_NAMES))
            .join_from(
                forecasts,
                observations,
                (seen.series_id == made.series_id) & (seen.observed_at == made.target_time),
            )
            .where(made.model_version == model_version, seen.value.is_not(None))
            .where(made.target_time.in_(target_times.tolist()))
        )
        heads, numbers = [np.empty((0, len(_HEAD)), np.int64)], [np.empty((0, 1 + len(QUANTILE_NAMES)))]
        with reading(self._engine) as connection:
            for start in range(0, len(series_ids), _SERIES_PER_QUERY):
                some = query.where(made.series_id.in_(series_ids[start : start + _SERIES_PER_QUERY].tolist()))
                options = {"stream_results": True, "yield_per": _CHUNK}
                for chunk in connection.execute(some, execution_options=options).partitions():
                    heads.append(np.array([row[: len(_HEAD)] for row in chunk], np.int64))
                    numbers.append(np.array([row[len(_HEAD) :] for row in chunk], np.float64))
        head, number = np.concatenate(heads), np.concatenate(numbers)
        own, step, target_time, calibration = head.T
        return MaturedSteps(own, step, target_time, calibration, quantiles=number[:, 1:], actual=number[:, 0])

    def _list(self, limit: int, *where: Any) -> list[Calibration]:
        query = select(*_COLUMNS).where(*where).order_by(calibrations.c.version.desc()).limit(limit)
        with reading(self._engine) as connection:
            return [Calibration(**row) for row in connection.execute(query).mappings()]
