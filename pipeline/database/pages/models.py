"""What the read API shows of models: figures from backtests, live accuracy, reliability, promotions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Integer, bindparam, func, select, text

from models.config import QUANTILE_LEVELS, QUANTILE_NAMES
from pipeline.database.schema.instants import Instant
from pipeline.database.schema.tables import alias_history, aliases, models, series

Row = dict[str, Any]
FIGURES = ("mase", "wql", "coverage_80", "verdict")
MOST_SERIES = 32
"""Series that reliability is counted over, spread evenly over their ids."""
STEPS_PER_SERIES = 2_000
"""Matured forecast steps of each that are counted, those of the newest targets."""

_FACTS = ("version", "name", "created_at", "train_from", "train_to", "metrics", "code", "seed")
# The newest targets first, so that a long window of many steps is cut at its older end.
_RELIABILITY = f"""
SELECT m.model_version, COUNT(*) AS n, {{sums}}
FROM (
    SELECT f.model_version, o.value, {", ".join(f"f.{name}" for name in QUANTILE_NAMES)}
    FROM forecasts f
    JOIN observations o ON o.series_id = f.series_id AND o.observed_at = f.target_time AND o.value IS NOT NULL
    WHERE f.series_id = :series AND f.target_time > :after AND f.target_time <= :last{{only}}
    ORDER BY f.target_time DESC
    LIMIT :steps
) m
GROUP BY m.model_version
"""


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
    """Count over these series' matured forecasts with after < target <= last, of one model or of each."""
    sums = ", ".join(f"SUM(CASE WHEN m.value <= m.{name} THEN 1 ELSE 0 END) AS {name}" for name in QUANTILE_NAMES)
    only = "" if version is None else " AND f.model_version = :version"
    query = text(_RELIABILITY.format(sums=sums, only=only)).bindparams(
        bindparam("after", type_=Instant()), bindparam("last", type_=Instant()), bindparam("steps", type_=Integer())
    )
    given = {"after": after, "last": last, "steps": STEPS_PER_SERIES} | (
        {} if version is None else {"version": version}
    )
    counted: dict[int, list[int]] = {}
    for own in chosen:
        for row in connection.execute(query, {"series": own, **given}):
            total = counted.setdefault(row.model_version, [0] * (1 + len(QUANTILE_LEVELS)))
            for place, count in enumerate(row[1:]):
                total[place] += int(count)
    return [Reliability(own, total[0], tuple(total[1:])) for own, total in sorted(counted.items(), reverse=True)]


def spread_series(connection: Connection, most: int = MOST_SERIES) -> list[int]:
    """Choose series spread evenly over the ids that there are, all of them if they are few."""
    highest = connection.execute(select(func.max(series.c.series_id))).scalar() or 0
    first = select(series.c.series_id).order_by(series.c.series_id).limit(1)
    chosen = dict.fromkeys(
        connection.execute(first.where(series.c.series_id >= 1 + highest * place // most)).scalar()
        for place in range(most)
    )
    return [own for own in chosen if own is not None]
