"""The batch hook reads what the library reads, record for record, and never spins on a bad batch."""

import hashlib
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.consumer.fetcher import Fetcher
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.legacy_records import LegacyRecordBatchBuilder
from kafka.structs import TopicPartition

from pipeline.kafka import batches
from pipeline.kafka.batches import (
    BatchRecords,
    Bounds,
    Read,
    RecordColumns,
    Unread,
    read_by_library,
    read_columns,
    unusable,
)
from pipeline.kafka.unpacking import bound_library
from pipeline.messages.letters import REQUEUED

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
AT = TopicPartition("t", 0)
fields = st.none() | st.binary(max_size=300)
records = st.lists(
    st.tuples(fields, fields, st.lists(st.tuples(st.text(max_size=3), fields), max_size=2)), min_size=1, max_size=30
)


@pytest.fixture(autouse=True)
def _library_as_it_is_bounded_by_default() -> Iterator[None]:
    bound_library(batches.BATCH_BYTES)
    yield
    bound_library(batches.BATCH_BYTES)


def build(rows: list[tuple[bytes | None, bytes | None, list]], codec: int = 0, base: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 1 << 28)
    for i, (key, value, headers) in enumerate(rows):
        builder.append(i, 1_000 * i, key, value, headers)
    raw = bytearray(builder.build())
    raw[:8] = base.to_bytes(8, "big")
    return bytes(raw)


def partition_records(
    raw: bytes, start: int = 0, bounds: Bounds | None = None, read: Read = read_columns
) -> BatchRecords:
    return BatchRecords(start, AT, MemoryRecords(raw), bounds=bounds, read=read)


def taken(part: BatchRecords, most: int = 100_000) -> list[RecordColumns | Unread]:
    return [*list.__iter__(part.take(most))]


Known = tuple[int, bytes | None, bytes | None, int | None, list]


def known(found: list[RecordColumns | Unread]) -> list[Known]:
    """Everything that is known of each record."""
    return [
        (*own, found_envelope.written_at, list(found_envelope.headers))
        for batch in found
        if isinstance(batch, RecordColumns)
        for i, own in enumerate(zip(batch.offsets, batch.keys, batch.values, strict=True))
        for found_envelope in [batch.envelope(i)]
    ]


@pytest.mark.parametrize("read", [read_columns, read_by_library])
@pytest.mark.parametrize("codec", CODECS)
@given(rows=records, start=st.integers(0, 35))
def test_both_ways_read_the_same_records_as_the_library(codec: str, read: Read, rows: list, start: int) -> None:
    raw = build(rows, CODECS[codec])
    stock = [
        (one.offset, one.key, one.value, one.timestamp * 1000, one.headers)
        for one in DefaultRecordBatch(raw)
        if one.offset >= start
    ]
    assert known(taken(partition_records(raw, start, read=read))) == stock


@pytest.mark.parametrize("read", [read_columns, read_by_library])
def test_a_time_that_is_none_and_headers_that_are_not_text_are_read(read: Read) -> None:
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 20)
    builder.append(0, -1, None, b"no time", [])
    builder.append(1, 253_402_300_800_000, None, b"year 10000", [("null", None), ("\0", b"")])
    found = known(taken(partition_records(bytes(builder.build()), read=read)))
    assert [(time, headers) for *_, time, headers in found] == [(None, []), (None, [("null", None), ("\0", b"")])]


def test_a_header_name_that_is_not_utf_8_is_escaped() -> None:
    raw = build([(None, b"v", [("name", b"x")])]).replace(b"name", b"n\xffme")
    part = BatchRecords(0, AT, MemoryRecords(raw), check_crcs=False)
    assert known(taken(part)) == [(0, None, b"v", 0, [("n\\xffme", b"x")])]


@pytest.mark.parametrize("read", [read_columns, read_by_library])
def test_the_time_of_the_broker_is_that_of_all_records(read: Read) -> None:
    raw = bytearray(build([(None, b"v", []), (None, b"w", [])]))
    raw[22] |= 0x08  # LogAppendTime
    raw[35:43] = (5_000).to_bytes(8, "big")
    part = BatchRecords(0, AT, MemoryRecords(bytes(raw)), check_crcs=False, read=read)
    assert [time for *_, time, _ in known(taken(part))] == [5_000_000, 5_000_000]


