"""Events -> rows for the observations table, and the windows that are due for a forecast.

A series' events, in arrival order, fall into waves: each event that is newer than everything before it starts one.

    step      7    7    8    7    9    9    11
    wave      0    0    1    1    2    2    3      (7 was the newest step before the turn)

Under "last" and "first" a step is complete as soon as it is seen, so the window of a wave's step is cut after the
wave. Under "mean", "sum" and "max" more events may follow, so it is cut just before the next wave begins.

An event that is ahead of the processing time does not starve those that are not. It is stored, and its step enters the
ring when time has come so far, or when the series' next events are ahead, too: then its clock is fast, and no other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.columns import concat, take
from pipeline.forecasting.windows import Grid
from pipeline.records import NOTHING, Due, Events, Floats, Ints, Mask, Observations, RecentHistory
from pipeline.settings import Policy
from pipeline.stream.ring import NEVER, Merged, RingStore

SEEN_IS_COMPLETE: frozenset[Policy] = frozenset({"last", "first"})
FOREVER = np.iinfo(np.int64).max // 2
Recent = Callable[[Sequence[str], int, int | None], RecentHistory]
"""Reads each series' newest observations: names, how many, and up to which time (microseconds; None for all)."""


def load(ring: RingStore, names: Sequence[str], history: RecentHistory, grid: Grid) -> None:
    """Add series with what SQL holds of them; nothing of that is due again."""
    fill(ring, ring.add(names, history.series_id), history, grid)


def fill(ring: RingStore, rows: Ints, history: RecentHistory, grid: Grid) -> None:
    """Put what SQL holds of series into their empty rows."""
    counts = np.diff(history.bounds)
    steps = grid.frequency.step_of(history.observed_at)
    seen = ~np.isnan(history.covariates)
    past = (np.where(seen, history.covariates, 0.0), seen, history.covariate_events)
    ring.put(np.repeat(rows, counts), steps, history.value, history.observed, history.events, past=past)
    if grid.series.duplicates in SEEN_IS_COMPLETE:
        ring.scored[rows] = ring.newest[rows]
    ahead = history.beyond[:, 1] != NOTHING
    spans = grid.frequency.step_of(history.beyond[ahead].ravel()).reshape(-1, 2).tolist()
    ring.beyond.update((row, (first, newest)) for row, (first, newest) in zip(rows[ahead].tolist(), spans, strict=True))


def observe(
    events: Events, ring: RingStore, grid: Grid, recent: Recent, latest: int = FOREVER
) -> tuple[Observations, Due]:
    """Put events into the ring and return what to store and what is due.

    Series that the ring does not know are loaded first, through `recent`. Steps after `latest` are ahead of time.
    """
    steps = grid.frequency.step_of(events.event_time)
    rows = _rows(events.series, ring, grid, recent, latest)
    on_time = _follow_clocks(rows, steps, ring, grid, recent, latest)
    known = _known(rows, ring)
    stored = fold(ring.policy, rows, steps, events)
    observations = Observations(
        series_id=ring.series_id[stored.row],
        observed_at=grid.frequency.time_of(stored.step),
        value=stored.value,
        observed=stored.observed,
        events=stored.events,
        partition=events.partition[stored.last],
        offset=events.offset[stored.last],
        fresh=stored.step > known[stored.last],
        covariates=np.where(stored.past[1], stored.past[0], np.nan),
        covariate_events=stored.past[2],
    )
    if on_time.all():
        return observations, _advance(events, rows, steps, ring, grid)
    for row, step in zip(rows[~on_time].tolist(), steps[~on_time].tolist(), strict=True):
        low, high = ring.beyond.get(row, (step, step))
        ring.beyond[row] = (min(low, step), max(high, step))
    return observations, _advance(take(events, on_time), rows[on_time], steps[on_time], ring, grid)


def _known(rows: Ints, ring: RingStore) -> Ints:
    """Return the newest step that SQL holds of each row, as far as the ring knows."""
    newest: Ints = ring.newest[rows]
    if ring.beyond:
        newest = np.maximum(newest, [ring.beyond.get(row, (NEVER, NEVER))[1] for row in rows.tolist()])
    return newest


def _follow_clocks(rows: Ints, steps: Ints, ring: RingStore, grid: Grid, recent: Recent, latest: int) -> Mask:
    """Mark (N,) the events that enter the ring now; before that, read rows again that are not where they should be.

    A series whose events were all ahead in this turn and in its last one has a fast clock: its ring follows it.
    """
    ahead: Mask = steps > latest
    if not (ring.beyond or ring.fast or ahead.any() or (ring.newest[rows] > latest).any()):
        return ~ahead
    honest = set(rows[~ahead].tolist())
    fast = set(rows[ahead].tolist()) - honest
    followed = {row for row in fast if ring.names[row] in ring.fast}
    ring.fast.difference_update(ring.names[row] for row in honest)
    ring.fast.update(ring.names[row] for row in fast)
    on_time: Mask = ~ahead | np.isin(rows, list(followed))
    reached = np.full(len(ring), NEVER)
    np.maximum.at(reached, rows[on_time], steps[on_time])
    due = {row for row, (first, _) in ring.beyond.items() if reached[row] >= first}
    _read_again([*followed & due], ring, grid, recent, FOREVER)
    _read_again(sorted(honest & due | {row for row in honest if ring.newest[row] > latest}), ring, grid, recent, latest)
    return on_time


