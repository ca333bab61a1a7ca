"""Series whose readings arrive in several partitions: without keys, from two partitioners, after partitions were added.

A partition's ring knows what this worker read there, which is not the whole of such a series. So SQL names the
partition in which each series was first met. A series met in another one is spread from then on, for every worker: its
windows come from a ring that all partitions of this worker share, which is read from SQL again as soon as some other
partition has moved.

Kafka orders messages within a partition only. Those of several partitions are interleaved by the newest event time that
each had reached, then by partition, so the same messages give the same order.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import structlog

from pipeline.columns import concat, take
from pipeline.forecasting.windows import Grid
from pipeline.records import Events, Standing
from pipeline.stream.ports import Store
from pipeline.stream.ring import RingStore

log = structlog.get_logger()


class Spread:
    """What one worker knows of series in several partitions: their `names`, and the `ring` with their windows."""

    def __init__(self, grid: Grid, store: Store) -> None:
        self.names: set[str] = set()
        self.ring = RingStore.of(grid)
        self._store = store
        self._seen = 0
        self._repairs: int | None = None
        self._others: Mapping[int, int] | None = None
        self._warned = False

    def forget(self) -> None:
        """Forget everything, with every other ring of the worker: SQL tells it again."""
        self.names.clear()
        self.ring.forget()
        self._seen, self._repairs, self._others = 0, None, None

    def follow(self, runs: Sequence[Events], rings: Mapping[int, RingStore]) -> Standing:
        """Learn what has become of the series of these runs; afterwards a series is in `names` or in one ring.

        `rings` are those of the worker's partitions. A ring that SQL is ahead of is emptied.
        """
        for run in runs:
            partition = int(run.partition[0])
            new = set(run.series).difference(rings[partition].rows, self.names)
            if new:
                self.names |= self._store.place(sorted(new), partition)
        standing = self._store.standing()
        if standing.spreads != self._seen:
            self.names |= self._store.spread_after(self._seen)
            self._seen = standing.spreads
        if standing.repairs != self._repairs and self._repairs is not None:
            for ring in (self.ring, *rings.values()):
                ring.forget()
        others = {at: offset for at, offset in standing.stored.items() if at not in rings}
        if others != self._others:
            self.ring.forget()
        self._repairs, self._others = standing.repairs, others
        if self.names and not self._warned:
            log.warning(
                "series in several partitions",
                series=len(self.names),
                example=min(self.names),
                meaning="their windows are read from SQL, which is slower",
                advice="give every message its series as key, and use one partitioner",
            )
            self._warned = True
        return standing

    @property
    def alone(self) -> bool:
        """Whether no other worker has stored anything of this topic."""
        return not self._others

    def split(self, runs: Sequence[Events]) -> tuple[list[Events], Events | None]:
        """Take the spread series' events out of the runs, and interleave them; None if there are none."""
        if not self.names:
            return list(runs), None
        own, shared = [], []
        for run in runs:
            spread = np.fromiter((name in self.names for name in run.series), np.bool_, len(run))
            if not spread.any():
                own.append(run)
                continue
            shared.append(take(run, spread))
            if not spread.all():
                own.append(take(run, ~spread))
        return own, interleave(shared) if shared else None


def interleave(runs: Sequence[Events]) -> Events:
    """Join runs of different partitions, each in offset order, by the newest event time so far in each."""
    joined = concat(runs)
    reached = np.concatenate([np.maximum.accumulate(run.event_time) for run in runs])
    return take(joined, np.lexsort((joined.offset, joined.partition, reached)))
