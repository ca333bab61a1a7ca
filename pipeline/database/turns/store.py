"""The database as the stream worker sees it; the contract is `pipeline.stream.ports.Store`."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from sqlalchemy import Connection, Engine, func, select, update

from pipeline.columns import take
from pipeline.database.engine import reading, writing
from pipeline.database.schema.tables import (
    dead_letters,
    ingest_jumps,
    ingest_state,
    inserting,
    left_in_sql,
    observations,
    series,
    topics,
)
from pipeline.database.turns import places
from pipeline.database.turns.covariates import enter_names, rows_of_covariates, with_covariates
from pipeline.database.turns.dialects import rows_of
from pipeline.database.turns.letters import left_row, row_of
from pipeline.database.turns.outbox import read_dead_letters, read_forecasts
from pipeline.database.turns.outdated import find_outdated
from pipeline.database.turns.retired import retire_topic
from pipeline.database.turns.rows import FORECASTS, SHADOWS, Rows, enter_steps, first_of_each, in_key_order
from pipeline.errors import Corrupt, Fenced, Service, Unavailable
from pipeline.records import (
    NOTHING,
    Advance,
    Claim,
    DeadLetter,
    Forecasts,
    Ints,
    Left,
    Mask,
    Observations,
    Outdated,
    RecentHistory,
    Standing,
    Turn,
)
from pipeline.settings import Policy

_NAMES_PER_QUERY = 5000  # below every limit on bound values
FAR = np.iinfo(np.int64).max


class SqlStore:
    """Claims, turns and history of one input topic; `clock` returns the time that rows are recorded at."""

    def __init__(
        self, engine: Engine, topic: str, policy: Policy, clock: Callable[[], int], covariates: Sequence[str] = ()
    ) -> None:
        self._engine = engine
        self._topic = topic
        self._policy = policy
        self._clock = clock
        self._covariates = tuple(covariates)
        self._rows: Rows = rows_of(engine)
        self._topic_id: int | None = None
        self._name_ids: Ints | None = None
        self._longest = 0  # horizon that views can show

    def claim(self, partition: int, owner: str) -> Claim:
        """Take the partition: raise its epoch by one, note the owner, and return where to go on (0 if new)."""
        now = self._clock()
        self._topic_id = None  # another worker may have retired the topic that had this name
        with writing(self._engine) as connection:
            enter_topic(connection, self._topic)
            new = inserting(connection, ingest_state).values(
                topic=self._topic,
                partition=partition,
                epoch=1,
                owner=owner,
                next_offset=0,
                claimed_at=now,
                updated_at=now,
            )
            taken = new.on_conflict_do_update(
                index_elements=["topic", "partition"],
                set_={"epoch": ingest_state.c.epoch + 1, "owner": owner, "claimed_at": now},
            )
            row = connection.execute(taken.returning(ingest_state)).one()
        met = row.incarnation is not None
        return Claim(partition, row.epoch, row.next_offset, row.reforecasts, turn_start=row.turn_start, met=met)

    def recent(self, names: Sequence[str], depth: int, until: int | None = None) -> RecentHistory:
        """Return each series' newest `depth` observations, in the order of `names`; unknown names get an id.

        Raises Corrupt for a name that is not text in SQL (NUL, lone surrogate): the decoder dead-letters those.
        """
        refuse_unstorable(names)
        with reading(self._engine) as connection:
            ids = _series_ids(connection, names)
        missing = sorted(set(names) - ids.keys())  # sorted, so that two workers cannot deadlock
        if missing:
            with writing(self._engine) as connection:
                now = self._clock()
                new = inserting(connection, series).on_conflict_do_nothing(index_elements=["name"])
                connection.execute(new, [{"name": name, "first_seen": now, "metadata": {}} for name in missing])
                ids |= _series_ids(connection, missing)
        with reading(self._engine) as connection:
            wanted = np.array([ids[name] for name in names], np.int64)
            history = self._rows.newest(connection, wanted, depth, None)
            newest = np.full(len(wanted), NOTHING, np.int64)
            some = np.diff(history.bounds) > 0
            newest[some] = history.observed_at[history.bounds[1:][some] - 1]
            late = newest > (until if until is not None else FAR)
            first = np.full(len(wanted), NOTHING, np.int64)
            if until is not None and late.any():  # a clock was fast; rare, so that the usual query need not know of it
                history = self._rows.newest(connection, wanted, depth, None, until)
                first[late] = _first_after(connection, wanted[late], until)
            found = with_covariates(connection, self._rows, history, self._covariates)
            return replace(found, beyond=np.stack([first, np.where(late, newest, NOTHING)], axis=1))

    def place(self, names: Sequence[str], partition: int) -> set[str]:
        """Note that these series have readings in this partition, and return those that have some in others, too."""
        refuse_unstorable(names)
        with reading(self._engine) as connection:
            topic = find_topic(connection, self._topic)
            found = places.find(connection, names)
        spread = {name for name, place in found.items() if place.spread is not None}
        homes = {name for name, place in found.items() if place.home == (topic, partition)}
        rest = [name for name in names if name not in spread and name not in homes]
        if not rest:
            return spread
        with writing(self._engine) as connection:
            topic = enter_topic(connection, self._topic)
            return spread | places.settle(connection, sorted(rest), (topic, partition), self._clock())

    def standing(self) -> Standing:
        """Return how far each partition is stored, and whether series were spread or repaired meanwhile."""
        with reading(self._engine) as connection:
            return places.read_standing(connection, self._topic)

    def spread_after(self, number: int) -> set[str]:
        """Return the series that were found in several partitions after `Standing.spreads` was `number`."""
        with reading(self._engine) as connection:
            return places.spread_after(connection, number)

    def outdated(self, partitions: Sequence[int], version: int, after: int, most: int) -> Outdated:
        """Look at the series after the id `after` for at most `most` whose newest origin `version` has not forecast."""
        with reading(self._engine) as connection:
            return find_outdated(connection, find_topic(connection, self._topic), partitions, version, after, most)

    def known(self, names: Sequence[str]) -> set[str]:
        """Return those of `names` that have an id already."""
        refuse_unstorable(names)
        with reading(self._engine) as connection:
            return set(_series_ids(connection, names))

    def count_series(self) -> int:
        """Count the names that have an id."""
        with reading(self._engine) as connection:
            return int(connection.execute(select(func.count()).select_from(series)).scalar_one())

    def commit(self, turn: Turn) -> Forecasts:
        """Store a turn in one transaction and return the forecasts that are now rows.

        Raises Fenced, with nothing stored, unless every advance's (epoch, start) is still the partition's state.
        A forecast whose key is already stored is left as it was and is not returned. -0.0 is stored as 0.0, which
        is all that SQLite keeps. Raises Corrupt for a number that is not finite.
        """
        forecasts = _normalised(turn.forecasts)
        _refuse_infinite(turn.observations, forecasts)
        now = self._clock()
        with writing(self._engine) as connection:
            # 1. Take the row locks and be fenced before anything is written: from here on no claim gets in between.
            for advance in sorted(turn.advances, key=lambda advance: advance.partition):
                self._advance(connection, advance, now)
            topic, names = self._topic_key(connection), self._name_keys(connection)
            if turn.standing is not None:
                places.refuse_moved(connection, topic, turn.standing, turn.own)
            # 2. Everything that the turn produced, in the same transaction as its offsets.
            self._store_observations(connection, turn.observations, topic, names, now)
            if forecasts.horizon > self._longest:
                enter_steps(connection, forecasts.horizon)
            stored = self._store_forecasts(connection, forecasts, topic)
            if turn.shadow is not None:
                self._store_shadow(connection, turn.shadow, stored)
            self._store_dead_letters(connection, turn.dead_letters, now)
        # 3. Committed. An error in the commit itself is Unavailable: only a new claim can tell what happened.
        self._topic_id, self._name_ids, self._longest = topic, names, max(self._longest, forecasts.horizon)
        return stored

    def identify(self, partition: int, incarnation: str) -> str:
        """Return Kafka's id of the topic that a claimed partition's offsets are of; noted as this one if none was."""
        state = ingest_state.c
        own = (state.topic == self._topic) & (state.partition == partition)
        with writing(self._engine) as connection:
            unknown = update(ingest_state).where(own, state.incarnation.is_(None))
            connection.execute(unknown.values(incarnation=incarnation))
            known = connection.execute(select(state.incarnation).where(own)).scalar()
        if known is None:
            raise Fenced(f"partition {partition} of {self._topic} was retired while it was claimed")
        return str(known)

    def retire(self, incarnation: str, reason: str) -> str:
        """Give what is stored of a former topic of this name another one, and return it; its claims are fenced."""
        with writing(self._engine) as connection:
            retired = retire_topic(connection, self._topic, incarnation, reason, self._clock())
        self._topic_id = None
        return retired

    def unpublished(self, partition: int, start: int, stop: int) -> tuple[Forecasts, tuple[DeadLetter, ...]]:
        """Return what the turns over offsets [start, stop) stored, in offset order."""
        with reading(self._engine) as connection:
            forecasts = read_forecasts(connection, self._topic, partition, start, stop)
            return forecasts, read_dead_letters(connection, self._topic, partition, start, stop)

    def leave(self, left: Sequence[Left]) -> None:
        """Note messages that their topic refuses; one that is noted already gets the newest reason."""
        rows = [left_row(each, self._topic, self._clock()) for each in left]
        with writing(self._engine) as connection:
            new = inserting(connection, left_in_sql)
            keys = ["source_topic", "source_partition", "source_offset", "message"]
            connection.execute(
                new.on_conflict_do_update(index_elements=keys, set_={"reason": new.excluded.reason}), rows
            )

    def rewind(self, claim: Claim, next_offset: int, reason: str) -> Claim:
        """Move the partition's next offset without storing events, and keep a record of the jump and its reason.

        Raises Fenced when the claim's (epoch, next_offset) is no longer the partition's state.
        """
        now = self._clock()
        with writing(self._engine) as connection:
            self._advance(connection, Advance(claim.partition, claim.epoch, claim.next_offset, next_offset), now)
            jump = ingest_jumps.insert().values(
                topic=self._topic,
                partition=claim.partition,
                from_offset=claim.next_offset,
                to_offset=next_offset,
                reason=reason,
                jumped_at=now,
            )
            connection.execute(jump)
        return Claim(claim.partition, claim.epoch, next_offset, claim.reforecasts)

    def _advance(self, connection: Connection, advance: Advance, now: int) -> None:
        state = ingest_state.c
        moved = connection.execute(
            update(ingest_state)
            .where(state.topic == self._topic, state.partition == advance.partition)
            .where(state.epoch == advance.epoch, state.next_offset == advance.start)
            .values(
                next_offset=advance.next_offset,
                turn_start=advance.start,
                updated_at=now,
                off_grid=state.off_grid + advance.off_grid,
                reforecasts=state.reforecasts if advance.reforecasts is None else advance.reforecasts,
            )
        )
        if moved.rowcount != 1:
            raise Fenced(
                f"partition {advance.partition} of {self._topic}: epoch {advance.epoch} at offset {advance.start}"
                " is no longer its state; another worker has claimed it"
            )

    def _store_observations(self, connection: Connection, new: Observations, topic: int, names: Ints, now: int) -> None:
        # In key order each page of the index is found once (1.3x less CPU on SQLite), and two workers cannot deadlock.
        new = take(new, np.lexsort((new.observed_at, new.series_id)))
        fresh, known = new.fresh, ~new.fresh
        if fresh.any():
            try:
                with connection.begin_nested():
                    self._rows.insert_observations(connection, take(new, fresh), topic, now)
                    if len(names):
                        own = rows_of_covariates(take(new, fresh), names, self._policy)
                        self._rows.insert_covariates(connection, own)
            except self._conflict:  # not so fresh after all: the worker's memory was behind the table
                new = replace(new, fresh=np.zeros(len(new), np.bool_))
                known = ~new.fresh
        if known.any():
            self._rows.merge_observations(connection, take(new, known), topic, now, self._policy)
            if len(names):
                own = rows_of_covariates(take(new, known), names, self._policy)
                self._rows.merge_covariates(connection, own, self._policy)

    def _store_forecasts(self, connection: Connection, new: Forecasts, topic: int) -> Forecasts:
        if not len(new):
            return new
        try:
            with connection.begin_nested():
                self._rows.insert_forecasts(connection, in_key_order(new), topic)
            return new
        except self._conflict:
            left: Mask = first_of_each(new) & ~self._rows.stored(connection, new, FORECASTS)
        rest = new.take(left)
        try:
            with connection.begin_nested():
                self._rows.insert_forecasts(connection, in_key_order(rest), topic)
        except self._conflict as error:  # someone stored one of them in between
            raise Unavailable("another worker is storing the same forecasts; claim again", Service.DATABASE) from error
        return rest

    def _store_shadow(self, connection: Connection, made: Forecasts, stored: Forecasts) -> None:
        """Store the shadow's forecasts beside those that have just become rows; one that is there already stays."""
        beside = set(zip(stored.series_id.tolist(), stored.origin.tolist(), strict=True))
        keys = zip(made.series_id.tolist(), made.origin.tolist(), strict=True)
        new = in_key_order(made.take(np.array([key in beside for key in keys], np.bool_)))
        try:
            with connection.begin_nested():
                self._rows.insert_shadow(connection, new)
        except self._conflict:
            left: Mask = first_of_each(new) & ~self._rows.stored(connection, new, SHADOWS)
            self._rows.insert_shadow(connection, new.take(left))

    def _store_dead_letters(self, connection: Connection, letters: Sequence[DeadLetter], now: int) -> None:
        if not letters:
            return
        rows = [row_of(letter, self._topic, now) for letter in letters]
        connection.execute(inserting(connection, dead_letters).on_conflict_do_nothing(), rows)

    def _topic_key(self, connection: Connection) -> int:
        if self._topic_id is None:
            return enter_topic(connection, self._topic)  # remembered by `commit` once this transaction is committed
        return self._topic_id

    def _name_keys(self, connection: Connection) -> Ints:
        if self._name_ids is None:
            return enter_names(connection, self._covariates) if self._covariates else np.empty(0, np.int64)
        return self._name_ids

    @property
    def _conflict(self) -> type[Exception]:
        error: type[Exception] = self._engine.dialect.loaded_dbapi.IntegrityError
        return error


