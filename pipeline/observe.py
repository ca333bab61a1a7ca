"""Events of one partition -> rows for the observations table, and the windows that are due for a forecast.

A series' events, in arrival order, fall into waves: each event that is newer than everything before it starts one.

    step      7    7    8    7    9    9    11
    wave      0    0    1    1    2    2    3      (7 was the newest step before the turn)

Under "last" and "first" a step is complete as soon as it is seen, so the window of a wave's step is cut after the
wave. Under "mean", "sum" and "max" more events may follow, so it is cut just before the next wave begins.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import Frequency
from pipeline.records import Events, Floats, History, Ints, Mask, Observations
from pipeline.ring import NEVER, RingStore
from pipeline.settings import Policy, SeriesSettings

SEEN_IS_COMPLETE: frozenset[Policy] = frozenset({"last", "first"})
Recent = Callable[[Sequence[str], int], History]


@dataclass(frozen=True, slots=True)
class Due:
    """Series that are due for a forecast, with their windows as they were at that moment.

    `target` (N, T) float32 is 0 where `observed` (N, T) is False; `origin` is a step; `offset` is that of the event
    that made the forecast due.
    """

    partition: int
    series: Sequence[str]
    series_id: Ints  # (N,)
    origin: Ints  # (N,)
    offset: Ints  # (N,)
    target: NDArray[np.float32]  # (N, T)
    observed: Mask  # (N, T)
    past: NDArray[np.float32]  # (N, T, P), 0 where not observed
    past_observed: Mask  # (N, T, P)

    def __len__(self) -> int:
        """Count the windows."""
        return len(self.series_id)


@dataclass(frozen=True, slots=True)
class Grid:
    """How one deployment turns event times into windows."""

    frequency: Frequency
    series: SeriesSettings

    @property
    def capacity(self) -> int:
        """Steps that a ring keeps of every series."""
        return self.series.context

    def ring(self) -> RingStore:
        """Make an empty ring of a partition."""
        return RingStore(self.capacity, self.series.duplicates)


def load(ring: RingStore, names: Sequence[str], history: History, grid: Grid) -> None:
    """Add series with what SQL holds of them; nothing of that is due again."""
    rows = ring.add(names, history.series_id)
    counts = np.diff(history.bounds)
    steps = grid.frequency.step_of(history.observed_at)
    ring.put(np.repeat(rows, counts), steps, history.value, history.observed, history.events)
    if grid.series.duplicates in SEEN_IS_COMPLETE:
        ring.scored[rows] = ring.newest[rows]


def observe(events: Events, ring: RingStore, grid: Grid, recent: Recent) -> tuple[Observations, Due]:
    """Put events into the ring and return what to store and what is due.

    Series that the ring does not know are loaded first, through `recent(names, depth)`.
    """
    rows = _rows(events.series, ring, grid, recent)
    steps = grid.frequency.step_of(events.event_time)
    newest = ring.newest[rows]
    stored = fold(ring.policy, rows, steps, events)
    observations = Observations(
        series_id=ring.series_id[stored.row],
        observed_at=grid.frequency.time_of(stored.step),
        value=stored.value,
        observed=stored.observed,
        events=stored.events,
        partition=np.full(len(stored.row), events.partition, np.int64),
        offset=events.offset[stored.last],
        fresh=stored.step > newest[stored.last],
    )
    return observations, _advance(events, rows, steps, ring, grid)


def waves(rows: Ints, steps: Ints, newest: Ints) -> Ints:
    """Number each event's wave within its series: 0 up to the first step newer than `newest` (per event)."""
    order = np.argsort(rows, kind="stable")
    row, step = rows[order], steps[order]
    first = np.r_[True, row[1:] != row[:-1]]
    group = np.cumsum(first) - 1
    low = int(step.min(initial=0))
    height = int(step.max(initial=0)) - low + 2
    before = np.maximum(newest[order], low - 1) - low + 1  # a floor for every series, 0 .. height
    lifted = group * height + (step - low + 1)
    running = np.maximum.accumulate(np.maximum(lifted, group * height + before))
    previous = np.where(first, group * height + before, np.r_[0, running[:-1]])
    starts = lifted > previous
    total = np.cumsum(starts)
    within = total - np.repeat((total - starts)[first], np.diff(np.r_[np.flatnonzero(first), len(row)]))
    numbered = np.empty(len(rows), np.int64)
    numbered[order] = within
    return numbered


@dataclass(frozen=True, slots=True)
class Folded:
    """Events merged per (row, step); `last` is the index of each group's last event."""

    row: Ints
    step: Ints
    value: Floats
    observed: Mask
    events: Ints
    last: Ints


