"""What a worker tells of itself: plain numbers that its turns and claims count up, read by a telemetry thread.

Only the worker's own thread writes, one value at a time; a reader takes copies of dictionaries. So nothing here waits,
and a reader may see a turn half counted, never a number that was not so.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.errors import Fenced, Service, Unavailable
from pipeline.health.heartbeat import Heartbeat
from pipeline.records import DEAD_LETTER, Claim, Events, Forecasts, Left, Messages, Turn
from pipeline.stream.ring import RingStore

FENCED, BROKER, DATABASE, REGISTRY, BREAKER = "fenced", "broker", "database", "registry", "breaker"
SETBACKS = (FENCED, BROKER, DATABASE, REGISTRY, BREAKER)
"""Why claims were dropped: another worker owns a partition, the broker, the database, or the circuit breaker."""
FORECAST, LETTER = "forecast", "dead_letter"
KINDS = (FORECAST, LETTER)
"""Of messages that no topic took."""


@dataclass(slots=True)
class PartitionState:
    """A partition that is assigned to this worker; it is claimed while it has a `ring`.

    `next_offset` is S as this worker last knew it, `end` the offset after the newest as the broker last told it, and
    `newest_event` the newest event time that was stored here, in microseconds; None for not known yet.
    """

    epoch: int = 0
    next_offset: int | None = None
    end: int | None = None
    newest_event: int | None = None
    ring: RingStore | None = None

    @property
    def lag(self) -> int | None:
        """Messages that the broker has and the database has not."""
        if self.end is None or self.next_offset is None:
            return None
        return max(0, self.end - self.next_offset)


@dataclass(slots=True)
class WorkerState:
    """Counters since the start of the process, and the state of this moment.

    `behind_since` is the monotonic second from which on there was something to commit and nothing was committed.
    `setback` is why the claims were dropped last, until they are made again.
    """

    heartbeat: Heartbeat = field(default_factory=lambda: Heartbeat((BROKER, DATABASE)))
    partitions: dict[int, PartitionState] = field(default_factory=dict)
    settled: bool = False
    setback: str | None = None
    setbacks: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    tombstones: int = 0
    no_reading: int = 0  # other messages without a reading, by the mapping
    observations: int = 0
    events: int = 0
    off_grid: int = 0  # events between two steps of the grid
    forecasts: Counter[str] = field(default_factory=Counter)  # by quality
    reforecasts: int = 0  # of them, those of newest origins after a swap of the champion
    dead_letters: Counter[str] = field(default_factory=Counter)  # by class of reason
    left: Counter[str] = field(default_factory=Counter)  # messages that no topic took, by kind
    claims: int = 0
    republications: int = 0
    republished: int = 0
    skipped: int = 0
    committed_at: int | None = None  # processing time, microseconds
    behind_since: float | None = None

    def assign(self, partition: int, *, ours: bool) -> None:
        """Follow one change of the assignment; what a partition held before is forgotten with it."""
        self.partitions.pop(partition, None)
        if ours:
            self.partitions[partition] = PartitionState()

    def see(self, ends: Mapping[int, int], answered_at: float | None, *, settled: bool) -> None:
        """Take in what the broker has told by now; called after every poll."""
        self.settled = settled
        if answered_at is not None:
            self.heartbeat.answered(BROKER, answered_at)
        self.see_ends(ends)
        behind = any(each.ring is None or each.lag for each in self.partitions.values())
        if not behind:
            self.behind_since = None
        elif self.behind_since is None:
            self.behind_since = self.heartbeat.seconds()

    def see_ends(self, ends: Mapping[int, int]) -> None:
        """Take in the ends of partitions."""
        for partition, end in ends.items():
            if partition in self.partitions:
                self.partitions[partition].end = end

    def claim(self, claim: Claim, ring: RingStore) -> None:
        """Count a claim that was made."""
        own = self._at(claim.partition)
        own.epoch, own.next_offset, own.ring = claim.epoch, claim.next_offset, ring
        self.claims += 1
        self.heartbeat.beat()

    def store(
        self, runs: Iterable[Messages], events: Sequence[Events], turn: Turn, stored: Forecasts, *, present: int
    ) -> None:
        """Count a turn that is in SQL now; events later than `present` come from a clock that is fast."""
        messages = tombstones = 0
        for run in runs:
            messages += len(run.offsets)
            tombstones += run.tombstones
        self.messages += messages
        self.tombstones += tombstones
        refused = sum(letter.value is not None for letter in turn.dead_letters)
        self.events += sum(map(len, events))
        self.no_reading += messages - tombstones - refused - sum(part.messages for part in events)
        self.observations += len(turn.observations)
        self.forecasts.update(stored.quality)
        self.dead_letters.update(letter.kind for letter in turn.dead_letters)
        for part in events:
            own = self._at(int(part.partition[0]))
            on_time = part.event_time[part.event_time <= present]
            if len(on_time):
                own.newest_event = max(own.newest_event or 0, int(on_time.max()))
        for advance in turn.advances:
            self._at(advance.partition).next_offset = advance.next_offset
            self.off_grid += advance.off_grid
        self.heartbeat.beat()

    def reforecast(self, stored: Forecasts) -> None:
        """Count the forecasts of a turn without events, which are in SQL now."""
        self.forecasts.update(stored.quality)
        self.reforecasts += len(stored)
        self.heartbeat.beat()

    def leave(self, left: Sequence[Left]) -> None:
        """Count messages that were refused; the stub of a letter was counted with its letter."""
        whole = [each for each in left if not each.stub]
        self.left.update(LETTER if each.message == DEAD_LETTER else FORECAST for each in whole)

    def commit(self, now: int) -> None:
        """Note that a turn has ended well at processing time `now`: stored and published."""
        self.committed_at, self.setback = now, None
        self.behind_since = self.heartbeat.seconds()  # until the next poll says that nothing is left
        self.heartbeat.beat()

    def republish(self, messages: int) -> None:
        """Count a claim that had to publish what was stored."""
        self.republications += 1
        self.republished += messages

    def set_back(self, error: Fenced | Unavailable) -> None:
        """Note that every claim was dropped, and why."""
        self.setback = str(error)
        self.setbacks[_name_setback(error)] += 1
        for own in self.partitions.values():
            own.ring = None

    def trip(self, partition: int) -> None:
        """Note that a partition was dropped because too many of its messages cannot be read."""
        self.setbacks[BREAKER] += 1
        self._at(partition).ring = None

    def uncommitted(self) -> float:
        """Seconds for which there was something to commit, or to claim, and nothing was committed."""
        since = self.behind_since
        return 0.0 if since is None else max(0.0, self.heartbeat.seconds() - since)

    def find_unready(self, lately: float) -> list[str]:
        """Say why this worker does not do all of its work now; `lately` is how many seconds anything may be silent."""
        why = [] if self.settled else ["it is not a settled member of the group"]
        unclaimed = sorted(at for at, own in dict(self.partitions).items() if own.ring is None)
        if unclaimed:
            why.append(f"partitions {', '.join(map(str, unclaimed))} are assigned and not claimed")
        if self.setback is not None:
            why.append(f"claiming again: {self.setback}")
        return why + self.heartbeat.find_silences(lately)

    def _at(self, partition: int) -> PartitionState:
        own = self.partitions.get(partition)
        if own is None:
            own = self.partitions[partition] = PartitionState()
        return own


def _name_setback(error: Fenced | Unavailable) -> str:
    if isinstance(error, Fenced):
        return FENCED
    return {Service.BROKER: BROKER, Service.REGISTRY: REGISTRY}.get(error.service, DATABASE)
