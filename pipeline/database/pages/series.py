"""What the read API shows of series: names, history, forecasts by origin. Each query is bounded by an index or a limit.

Times are microseconds UTC. Pages go on after a key, never by a row number, so page a thousand costs what page one does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, func, literal, select, tuple_

from models.config import QUANTILE_NAMES
from pipeline.database.packed import packed_columns_of, unpack_steps
from pipeline.database.schema.instants import Instant
from pipeline.database.schema.tables import models, observations, packed_forecasts, series

Row = dict[str, Any]
NEAREST = 100
"""Names on either side of an unknown one that are looked at for a hint."""
_F, _O, _S = packed_forecasts.c, observations.c, series.c
_HEAD = (_F.series_id, _F.origin, _F.model_version, _F.issued_at, _F.quality, _F.calibration)
_NEWESTFIRST = (_F.origin.desc(), _F.issued_at.desc(), _F.model_version.desc())


@dataclass(frozen=True, slots=True)
class Head:
    """A forecast without its steps; key (series_id, origin, model_version)."""

    series_id: int
    origin: int
    model_version: int
    issued_at: int
    quality: str
    calibration: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which forecast of a series: the newest that fits all that is said."""

    origin: int | None = None
    as_of: int | None = None
    model_version: int | None = None


def find_series(connection: Connection, name: str) -> int | None:
    """Return the id of a series, None for an unknown name."""
    found: int | None = connection.execute(select(_S.series_id).where(_S.name == name)).scalar()
    return found


def names_near(connection: Connection, name: str) -> list[str]:
    """List names that sort near a name, or that hold it."""
    after = select(_S.name).where(_S.name >= name).order_by(_S.name).limit(NEAREST)
    before = select(_S.name).where(_S.name < name).order_by(_S.name.desc()).limit(NEAREST)
    return [each for query in (after, before) for each in connection.execute(query).scalars()]


def count_series(connection: Connection, search: str = "") -> int:
    """Count the series whose names hold a text."""
    return int(connection.execute(select(func.count()).select_from(series).where(*_matching(search))).scalar_one())


def page_of_series(connection: Connection, search: str, after: str | None, limit: int) -> list[Row]:
    """Return the next series by name, each with its newest observation and forecast."""
    page = select(_S.series_id, _S.name, _S.first_seen).where(*_matching(search))
    if after is not None:
        page = page.where(_S.name > after)
    own = page.order_by(_S.name).limit(limit).subquery()
    last = select(func.max(_O.observed_at)).where(_O.series_id == own.c.series_id)
    origin, quality = (
        select(column).where(_F.series_id == own.c.series_id).order_by(*_NEWESTFIRST).limit(1).scalar_subquery()
        for column in (_F.origin, _F.quality)
    )
    columns = last.scalar_subquery().label("last_observed_at"), origin.label("latest_origin"), quality.label("quality")
    return [dict(row) for row in connection.execute(select(own, *columns).order_by(own.c.name)).mappings()]


def read_history(connection: Connection, series_id: int, since: int | None, until: int | None, limit: int) -> list[Row]:
    """Return the newest observations with since <= observed_at < until, ascending; value None is an explicit null."""
    query = select(_O.observed_at.label("at"), _O.value).where(_O.series_id == series_id)
    if since is not None:
        query = query.where(_O.observed_at >= since)
    if until is not None:
        query = query.where(_O.observed_at < until)
    rows = connection.execute(query.order_by(_O.observed_at.desc()).limit(limit)).mappings()
    return [dict(row) for row in rows][::-1]


def page_of_origins(
    connection: Connection, series_id: int, before: tuple[int, int | None] | None, limit: int
) -> list[Row]:
    """Return the next older forecasts, newest origin first, before (origin, model_version), or before an origin."""
    query = select(_F.origin, _F.issued_at, _F.model_version, _F.quality).where(_F.series_id == series_id)
    if before is not None:
        query = query.where(_before(*before))
    rows = connection.execute(query.order_by(_F.origin.desc(), _F.model_version.desc()).limit(limit)).mappings()
    return [dict(row) for row in rows]


def find_forecast(connection: Connection, series_id: int, wanted: Wanted) -> tuple[Head, list[Row]] | None:
    """Find the newest forecast that fits, the latest origin, then the latest issued; with its steps, in order."""
    query = select(*_HEAD, *packed_columns_of(packed_forecasts)).where(_F.series_id == series_id)
    if wanted.origin is not None:
        query = query.where(_F.origin == wanted.origin)
    if wanted.as_of is not None:
        query = query.where(_F.issued_at <= wanted.as_of)
    if wanted.model_version is not None:
        query = query.where(_F.model_version == wanted.model_version)
    row = connection.execute(query.order_by(*_NEWESTFIRST).limit(1)).first()
    if row is None:
        return None
    (steps,) = unpack_steps(np.array([row.origin]), [row])
    numbered = enumerate(zip(steps.target_times[0].tolist(), steps.quantiles[0].tolist(), strict=True), start=1)
    return Head(*row[: len(_HEAD)]), [
        {"step": step, "target_time": time, **dict(zip(QUANTILE_NAMES, numbers, strict=True))}
        for step, (time, numbers) in numbered
    ]


def read_actuals(connection: Connection, series_id: int, first: int, last: int) -> dict[int, float]:
    """Return the values observed at first <= time <= last, by time."""
    query = select(_O.observed_at, _O.value).where(
        _O.series_id == series_id, _O.observed_at >= first, _O.observed_at <= last, _O.value.is_not(None)
    )
    return {row.observed_at: row.value for row in connection.execute(query)}


def read_tails(
    connection: Connection, series_ids: Sequence[int], rows: int
) -> dict[int, tuple[dict[int, float | None], dict[tuple[int, int], Row]]]:
    """Return the newest observations of each series, by time, and its newest forecasts by (origin, model_version)."""
    found = {}
    for own in series_ids:
        seen = read_history(connection, own, None, None, rows)
        issued = page_of_origins(connection, own, None, rows)
        found[own] = (
            {row["at"]: row["value"] for row in seen},
            {(row["origin"], row["model_version"]): row for row in issued[::-1]},
        )
    return found


def newest_observed(connection: Connection, series_ids: Sequence[int]) -> int | None:
    """Return the newest time observed among these series."""
    last = select(func.max(_O.observed_at)).where(_O.series_id == _S.series_id).scalar_subquery()
    found = connection.execute(select(last).where(_S.series_id.in_(series_ids))).scalars()
    return max((at for at in found if at is not None), default=None)


def model_names(connection: Connection, versions: Sequence[int]) -> Mapping[int, str]:
    """Return the names of models."""
    query = select(models.c.version, models.c.name).where(models.c.version.in_(versions))
    return {row.version: row.name for row in connection.execute(query)}


def _matching(search: str) -> list[ColumnElement[bool]]:
    return [_S.name.icontains(search, autoescape=True)] if search else []


def _before(origin: int, version: int | None) -> ColumnElement[bool]:
    if version is None:
        return _F.origin < origin
    return tuple_(_F.origin, _F.model_version) < tuple_(literal(origin, Instant), literal(version))