def fold(policy: Policy, rows: Ints, steps: Ints, events: Events, chosen: Ints | None = None) -> Folded:
    """Merge the (chosen) events per (row, step) by the duplicates policy, in arrival order."""
    index = np.arange(len(rows)) if chosen is None else chosen
    order = index[np.lexsort((index, steps[index], rows[index]))]
    row, step = rows[order], steps[order]
    starts = np.flatnonzero(np.r_[True, (row[1:] != row[:-1]) | (step[1:] != step[:-1])][: len(row)])
    ends = np.r_[starts[1:], len(row)][: len(starts)] - 1
    value, seen = events.value[order], events.observed[order]
    if not len(starts):
        return Folded(row, step, value, seen, np.empty(0, np.int64), order)
    count = np.add.reduceat(seen.astype(np.int64), starts)
    if policy == "last":
        merged, observed = value[ends], seen[ends]
    elif policy == "first":
        rank = np.where(seen, np.arange(len(row)), len(row) - 1)
        merged, observed = value[np.minimum.reduceat(rank, starts)], count > 0
    elif policy == "max":
        merged, observed = np.maximum.reduceat(np.where(seen, value, -np.inf), starts), count > 0
    else:
        merged, observed = np.add.reduceat(np.where(seen, value, 0.0), starts), count > 0
        if policy == "mean":
            merged = merged / np.maximum(count, 1)
    return Folded(row[starts], step[starts], np.where(observed, merged, 0.0), observed, count, order[ends])


def _rows(names: Sequence[str], ring: RingStore, grid: Grid, recent: Recent) -> Ints:
    found = ring.rows
    unknown = list(dict.fromkeys(name for name in names if name not in found))
    if unknown:
        load(ring, unknown, recent(unknown, grid.capacity), grid)
    return np.fromiter((found[name] for name in names), np.int64, len(names))


def _advance(events: Events, rows: Ints, steps: Ints, ring: RingStore, grid: Grid) -> Due:
    """Put the events wave by wave, cutting the windows that become due on the way."""
    wave = waves(rows, steps, ring.newest[rows])
    every = grid.series.on == "every_step"
    complete = grid.series.duplicates in SEEN_IS_COMPLETE
    final = np.zeros(len(ring), np.int64)
    np.maximum.at(final, rows, wave)
    if every:
        stages = wave
    elif complete:
        stages = np.zeros(len(rows), np.int64)
    else:
        stages = (wave == final[rows]).astype(np.int64)
    due = []
    for stage in range(int(stages.max(initial=-1)) + 1):
        chosen = np.flatnonzero(stages == stage)
        advancing = chosen[steps[chosen] > ring.newest[rows[chosen]]]
        if not complete and (every or stage == 1):
            due.append(_cut(events, rows, advancing, ring, grid))
        folded = fold(ring.policy, rows, steps, events, chosen)
        ring.put(folded.row, folded.step, folded.value, folded.observed, folded.events)
        if complete:
            at_newest = advancing[steps[advancing] == ring.newest[rows[advancing]]]
            due.append(_cut(events, rows, at_newest, ring, grid))
    return _joined(due, events.partition, grid)


def _cut(events: Events, rows: Ints, triggers: Ints, ring: RingStore, grid: Grid) -> Due:
    """Cut the window of each row that the trigger events make due, the first trigger of a row counting."""
    row, first = np.unique(rows[triggers], return_index=True)
    offset = events.offset[triggers[first]]
    origin = ring.newest[row]
    due = (origin > ring.scored[row]) & (origin > NEVER)
    row, offset, origin = row[due], offset[due], origin[due]
    ring.scored[row] = origin
    target, seen = ring.windows(row, origin, grid.series.context)
    return Due(
        partition=events.partition,
        series=[ring.names[i] for i in row],
        series_id=ring.series_id[row],
        origin=origin,
        offset=offset,
        target=target,
        observed=seen,
        past=np.empty((*target.shape, 0), np.float32),
        past_observed=np.empty((*target.shape, 0), np.bool_),
    )


def _joined(parts: list[Due], partition: int, grid: Grid) -> Due:
    if len(parts) == 1:
        return parts[0]
    width = grid.series.context
    return Due(
        partition=partition,
        series=[name for part in parts for name in part.series],
        series_id=np.concatenate([np.empty(0, np.int64), *(part.series_id for part in parts)]),
        origin=np.concatenate([np.empty(0, np.int64), *(part.origin for part in parts)]),
        offset=np.concatenate([np.empty(0, np.int64), *(part.offset for part in parts)]),
        target=np.concatenate([np.empty((0, width), np.float32), *(part.target for part in parts)]),
        observed=np.concatenate([np.empty((0, width), np.bool_), *(part.observed for part in parts)]),
        past=np.concatenate([np.empty((0, width, 0), np.float32), *(part.past for part in parts)]),
        past_observed=np.concatenate([np.empty((0, width, 0), np.bool_), *(part.past_observed for part in parts)]),
    )
