"""Readings that a person takes out or corrects: a sensor that lied, a clock that was fast.

A reading that is removed becomes an explicit null, so that what was computed from it is computed again by whatever
looks for changed rows: accuracy by the monitor, training sets when they are read. `source_offset` is BY_HAND until an
event of the same step arrives. `topics.repairs` tells every worker to read its windows from SQL again before its next
turn; a turn that has begun before is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, and_, select, update

from pipeline.database.engine import reading, writing
from pipeline.database.schema.instants import to_text
from pipeline.database.schema.tables import covariates, observations, repairs, series, topics
from pipeline.errors import ConfigError

BY_HAND = -1
MOST = 10_000
"""Readings that one repair may change: what was there is kept with it."""


@dataclass(frozen=True, slots=True)
class Repair:
    """Readings of a series with since <= observed_at <= until (microseconds UTC), and who repairs them and why."""

    series: str
    since: int
    until: int
    actor: str
    reason: str
    now: int


class Repairs:
    """Changes readings, and keeps who did it, why, and what was there before."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def remove(self, repair: Repair) -> int:
        """Take the readings of a span out, with their covariates, and return how many there were."""
        with writing(self._engine) as connection:
            _warn_workers(connection)
            own, found = _find(connection, repair)
            values = {"value": None, "events": 0, "source_offset": BY_HAND, "recorded_at": repair.now}
            connection.execute(update(observations).where(_within(observations, own, repair)).values(**values))
            gone = {"value": None, "events": 0}
            connection.execute(update(covariates).where(_within(covariates, own, repair)).values(**gone))
            _keep(connection, repair, own, None, found)
        return len(found)

    def correct(self, repair: Repair, value: float) -> None:
        """Give the reading at `since`, a time of the grid, another value; ConfigError if there is none."""
        one = replace(repair, until=repair.since)
        with writing(self._engine) as connection:
            _warn_workers(connection)
            own, found = _find(connection, one)
            values = {"value": value + 0.0, "events": 1, "source_offset": BY_HAND, "recorded_at": repair.now}
            connection.execute(update(observations).where(_within(observations, own, one)).values(**values))
            _keep(connection, one, own, value, found)

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest repairs, each with its series' name and without the readings that were there."""
        own = [column for column in repairs.c if column.name not in ("id", "series_id", "before")]
        query = select(series.c.name.label("series"), *own).select_from(
            repairs.outerjoin(series, series.c.series_id == repairs.c.series_id)
        )
        with reading(self._engine) as connection:
            return [
                dict(row) for row in connection.execute(query.order_by(repairs.c.id.desc()).limit(limit)).mappings()
            ]


def _warn_workers(connection: Connection) -> None:
    """Count the repair up first: the row is locked until the end, so no turn that does not know of it is stored."""
    connection.execute(update(topics).values(repairs=topics.c.repairs + 1))


def _find(connection: Connection, repair: Repair) -> tuple[int, Sequence[tuple[int, float | None]]]:
    own = connection.execute(select(series.c.series_id).where(series.c.name == repair.series)).scalar()
    if own is None:
        raise ConfigError(f"there is no series {repair.series}")
    query = select(observations.c.observed_at, observations.c.value).where(_within(observations, own, repair))
    found = connection.execute(query.order_by(observations.c.observed_at).limit(MOST + 1)).all()
    if not found:
        span = f"from {to_text(repair.since)} to {to_text(repair.until)} (UTC, on the grid)"
        raise ConfigError(f"series {repair.series} has no reading {span}")
    if len(found) > MOST:
        raise ConfigError(
            f"series {repair.series} has more than {MOST:,} readings there; repair a shorter span at once"
        )
    return own, [(row.observed_at, row.value) for row in found]


def _within(table: Any, own: int, repair: Repair) -> Any:
    return and_(table.c.series_id == own, table.c.observed_at >= repair.since, table.c.observed_at <= repair.until)


def _keep(
    connection: Connection, repair: Repair, own: int, value: float | None, before: Sequence[tuple[int, float | None]]
) -> None:
    connection.execute(
        repairs.insert().values(
            series_id=own,
            since=repair.since,
            until=repair.until,
            action="remove" if value is None else "set",
            value=value,
            readings=len(before),
            before=[[to_text(at), old] for at, old in before],
            actor=repair.actor,
            reason=repair.reason,
            repaired_at=repair.now,
        )
    )
