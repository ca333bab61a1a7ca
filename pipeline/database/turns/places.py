"""Which partition a series' readings arrive in, and the few numbers that every worker must know before a turn."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, update

from pipeline.database.schema.tables import ingest_state, inserting, series, topics
from pipeline.errors import Fenced
from pipeline.records import Ints, Standing

NAMES_PER_QUERY = 5000  # below every limit on bound values
Home = tuple[int, int]
"""The id of an input topic, and a partition of it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a series was first met, None for nowhere yet; `spread` is not None once it was met elsewhere, too."""

    series_id: int
    home: Home | None
    spread: int | None


def find(connection: Connection, names: Sequence[str]) -> dict[str, Place]:
    """Look the places of series up; unknown names have none."""
    own, found = series.c, {}
    for start in range(0, len(names), NAMES_PER_QUERY):
        some = list(names[start : start + NAMES_PER_QUERY])
        query = select(own.name, own.series_id, own.home_topic, own.home_partition, own.spread)
        for row in connection.execute(query.where(own.name.in_(some))):
            home = None if row.home_topic is None else (row.home_topic, row.home_partition)
            found[row.name] = Place(row.series_id, home, row.spread)
    return found


def settle(connection: Connection, names: Sequence[str], home: Home, now: int) -> set[str]:
    """Give series that have no home this one, and spread those that have another; return the spread ones.

    The row of the topic is locked first, so that one worker at a time does so and `topics.spreads` grows in the order
    in which others see it. A home on another topic than this one is given up.
    """
    topic, partition = home
    spreads = connection.execute(select(topics.c.spreads).where(topics.c.topic_id == topic).with_for_update()).scalar()
    new = inserting(connection, series).on_conflict_do_nothing(index_elements=["name"])
    known = find(connection, names)
    fresh = [name for name in names if name not in known]
    if fresh:
        place = {"first_seen": now, "metadata": {}, "home_topic": topic, "home_partition": partition}
        connection.execute(new, [{"name": name, **place} for name in fresh])
        known |= find(connection, fresh)
    here: list[int] = []
    away: list[int] = []
    spread = set()
    for name, each in known.items():
        if each.home is None or each.home[0] != topic:
            here.append(each.series_id)
        elif each.home != home:
            spread.add(name)
            away += [each.series_id] * (each.spread is None)
        if each.spread is not None:
            spread.add(name)
    one = update(series).where(series.c.series_id == bindparam("own"))
    if here:
        moved = one.values(home_topic=topic, home_partition=partition)
        connection.execute(moved, [{"own": series_id} for series_id in here])
    if away:
        number = int(spreads or 0) + 1
        connection.execute(one.values(spread=number), [{"own": series_id} for series_id in away])
        connection.execute(update(topics).where(topics.c.topic_id == topic).values(spreads=number))
    return spread


def read_standing(connection: Connection, topic: str) -> Standing:
    """Return the standing of an input topic; one that is not known yet has nothing stored."""
    state, known = ingest_state.c, topics.c
    query = (
        select(known.spreads, known.repairs, state.partition, state.next_offset)
        .select_from(topics.outerjoin(ingest_state, known.topic == state.topic))
        .where(known.topic == topic)
    )
    found = connection.execute(query).all()
    if not found:
        return Standing({})
    stored = {row.partition: row.next_offset for row in found if row.partition is not None}
    return Standing(stored, found[0].spreads, found[0].repairs)


def spread_after(connection: Connection, number: int) -> set[str]:
    """Return the names of the series that were spread after this number."""
    return set(connection.execute(select(series.c.name).where(series.c.spread > number)).scalars())


def refuse_moved(connection: Connection, topic: int, known: Standing, own: Ints) -> None:
    """Raise Fenced if one of `own` was spread, or a reading repaired, after `known`; neither can happen from here on.

    On PostgreSQL the topic's row is locked against `settle` until this transaction ends; SQLite has one writer anyway.
    """
    locked = select(topics.c.spreads, topics.c.repairs).where(topics.c.topic_id == topic).with_for_update(read=True)
    spreads, repairs = connection.execute(locked).one()
    if repairs != known.repairs:
        raise Fenced("readings were repaired while this turn was taken; it starts over with them")
    if spreads != known.spreads:
        moved = set(connection.execute(select(series.c.series_id).where(series.c.spread > known.spreads)).scalars())
        if moved.intersection(own.tolist()):
            raise Fenced("a series of this turn was met in another partition meanwhile; the turn starts over")