def _read_again(rows: Sequence[int], ring: RingStore, grid: Grid, recent: Recent, latest: int) -> None:
    if rows:
        ring.empty(np.array(rows, np.int64))
        names = [ring.names[row] for row in rows]
        fill(ring, np.array(rows, np.int64), recent(names, grid.capacity, _until(grid, latest)), grid)


def _until(grid: Grid, latest: int) -> int | None:
    return None if latest >= FOREVER else int(grid.frequency.time_of(np.array([latest]))[0])


def waves(rows: Ints, steps: Ints, newest: Ints) -> Ints:
    """Number each event's wave within its series: 0 up to the first step newer than `newest` (per event)."""
    if not len(rows):
        return np.empty(0, np.int64)
    order = np.argsort(rows, kind="stable")
    row, step = rows[order], steps[order]
    first = np.r_[True, row[1:] != row[:-1]]
    group = np.cumsum(first) - 1
    low = int(step.min(initial=0))
    height = int(step.max(initial=0)) - low + 2
    before = np.maximum(newest[order], low - 1) - low + 1
    before = np.minimum(before, height - 1)  # a floor for every series; a higher one would reach into the next series
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
    past: Merged  # the covariates, (N, P) each


def fold(policy: Policy, rows: Ints, steps: Ints, events: Events, chosen: Ints | None = None) -> Folded:
    """Merge the (chosen) events per (row, step) by the duplicates policy, in arrival order."""
    index = np.arange(len(rows)) if chosen is None else chosen
    order = index[np.lexsort((index, steps[index], rows[index]))]
    row, step = rows[order], steps[order]
    starts = np.flatnonzero(np.r_[True, (row[1:] != row[:-1]) | (step[1:] != step[:-1])][: len(row)])
    ends = np.r_[starts[1:], len(row)][: len(starts)] - 1
    target = _folded(policy, (events.value[order], events.observed[order]), starts, ends)
    covariates = events.covariates[order]
    if covariates.size:
        past = _folded(policy, (covariates, ~np.isnan(covariates)), starts, ends)
    else:
        none = (len(starts), events.covariates.shape[1])
        past = np.empty(none), np.empty(none, np.bool_), np.empty(none, np.int64)
    return Folded(row[starts], step[starts], *target, order[ends], past)


def _folded(policy: Policy, cells: tuple[Floats, Mask], starts: Ints, ends: Ints) -> Merged:
    """Merge the runs starts..ends of (value, observed), each (N,) or (N, P), down the first axis."""
    value, seen = cells
    if not len(starts):
        return value, seen, np.empty(0, np.int64)
    count = np.add.reduceat(seen, starts, dtype=np.int64)
    if policy == "last":
        merged, observed = value[ends], seen[ends]
    elif policy == "first":
        place = np.arange(len(seen)).reshape(-1, *(1,) * (seen.ndim - 1))
        rank = np.minimum.reduceat(np.where(seen, place, len(seen) - 1), starts)
        merged, observed = np.take_along_axis(value, rank, 0), count > 0
    elif policy == "max":
        merged, observed = np.maximum.reduceat(np.where(seen, value, -np.inf), starts), count > 0
    else:
        merged, observed = np.add.reduceat(np.where(seen, value, 0.0), starts), count > 0
        if policy == "mean":
            merged = merged / np.maximum(count, 1)
    return np.where(observed, merged, 0.0), observed, count


def _rows(names: Sequence[str], ring: RingStore, grid: Grid, recent: Recent, latest: int) -> Ints:
    found = ring.rows
    unknown = list(dict.fromkeys(name for name in names if name not in found))
    if unknown:
        load(ring, unknown, recent(unknown, grid.capacity, _until(grid, latest)), grid)
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
        ring.put(folded.row, folded.step, folded.value, folded.observed, folded.events, past=folded.past)
        if complete:
            at_newest = advancing[steps[advancing] == ring.newest[rows[advancing]]]
            due.append(_cut(events, rows, at_newest, ring, grid))
    return concat(due) if due else _cut(events, rows, np.empty(0, np.int64), ring, grid)


def _cut(events: Events, rows: Ints, triggers: Ints, ring: RingStore, grid: Grid) -> Due:
    """Cut the window of each row that the trigger events make due, the first trigger of a row counting."""
    row, first = np.unique(rows[triggers], return_index=True)
    trigger = triggers[first]
    origin = ring.newest[row]
    due = (origin > ring.scored[row]) & (origin > NEVER)
    row, trigger, origin = row[due], trigger[due], origin[due]
    ring.scored[row] = origin
    target, seen = ring.windows(row, origin, grid.series.context)
    past, past_seen = ring.past_windows(row, origin, grid.series.context)
    return Due(
        partition=events.partition[trigger],
        series=[ring.names[i] for i in row],
        series_id=ring.series_id[row],
        origin=origin,
        offset=events.offset[trigger],
        target=target,
        observed=seen,
        past=past,
        past_observed=past_seen,
        partial=np.zeros(len(row), np.bool_),
    )
