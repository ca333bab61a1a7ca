"""The development broker's log, against a model that keeps every record."""

import struct
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.quickstart.broker import DevelopmentBroker
from pipeline.quickstart.broker.batch import HEADER, RecordBatch, marker, parse
from pipeline.quickstart.broker.codes import Code
from pipeline.quickstart.broker.log import PartitionLog

EVERYTHING = 1 << 30
PRODUCERS = st.integers(1, 3)
TURNS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), PRODUCERS, st.integers(1, 3)),
        st.tuples(st.just("plain"), st.just(-1), st.integers(1, 3)),
        st.tuples(st.just("commit"), PRODUCERS, st.just(0)),
        st.tuples(st.just("abort"), PRODUCERS, st.just(0)),
    ),
    max_size=30,
)


def batch(producer: int, sequence: int, records: int, epoch: int = 0, *, transactional: bool = True) -> RecordBatch:
    """A batch whose records are not even bytes of records: the log never looks at them."""
    size = HEADER.size + 4 * records
    raw = struct.pack(">qi", 0, size - 12) + bytes(size - 12)
    last_sequence = sequence + records - 1
    return RecordBatch(0, records - 1, 0, producer, epoch, sequence, last_sequence, transactional, False, raw)


def bases(records: bytes) -> list[int]:
    """The base offsets of batches that follow each other."""
    found = []
    while records:
        base, length = struct.unpack_from(">qi", records)
        found.append(base)
        records = records[12 + length :]
    return found


@dataclass
class Model:
    """Each record's (offset, transaction), and how each transaction ended."""

    records: list[tuple[int, int | None]] = field(default_factory=list)
    outcome: dict[int, bool | None] = field(default_factory=dict)  # None while it is open
    current: dict[int, int] = field(default_factory=dict)  # producer -> its open transaction
    end: int = 0

    def write(self, producer: int, count: int) -> None:
        transaction = None
        if producer >= 0:
            transaction = self.current.setdefault(producer, len(self.outcome))
            self.outcome.setdefault(transaction, None)
        self.records += [(self.end + i, transaction) for i in range(count)]
        self.end += count

    def finish(self, producer: int, *, commit: bool) -> None:
        self.end += 1  # the marker
        if producer in self.current:
            self.outcome[self.current.pop(producer)] = commit

    @property
    def stable(self) -> int:
        unfinished = [offset for offset, t in self.records if t is not None and self.outcome[t] is None]
        return min(unfinished, default=self.end)

    def visible(self, start: int) -> list[int]:
        return [o for o, t in self.records if start <= o < self.stable and (t is None or self.outcome[t] is not False)]


def play(turns: list[tuple[str, int, int]]) -> tuple[PartitionLog, Model, dict[int, int]]:
    """Run the turns over the log and the model; also return which producer wrote which offset."""
    log, model, sequences = PartitionLog(), Model(), dict.fromkeys(range(1, 4), 0)
    writers: dict[int, int] = {}
    for turn, producer, count in turns:
        if turn in {"write", "plain"}:
            written = batch(producer, sequences.get(producer, -1), count, transactional=turn == "write")
            assert log.append(written) == (Code.NONE, model.end)
            writers |= {model.end + i: producer for i in range(count)}
            sequences[producer] = sequences.get(producer, -1) + count
            model.write(producer, count)
        else:
            log.end_transaction(producer, 0, commit=turn == "commit", now_ms=0)
            model.finish(producer, commit=turn == "commit")
    return log, model, writers


@given(TURNS)
def test_the_last_stable_offset_is_the_first_record_of_an_open_transaction(turns: list[tuple[str, int, int]]) -> None:
    log, model, _ = play(turns)
    assert (log.stable, log.end) == (model.stable, model.end)


@settings(max_examples=200)
@given(TURNS, st.integers(0, 60))
def test_a_reader_that_drops_what_the_aborted_list_names_sees_exactly_the_committed_records(
    turns: list[tuple[str, int, int]], start: int
) -> None:
    log, model, writers = play(turns)
    start = min(start, log.end)
    aborted = log.read(start, EVERYTHING, committed=True).aborted
    seen = []
    for offset, producer in sorted(writers.items()):
        dropped = any(a.producer == producer and a.first <= offset <= a.last for a in aborted)
        if start <= offset < log.stable and not dropped:
            seen.append(offset)
    assert seen == model.visible(start)


