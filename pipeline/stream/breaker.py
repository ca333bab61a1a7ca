"""A circuit breaker: where most messages cannot be read, it is the reader or the producers that must change.

    messages   ok ok bad ok ok | bad bad bad bad bad bad ...
                 stored turns  | this turn: more than most_bad of some `window` messages in a row, so nothing is stored

Each partition has its own, so that one producer's change stops no other's partitions. Messages are counted in the order
in which they arrived. Those before this worker's start count as good, so a quiet topic does not trip it by its first
messages. Once tripped, it forgets the earlier ones, and a turn is stored again when its own share is within the limit.
Tombstones count as good, and so do messages that an operator requeued: they were counted when they first arrived.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.records import DeadLetter, Kind, Mask, Messages
from pipeline.settings import InputSettings

SHOWN = 200
"""Characters of an example."""
WINDOW = 1_000
"""Messages in a row, of one partition and worker, over which the share of input.most_bad is taken."""
PAUSE = 60.0
"""Seconds after which a paused partition is tried again."""


@dataclass(frozen=True, slots=True)
class Trip:
    """A partition whose messages of this turn must not be stored; try again after `pause` seconds."""

    partition: int
    reason: str
    pause: float
    example: Mapping[str, object]


def mark_bad(runs: Sequence[Messages], letters: Sequence[DeadLetter]) -> Mask:
    """Mark (N,) which of a partition's messages became dead letters, in the order in which they arrived."""
    bad = [letter.offset for letter in letters]
    marks = [
        np.isin(run.offsets, [offset for offset in bad if offset not in run.requeued] if run.requeued else bad)
        for run in runs
    ]
    return np.concatenate([np.empty(0, np.bool_), *marks])


def most_in_a_row(before: Mask, bad: Mask, window: int) -> int:
    """Return the most bad ones among any `window` messages in a row that end in `bad`; `before` are earlier ones."""
    counts = np.concatenate([[0], np.cumsum(np.concatenate([before[max(0, len(before) - window + 1) :], bad]))])
    ends = np.arange(len(counts) - len(bad), len(counts))
    return int(np.max(counts[ends] - counts[np.maximum(ends - window, 0)], initial=0))


@dataclass(slots=True)
class Breaker:
    """One partition's breaker: `most_bad` is a share of `window` messages in a row, None for no limit. `tripped` says
    why the partition is not read now, None while it is.
    """

    most_bad: float | None
    window: int
    tripped: str | None = None
    _stored: Mask = field(default_factory=lambda: np.empty(0, np.bool_))

    def check(self, bad: Mask, letters: Sequence[DeadLetter], partition: int = 0) -> Trip | None:
        """Return why messages with these marks must not be stored; None if they may."""
        limit = self.most_bad
        if limit is None or not bad.any():
            return None
        window = min(len(bad), self.window) if self.tripped else self.window
        most = most_in_a_row(self._before(), bad, window)
        if most <= limit * window:
            return None
        kind, example = commonest(letters)
        self.tripped = f"{most} of {window} messages cannot be read, most of them because of {kind}"
        return Trip(partition, self.tripped, PAUSE, example)

    def remember(self, bad: Mask) -> None:
        """Messages with these marks are stored."""
        if len(bad):
            self._stored = np.concatenate([self._before(), bad])[-self.window :]
            self.tripped = None

    def _before(self) -> Mask:
        return np.empty(0, np.bool_) if self.tripped else self._stored


class Breakers:
    """The breakers of a worker's partitions."""

    def __init__(self, settings: InputSettings, window: int = WINDOW) -> None:
        self._most_bad, self._window = settings.most_bad, window
        self._of: dict[int, Breaker] = {}
        self._marks: dict[int, Mask] = {}

    def check(self, runs: Sequence[Messages], letters: Sequence[DeadLetter]) -> dict[int, Trip]:
        """Return the partitions of which nothing may be stored in this turn, each with why."""
        trips = {}
        self._marks = {}
        for partition in dict.fromkeys(run.partition for run in runs):
            own = [letter for letter in letters if letter.partition == partition]
            marks = mark_bad([run for run in runs if run.partition == partition], own)
            trip = self._of.setdefault(partition, Breaker(self._most_bad, self._window)).check(marks, own, partition)
            if trip is None:
                self._marks[partition] = marks
            else:
                trips[partition] = trip
        return trips

    def remember(self) -> None:
        """What passed the last check is stored."""
        for partition, marks in self._marks.items():
            self._of[partition].remember(marks)

    def forget(self, partition: int) -> None:
        """Forget a partition whose owner changes: another worker may store what this one has not."""
        self._of.pop(partition, None)

    def tripped(self, partitions: Sequence[int]) -> dict[int, str]:
        """Return which of these partitions are not read now, and why."""
        found = {at: self._of[at].tripped for at in partitions if at in self._of}
        return {at: why for at, why in found.items() if why is not None}


def commonest(letters: Sequence[DeadLetter]) -> tuple[Kind, Mapping[str, object]]:
    """Return what is wrong with most letters, and the first of them."""
    kind = Counter(letter.kind for letter in letters).most_common(1)[0][0]
    first = next(letter for letter in letters if letter.kind is kind)
    shown = None if first.value is None else first.value[:SHOWN].decode(errors="replace")
    return kind, {
        "partition": first.partition,
        "offset": first.offset,
        "reason": first.reason[:SHOWN],
        "value": shown,
    }
