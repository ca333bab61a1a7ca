"""What the read API shows of models: figures from backtests, live accuracy, reliability, promotions."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, func, literal, select, tuple_

from pipeline.database.packed import last_target, longest_reach, packed_columns_of, unpack_steps
from pipeline.database.pages.series import read_actuals
from pipeline.database.schema.instants import FIRST, Instant
from pipeline.database.schema.tables import alias_history, aliases, models, packed_forecasts, series
from pipeline.quantiles import SAME
from pipeline.records import Ints, Mask

Row = dict[str, Any]
FIGURES = ("mase", "wql", "coverage_80", "verdict")
MOST_SERIES = 32
"""Series that reliability is counted over, spread evenly over their ids."""
STEPS_PER_SERIES = 2_000
"""Matured forecast steps of each that are counted, those of the newest targets."""
FORECASTS_AT_ONCE = 200
"""Of a series, read in one query."""

_FACTS = ("version", "name", "created_at", "train_from", "train_to", "metrics", "code", "seed")


class Reliability(NamedTuple):
    """How often actuals lay at or below each of the 13 quantiles of a model, over `n` forecast steps."""

    model_version: int
    n: int
    below: tuple[int, ...]


def page_of_models(connection: Connection, below: int | None, limit: int) -> list[Row]:
    """Return the next older models, newest first, without their artifacts."""
    query = select(*(models.c[name] for name in _FACTS)).order_by(models.c.version.desc()).limit(limit)
    if below is not None:
        query = query.where(models.c.version < below)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    named: dict[int, list[str]] = {}
    for alias, version in connection.execute(select(aliases.c.alias, aliases.c.version).order_by(aliases.c.alias)):
        named.setdefault(version, []).append(alias)
    for row in rows:
        metrics = row.pop("metrics")
        row.update({name: metrics.get(name) for name in FIGURES}, aliases=named.get(row["version"], []))
    return rows


def read_changes(connection: Connection, limit: int) -> list[Row]:
    """Return the newest moves of every alias, newest first."""
    query = select(alias_history).order_by(alias_history.c.id.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def read_champion(connection: Connection) -> Row | None:
    """Return version, name and kind of the champion and since when it is one."""
    kind = models.c.config["kind"].as_string().label("kind")
    chosen = (
        select(models.c.version, models.c.name, kind).join_from(aliases, models).where(aliases.c.alias == "champion")
    )
    row = connection.execute(chosen).mappings().first()
    if row is None:
        return None
    since = select(func.max(alias_history.c.changed_at)).where(
        alias_history.c.alias == "champion", alias_history.c.version == row["version"]
    )
    return dict(row) | {"promoted_at": connection.execute(since).scalar()}


def count_below(
    connection: Connection, chosen: Sequence[int], after: int, last: int, version: int | None
) -> list[Reliability]:
    """Count over these series' matured forecasts with after < target <= last, of one model or of each.

    Of each series STEPS_PER_SERIES steps, those of the newest targets: a long window of many steps is cut at its older
    end.
    """
    counted: dict[int, Ints] = {}
    oldest = max(after - longest_reach(connection), FIRST)
    for own in chosen:
        actuals = read_actuals(connection, own, after + 1, last)
        if actuals:
            rows = _read_newest(connection, own, oldest, actuals, version)
            for model, below in _below(rows, actuals).items():
                counted[model] = counted.get(model, 0) + np.concatenate([[len(below)], below.sum(axis=0)])
    return [
        Reliability(model, int(total[0]), tuple(total[1:].tolist()))
        for model, total in sorted(counted.items(), reverse=True)
    ]


def _read_newest(
    connection: Connection, own: int, oldest: int, actuals: Mapping[int, float], version: int | None
) -> list[Any]:
    """Read a series' forecasts, newest first, until the newest targets have STEPS_PER_SERIES steps that matured.

    A target has all of its steps once every forecast that may reach it has been read.
    """
    made = packed_forecasts.c
    columns = made.origin, made.model_version, *packed_columns_of(packed_forecasts)
    query = (
        select(*columns)
        .where(made.series_id == own, made.origin >= oldest, made.origin < max(actuals))
        .order_by(made.origin.desc(), made.model_version.desc())
    )
    if version is not None:
        query = query.where(made.model_version == version)
    times = np.array(sorted(actuals), np.int64)
    page = connection.execute(query.limit(FORECASTS_AT_ONCE)).all()
    rows, reach = list(page), 0
    while len(page) == FORECASTS_AT_ONCE:
        end = page[-1]
        reach = max([reach, *(last_target(row) - row.origin for row in page)])
        whole = times[times > end.origin + reach]
        found = [steps.target_times for steps in unpack_steps(np.array([row.origin for row in rows]), rows)]
        if sum(int(np.isin(targets, whole).sum()) for targets in found) >= STEPS_PER_SERIES:
            break
        key = literal(end.origin, Instant), literal(end.model_version)
        older = query.where(tuple_(made.origin, made.model_version) < tuple_(*key))
        page = connection.execute(older.limit(FORECASTS_AT_ONCE)).all()
        rows += page
    return rows


def _below(rows: Sequence[Any], actuals: Mapping[int, float]) -> dict[int, Mask]:
    """Tell for the steps of the newest targets which quantiles the actual is not above, (N, 13) by model."""
    times, targets_of = np.array(sorted(actuals), np.int64), []
    values = np.array([actuals[time] for time in times.tolist()])
    models_of = np.array([row.model_version for row in rows], np.int64)
    origin = np.array([row.origin for row in rows], np.int64)
    for steps in unpack_steps(origin, rows):
        place = np.minimum(np.searchsorted(times, steps.target_times), len(times) - 1)
        forecast, step = np.nonzero(times[place] == steps.target_times)
        actual = values[place[forecast, step], None]
        below = actual - SAME * np.abs(actual) <= steps.quantiles[forecast, step]
        own = steps.places[forecast]
        targets_of.append((steps.target_times[forecast, step], origin[own], models_of[own], below))
    if not targets_of:
        return {}
    targets, origins, model, below = (np.concatenate(column) for column in zip(*targets_of, strict=True))
    newest = np.lexsort((-origins, -targets))[:STEPS_PER_SERIES]
    return {own: below[newest][model[newest] == own] for own in np.unique(model[newest]).tolist()}


def spread_series(connection: Connection, most: int = MOST_SERIES) -> list[int]:
    """Choose series spread evenly over the ids that there are, all of them if they are few."""
    highest = connection.execute(select(func.max(series.c.series_id))).scalar() or 0
    first = select(series.c.series_id).order_by(series.c.series_id).limit(1)
    chosen = dict.fromkeys(
        connection.execute(first.where(series.c.series_id >= 1 + highest * place // most)).scalar()
        for place in range(most)
    )
    return [own for own in chosen if own is not None]
