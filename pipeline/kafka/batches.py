"""The batch hook: kafka-python's fetcher hands out record batches as columns instead of one object per record.

It replaces the private class Fetcher.PartitionRecords by a subclass, which keeps the library's position, CRC, abort
and control-batch handling, and reads a batch in one loop. 23 us a record become 2-3 (shared/kafka.md). A batch that
cannot be read becomes an `Unread` in its place: in the library it would make poll() spin for ever.

What a poll may hold is bounded: a batch unpacks to so many bytes at most, a large one is handed out in pieces, and a
poll ends when its bytes are used up. The partition that used them up gives way to the others and is fetched again.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import kafka
from kafka.consumer.fetcher import Fetcher
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.structs import TopicPartition

from pipeline.kafka.envelopes import Envelopes, has_requeued, says_requeued, varint, written_at
from pipeline.kafka.unpacking import NAMES, TooLarge, bound_library, unpack
from pipeline.records import Envelope

KNOWN_VERSIONS = ("3.0.12",)
BATCH_BYTES = POLL_BYTES = 64 << 20
PIECE_RECORDS = 10_000
PIECE_BYTES = 8 << 20
"""Of a batch that is handed out at once, about; one that is larger is handed out in pieces."""


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """The records of a batch, or of a piece of one, from the fetch offset on.

    `offset` is the first of them, `size` the bytes that they take, `requeued` the offsets of those that a requeue
    sent, and `envelope(i)` reads what the i-th has beside its key and value.
    """

    offset: int
    offsets: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    size: int
    requeued: frozenset[int]
    envelope: Callable[[int], Envelope]

    def __len__(self) -> int:
        """Count the records."""
        return len(self.offsets)


@dataclass(frozen=True, slots=True)
class Unread:
    """A batch that could not be read: its first and last offset, the reason, and its bytes."""

    offset: int
    last_offset: int
    reason: str
    raw: bytes

    def __len__(self) -> int:
        """Count as one message."""
        return 1

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.raw)


class Run(list[RecordColumns | Unread]):
    """Batches taken together; its length is their records, which is what the fetcher subtracts from its limit.

    Once the bytes of a poll are used up it is at least that limit, `filled`, which ends the poll.
    """

    filled = 0

    def __len__(self) -> int:
        """Count the records."""
        return max(self.filled, sum(len(batch) for batch in self))


@dataclass(slots=True)
class Bounds:
    """How many bytes a batch may unpack to, and how many a poll may hand out; `left` are those of this poll."""

    batch_bytes: int = BATCH_BYTES
    poll_bytes: int = POLL_BYTES
    left: int = field(default=POLL_BYTES)

    def begin_poll(self) -> None:
        """Give the next poll all of its bytes."""
        self.left = self.poll_bytes


Read = Callable[[Any, bytes, int, int], Iterator[RecordColumns]]
"""Reads a batch, which has these bytes, from an offset on; it may unpack to so many bytes."""


class BatchRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """Fetcher.PartitionRecords that yields batches."""

    def __init__(self, *args: Any, bounds: Bounds | None = None, read: Read | None = None, **kwargs: Any) -> None:
        self._bounds = bounds or Bounds()
        self._read_batch = read or read_columns
        super().__init__(*args, **kwargs)

    def take(self, n: int | None = None) -> Run:
        """Take whole batches until there are at least n records, or the bytes of this poll are used up."""
        run, count = Run(), 0
        for batch in self.record_iterator or ():
            run.append(batch)
            count += len(batch)
            self._bounds.left -= batch.size
            if self._bounds.left <= 0:
                run.filled = n or 0
                self.drain()  # the others' turn first: what is left of this response is fetched again
                break
            if n is not None and count >= n:
                break
        return run

    def _unpack_records(
        self,
        tp: Any,
        records: Any,
        key_deserializer: Any,
        value_deserializer: Any,
    ) -> Iterator[RecordColumns | Unread]:
        while (batch := records.next_batch()) is not None:
            self.leader_epoch = getattr(batch, "leader_epoch", -1)
            self.bytes_read += batch.size_in_bytes
            last = batch.last_offset if batch.magic == 2 else batch.base_offset
            raw = bytes(batch._buffer)
            try:
                for piece in self._pieces(batch, raw):
                    self.records_read += len(piece)
                    self.next_fetch_offset = piece.offsets[-1] + 1
                    yield piece
            except Exception as error:  # noqa: BLE001 - foreign bytes; each of four decompressors has errors of its own
                unread = Unread(max(batch.base_offset, self.next_fetch_offset), last, _why(error, batch, raw), raw)
                self.records_read += 1
                self.next_fetch_offset = last + 1
                yield unread
            if batch.magic == 2:
                self.next_fetch_offset = last + 1  # also over records that compaction or an abort took
        self.drain()

    def _pieces(self, batch: Any, raw: bytes) -> Iterator[RecordColumns]:
        if self.check_crcs and not batch.validate_crc():
            raise _BadChecksum
        if batch.magic == 2 and self._hidden(batch):
            return iter(())
        return self._read_batch(batch, raw, self.fetch_offset, self._bounds.batch_bytes)

    def _hidden(self, batch: Any) -> bool:
        """Tell whether a batch is a control batch or belongs to an aborted transaction."""
        if self.isolation_level == 1 and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)


class _BadChecksum(Exception):
    """The bytes of a batch are not those that were written."""


def _why(error: Exception, batch: Any, raw: bytes) -> str:
    if isinstance(error, _BadChecksum):
        return "the record batch failed its CRC check"
    if isinstance(error, TooLarge):
        return (
            f"the record batch unpacks to more than {error.limit:,} bytes ({len(raw):,} bytes of {error.codec}, "
            f"SHA-256 {hashlib.sha256(raw).hexdigest()}): raise input.max_batch_bytes if that is right, or mend its "
            "producer"
        )
    codec = NAMES.get(batch.compression_type, "an unknown codec")
    return f"the record batch cannot be read ({codec}): {type(error).__name__}: {error}"


def read_columns(batch: Any, raw: bytes, start: int, limit: int) -> Iterator[RecordColumns]:
    """Read a batch's records with offsets of at least `start` piece by piece; TooLarge if it unpacks beyond `limit`."""
    if batch.magic != 2:
        yield from read_by_library(batch, raw, start, limit)
        return
    buffer, at, codec = raw, batch._pos, batch.compression_type
    if codec:
        buffer, at = unpack(codec, raw[at:], limit), 0
    first, fixed = batch.first_timestamp, batch.max_timestamp if batch.timestamp_type else None
    left = batch.records_count
    while left > 0:
        begin, count = at, min(left, PIECE_RECORDS)
        piece, at, read = _read_piece(buffer, at, count, batch.base_offset, start)
        left -= read
        if piece is not None:
            offsets, keys, values, requeued = piece
            envelope = Envelopes(buffer, begin, at, batch.base_offset, start, first, fixed)
            yield RecordColumns(offsets[0], offsets, keys, values, at - begin, requeued, envelope)


