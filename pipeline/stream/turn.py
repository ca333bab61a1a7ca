"""One turn of the commit protocol. The guarantee is the order of its lines.

    1 read and decode         messages of partitions that are claimed; a bad one is a dead letter, too many of a
                              partition are refused, and the others go on; the very first events settle the grid
                              (Kafka's ids of the topics are requested from here on, and compared before 3)
    2 observe and score       on the ring, which is dropped if the turn does not end well; a shadow scores too
    3 store                   one SQL transaction; fenced unless (epoch, start) still holds; a shadow's apart
    4 publish                 Kafka transactions of what was just stored, with the group's next offsets

S is the next offset stored, K the next offset published, and K <= S always. A crash before 3 changes nothing; a crash
after 3 leaves [K, S), which the next claim publishes from SQL, the same bytes. No line may move up. A turn without
events is that of pipeline.stream.reforecast.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.columns import concat
from pipeline.errors import Corrupt, Unavailable
from pipeline.forecasting.scorer import Scorer
from pipeline.forecasting.shadow import ShadowScorer
from pipeline.forecasting.windows import Grid
from pipeline.grid.phase import SETTLED, PhaseSearch
from pipeline.health.logs import Phases
from pipeline.messages.codec import Reader
from pipeline.records import (
    Advance,
    Claim,
    Committed,
    DeadLetter,
    Due,
    Events,
    Forecasts,
    Ints,
    Mask,
    Messages,
    Observations,
    Standing,
    Turn,
    no_observations,
)
from pipeline.settings import InputSettings
from pipeline.stream.breaker import Breakers, Trip
from pipeline.stream.eviction import Eviction
from pipeline.stream.incarnations import Incarnations
from pipeline.stream.observe import observe
from pipeline.stream.ports import Publisher, Source, Store
from pipeline.stream.refused import publish_or_leave
from pipeline.stream.ring import RingStore
from pipeline.stream.series_limit import SeriesLimit
from pipeline.stream.spread import Spread
from pipeline.stream.worker_state import WorkerState

MOST_MESSAGES = 1000  # in one Kafka transaction
MOST_STEPS = 200_000  # in one Kafka transaction: some 30 MB of messages
SHARED = -1  # in place of a partition: the ring of series that arrive in several
AHEAD = 1  # steps after the present one that an event may lie in before its clock counts as fast


def nothing_happens(point: str) -> None:
    """Pass a named point between two lines of the protocol; tests put a crash here instead."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a turn is made of."""

    source: Source
    store: Store
    publisher: Publisher
    scorer: Scorer
    reader: Reader
    grid: Grid
    clock: Callable[[], int]  # the processing time, which may be set back
    timer: Callable[[], int]  # microseconds that only grow, for pauses
    phases: Phases
    passed: Callable[[str], None] = nothing_happens
    shadow: ShadowScorer | None = None
    worker_state: WorkerState = field(default_factory=WorkerState)
    breakers: Breakers = field(default_factory=lambda: Breakers(InputSettings()))
    series_limit: SeriesLimit | None = None
    eviction: Eviction | None = None
    phase: PhaseSearch = SETTLED
    input_topic: str = ""
    topics: Mapping[str, str] = field(default_factory=dict)  # Kafka's ids of the output topics that SQL knows
    spread: Spread = field(init=False)
    incarnations: Incarnations = field(init=False)

    def __post_init__(self) -> None:
        """Make what these parts imply."""
        object.__setattr__(self, "spread", Spread(self.grid, self.store))
        object.__setattr__(self, "incarnations", Incarnations(self.source, self.input_topic, self.topics))


@dataclass(slots=True)
class Owned:
    """A claimed partition. Below `floor` everything is on the output topic already, so it is not published again."""

    claim: Claim
    ring: RingStore
    floor: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """What a turn did; of the partitions in `trips` it did nothing, and they are to be left alone for a while."""

    messages: int
    observations: int
    forecasts: int
    dead_letters: int
    next_offsets: Mapping[int, int]
    trips: tuple[Trip, ...] = ()