@pytest.mark.parametrize("read", [read_columns, read_by_library])
@pytest.mark.parametrize("codec", CODECS)
def test_requeued_messages_are_told_by_the_name_of_a_header_and_by_nothing_else(codec: str, read: Read) -> None:
    name = REQUEUED.encode()
    rows = [
        (b"k", b"v", [("a", b"b"), (REQUEUED, b"t/0/1")]),
        (name, name, []),
        (b"k", b"v", [("a", name)]),
        (b"k", b"v", [(REQUEUED + "x", b"")]),
        (b"k", b"v", [(REQUEUED, None)]),
    ]
    [batch] = taken(partition_records(build(rows, CODECS[codec], base=7), read=read))
    assert isinstance(batch, RecordColumns)
    assert batch.requeued == {7, 11}


@pytest.mark.parametrize("read", [read_columns, read_by_library])
@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_batch_that_unpacks_to_more_than_the_limit_is_unread_once_and_its_neighbours_are_read(
    codec: str, read: Read
) -> None:
    bounds = Bounds(batch_bytes=1 << 20)
    bound_library(bounds.batch_bytes)
    bomb = build([(None, bytes(1 << 19), [])] * 3, CODECS[codec], base=1)
    raw = build([(None, b"a", [])]) + bomb + build([(None, b"z", [])], CODECS[codec], base=4)
    part = partition_records(raw, bounds=bounds, read=read)
    before, unread, after = taken(part)
    assert isinstance(unread, Unread)
    assert (unread.offset, unread.last_offset, unread.raw) == (1, 3, bomb)
    assert unread.reason == (
        f"the record batch unpacks to more than 1,048,576 bytes ({len(bomb):,} bytes of {codec}, SHA-256 "
        f"{hashlib.sha256(bomb).hexdigest()}): raise input.max_batch_bytes if that is right, or mend its producer"
    )
    assert known([before, after]) == [(0, None, b"a", 0, []), (4, None, b"z", 0, [])]
    assert part.next_fetch_offset == 5


def test_a_large_batch_is_handed_out_in_pieces_and_its_place_is_always_the_next_record() -> None:
    count = 2 * batches.PIECE_RECORDS + 1
    part = partition_records(build([(None, b"", [])] * count, CODECS["zstd"], base=5), start=9)
    for size in (batches.PIECE_RECORDS - 4, batches.PIECE_RECORDS, 1):
        [piece] = taken(part, 1)
        assert len(piece) == size
        assert part.next_fetch_offset == piece.offset + size
    assert taken(part, 1) == []


@pytest.mark.parametrize("read", [read_columns, read_by_library])
def test_large_messages_are_pieces_of_their_own(read: Read) -> None:
    large = b"x" * batches.PIECE_BYTES
    part = partition_records(build([(None, large, [])] * 3, CODECS["zstd"]), read=read)
    assert [len(piece) for piece in taken(part)] == [1, 1, 1]


@pytest.mark.parametrize("read", [read_columns, read_by_library])
def test_a_poll_ends_when_its_bytes_are_used_up_and_goes_on_from_there(read: Read) -> None:
    raw = b"".join(build([(None, bytes(900_000), [])], CODECS["zstd"], base=base) for base in range(10))
    bounds = Bounds(poll_bytes=2_000_000)
    offsets: list[int] = []
    start = polls = 0
    while start < 10:
        bounds.begin_poll()
        part = partition_records(raw, start, bounds, read)
        run = part.take(20_000)
        assert len(run) == 20_000 or not bounds.left <= 0, "a poll that is full must not go on to other partitions"
        assert not part or bounds.left > 0, "what is left gives way to other partitions and is fetched again"
        offsets += [batch.offset for batch in list.__iter__(run)]
        start, polls = part.next_fetch_offset, polls + 1
    assert offsets == list(range(10))
    assert polls == 4


