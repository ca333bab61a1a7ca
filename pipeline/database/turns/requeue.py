"""The dead letters in SQL as a requeue sees them; the contract is `pipeline.stream.requeue.Shelf`."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, func, select, tuple_, update

from pipeline.database.engine import reading, writing
from pipeline.database.schema.tables import dead_letters, inserting, leases
from pipeline.database.turns.letters import COLUMNS, letter_of
from pipeline.errors import ConfigError, Fenced
from pipeline.records import DeadLetter
from pipeline.stream.requeue import Place, Waiting

LEASE = "requeue"  # never held: its epoch alone counts
_own = dead_letters.c
_PLACE = tuple_(_own.topic, _own.source_partition, _own.source_offset)
_ARRIVAL = (_own.recorded_at, _own.topic, _own.source_partition, _own.source_offset)
_AT_ONCE = 500


class RequeueShelf:
    """`pipeline.stream.requeue.Shelf` over the table dead_letters."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, owner: str, now: int) -> int:
        """See pipeline.stream.requeue.Shelf."""
        with writing(self._engine) as connection:
            new = inserting(connection, leases).values(name=LEASE, owner=owner, epoch=1, expires_at=now)
            raised = {"owner": owner, "epoch": leases.c.epoch + 1, "expires_at": now}
            taken = new.on_conflict_do_update(index_elements=["name"], set_=raised).returning(leases.c.epoch)
            return int(connection.execute(taken).scalar_one())

    def last_arrival(self) -> int | None:
        """See pipeline.stream.requeue.Shelf."""
        with reading(self._engine) as connection:
            last: int | None = connection.execute(
                select(_own.recorded_at).where(_own.requeued_at.is_(None)).order_by(_own.recorded_at.desc()).limit(1)
            ).scalar()
        return last

    def count(self) -> int:
        """Count the letters that wait and have no number."""
        with reading(self._engine) as connection:
            query = select(func.count()).where(_own.requeued_at.is_(None), _own.requeue_batch.is_(None))
            return int(connection.execute(query).scalar_one())

    def last_number(self) -> int:
        """See pipeline.stream.requeue.Shelf."""
        with reading(self._engine) as connection:
            return int(connection.execute(select(func.coalesce(func.max(_own.requeue_batch), -1))).scalar_one())

    def unfinished(self) -> list[int]:
        """See pipeline.stream.requeue.Shelf."""
        query = select(_own.requeue_batch).distinct().order_by(_own.requeue_batch)
        with reading(self._engine) as connection:
            found = connection.execute(query.where(_own.requeued_at.is_(None), _own.requeue_batch.is_not(None)))
            return [int(number) for (number,) in found]

    def page(self, after: Waiting | None, until: int, most: int) -> list[Waiting]:
        """See pipeline.stream.requeue.Shelf."""
        waiting = _outline().where(_own.requeued_at.is_(None), _own.requeue_batch.is_(None), _own.recorded_at <= until)
        if after is not None:
            here = (after.recorded_at, *after.place)
            waiting = waiting.where(tuple_(*_ARRIVAL) > tuple_(*here, types=[column.type for column in _ARRIVAL]))
        with reading(self._engine) as connection:
            return [_waiting(row) for row in connection.execute(waiting.order_by(*_ARRIVAL).limit(most))]

    def find(self, places: Sequence[Place]) -> list[Waiting]:
        """See pipeline.stream.requeue.Shelf."""
        found: list[Waiting] = []
        wanted = list(dict.fromkeys(places))
        with reading(self._engine) as connection:
            for start in range(0, len(wanted), _AT_ONCE):
                query = _outline().where(_PLACE.in_(wanted[start : start + _AT_ONCE]))
                found += [_waiting(row) for row in connection.execute(query)]
        if missing := set(wanted) - {one.place for one in found}:
            raise ConfigError(f"there is no dead letter {min(missing)}; see tidecast dead-letters list")
        return sorted(found, key=lambda one: (one.recorded_at, one.place))

    def assign(self, epoch: int, number: int, places: Sequence[Place]) -> None:
        """See pipeline.stream.requeue.Shelf."""
        with writing(self._engine) as connection:
            _refuse_old(connection, epoch)
            chosen = update(dead_letters).where(_PLACE.in_(list(places)))
            connection.execute(chosen.values(requeue_batch=number, requeued_at=None))

    def release(self, epoch: int, places: Sequence[Place]) -> None:
        """See pipeline.stream.requeue.Shelf."""
        with writing(self._engine) as connection:
            _refuse_old(connection, epoch)
            connection.execute(update(dead_letters).where(_PLACE.in_(list(places))).values(requeue_batch=None))

    def batch(self, number: int) -> list[tuple[Place, DeadLetter]]:
        """See pipeline.stream.requeue.Shelf."""
        query = select(_own.topic, *COLUMNS).where(_own.requeue_batch == number, _own.requeued_at.is_(None))
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(*_ARRIVAL)).all()
        return [(Place(row[0], row[1], row[2]), letter_of(row[1:])) for row in rows]

    def mark(self, number: int, now: int) -> int:
        """See pipeline.stream.requeue.Shelf."""
        waiting = update(dead_letters).where(_own.requeue_batch == number, _own.requeued_at.is_(None))
        with writing(self._engine) as connection:
            return connection.execute(waiting.values(requeued_at=now)).rowcount


def _refuse_old(connection: Connection, epoch: int) -> None:
    """Raise Fenced if another requeue has begun; none can until this transaction ends."""
    ours = update(leases).where(leases.c.name == LEASE, leases.c.epoch == epoch).values(epoch=epoch)
    if connection.execute(ours).rowcount != 1:
        raise Fenced("another requeue has begun and goes on with what is left; this one ends")


def _outline() -> Select[Any]:
    """Select everything of letters but their bytes."""
    size = func.coalesce(func.length(_own.key), 0) + func.coalesce(func.length(_own.value), 0)
    return select(
        _own.recorded_at,
        _own.topic,
        _own.source_partition,
        _own.source_offset,
        _own.reason,
        _own.headers,
        size.label("size"),
        _own.value.is_(None).label("tombstone"),
    )


def _waiting(row: Row[Any]) -> Waiting:
    letter = letter_of((row.source_partition, row.source_offset, row.reason, None, None, row.headers, None))
    place = Place(row.topic, row.source_partition, row.source_offset)
    return Waiting(row.recorded_at, place, int(row.size), letter, bool(row.tombstone))
