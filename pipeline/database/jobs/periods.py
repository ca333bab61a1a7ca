"""PostgreSQL's partitions of forecasts, by periods of their origins: made ahead, thinned as a whole once all is old.

To delete 23 of 24 rows of a month costs as much as to write them, and their place is not given back. So what stays is
copied and takes the period's place: see schema/partitions.sql, which says who waits for whom. SQLite has no partitions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import BigInteger, Boolean, Connection, Engine, Text, bindparam, text

from pipeline.database.engine import reading, writing
from pipeline.database.jobs.pruned import note_pruned
from pipeline.database.jobs.tallies import add_deleted
from pipeline.database.packed import longest_reach
from pipeline.database.schema.instants import FIRST, LAST, Instant
from pipeline.database.schema.shadow_tables import packed_shadow_forecasts
from pipeline.database.schema.tables import packed_forecasts

LARGE = 64 << 20
"""Bytes; of a smaller partition the old rows are deleted one by one, to the hour."""
_ADD = text("SELECT tidecast_add_periods(:since, :until, :length)").bindparams(
    *(bindparam(name, type_=Instant) for name in ("since", "until"))
)
_THIN = text("SELECT tidecast_thin_period(:period, :thin, :delete, :issued, :small)").bindparams(
    *(bindparam(name, type_=Instant) for name in ("thin", "delete", "issued"))
)
_SPANS = text(
    "SELECT name, GREATEST(lower_end, :first) AS lower_end, LEAST(upper_end, :last) AS upper_end, thinned, bytes"
    " FROM tidecast_periods() WHERE parent = :parent ORDER BY lower_end"
).bindparams(bindparam("first", type_=Instant), bindparam("last", type_=Instant))
_LIST = _SPANS.columns(name=Text, lower_end=Instant, upper_end=Instant, thinned=Boolean, bytes=BigInteger)


class _Period(NamedTuple):
    """A partition: of the forecasts from one time on and before another, in microseconds UTC."""

    name: str
    lower_end: int
    upper_end: int
    thinned: bool
    bytes: int


class _InTheWay(Exception):
    """Somebody uses the table for long; nothing has changed."""


def add_periods(engine: Engine, since: int, until: int, length: str) -> bool:
    """Make the partitions from one time to another, each a `month`, `week` or `day`.

    Returns whether it did: somebody may be in the way for long, and a later run will do it.
    """
    if engine.dialect.name != "postgresql":
        return True
    with _changing(engine) as connection:
        return connection.execute(_ADD, {"since": since, "until": until, "length": length}).scalar() is not None


def whole_periods(engine: Engine, *, shadow: bool, delete_before: int | None, thin_before: int | None) -> list[str]:
    """Name the large partitions that can be thinned as a whole, for all of them is so old; oldest first.

    Of what is to be deleted also the small ones: they join the past.
    """
    delete, thin = (FIRST if before is None else before for before in (delete_before, thin_before))
    return [
        period.name
        for period in _read(engine, shadow)
        if (period.upper_end <= delete and (period.lower_end > FIRST or period.bytes > LARGE))
        or (period.upper_end <= thin and period.bytes > LARGE and not period.thinned)
    ]


def waited_for(engine: Engine, before: int, longest: int, *, shadow: bool) -> int:
    """Return the begin of the oldest large partition that has yet to be thinned, or `before` if that is earlier.

    One that is longer than `longest` is not waited for.
    """
    large = (one for one in _read(engine, shadow) if one.bytes > LARGE and not one.thinned)
    return min([before, *(one.lower_end for one in large if one.upper_end - one.lower_end <= longest)])


def thin_period(
    engine: Engine,
    name: str,
    *,
    shadow: bool,
    delete_before: int | None,
    thin_before: int | None,
    issued_before: int,
) -> int | None:
    """Delete from a partition what `choose_doomed` would mark, as far as published and issued before then.

    Returns how many forecasts went; None where somebody was in the way for long, and a later run will do it.
    """
    asked = {
        "period": name,
        "thin": thin_before,
        "delete": delete_before,
        "issued": issued_before,
        "small": LARGE,
    }
    thinned_to = max(before for before in (delete_before, thin_before) if before is not None)
    try:
        with _changing(engine) as connection:
            note_pruned(connection, min(thinned_to + longest_reach(connection), LAST))  # before anything is locked
            deleted = connection.execute(_THIN, asked).scalar()
            if deleted is None:
                raise _InTheWay
            add_deleted(connection, "shadow_forecasts" if shadow else "forecasts", deleted)
    except _InTheWay:
        return None
    return int(deleted)


@contextmanager
def _changing(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that may take its time: the functions bound themselves for what they wait."""
    with writing(engine) as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        yield connection


def _read(engine: Engine, shadow: bool) -> list[_Period]:
    if engine.dialect.name != "postgresql":
        return []
    parent = packed_shadow_forecasts.name if shadow else packed_forecasts.name
    with reading(engine) as connection:
        rows = connection.execute(_LIST, {"parent": parent, "first": FIRST, "last": LAST})
        return [_Period(*row) for row in rows]
