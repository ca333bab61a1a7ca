"""How many series stay in memory: those that were silent longest make room, and SQL has all of them.

A turn puts its events into rings. Before that, series that are not in the turn are evicted, as many as are too many.
One that returns is loaded from SQL, as after a claim, so its forecasts are what they would have been. A turn's own
series are never evicted: when they alone are more than the limit, the limit gives way until the next turn.
"""

from collections.abc import Mapping

import numpy as np
import structlog

from pipeline.records import Events, Mask
from pipeline.stream.ring import RingStore

log = structlog.get_logger()
SPARE = 100
"""A hundredth of the limit is evicted beyond what is needed, so that not every turn has to look for the oldest."""


class Eviction:
    """Keeps at most `most` series in the rings of a worker; `evicted` counts those that it has dropped."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._turn = 0
        self.evicted = 0

    def make_room(self, rings: Mapping[int, RingStore], events: Mapping[int, Events]) -> None:
        """Evict what is too many when these events come into these rings; `rings` are all of the worker's.

        Called in each turn before anything is put into a ring: SQL holds what the rings hold then, and no more.
        """
        self._turn += 1
        for ring in rings.values():
            ring.turn = self._turn
        held = sum(len(ring) for ring in rings.values())
        if held + sum(len(run) for run in events.values()) <= self._most:
            return  # the usual case: nothing is looked up
        wanted = {at: set(run.series) for at, run in events.items()}
        excess = held - self._most
        needed: dict[int, Mask] = {}
        for partition, ring in rings.items():
            names = wanted.get(partition, set())
            here = [ring.rows[name] for name in names if name in ring.rows]
            excess += len(names) - len(here)
            needed[partition] = np.zeros(len(ring), np.bool_)
            needed[partition][here] = True
        if excess > 0:
            self._evict(rings, needed, excess + self._most // SPARE)

    def _evict(self, rings: Mapping[int, RingStore], needed: Mapping[int, Mask], count: int) -> None:
        """Evict `count` series, the longest silent first, of those that are not needed."""
        free = [(partition, np.flatnonzero(~needed[partition])) for partition in rings]
        rows = np.concatenate([np.empty(0, np.int64), *(rows for _, rows in free)])
        owner = np.repeat([partition for partition, _ in free], [len(rows) for _, rows in free])
        touched = np.concatenate([np.empty(0, np.int64), *(rings[partition].touched[rows] for partition, rows in free)])
        count = min(count, len(rows))
        if not count:
            return
        oldest = np.argpartition(touched, count - 1)[:count]
        for partition, ring in rings.items():
            gone = rows[oldest[owner[oldest] == partition]]
            if len(gone):
                ring.evict(gone)
        self.evicted += count
        log.info("series evicted", series=count, held=sum(len(ring) for ring in rings.values()))
