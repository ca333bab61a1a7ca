"""Record batches, format 2, as opaque bytes: only the 61 bytes of the header are read.

The base offset (bytes 0-7) and the leader epoch (12-15) lie outside the CRC, so a batch is placed in a log
without decoding or recompressing its records.
"""

import struct
from dataclasses import dataclass, replace

from crc32c import crc32c

HEADER = struct.Struct(">qiibIhiqqqhii")
CRC_START = 21  # the CRC covers everything from the attributes on
LOG_APPEND_TIME, TRANSACTIONAL, CONTROL = 0x08, 0x10, 0x20


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """One batch; offsets are Kafka's, times are epoch milliseconds, producer -1 means neither id nor sequence."""

    base: int
    last: int
    max_time: int
    producer: int
    epoch: int
    first_sequence: int
    last_sequence: int
    transactional: bool
    control: bool
    raw: bytes

    def at(self, offset: int) -> "RecordBatch":
        """Return the batch placed at an offset of a log, leader epoch 0."""
        raw = struct.pack(">q", offset) + self.raw[8:12] + bytes(4) + self.raw[16:]
        return replace(self, base=offset, last=offset + self.last - self.base, raw=raw)

    def stamped(self, now_ms: int) -> "RecordBatch":
        """Return the batch with the broker's time for all its records (message.timestamp.type=LogAppendTime)."""
        raw = bytearray(self.raw)
        (attributes,) = struct.unpack_from(">h", raw, CRC_START)
        struct.pack_into(">h", raw, CRC_START, attributes | LOG_APPEND_TIME)
        struct.pack_into(">q", raw, 35, now_ms)
        struct.pack_into(">I", raw, 17, crc32c(memoryview(raw)[CRC_START:]))
        return replace(self, max_time=now_ms, raw=bytes(raw))


def parse(raw: bytes) -> RecordBatch | None:
    """Read the header of exactly one batch; None when the bytes are anything else or fail their CRC."""
    if len(raw) < HEADER.size:
        return None
    fields = HEADER.unpack_from(raw)
    base, length, _, magic, crc, attributes, last_delta, _, max_time, producer, epoch, sequence, count = fields
    intact = magic == 2 and length == len(raw) - 12 and count == last_delta + 1 and count > 0
    if not intact or crc32c(memoryview(raw)[CRC_START:]) != crc:
        return None
    return RecordBatch(
        base=base,
        last=base + last_delta,
        max_time=max_time,
        producer=producer,
        epoch=epoch,
        first_sequence=sequence,
        last_sequence=(sequence + last_delta) & 0x7FFFFFFF,  # sequences wrap to 0 after 2**31 - 1
        transactional=bool(attributes & TRANSACTIONAL),
        control=bool(attributes & CONTROL),
        raw=raw,
    )


def marker(producer: int, epoch: int, *, commit: bool, now_ms: int) -> RecordBatch:
    """Build the control batch that ends a transaction: one record whose key is (version 0, 1 commit or 0 abort)."""
    record = struct.pack(">BBBBBhhBhiB", 0x20, 0, 0, 0, 8, 0, int(commit), 12, 0, 0, 0)
    attributes = TRANSACTIONAL | CONTROL
    tail = struct.pack(">hiqqqhii", attributes, 0, now_ms, now_ms, producer, epoch, -1, 1) + record
    raw = struct.pack(">qiibI", 0, len(tail) + 9, 0, 2, crc32c(tail)) + tail
    return RecordBatch(0, 0, now_ms, producer, epoch, -1, -1, True, True, raw)
