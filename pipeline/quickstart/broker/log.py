"""One partition: an append-only list of batches with transactions and idempotent producers."""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from kafka.record import MemoryRecords

from pipeline.quickstart.broker.batch import RecordBatch, marker
from pipeline.quickstart.broker.codes import Code

REMEMBERED = 5  # batches per producer in which a retry is recognised; also Kafka's limit of requests in flight


class Aborted(NamedTuple):
    """An aborted transaction; `last` is the offset of its marker."""

    producer: int
    first: int
    last: int


class Slice(NamedTuple):
    """What a fetch returns: whole batches, and the aborted transactions that reach into them."""

    records: bytes
    aborted: list[Aborted]


@dataclass(slots=True)
class Producer:
    """What the partition knows of one producer: its epoch and its newest batches."""

    epoch: int
    recent: deque[RecordBatch] = field(default_factory=lambda: deque(maxlen=REMEMBERED))


class PartitionLog:
    """The log; offsets are Kafka's, `start` is the oldest kept one and `end` the next one to be written."""

    def __init__(self) -> None:
        self.start = 0
        self.end = 0
        self.watchers: set[Callable[[], None]] = set()
        self._batches: list[RecordBatch] = []
        self._lasts: list[int] = []
        self._producers: dict[int, Producer] = {}
        self._open: dict[int, int] = {}  # producer -> first offset of its open transaction
        self._aborted: list[Aborted] = []  # in the order of their markers

    @property
    def stable(self) -> int:
        """The last stable offset: everything below belongs to no open transaction."""
        return min(self._open.values(), default=self.end)

    def append(self, batch: RecordBatch) -> tuple[Code, int]:
        """Add a producer's batch and return its base offset; a retry of a recent batch returns the first one's."""
        if batch.producer >= 0:
            refused = self._check_sequence(batch)
            if isinstance(refused, RecordBatch):
                return Code.NONE, refused.base
            if refused:
                return refused, -1
        placed = self._place(batch)
        if placed.producer >= 0:
            self._producers[placed.producer].recent.append(placed)
        if placed.transactional:
            self._open.setdefault(placed.producer, placed.base)
        self._wake()
        return Code.NONE, placed.base

    def end_transaction(self, producer: int, epoch: int, *, commit: bool, now_ms: int) -> None:
        """Write the marker; its epoch also fences batches of older ones that are still under way."""
        placed = self._place(marker(producer, epoch, commit=commit, now_ms=now_ms))
        known = self._producers.get(producer)
        if known is None or known.epoch < epoch:
            self._producers[producer] = Producer(epoch)
        first = self._open.pop(producer, None)
        if first is not None and not commit:
            self._aborted.append(Aborted(producer, first, placed.base))
        self._wake()

    def read(self, offset: int, max_bytes: int, *, committed: bool, at_least_one: bool = True) -> Slice:
        """Return batches from the one that holds `offset`, up to the size, below the stable offset if `committed`."""
        limit = self.stable if committed else self.end
        taken: list[bytes] = []
        size, upper = 0, offset
        for index in range(bisect_left(self._lasts, offset), len(self._batches)):
            batch = self._batches[index]
            fits = size + len(batch.raw) <= max_bytes or (at_least_one and not taken)
            if batch.base >= limit or not fits:
                break
            taken.append(batch.raw)
            size += len(batch.raw)
            upper = batch.last + 1
        return Slice(b"".join(taken), self._aborted_between(offset, upper) if committed else [])

    def offset_at(self, time_ms: int, *, committed: bool) -> tuple[int, int]:
        """Return (offset, time) of the first record at or after a time, (-1, -1) if there is none.

        The one place where records are decoded: the answer is the record's offset, not its batch's.
        """
        limit = self.stable if committed else self.end
        for batch in self._batches:
            if batch.base >= limit:
                break
            if batch.max_time < time_ms or batch.control:
                continue
            decoded = MemoryRecords(batch.raw).next_batch()
            found = ((r.offset, r.timestamp) for r in decoded if r.offset >= self.start and r.timestamp >= time_ms)
            first = next(found, None)
            if first is not None:
                return first
        return -1, -1

    def delete_before(self, offset: int) -> Code:
        """Move the start of the log, as retention does; -1 means up to the end."""
        target = self.end if offset == -1 else offset
        if not self.start <= target <= self.end:
            return Code.OFFSET_OUT_OF_RANGE
        self.start = target
        gone = bisect_left(self._lasts, target)
        del self._batches[:gone], self._lasts[:gone]
        self._wake()
        return Code.NONE

    def _check_sequence(self, batch: RecordBatch) -> Code | RecordBatch:
        known = self._producers.get(batch.producer)
        if known is None:
            self._producers[batch.producer] = Producer(batch.epoch)
            return Code.NONE
        if batch.epoch < known.epoch:
            return Code.INVALID_PRODUCER_EPOCH
        if batch.epoch > known.epoch:
            if batch.first_sequence != 0:
                return Code.OUT_OF_ORDER_SEQUENCE_NUMBER
            self._producers[batch.producer] = Producer(batch.epoch)
            return Code.NONE
        for earlier in known.recent:
            if (earlier.first_sequence, earlier.last_sequence) == (batch.first_sequence, batch.last_sequence):
                return earlier
        if known.recent and batch.first_sequence != (known.recent[-1].last_sequence + 1) & 0x7FFFFFFF:
            return Code.OUT_OF_ORDER_SEQUENCE_NUMBER
        return Code.NONE

    def _place(self, batch: RecordBatch) -> RecordBatch:
        placed = batch.at(self.end)
        self._batches.append(placed)
        self._lasts.append(placed.last)
        self.end = placed.last + 1
        return placed

    def _aborted_between(self, offset: int, upper: int) -> list[Aborted]:
        ended_later = bisect_right(self._aborted, offset - 1, key=lambda aborted: aborted.last)
        return sorted(a for a in self._aborted[ended_later:] if a.first < upper)

    def _wake(self) -> None:
        for watcher in tuple(self.watchers):
            watcher()
