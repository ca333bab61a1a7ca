"""How many series may be new: a bucket of tokens, so that a flood of names fills neither memory nor SQL.

A series that neither the rings nor SQL know takes a token. Without one its messages of this turn become dead letters;
series that are known are never asked. What a turn decides is stored by that turn's transaction, offset by offset, so a
turn that is taken again after a crash may decide otherwise and still loses and doubles nothing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import structlog

from pipeline.columns import take
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


class Newcomers:
    """Admits at most `most` new series a minute; `known(names)` returns those that SQL has already."""

    def __init__(self, most: int, known: Callable[[Sequence[str]], Set[str]]) -> None:
        self._most = most
        self._known = known
        self._bucket = Bucket(most * MINUTE, 0)

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
        self._bucket, admitted = spend(refill(self._bucket, self._most, now), len(new))
        refused = set(new[admitted:])
        if not refused:
            return list(decoded), []
        log.warning("new series refused", series=len(refused), admitted=admitted, setting="input.max_new_series")
        kept, letters = [], []
        for run, events in zip(runs, decoded, strict=True):
            bad = np.array([name in refused for name in events.series], np.bool_)
            kept.append(take(events, ~bad))
            letters += [self._letter(run, int(place)) for place in np.searchsorted(run.offsets, events.offset[bad])]
        return kept, letters

    def _letter(self, run: Messages, place: int) -> DeadLetter:
        reason = (
            f"a new series beyond {self._most} in a minute: raise input.max_new_series if it is right, and requeue this"
        )
        offset = int(run.offsets[place])
        return DeadLetter(run.partition, offset, reason, run.keys[place], run.values[place], kind=Kind.NEW_SERIES)