def refuse_unstorable(names: Sequence[str]) -> None:
    """Raise Corrupt if a name is not text in SQL."""
    for name in names:
        if "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
            raise Corrupt(f"series name {name!r} has a NUL or a lone surrogate: the decoder should have refused it")


def find_topic(connection: Connection, topic: str) -> int | None:
    """Return the id of an input topic, None for an unknown one."""
    found: int | None = connection.execute(select(topics.c.topic_id).where(topics.c.topic == topic)).scalar()
    return found


def enter_topic(connection: Connection, topic: str) -> int:
    """Return the id of an input topic, which gets one if it has none."""
    connection.execute(inserting(connection, topics).values(topic=topic).on_conflict_do_nothing())
    return int(connection.execute(select(topics.c.topic_id).where(topics.c.topic == topic)).scalar_one())


def _series_ids(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    ids: dict[str, int] = {}
    for start in range(0, len(names), _NAMES_PER_QUERY):
        some = list(names[start : start + _NAMES_PER_QUERY])
        found = connection.execute(select(series.c.name, series.c.series_id).where(series.c.name.in_(some)))
        ids.update((name, series_id) for name, series_id in found)
    return ids


def _first_after(connection: Connection, series_ids: Ints, time: int) -> list[int]:
    """Return the first time after `time` at which each series has an observation; each has one."""
    own = observations.c
    found: dict[int, int] = {}
    for start in range(0, len(series_ids), _NAMES_PER_QUERY):
        some = series_ids[start : start + _NAMES_PER_QUERY].tolist()
        query = select(own.series_id, func.min(own.observed_at)).where(own.series_id.in_(some), own.observed_at > time)
        found.update((row[0], row[1]) for row in connection.execute(query.group_by(own.series_id)))
    return [found[series_id] for series_id in series_ids.tolist()]


def _normalised(forecasts: Forecasts) -> Forecasts:
    return replace(forecasts, quantiles=forecasts.quantiles + 0.0)


def _refuse_infinite(observations: Observations, forecasts: Forecasts) -> None:
    values = np.isfinite(observations.value[observations.observed]).all()
    if not (values and not np.isinf(observations.covariates).any() and np.isfinite(forecasts.quantiles).all()):
        raise Corrupt("a value, covariate or quantile that is not finite reached the store")