_Piece = tuple[list[int], list[bytes | None], list[bytes | None], frozenset[int]]


def _read_piece(buffer: bytes, at: int, count: int, base: int, start: int) -> tuple[_Piece | None, int, int]:
    """Read up to `count` records from a place on: the columns, the place after them, and how many they were."""
    offsets: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    requeued: list[int] = []
    most, read = at + PIECE_BYTES, 0
    while read < count and at < most:
        read += 1
        length, at = varint(buffer, at)
        end = at + length
        if length < 0 or end > len(buffer):
            raise ValueError("a record is longer than its batch")
        at += 1  # attributes
        while buffer[at] & 0x80:  # timestamp delta
            at += 1
        delta, at = varint(buffer, at + 1)
        size, at = varint(buffer, at)
        key = value = None
        if size >= 0:
            key = buffer[at : at + size]
            at += size
        size, at = varint(buffer, at)
        if size >= 0:
            value = buffer[at : at + size]
            at += size
        if at >= end:
            raise ValueError("a field is longer than its record")
        if base + delta >= start:
            if buffer[at] and says_requeued(buffer, at, end):  # headers
                requeued.append(base + delta)
            offsets.append(base + delta)
            keys.append(key)
            values.append(value)
        at = end
    return ((offsets, keys, values, frozenset(requeued)) if offsets else None), at, read


