"""The batch hook reads what the library reads, record for record, and never spins on a bad batch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.consumer.fetcher import Fetcher
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.structs import TopicPartition

from pipeline.kafka import batches
from pipeline.kafka.batches import BatchRecords, Columns, Unread, read, unusable

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
AT = TopicPartition("t", 0)
fields = st.none() | st.binary(max_size=300)
records = st.lists(
    st.tuples(fields, fields, st.lists(st.tuples(st.text(max_size=3), fields), max_size=2)), min_size=1, max_size=30
)


def build(rows: list[tuple[bytes | None, bytes | None, list]], codec: int = 0, base: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 1 << 20)
    for i, (key, value, headers) in enumerate(rows):
        builder.append(i, 1_000 * i, key, value, headers)
    raw = bytearray(builder.build())
    raw[:8] = base.to_bytes(8, "big")
    return bytes(raw)


def partition_records(raw: bytes, start: int = 0) -> BatchRecords:
    return BatchRecords(start, AT, MemoryRecords(raw))


@pytest.mark.parametrize("codec", CODECS)
@given(rows=records, start=st.integers(0, 35))
def test_the_hook_reads_the_same_records_as_the_library(codec: str, rows: list, start: int) -> None:
    raw = build(rows, CODECS[codec])
    stock = [(one.offset, one.key, one.value) for one in DefaultRecordBatch(raw) if one.offset >= start]
    ours = read(DefaultRecordBatch(raw), start)
    assert list(zip(ours.offsets, ours.keys, ours.values, strict=True)) == stock


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
    taken = list.__iter__(part.take(100))
    kinds = [type(batch) for batch in taken]
    assert kinds == [Columns, Unread, Columns]


def test_a_missing_codec_is_an_unread_batch_not_an_endless_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = build([(b"k", b"v", [])] * 3, CODECS["zstd"], base=4)
    monkeypatch.setattr(DefaultRecordBatch, "_maybe_uncompress", raise_missing)
    [batch] = [*partition_records(raw, start=4).take(10)]
    assert isinstance(batch, Unread)
    assert (batch.offset, batch.last_offset) == (4, 6)
    assert "zstd" in batch.reason


def raise_missing(batch: object) -> None:
    from kafka.errors import UnsupportedCodecError

    raise UnsupportedCodecError("Libraries for zstd compression codec not found")


def test_the_installed_version_passes_the_self_test() -> None:
    assert unusable() is None


def test_another_version_falls_back_to_the_library_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka.__version__", "3.1.0")
    assert "3.1.0" in str(unusable())


def test_a_self_test_that_reads_other_records_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "read", lambda batch, start: Columns(start, [0], [None], [None]))
    assert "self-test" in str(unusable())


def test_a_fetcher_of_another_shape_falls_back() -> None:
    class Other:
        _fetcher = object()

    assert "another shape" in str(batches.install(Other()))
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
    taken = [*list.__iter__(part.take(100))]
    assert len(taken) <= 1
    assert part.next_fetch_offset == 20
