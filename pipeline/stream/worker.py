"""The worker: claims partitions, takes turns, and starts over from SQL whenever something fails.

There is one way to recover. After any failure every claim is dropped and made again: the claim reads S and K, publishes
what is between them, and the rings fill from SQL. So a lost database, a lost broker, a rebalance in the middle of a
transaction and a crash all end in the same lines.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

import structlog

from pipeline.errors import Fenced, TooFew, Unavailable
from pipeline.grid.phase import OFF_GRID
from pipeline.records import Messages
from pipeline.stream.breaker import Trip
from pipeline.stream.claim import Accept, claim
from pipeline.stream.observe import SEEN_IS_COMPLETE
from pipeline.stream.portions import messages_in, portions
from pipeline.stream.reforecast import Reforecasting
from pipeline.stream.turn import Owned, Parts, take_turn
from pipeline.stream.worker_state import DATABASE

log = structlog.get_logger()
SECOND = 1_000_000
ASK_EVERY = 10 * SECOND  # whether the topics are still the same ones, while nothing arrives
SHARE_EVERY = 15 * SECOND  # whether every partition has a reader
LOOK_EVERY = 5 * SECOND  # at the ends of partitions that are held
FEWEST_OFF = 20
SHARE_OFF = 0.05
"""So many events, and such a share of all, must lie between two steps before it is said."""
MOMENT = 1 * SECOND  # in which more of the first events may arrive
FEWEST_MESSAGES = 100
MOST_HALVES = 6  # of a turn whose messages have many readings, when it fails
MOST_ROWS = 1_000_000  # of forecasts in one turn, if every message makes one due: some 1.5 GB at its height
MOST_CELLS = 100_000_000  # of windows in one turn, likewise: some 0.5 GB, and twice that for a moment


class Worker:
    """One consumer's loop. `owner` names this worker in SQL; a turn takes about `most` messages.

    A turn that fails is tried again with half as many, because it may have been too large for some time limit.
    """

    def __init__(self, parts: Parts, owner: str, most: int, accept: Accept = Accept.NOTHING) -> None:
        self.parts = parts
        self.owned: dict[int, Owned] = {}
        self.turns = 0
        self._owner = owner
        series, width = parts.grid.series, 1 + parts.grid.covariates
        fits = min(MOST_ROWS // series.horizon, MOST_CELLS // (series.context * width))
        self._events = self._limit = max(FEWEST_MESSAGES, min(most, fits))
        self._most = FEWEST_MESSAGES if parts.reader.many else self._limit
        self._accept = accept
        self._reforecasting = Reforecasting(series.horizon)
        self._unclaimed: set[int] = set()
        self._wait_until = 0
        self._failures = 0
        self._look_at = 0
        self._ask_at = 0
        self._share_at = 0
        self._orphans: set[int] = set()
        self._told_off_grid = parts.grid.series.duplicates not in SEEN_IS_COMPLETE  # others gather what a step has
        self._held: dict[int, int] = {}  # partitions that tripped the breaker, and until when on the timer

    def run(self, stopping: Callable[[], bool]) -> None:
        """Take steps until `stopping()`; an error that a person must act on ends it."""
        while not stopping():
            self.step()

    def step(self) -> None:
        """Poll, follow the assignment, claim, and take a turn over the messages."""
        try:
            self._step()
        except TooFew:
            self._put_off()
        except (Unavailable, Fenced) as error:
            if self.owned or self.parts.timer() >= self._wait_until:  # a poll that fails in a pause changes nothing
                self._start_over(error)

    @property
    def tripped(self) -> dict[int, str]:
        """The partitions that this worker does not read until fewer of their messages are bad, and why."""
        return self.parts.breakers.tripped(sorted({*self.owned, *self._unclaimed}))

    def _step(self) -> None:
        parts, worker_state = self.parts, self.parts.worker_state
        worker_state.heartbeat.beat()
        with parts.phases.measure("poll"):
            polled = parts.source.poll(self._most)
        self._follow_assignment()
        polled = [run for run in polled if run.partition in self.owned]  # a claim of this step reads its own
        worker_state.see(parts.source.ends(), parts.source.answered_at(), settled=parts.source.joined())
        now = parts.timer()
        if now < self._wait_until:
            self._look(now)
            return
        parts.scorer.refresh(now)
        if parts.shadow:
            parts.shadow.refresh(now)
        worker_state.heartbeat.answered(DATABASE)
        claims = bool(self._unclaimed) and parts.source.joined()
        if claims:
            self._claim(now)
        if self._held:
            self._look(now)
        if not self._unclaimed and worker_state.behind_since is None:
            worker_state.setback = None
        if now >= self._ask_at and not polled:
            parts.incarnations.ask()
            parts.incarnations.check()
            self._ask_at = now + ASK_EVERY
        if now >= self._share_at:
            self._adopt_orphans()
            self._share_at = now + SHARE_EVERY
        behind = claims or sum(len(run.offsets) for run in polled) >= self._most
        for some in self._portions(polled):
            self._take_turn(some)
        if self.owned and parts.source.joined() and not behind and self._reforecasting.take_turn(self.owned, parts):
            self._failures = 0
            worker_state.commit(parts.clock())

    def _portions(self, polled: list[Messages]) -> Iterable[list[Messages]]:
        """Return what of a poll is one turn each, and bound the next poll by it."""
        if not (polled and self.parts.reader.many):
            return [polled] if polled else []
        self._limit = min(self._events, messages_in(polled, self._events))
        return portions(polled, max(1, self._events >> min(self._failures, MOST_HALVES)))

    def _take_turn(self, polled: list[Messages]) -> None:
        parts, now = self.parts, self.parts.timer()
        self._most = max(self._most // 2, min(FEWEST_MESSAGES, self._limit))  # until this turn has ended well
        with parts.phases.measure("turn"):
            taken = take_turn(polled, self.owned, parts)
        for trip in taken.trips:
            self._hold(trip)
        if not taken.next_offsets:
            return
        self._most = min(self._most * 4, self._limit)
        self._failures = 0
        self.turns += 1
        parts.worker_state.commit(parts.clock())
        self._tell_off_grid()
        log.info(
            "turn",
            messages=taken.messages,
            observations=taken.observations,
            forecasts=taken.forecasts,
            dead_letters=taken.dead_letters,
            model_version=parts.scorer.version,
            seconds=round((parts.timer() - now) / SECOND, 3),
        )

    def _claim(self, now: int) -> None:
        self._held = {at: until for at, until in self._held.items() if until > now}
        waiting = sorted(self._unclaimed - self._held.keys())
        if waiting:
            self.parts.publisher.prepare()
        for partition in waiting:
            self.owned[partition] = claim(partition, self._owner, self.parts, self._accept)
            self._unclaimed.discard(partition)

    def _adopt_orphans(self) -> None:
        """Join again when nobody has some partition, twice in a row: between two rounds of a rebalance it is so."""
        orphans: set[int] = set()
        with suppress(Unavailable):
            orphans = self.parts.source.orphans()
        lasting = orphans & self._orphans
        if lasting:
            log.warning(
                "partitions without a reader", partitions=sorted(lasting), action="the group shares them out again"
            )
            self.parts.source.rejoin()
        self._orphans = orphans - lasting

    def _hold(self, trip: Trip) -> None:
        """Leave one partition alone for a while; it is claimed again after it, from what is stored."""
        log.error(
            "too many messages cannot be read", partition=trip.partition, reason=trip.reason, example=trip.example
        )
        self.parts.source.hold([trip.partition])
        del self.owned[trip.partition]
        self._unclaimed.add(trip.partition)
        self._held[trip.partition] = self.parts.timer() + int(trip.pause * SECOND)
        self.parts.worker_state.trip(trip.partition)

    def _look(self, now: int) -> None:
        """Ask, while partitions are held and nothing is fetched, how far their ends have moved meanwhile."""
        if now >= self._look_at:
            with suppress(Unavailable, Fenced):
                self.parts.worker_state.see_ends(self.parts.source.look(sorted(self._unclaimed)))
            self._look_at = self.parts.timer() + LOOK_EVERY

    def _follow_assignment(self) -> None:
        for partition, ours in self.parts.source.changes():
            self.owned.pop(partition, None)
            self._held.pop(partition, None)
            self.parts.spread.ring.forget()  # another worker may have stored some in between
            self.parts.breakers.forget(partition)
            self.parts.worker_state.assign(partition, ours=ours)
            if ours:
                self._unclaimed.add(partition)
            else:
                self._unclaimed.discard(partition)

    def _tell_off_grid(self) -> None:
        """Warn once if many events are moved to the step before them, where the next one may replace them."""
        worker_state = self.parts.worker_state
        if self._told_off_grid or worker_state.off_grid < max(FEWEST_OFF, SHARE_OFF * worker_state.events):
            return
        self._told_off_grid = True
        log.warning(
            "events between the steps of the grid",
            events=worker_state.off_grid,
            of=worker_state.events,
            grid=self.parts.grid.frequency.words,
            action=OFF_GRID,
        )

    def _put_off(self) -> None:
        """Leave the messages for a moment, and read them again with those that have arrived by then."""
        self._unclaimed.update(self.owned)
        self.parts.source.hold(sorted(self._unclaimed))
        self.owned.clear()
        self._wait_until = self.parts.timer() + MOMENT

    def _start_over(self, error: Fenced | Unavailable) -> None:
        """Drop every claim, and claim again after a pause that doubles up to half a minute."""
        self._unclaimed.update(self.owned)
        self.parts.source.hold(sorted(self._unclaimed))
        self.owned.clear()
        self.parts.spread.forget()
        self.parts.worker_state.set_back(error)
        pause = 0 if isinstance(error, Fenced) and not self._failures else min(30.0, 0.5 * 2 ** min(self._failures, 6))
        self._failures += 1
        self._wait_until = self.parts.timer() + int(pause * SECOND)
        log.warning("claiming again", reason=str(error), seconds=pause, partitions=sorted(self._unclaimed))
