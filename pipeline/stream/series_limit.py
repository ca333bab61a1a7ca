"""How many series may be new: a bucket of tokens and a total, so that a flood of names fills neither memory nor SQL.

A series that neither the rings nor SQL know takes a token, and a place among all series that SQL may hold. Without
either its messages of this turn become dead letters; series that are known are never asked. What a turn decides is
stored by that turn's transaction, message by message, so a turn that is taken again after a crash may decide otherwise
and still loses and doubles nothing. A message with one refused series is refused whole.
"""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import structlog

from pipeline.columns import take
from pipeline.messages.letters import make_letter
from pipeline.records import DeadLetter, Events, Kind, Messages

log = structlog.get_logger()
MINUTE = 60_000_000  # microseconds


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is left at the processing time `at` (microseconds); a token is MINUTE of `credit`."""

    credit: int
    at: int


def refill(bucket: Bucket, most: int, now: int) -> Bucket:
    """Add `most` tokens a minute, up to `most`; a clock that was set back adds none."""
    return Bucket(min(most * MINUTE, bucket.credit + max(0, now - bucket.at) * most), now)


def spend(bucket: Bucket, wanted: int) -> tuple[Bucket, int]:
    """Take up to `wanted` whole tokens and return how many were there."""
    taken = min(wanted, bucket.credit // MINUTE)
    return replace(bucket, credit=bucket.credit - taken * MINUTE), taken


class SeriesLimit:
    """Admits at most `most` new series a minute and `total` in all, None for any number of either.

    `known(names)` returns those that SQL has already, `count()` how many it has; it is asked once a minute, so several
    workers may together pass the total by what they admit in a minute.
    """

    def __init__(
        self,
        most: int | None,
        known: Callable[[Sequence[str]], Set[str]],
        *,
        total: int | None = None,
        count: Callable[[], int] = lambda: 0,
    ) -> None:
        self._most = most
        self._known = known
        self._bucket = Bucket((most or 0) * MINUTE, 0)
        self._total = total
        self._count = count
        self._counted: int | None = None
        self._counted_at = 0

    def admit(
        self,
        runs: Sequence[Messages],
        decoded: Sequence[Events],
        held: Mapping[int, Collection[str]],
        shared: Collection[str],
        now: int,
    ) -> tuple[list[Events], list[DeadLetter]]:
        """Split the events of each run into those to go on with and dead letters.

        `held` are the names that are known by partition, and `shared` those that are known in all of them.
        """
        unknown = dict.fromkeys(
            name
            for run, events in zip(runs, decoded, strict=True)
            for name in events.series
            if name not in held[run.partition] and name not in shared
        )
        if not unknown:
            return list(decoded), []
        names = list(unknown)
        known = self._known(names)
        new = [name for name in names if name not in known]
        room = self._room(now) if new else 0
        admitted = min(len(new), room)
        if self._most is not None:
            self._bucket, admitted = spend(refill(self._bucket, self._most, now), admitted)
        self._counted = (self._counted or 0) + admitted
        refused = set(new[admitted:])
        if not refused:
            return list(decoded), []
        full = admitted == room
        setting = "input.max_series" if full else "input.max_new_series"
        log.warning("new series refused", series=len(refused), admitted=admitted, setting=setting)
        most = f"{self._total} in all" if full else f"{self._most} in a minute"
        reason = f"a new series beyond {most}: raise {setting} if it is right, and requeue this"
        kept, letters = [], []
        for run, events in zip(runs, decoded, strict=True):
            bad = np.array([name in refused for name in events.series], np.bool_)
            offsets = np.unique(events.offset[bad])  # a message is stored whole or not at all
            kept.append(take(events, ~np.isin(events.offset, offsets)))
            places = np.searchsorted(run.offsets, offsets).tolist()
            letters += [make_letter(run, place, reason, Kind.NEW_SERIES) for place in places]
        return kept, letters

    def _room(self, now: int) -> int:
        """Return how many series SQL may get; what it holds is counted once a minute, and what was admitted since."""
        if self._total is None:
            return sys.maxsize
        if self._counted is None or now - self._counted_at >= MINUTE:
            self._counted, self._counted_at = self._count(), now
        return max(0, self._total - self._counted)