@given(TURNS, st.integers(0, 60), st.integers(0, 300))
def test_a_read_begins_with_the_batch_that_holds_the_offset_and_respects_the_size(
    turns: list[tuple[str, int, int]], start: int, size: int
) -> None:
    log, _, _ = play(turns)
    start = min(start, log.end)
    whole = log.read(0, EVERYTHING, committed=False).records
    part = log.read(start, size, committed=False).records
    assert part in whole
    assert bool(part) == (start < log.end)
    assert len(part) <= max(size, 300)
    if part:
        expected = [base for base in bases(whole) if base <= start][-1]
        assert bases(part)[0] == expected


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.data())
def test_a_retry_of_a_recent_batch_is_answered_with_its_first_offset_and_not_written_again(
    sizes: list[int], data: st.DataObject
) -> None:
    log, sequence, sent = PartitionLog(), 0, []
    for size in sizes:
        produced = batch(7, sequence, size, transactional=False)
        sent.append((produced, log.append(produced)[1]))
        sequence += size
    end = log.end
    retried, first_offset = data.draw(st.sampled_from(sent[-5:]))
    assert log.append(retried) == (Code.NONE, first_offset)
    assert log.end == end


def test_a_gap_in_the_sequence_is_refused() -> None:
    log = PartitionLog()
    log.append(batch(7, 0, 3))
    assert log.append(batch(7, 4, 1)) == (Code.OUT_OF_ORDER_SEQUENCE_NUMBER, -1)
    assert log.end == 3


def test_sequences_wrap_to_zero() -> None:
    log = PartitionLog()
    log.append(batch(7, 2**31 - 2, 2))
    assert log.append(batch(7, 0, 1)) == (Code.NONE, 2)


def test_a_marker_of_a_later_epoch_fences_the_batches_of_the_earlier_one() -> None:
    log = PartitionLog()
    log.append(batch(7, 0, 1))
    log.end_transaction(7, 1, commit=False, now_ms=0)
    assert log.append(batch(7, 1, 1)) == (Code.INVALID_PRODUCER_EPOCH, -1)
    assert log.append(batch(7, 0, 1, epoch=1)) == (Code.NONE, 2)


def test_deleting_records_moves_the_start_and_keeps_the_end() -> None:
    log = PartitionLog()
    for sequence in range(4):
        log.append(batch(7, sequence, 1, transactional=False))
    assert log.delete_before(2) is Code.NONE
    assert (log.start, log.end) == (2, 4)
    assert bases(log.read(2, EVERYTHING, committed=False).records) == [2, 3]
    assert log.delete_before(9) is Code.OFFSET_OUT_OF_RANGE


def test_a_placed_batch_keeps_its_checksum() -> None:
    placed = marker(7, 3, commit=True, now_ms=1_700_000_000_000).at(123)
    read = parse(placed.raw)
    assert read is not None
    assert (read.base, read.last, read.producer, read.epoch, read.control) == (123, 123, 7, 3, True)


def test_a_batch_stamped_with_the_time_of_appending_keeps_a_valid_checksum() -> None:
    read = parse(marker(7, 3, commit=True, now_ms=5).stamped(42).raw)
    assert read is not None
    assert read.max_time == 42


@given(st.binary(max_size=200))
def test_bytes_that_are_no_batch_are_refused(raw: bytes) -> None:
    assert parse(raw) is None


@given(st.integers(8, 80), st.integers(1, 255))
def test_a_changed_byte_is_noticed(position: int, change: int) -> None:
    raw = bytearray(marker(7, 3, commit=True, now_ms=5).raw)
    position = min(position, len(raw) - 1)
    if 12 <= position < 16:
        return  # the leader epoch is outside the checksum: the broker writes it
    raw[position] ^= change
    assert parse(bytes(raw)) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "example.org", ""])
def test_a_host_that_is_not_loopback_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="the development broker binds to loopback only"):
        DevelopmentBroker(host=host)
