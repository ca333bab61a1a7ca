"""RingStore: the newest C steps of every series of one partition, in arrays.

    row r, step s  ->  slot s mod C, at r * C + slot

Values are float64: what a series changes by may be a millionth of what it is. To cut a row it is laid beside itself, so
that every run of C steps that ends in the ring is one contiguous slice, and a window needs no index matrix; a few short
windows are sooner cut with one. A slot that was skipped is not observed. The ring is disposable: SQL holds everything,
so when a turn fails the ring is dropped and loaded again, and between two turns any series may be evicted: it is loaded
again when it returns.
"""

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from models.panel import slices
from pipeline.forecasting.windows import Grid
from pipeline.records import Floats, Ints, Mask
from pipeline.settings import Policy

NEVER = np.iinfo(np.int64).min // 2  # a step before every step
FEWEST = 16  # rows that a ring has room for
AT_ONCE = 256  # rows that are laid out for cutting, few enough for a cache
FEW = 4096  # numbers that are sooner found by their indices, in 5 to 30 us instead of 50 to 90
FACTS = ("series_id", "newest", "scored", "touched")
"""Columns of one number a row."""
Merged = tuple[Floats, Mask, Ints]
"""Merged events: value, observed, and the number of events with a value; (N,) each, or (N, P) for covariates."""


class Slots:
    """The slots of one quantity: of the value, or, with `shape` (P,), of P covariates side by side.

    `events` are kept only for the mean.
    """

    def __init__(self, capacity: int, policy: Policy, shape: tuple[int, ...] = ()) -> None:
        self._capacity = capacity
        self._policy = policy
        self._shape = shape
        self._value = np.zeros((0, *shape))
        self._observed = np.zeros((0, *shape), np.bool_)
        self._events = np.zeros((0, *shape), np.int32)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return self._value.nbytes + self._observed.nbytes + self._events.nbytes

    def put(self, at: Ints, new: Merged) -> None:
        """Merge into the slots `at`."""
        if self._policy == "last":
            merged, seen, count = new
        else:
            merged, seen, count = merge(self._policy, (self._value[at], self._observed[at], self._events_at(at)), new)
        self._value[at] = np.where(seen, merged, 0.0)
        self._observed[at] = seen
        if self._policy == "mean":
            self._events[at] = count

    def clear(self, at: Ints) -> None:
        """Forget the slots `at`."""
        self._value[at] = 0.0
        self._observed[at] = False
        if self._policy == "mean":
            self._events[at] = 0

    def cut(self, rows: Ints, first: Ints, length: int) -> tuple[Floats, Mask]:
        """Copy the runs of `length` slots from `first` (N,) on, round the ring: (N, length, *shape), and observed."""
        shape = (len(rows), length, *self._shape)
        value, observed = (self._cut(array, rows, first, length) for array in (self._value, self._observed))
        return value.reshape(shape), observed.reshape(shape)

    def _cut(self, array: NDArray[Any], rows: Ints, first: Ints, length: int) -> NDArray[Any]:
        width = math.prod(self._shape)
        turn, run = self._capacity * width, length * width
        if len(rows) * run <= FEW:
            index = (first[:, None] * width + np.arange(run)) % turn + rows[:, None] * turn  # (N, T * P)
            few: NDArray[Any] = array.reshape(-1)[index]
            return few
        whole = torch.from_numpy(array.reshape(-1, turn))  # (R, C * P)
        row, begin = torch.from_numpy(rows), torch.from_numpy(first * width)
        found = torch.empty((len(rows), run), dtype=whole.dtype)
        twice = torch.empty((min(len(rows), AT_ONCE), 2, turn), dtype=whole.dtype)
        place = torch.arange(len(twice)) * (2 * turn)
        for at in range(0, len(rows), AT_ONCE):
            part = slice(at, at + AT_ONCE)
            some = whole.index_select(0, row[part])  # (n, C * P)
            twice[: len(some)] = some[:, None]
            found[part] = slices(twice.view(-1), place[: len(some)] + begin[part], run)
        return found.numpy()

    def resize(self, room: int) -> None:
        """Make room for so many rows; what is beyond them goes."""
        self._value = _resized(self._value, room * self._capacity)
        self._observed = _resized(self._observed, room * self._capacity)
        if self._policy == "mean":
            self._events = _resized(self._events, room * self._capacity)

    def move(self, source: Ints, target: Ints) -> None:
        """Copy whole rows onto others."""
        for array in self._arrays():
            rows = array.reshape(-1, self._capacity * math.prod(self._shape))  # (R, C * P)
            rows[target] = rows[source]

    def _arrays(self) -> list[NDArray[Any]]:
        return [self._value, self._observed, *([self._events] if self._policy == "mean" else [])]

    def _events_at(self, at: Ints) -> Ints:
        return self._events[at].astype(np.int64) if self._policy == "mean" else self._observed[at].astype(np.int64)