@pytest.mark.parametrize("read", [read_columns, read_by_library])
@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4"])
@pytest.mark.parametrize("magic", [0, 1])
def test_the_old_formats_are_read_and_what_unpacks_to_too_much_is_unread(magic: int, codec: str, read: Read) -> None:
    if (magic, codec) == (0, "lz4"):
        pytest.skip("kafka-python needs xxhash to write the wrong checksum of Kafka 0.8")
    bound_library(1 << 20)

    def old(value: bytes) -> bytes:
        builder = LegacyRecordBatchBuilder(magic, CODECS[codec], 1 << 24)
        builder.append(0, 1_000, b"k", value)
        return bytes(builder.build())

    [good] = known(taken(partition_records(old(b"v"), read=read)))
    assert good == (0, b"k", b"v", None if magic == 0 else 1_000_000, [])
    [found] = taken(partition_records(old(bytes(2 << 20)), read=read))
    assert isinstance(found, RecordColumns if codec == "none" else Unread)


def test_positions_move_by_whole_batches_and_the_limit_counts_records() -> None:
    raw = b"".join(build([(b"k", b"v", [])] * 10, base=base) for base in (0, 10, 20))
    part = partition_records(raw, start=5)
    first = part.take(8)
    assert len(first) == 15
    assert part.next_fetch_offset == 20
    assert [len(batch) for batch in [*first]] == [5, 10]
    assert len(part.take(8)) == 10
    assert len(part.take(8)) == 0
    assert part.next_fetch_offset == 30


@given(st.integers(21, 120), st.integers(0, 255))
def test_a_corrupt_batch_is_handed_out_once_and_its_neighbours_are_read(at: int, byte: int) -> None:
    good = build([(b"k", b"v" * 20, [])] * 3)
    bad = bytearray(build([(b"k", b"v" * 20, [])] * 3, base=3))
    if at >= len(bad) or bad[at] == byte:
        return
    bad[at] = byte
    part = partition_records(good + bytes(bad) + build([(b"k", b"v", [])], base=6))
    kinds = [type(batch) for batch in taken(part)]
    assert kinds == [RecordColumns, Unread, RecordColumns]


def test_a_missing_codec_is_an_unread_batch_not_an_endless_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = build([(b"k", b"v" * 99, [])] * 3, CODECS["zstd"], base=4)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    [batch] = [*partition_records(raw, start=4).take(10)]
    assert isinstance(batch, Unread)
    assert (batch.offset, batch.last_offset) == (4, 6)
    assert "zstd" in batch.reason


def test_the_installed_version_passes_the_self_test() -> None:
    assert unusable() is None


def test_another_version_falls_back_to_the_library_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka.__version__", "3.1.0")
    assert "3.1.0" in str(unusable())


def test_a_self_test_that_reads_other_records_falls_back() -> None:
    assert "self-test read other" in str(unusable(lambda *_: iter(())))


def test_a_library_of_another_version_reads_the_records_itself_in_bounded_batches() -> None:
    assert unusable(read_by_library) is None


def test_a_fetcher_of_another_shape_falls_back() -> None:
    class Other:
        _fetcher = object()

    assert batches.install(Other(), Bounds()) == (False, "the consumer's fetcher has another shape")
    assert Fetcher.PartitionRecords is not BatchRecords


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
@given(at=st.integers(61, 400), byte=st.integers(0, 255), cut=st.integers(0, 30))
def test_a_batch_that_does_not_decompress_is_unread_or_read_but_never_raises(
    codec: str, at: int, byte: int, cut: int
) -> None:
    raw = bytearray(build([(b"key %d" % i, b"value %d" % i * 9, []) for i in range(20)], CODECS[codec]))
    raw[min(at, len(raw) - 1)] = byte
    raw = raw[: max(62, len(raw) - cut)]
    raw[8:12] = (len(raw) - 12).to_bytes(4, "big")
    part = BatchRecords(0, AT, MemoryRecords(bytes(raw)), check_crcs=False)
    assert len(taken(part)) <= 1
    assert part.next_fetch_offset == 20
