"""The batch hook: kafka-python's fetcher hands out record batches as columns instead of one object per record.

It replaces the private class Fetcher.PartitionRecords by a subclass, which keeps the library's position, CRC, abort
and control-batch handling, and reads a batch in one loop. 23 us a record become 2-3 (shared/kafka.md). A batch that
cannot be read becomes an `Unread` in its place: in the library it would make poll() spin for ever.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import kafka
from kafka.consumer.fetcher import Fetcher
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

KNOWN_VERSIONS = ("3.0.12",)


@dataclass(frozen=True, slots=True)
class Columns:
    """The records of one batch from the fetch offset on; `offset` is the first of them."""

    offset: int
    offsets: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]

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


class Run(list[Columns | Unread]):
    """Batches taken together; its length is their records, which is what the fetcher subtracts from its limit."""

    def __len__(self) -> int:
        """Count the records."""
        return sum(len(batch) for batch in self)


class BatchRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """Fetcher.PartitionRecords that yields batches."""

    def take(self, n: int | None = None) -> Run:
        """Take whole batches until there are at least n records."""
        run, count = Run(), 0
        for batch in self.record_iterator or ():
            run.append(batch)
            count += len(batch)
            if n is not None and count >= n:
                break
        return run

    def _unpack_records(
        self,
        tp: Any,
        records: Any,
        key_deserializer: Any,
        value_deserializer: Any,
    ) -> Iterator[Columns | Unread]:
        while (batch := records.next_batch()) is not None:
            self.leader_epoch = getattr(batch, "leader_epoch", -1)
            taken = self._read(batch)
            if batch.magic == 2:
                self.next_fetch_offset = batch.next_offset
            elif isinstance(taken, Columns) and taken.offsets:
                self.next_fetch_offset = taken.offsets[-1] + 1
            if taken is not None and len(taken):
                self.records_read += len(taken)
                self.bytes_read += batch.size_in_bytes if batch.magic == 2 else 0
                yield taken
        self.drain()

    def _read(self, batch: Any) -> Columns | Unread | None:
        raw = bytes(batch._buffer)
        if self.check_crcs and not batch.validate_crc():
            last = batch.last_offset if batch.magic == 2 else batch.base_offset
            return Unread(max(batch.base_offset, self.fetch_offset), last, "the record batch failed its CRC check", raw)
        if batch.magic == 2 and self._hidden(batch):
            return None
        try:
            return read(batch, self.fetch_offset)
        except Exception as error:  # noqa: BLE001 - foreign bytes; each of four decompressors has errors of its own
            last = batch.last_offset if batch.magic == 2 else batch.base_offset
            reason = f"the record batch cannot be read: {type(error).__name__}: {error}"
            return Unread(max(batch.base_offset, self.fetch_offset), last, reason, raw)

    def _hidden(self, batch: Any) -> bool:
        """Tell whether a batch is a control batch or belongs to an aborted transaction."""
        if self.isolation_level == 1 and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)


def read(batch: Any, start: int) -> Columns:
    """Read a batch's records with offsets of at least `start`; headers and timestamps are skipped."""
    if batch.magic != 2:
        kept = [record for record in batch if record.offset >= start]
        return Columns(
            kept[0].offset if kept else start,
            [record.offset for record in kept],
            [record.key for record in kept],
            [record.value for record in kept],
        )
    batch._maybe_uncompress()
    buffer, at, base = bytes(batch._buffer), batch._pos, batch.base_offset
    offsets: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    for _ in range(batch.records_count):
        length, at = _varint(buffer, at)
        end = at + length
        if length < 0 or end > len(buffer):
            raise ValueError("a record is longer than its batch")
        at += 1  # attributes
        while buffer[at] & 0x80:  # timestamp delta
            at += 1
        delta, at = _varint(buffer, at + 1)
        size, at = _varint(buffer, at)
        key = None if size < 0 else buffer[at : at + size]
        at += max(size, 0)
        size, at = _varint(buffer, at)
        value = None if size < 0 else buffer[at : at + size]
        if at + max(size, 0) > end:
            raise ValueError("a field is longer than its record")
        at = end
        if base + delta >= start:
            offsets.append(base + delta)
            keys.append(key)
            values.append(value)
    return Columns(offsets[0] if offsets else start, offsets, keys, values)


def _varint(buffer: bytes, at: int) -> tuple[int, int]:
    """Read a zigzag varint; one and two bytes are nearly all there are."""
    byte = buffer[at]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at + 1
    value, shift, at = byte & 0x7F, 7, at + 1
    while True:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def unusable() -> str | None:
    """Say why the hook cannot be used with the installed library, or None after it passed its self-test."""
    if kafka.__version__ not in KNOWN_VERSIONS:
        return f"kafka-python {kafka.__version__} is not among the versions it was tested with"
    for codec in (0, 1):
        builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 1 << 16)
        for i in range(200):
            key = None if i % 3 == 0 else b"k" * i
            value = None if i % 7 == 0 else b"v" * (i * 3)
            builder.append(i, 1_000 + i * i, key, value, [("h", b"x" * i)] if i % 2 else [])
        raw = bytes(builder.build())
        stock = [(record.offset, record.key, record.value) for record in DefaultRecordBatch(raw) if record.offset >= 5]
        ours = read(DefaultRecordBatch(raw), 5)
        if list(zip(ours.offsets, ours.keys, ours.values, strict=True)) != stock:
            return "its self-test read other records than the library does"
    return None


def install(consumer: Any) -> str | None:
    """Make the consumer yield batches; returns why it could not, leaving the consumer as it was."""
    reason = unusable()
    if reason is None and getattr(consumer._fetcher, "PartitionRecords", None) is Fetcher.PartitionRecords:
        consumer._fetcher.PartitionRecords = BatchRecords
        return None
    return reason or "the consumer's fetcher has another shape"