def take_turn(polled: Sequence[Messages], owned: Mapping[int, Owned], parts: Parts) -> Taken:
    """Take one turn over what was polled. After any exception the claims in `owned` must be dropped."""
    now = parts.clock()
    parts.incarnations.ask()
    parts.passed("after_poll")
    with parts.phases.measure("decode"):  # 1 read and decode
        runs = [run for run in polled if run.partition in owned]
        _refuse_stale(runs, owned)
        events, letters = _decode(runs, parts, now)
        trips = parts.breakers.check(runs, letters)
        runs, events, letters = _without(trips, runs, events, letters)
        if not runs:
            return Taken(0, 0, 0, 0, {}, tuple(trips.values()))
        parts.phase.settle([run for run in events if len(run)])
        events, letters = _admit(runs, events, letters, owned, parts, now)
    with parts.phases.measure("observe"):  # 2 observe and score
        rings = {at: one.ring for at, one in owned.items()}
        standing = parts.spread.follow(events, rings)
        alone, shared = parts.spread.split(_one_per_partition(events))
        if parts.eviction:
            parts.eviction.make_room(rings | {SHARED: parts.spread.ring}, _by_ring(alone, shared))
        off_grid = _count_off_grid(events, parts.grid)
        observations, dues, own = _observe(alone, shared, owned, parts, now)
        dues = doubt(dues, standing, runs, parts)
    with parts.phases.measure("score"):
        forecasts = parts.scorer.score(dues, now)
        shadow = parts.shadow.score(dues, now) if parts.shadow else None
    parts.incarnations.check()
    parts.passed("before_sql")
    with parts.phases.measure("store"):  # 3 store in one SQL transaction
        turn = Turn(_advances(runs, owned, off_grid), observations, forecasts, letters, shadow, standing, own)
        stored = parts.store.commit(turn)
    parts.passed("after_sql")
    parts.breakers.remember()
    for advance in turn.advances:
        one = owned[advance.partition]
        one.claim = Claim(advance.partition, advance.epoch, advance.next_offset, one.claim.reforecasts)
    parts.worker_state.store(runs, events, turn, stored, present=_present(parts.grid, now))
    with parts.phases.measure("publish"):  # 4 publish in Kafka transactions
        publish(stored, letters, {advance.partition: advance.next_offset for advance in turn.advances}, owned, parts)
    parts.passed("after_publish")
    return Taken(
        messages=sum(len(run.offsets) for run in runs),
        observations=len(observations),
        forecasts=len(stored),
        dead_letters=len(letters),
        next_offsets={advance.partition: advance.next_offset for advance in turn.advances},
        trips=tuple(trips.values()),
    )