def read_by_library(batch: Any, _raw: bytes, start: int, _limit: int) -> Iterator[RecordColumns]:
    """Read a batch like `read_columns`, record by record as the library does; `bound_library` has set its limit."""
    held: list[Any] = []
    size = 0
    for record in batch:
        if record.offset >= start:
            held.append(record)
            size += record.size_in_bytes
        if held and (len(held) >= PIECE_RECORDS or size >= PIECE_BYTES):
            yield _columns_of(held, size)
            held, size = [], 0
    if held:
        yield _columns_of(held, size)


def _columns_of(records: list[Any], size: int) -> RecordColumns:
    beside = [Envelope(written_at(record.timestamp), tuple(record.headers)) for record in records]
    return RecordColumns(
        records[0].offset,
        [record.offset for record in records],
        [record.key for record in records],
        [record.value for record in records],
        size,
        frozenset(record.offset for record, own in zip(records, beside, strict=True) if has_requeued(own.headers)),
        beside.__getitem__,
    )


def unusable(read: Read = read_columns) -> str | None:
    """Say why the hook cannot be used with the installed library, or None after it passed its self-test."""
    if read is read_columns and kafka.__version__ not in KNOWN_VERSIONS:
        return f"kafka-python {kafka.__version__} is not among the versions it was tested with"
    for codec in (0, 1):
        builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 1 << 16)
        for i in range(200):
            key = None if i % 3 == 0 else b"k" * i
            value = None if i % 7 == 0 else b"v" * (i * 3)
            builder.append(i, 1_000 + i * i, key, value, [("h", b"x" * i)] if i % 2 else [])
        raw = bytes(builder.build())
        stock = [
            (record.offset, record.key, record.value, record.timestamp * 1000, record.headers)
            for record in DefaultRecordBatch(raw)
            if record.offset >= 5
        ]
        try:
            run = BatchRecords(5, TopicPartition("self-test", 0), MemoryRecords(raw), read=read).take(1_000)
        except Exception as error:  # noqa: BLE001 - whatever another version of the library does not have
            return f"its self-test failed: {type(error).__name__}: {error}"
        ours = [
            (*own, envelope.written_at, list(envelope.headers))
            for batch in list.__iter__(run)
            if isinstance(batch, RecordColumns)
            for i, own in enumerate(zip(batch.offsets, batch.keys, batch.values, strict=True))
            for envelope in [batch.envelope(i)]
        ]
        if ours != stock:
            return "its self-test read other records than the library does"
    return None


def install(consumer: Any, bounds: Bounds, *, hook: bool = True) -> tuple[bool, str | None]:
    """Make the consumer yield bounded batches: whether it does, and why they are not read by the hook.

    Without the hook, the library reads the records of each batch. A fetcher of another shape is left as it was: then
    a batch that cannot be read, or unpacks beyond the limit, stops its partition.
    """
    bound_library(bounds.batch_bytes)
    reason = unusable() if hook else "kafka.batch_hook is off"
    read: Read = read_by_library if reason else read_columns
    if getattr(consumer._fetcher, "PartitionRecords", None) is not Fetcher.PartitionRecords:
        return False, "the consumer's fetcher has another shape"
    if reason and (worse := unusable(read)):
        return False, f"{reason}, and {worse}"
    consumer._fetcher.PartitionRecords = partial(BatchRecords, bounds=bounds, read=read)
    return True, reason