class RingStore:
    """Rows are series, without a gap; each step has a value and `covariates` more numbers.

    `newest` (S,) is each row's newest step and `scored` (S,) the newest step that was forecast from; both NEVER for a
    new series. `touched` (S,) is the `turn` in which something was last put into a row; the owner counts `turn` up.
    `beyond` gives the first and last step of what SQL holds of a row ahead of its ring, and `fast` names the series
    whose last events were all ahead of time (pipeline.stream.observe), also those that are not here now.
    """

    def __init__(self, capacity: int, policy: Policy, covariates: int = 0) -> None:
        self.capacity = capacity
        self.policy = policy
        self.covariates = covariates
        self.turn = 0
        self.fast: set[str] = set()
        self.forget()

    @classmethod
    def of(cls, grid: Grid) -> Self:
        """Make an empty ring of a partition."""
        return cls(grid.capacity, grid.series.duplicates, grid.covariates)

    def forget(self) -> None:
        """Forget every series."""
        self.rows: dict[str, int] = {}
        self.names: list[str] = []
        self.series_id = np.empty(0, np.int64)
        self.newest = np.empty(0, np.int64)
        self.scored = np.empty(0, np.int64)
        self.touched = np.empty(0, np.int64)
        self.beyond: dict[int, tuple[int, int]] = {}
        self._target = Slots(self.capacity, self.policy)
        self._past = [Slots(self.capacity, self.policy, (self.covariates,))] if self.covariates else []

    def __len__(self) -> int:
        """Count the series."""
        return len(self.names)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        slots = sum(slots.nbytes for slots in (self._target, *self._past))
        return slots + sum(int(getattr(self, name).nbytes) for name in FACTS)

    def add(self, names: Sequence[str], series_id: Ints) -> Ints:
        """Add series that are not here yet and return their rows."""
        first = len(self.names)
        rows = np.arange(first, first + len(names), dtype=np.int64)
        self.names.extend(names)
        self.rows.update(zip(names, rows.tolist(), strict=True))
        self._fit(len(self.names))
        self.series_id[rows] = series_id
        self.newest[rows] = NEVER
        self.scored[rows] = NEVER
        self.touched[rows] = self.turn
        return rows

    def empty(self, rows: Ints) -> None:
        """Forget what rows hold, not their series; the next step that is put clears the slots."""
        self.newest[rows] = NEVER
        self.scored[rows] = NEVER
        for row in rows.tolist():
            self.beyond.pop(row, None)

    def evict(self, rows: Ints) -> None:
        """Forget series, between two turns; the last rows move into the gaps, so every row may have another number."""
        count = len(self.names) - len(rows)
        for row in rows.tolist():
            del self.rows[self.names[row]]
        gaps = rows[rows < count]
        last = np.setdiff1d(np.arange(count, len(self.names)), rows)
        for name in FACTS:
            getattr(self, name)[gaps] = getattr(self, name)[last]
        for slots in (self._target, *self._past):
            slots.move(last, gaps)
        for gap, row in zip(gaps.tolist(), last.tolist(), strict=True):
            self.names[gap] = self.names[row]
            self.rows[self.names[gap]] = gap
        place = dict(zip(last.tolist(), gaps.tolist(), strict=True))
        gone = set(rows.tolist())
        self.beyond = {place.get(row, row): steps for row, steps in self.beyond.items() if row not in gone}
        del self.names[count:]
        if len(self.series_id) > 2 * max(count, FEWEST):
            self._resize(max(count, FEWEST))

    def put(
        self, rows: Ints, steps: Ints, value: Floats, observed: Mask, events: Ints, *, past: Merged | None = None
    ) -> Mask:
        """Merge observations, at most one per (row, step), and tell which steps were new to their series.

        A step that is newer than the row's newest clears what it skips. A step older than the ring is left out: SQL
        has it. A step that is in the ring is merged by the policy, in the same arithmetic as in SQL. `past` are the
        covariates; a ring that keeps some needs them with every observation.
        """
        before = self.newest[rows]
        if not len(rows):
            return np.empty(0, np.bool_)
        np.maximum.at(self.newest, rows, steps)
        self.touched[rows] = self.turn
        self._clear(rows, before)
        kept = steps > self.newest[rows] - self.capacity
        at = self._at(rows[kept], steps[kept])
        self._target.put(at, (value[kept], observed[kept], events[kept]))
        for slots in self._past:
            assert past is not None, "a ring of covariates was given none"
            slots.put(at, (past[0][kept], past[1][kept], past[2][kept]))
        return steps > before

    def windows(self, rows: Ints, origins: Ints, length: int) -> tuple[Floats, Mask]:
        """Cut the windows of `length` steps that end at `origins`: (N, length) values and (N, length) observed.

        An origin is at most the row's newest step; steps older than the ring are not there to be cut.
        """
        if not len(rows):
            return np.empty((0, length)), np.empty((0, length), np.bool_)
        return self._target.cut(rows, (origins - length + 1) % self.capacity, length)

    def past_windows(self, rows: Ints, origins: Ints, length: int) -> tuple[Floats, Mask]:
        """Cut the covariates of the same windows: (N, length, P) values and (N, length, P) observed."""
        if self._past and len(rows):
            return self._past[0].cut(rows, (origins - length + 1) % self.capacity, length)
        none = (len(rows), length, self.covariates)
        return np.empty(none), np.empty(none, np.bool_)

    def _at(self, rows: Ints, steps: Ints) -> Ints:
        return rows * self.capacity + steps % self.capacity

    def _clear(self, rows: Ints, before: Ints) -> None:
        """Forget the slots between each row's former newest step and its newest one."""
        unique, first = np.unique(rows, return_index=True)
        start, stop = before[first], self.newest[unique]
        start = np.maximum(start, stop - self.capacity)
        counts = stop - start
        moved = counts > 0
        unique, start, counts = unique[moved], start[moved], counts[moved]
        if not len(unique):
            return
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        at = self._at(np.repeat(unique, counts), np.repeat(start + 1, counts) + offsets)
        for slots in (self._target, *self._past):
            slots.clear(at)

    def _fit(self, count: int) -> None:
        room = len(self.series_id)
        if count > room:
            self._resize(max(count, FEWEST, room + room // 2))

    def _resize(self, room: int) -> None:
        for name in FACTS:
            setattr(self, name, _resized(getattr(self, name), room))
        for slots in (self._target, *self._past):
            slots.resize(room)


def merge(policy: Policy, old: Merged, new: Merged) -> Merged:
    """Combine two values of the same (series, step) by the duplicates policy.

    An explicit null replaces under "last" and counts for nothing under the others.
    """
    (a, a_seen, a_events), (b, b_seen, b_events) = old, new
    events = a_events + b_events
    if policy == "last":
        return b, b_seen, events
    both = a_seen & b_seen
    either = np.where(a_seen, a, b)
    if policy == "first":
        return either, a_seen | b_seen, events
    if policy == "mean":
        combined = (a * a_events + b * b_events) / np.maximum(events, 1)
    elif policy == "sum":
        combined = a + b
    else:
        combined = np.maximum(a, b)
    return np.where(both, combined, either), a_seen | b_seen, events


def _resized(array: NDArray[Any], length: int) -> NDArray[Any]:
    other = np.zeros((length, *array.shape[1:]), array.dtype)
    kept = min(len(array), length)
    other[:kept] = array[:kept]
    return other