def publish(
    forecasts: Forecasts,
    letters: Sequence[DeadLetter],
    next_offsets: Mapping[int, int],
    owned: Mapping[int, Owned],
    parts: Parts,
) -> None:
    """Publish stored rows in transactions of at most MOST_MESSAGES messages, each moving K as far as it reaches.

    The claims know how many re-forecasts are stored; each transaction says that they are published, too.
    """
    floors = np.array([owned[partition].floor for partition in forecasts.partition.tolist()], np.int64)
    forecasts = forecasts.take((forecasts.offset >= floors) | (forecasts.offset < 0))
    letters = [letter for letter in letters if letter.offset >= owned[letter.partition].floor]
    next_offsets = {at: offset for at, offset in next_offsets.items() if offset > owned[at].floor}
    most = max(1, min(MOST_MESSAGES, MOST_STEPS // forecasts.horizon))
    for made, bad, reached in pieces(forecasts, letters, next_offsets, most):
        parts.passed("in_publish")
        commits = {at: Committed(offset, reforecasts=owned[at].claim.reforecasts) for at, offset in reached.items()}
        publish_or_leave((made, bad, commits), parts.publisher, parts.store, parts.worker_state)


def pieces(
    forecasts: Forecasts, letters: Sequence[DeadLetter], next_offsets: Mapping[int, int], most: int
) -> Iterator[tuple[Forecasts, Sequence[DeadLetter], dict[int, int]]]:
    """Cut what is to be published at offsets, so that each piece moves every partition in it to a true next offset.

    The messages of one offset stay together. The last piece takes every partition to its `next_offsets`.
    """
    if not next_offsets:
        return
    places = np.concatenate(
        [
            np.stack([forecasts.partition, forecasts.offset, np.arange(len(forecasts))], axis=1),
            np.array([(letter.partition, letter.offset, -1 - i) for i, letter in enumerate(letters)], np.int64).reshape(
                -1, 3
            ),
        ]
    )
    places = places[np.lexsort((places[:, 1], places[:, 0]))]
    begin = 0
    moved: set[int] = set()
    while True:
        end = min(begin + most, len(places))
        while 0 < end < len(places) and (places[end, :2] == places[end - 1, :2]).all():
            end += 1
        piece = places[begin:end]
        reached = {at: offset for at, offset in next_offsets.items() if at not in moved}
        if end < len(places):
            following = int(places[end, 0])
            reached = {at: next_offsets[at] for at in set(piece[:, 0].tolist()) if at < following}
            moved.update(reached)
            if following in piece[:, 0]:
                reached[following] = int(piece[-1, 1]) + 1
        chosen = piece[:, 2]
        yield forecasts.take(chosen[chosen >= 0]), [letters[-1 - i] for i in chosen[chosen < 0]], reached
        begin = end
        if begin >= len(places):
            return


def _refuse_stale(runs: Sequence[Messages], owned: Mapping[int, Owned]) -> None:
    for run in runs:
        if run.offsets[0] < owned[run.partition].claim.next_offset:
            raise Corrupt(f"partition {run.partition} delivered offset {run.offsets[0]} again; restart this worker")


def _decode(runs: Sequence[Messages], parts: Parts, now: int) -> tuple[list[Events], tuple[DeadLetter, ...]]:
    decoded = [parts.reader.read(run, now) for run in runs]
    return [events for events, _ in decoded], tuple(bad for _, letters in decoded for bad in letters)


def _without(
    trips: Mapping[int, Trip], runs: list[Messages], events: list[Events], letters: tuple[DeadLetter, ...]
) -> tuple[list[Messages], list[Events], tuple[DeadLetter, ...]]:
    """Leave out the partitions that tripped; the others go on."""
    if not trips:
        return runs, events, letters
    kept = [place for place, run in enumerate(runs) if run.partition not in trips]
    rest = tuple(letter for letter in letters if letter.partition not in trips)
    return [runs[place] for place in kept], [events[place] for place in kept], rest


def _admit(
    runs: Sequence[Messages],
    events: list[Events],
    letters: tuple[DeadLetter, ...],
    owned: Mapping[int, Owned],
    parts: Parts,
    now: int,
) -> tuple[list[Events], tuple[DeadLetter, ...]]:
    """Refuse new series beyond the limit, and leave out runs without an event. After the breaker: they can be read."""
    if parts.series_limit:
        held = {run.partition: owned[run.partition].ring.rows for run in runs}
        events, refused = parts.series_limit.admit(runs, events, held, parts.spread.names, now)
        letters += tuple(refused)
    return [run for run in events if len(run)], letters


def _by_ring(alone: Sequence[Events], shared: Events | None) -> dict[int, Events]:
    """Name the ring that each run of events goes into."""
    runs = {int(run.partition[0]): run for run in alone}
    return runs if shared is None else runs | {SHARED: shared}


def _observe(
    alone: Sequence[Events], shared: Events | None, owned: Mapping[int, Owned], parts: Parts, now: int
) -> tuple[Observations, list[Due], Ints]:
    """Observe each partition's own series on its ring, and the spread ones on theirs; return the own ones' ids, too.

    A series is observed once, so a turn has one row a series and step, whatever partitions its messages arrived in.
    """
    latest = _latest(parts.grid, now)
    recent = parts.store.recent
    rows, dues = [no_observations(parts.grid.covariates)], []
    for run in alone:
        ring = owned[int(run.partition[0])].ring
        observations, due = observe(run, ring, parts.grid, recent, latest)
        rows.append(observations)
        dues.append(due)
    ids = np.concatenate([part.series_id for part in rows])
    if shared is not None:
        observations, due = observe(shared, parts.spread.ring, parts.grid, recent, latest)
        fresh = observations.fresh & parts.spread.alone  # other workers may have stored it since it was read
        rows.append(replace(observations, fresh=fresh))
        holes: Mask = np.asarray(~due.observed.all(axis=1))
        dues.append(replace(due, partial=holes))
    return concat(rows), dues, ids


def _latest(grid: Grid, now: int) -> int:
    """Return the last step in which an event of the present may lie."""
    return int(grid.frequency.step_of(np.array([now]))[0]) + AHEAD


def _present(grid: Grid, now: int) -> int:
    return int(grid.frequency.time_of(np.array([_latest(grid, now) + 1]))[0])


def doubt(dues: list[Due], standing: Standing, runs: Sequence[Messages], parts: Parts) -> list[Due]:
    """Leave `partial` only where a hole may still be filled: another partition is not read to its end, or not known."""
    if not any(due.partial.any() for due in dues):
        return dues
    reached = dict(standing.stored) | {run.partition: run.next_offset for run in runs}
    ends = dict(parts.source.ends())  # of its own partitions, without the offsets at which transactions ended
    try:
        ends |= parts.source.look(sorted(reached.keys() - ends.keys()))
    except Unavailable:  # the broker of another worker's partition may be away, which must not stop this one's
        return dues
    late = [at for at, offset in reached.items() if at not in ends or ends[at] > offset]
    return [replace(due, partial=due.partial & _among_others(due.partition, late)) for due in dues]


def _among_others(partitions: Ints, late: Sequence[int]) -> Mask:
    """Tell, of each partition, whether another one is late."""
    mask: Mask = np.full(len(partitions), bool(late)) if len(late) != 1 else partitions != late[0]
    return mask


def _one_per_partition(events: Sequence[Events]) -> list[Events]:
    """Join the runs of a partition: an unreadable batch between them has split them."""
    groups: dict[int, list[Events]] = {}
    for run in events:
        groups.setdefault(int(run.partition[0]), []).append(run)
    return [concat(group) for group in groups.values()]


def _count_off_grid(events: Sequence[Events], grid: Grid) -> Counter[int]:
    """Count by partition the events that lie between two steps."""
    counts: Counter[int] = Counter()
    for run in events:
        counts[int(run.partition[0])] += int(np.count_nonzero(~grid.frequency.on_grid(run.event_time)))
    return counts


def _advances(runs: Sequence[Messages], owned: Mapping[int, Owned], off_grid: Mapping[int, int]) -> tuple[Advance, ...]:
    reached = {run.partition: run.next_offset for run in runs}
    return tuple(
        Advance(at, owned[at].claim.epoch, owned[at].claim.next_offset, offset, off_grid.get(at, 0))
        for at, offset in sorted(reached.items())
    )
