"""A requeue under crashes at every point: in order of arrival, each letter once, and never what must not be sent."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from pipeline.errors import Fenced, Refused
from pipeline.messages.letters import REQUEUED, WRITTEN
from pipeline.records import DEAD_LETTER, DeadLetter, Left
from pipeline.stream import requeue
from pipeline.stream.requeue import Place, Requeue, Waiting, again, never

POINTS = ("begun", "assigned", "in_transaction", "sent", "marked")


class CrashError(BaseException):
    """The process died here."""


@dataclass
class Row:
    """A dead letter in SQL."""

    recorded_at: int
    place: Place
    letter: DeadLetter
    number: int | None = None
    marked: bool = False


@dataclass
class MemoryShelf:
    """`pipeline.stream.requeue.Shelf` over a list."""

    rows: list[Row]
    epoch: int = 0

    def begin(self, owner: str, now: int) -> int:
        self.epoch += 1
        return self.epoch

    def last_arrival(self) -> int | None:
        return max((row.recorded_at for row in self.rows if not row.marked), default=None)

    def last_number(self) -> int:
        return max((row.number for row in self.rows if row.number is not None), default=-1)

    def unfinished(self) -> list[int]:
        return sorted({row.number for row in self.rows if row.number is not None and not row.marked})

    def _ordered(self) -> list[Row]:
        return sorted(self.rows, key=lambda row: (row.recorded_at, row.place))

    def page(self, after: Waiting | None, until: int, most: int) -> list[Waiting]:
        here = (-1,) if after is None else (after.recorded_at, *after.place)
        found = [
            outline(row)
            for row in self._ordered()
            if not row.marked and row.number is None and row.recorded_at <= until
            if (row.recorded_at, *row.place) > here
        ]
        return found[:most]

    def find(self, places: Sequence[Place]) -> list[Waiting]:
        return [outline(row) for row in self._ordered() if row.place in places]

    def assign(self, epoch: int, number: int, places: Sequence[Place]) -> None:
        if epoch != self.epoch:
            raise Fenced("another requeue has begun")
        for row in self.rows:
            if row.place in places:
                row.number, row.marked = number, False

    def release(self, epoch: int, places: Sequence[Place]) -> None:
        if epoch != self.epoch:
            raise Fenced("another requeue has begun")
        for row in self.rows:
            if row.place in places:
                row.number = None

    def batch(self, number: int) -> list[tuple[Place, DeadLetter]]:
        return [(row.place, row.letter) for row in self._ordered() if row.number == number and not row.marked]

    def mark(self, number: int, now: int) -> int:
        rows = [row for row in self.rows if row.number == number and not row.marked]
        for row in rows:
            row.marked = True
        return len(rows)


def outline(row: Row) -> Waiting:
    size = len(row.letter.key or b"") + len(row.letter.value or b"")
    bare = replace(row.letter, key=None, value=None)
    return Waiting(row.recorded_at, row.place, size, bare, row.letter.value is None)


@dataclass
class MemoryTopic:
    """`pipeline.stream.requeue.Sender` over a list; `dies` raises in the middle of a transaction."""

    sent: list[tuple[Place, DeadLetter]] = field(default_factory=list)
    number: int = 0
    refuses: frozenset[int] = frozenset()
    limit: int = 1_000
    dies: bool = False

    def begin(self) -> int:
        return self.number

    def fits(self) -> int:
        return self.limit

    def send(self, number: int, letters: Sequence[tuple[Place, DeadLetter]]) -> None:
        assert letters
        assert number >= self.number, "K never moves back"
        left = [
            Left(*place[1:], DEAD_LETTER, "in", i, "refused")
            for i, (place, _) in enumerate(letters)
            if place.offset in self.refuses
        ]
        if left:
            raise Refused(left)
        if self.dies:
            self.dies = False
            raise CrashError("in_transaction")
        self.sent += letters
        self.number = number + 1


def shelf(count: int = 23) -> MemoryShelf:
    """Letters of three partitions that arrived out of the order of their offsets."""
    rows = []
    for i in range(count):
        partition, offset = i % 3, count - i
        rows.append(
            Row(100 + i // 4, Place("in", partition, offset), DeadLetter(partition, offset, "bad", None, b"%d" % i))
        )
    return MemoryShelf(rows[::-1])


def expected(letters: MemoryShelf) -> list[Place]:
    return [row.place for row in sorted(letters.rows, key=lambda row: (row.recorded_at, row.place))]


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requeue, "MOST_LETTERS", 5)


def run(
    letters: MemoryShelf, topic: MemoryTopic, point: str = "", turn: int = 1, only: list[Place] | None = None
) -> int:
    """Requeue, and die at a named point on its `turn`-th passing."""
    left = [turn]
    topic.dies = point == "in_transaction"

    def passed(name: str) -> None:
        if name == point:
            left[0] -= 1
            if not left[0]:
                raise CrashError(name)

    told: list[tuple[Place, str]] = []
    work = Requeue(letters, topic, clock=lambda: 5, tell=lambda place, why: told.append((place, why)), passed=passed)
    return work.run("me", only)


@pytest.mark.parametrize(("first", "second", "turn"), list(itertools.product(POINTS, POINTS, (1, 2, 4))))
def test_two_crashes_in_a_row_send_each_letter_once_in_order_of_arrival(first: str, second: str, turn: int) -> None:
    letters, topic = shelf(), MemoryTopic()
    for point in (first, second):
        try:
            run(letters, topic, point, turn)
        except CrashError:
            continue
    run(letters, topic)
    assert [place for place, _ in topic.sent] == expected(letters)
    assert all(row.marked for row in letters.rows)
    assert run(letters, topic) == 0
    assert len(topic.sent) == len(letters.rows)


def test_a_requeue_that_was_thought_dead_assigns_nothing_more() -> None:
    letters, topic = shelf(), MemoryTopic()

    def passed(name: str) -> None:
        if name == "begun" and letters.epoch == 1:
            assert run(letters, topic) == 23

    late = letters.rows[0]
    work = Requeue(letters, topic, clock=lambda: 5, tell=lambda place, why: None, passed=passed)
    late.marked = False
    assert work.run("me") == 0
    with pytest.raises(Fenced):
        work.shelf.assign(1, 99, [late.place])
    assert len(topic.sent) == 23


def test_a_refusal_that_a_requeue_thought_dead_heard_of_doubles_nothing_that_the_next_one_sent() -> None:
    letters, topic = shelf(), MemoryTopic()

    class Late(MemoryTopic):
        def send(self, number: int, batch: Sequence[tuple[Place, DeadLetter]]) -> None:
            topic.send(number, batch)  # the next one, after the operator raised the topic's limit
            letters.epoch += 1
            raise Refused([Left(*batch[0][0][1:], DEAD_LETTER, "in", 0, "refused")])

    with pytest.raises(Fenced, match="another requeue"):
        run(letters, Late())
    run(letters, topic)
    assert [place for place, _ in topic.sent] == expected(letters)


def test_numbers_go_on_above_the_broker_when_the_database_has_forgotten_them() -> None:
    """Retention deletes letters that were sent: a number that Kafka has seen would be taken for sent."""
    letters, topic = shelf(), MemoryTopic(number=77)
    assert run(letters, topic) == 23
    assert len(topic.sent) == 23
    assert topic.number == 77 + 5


def test_what_arrives_while_it_runs_waits_for_the_next_time() -> None:
    letters, topic = shelf(5), MemoryTopic()

    def passed(name: str) -> None:
        if name == "sent":
            letters.rows.append(
                Row(999, Place("in", 0, 1_000 + len(letters.rows)), DeadLetter(0, 0, "bad", None, b"x"))
            )

    work = Requeue(letters, topic, clock=lambda: 5, tell=lambda place, why: None, passed=passed)
    assert work.run("me") == 5
    assert len(letters.rows) == 6


def test_what_a_topic_refuses_is_told_once_and_waits_and_the_rest_goes() -> None:
    letters, topic = shelf(), MemoryTopic(refuses=frozenset({3, 9}))
    told: list[tuple[Place, str]] = []
    work = Requeue(letters, topic, clock=lambda: 5, tell=lambda place, why: told.append((place, why)))
    assert work.run("me") == 21
    assert sorted(place.offset for place, _ in told) == [3, 9]
    assert [place for place, _ in topic.sent] == [place for place in expected(letters) if place.offset not in (3, 9)]
    assert sorted(row.place.offset for row in letters.rows if not row.marked and row.number is None) == [3, 9]


def test_named_letters_are_sent_alone_also_a_second_time() -> None:
    letters, topic = shelf(), MemoryTopic()
    one = letters.rows[7].place
    assert run(letters, topic, only=[one]) == 1
    assert run(letters, topic, only=[one]) == 1
    assert [place for place, _ in topic.sent] == [one, one]


def waiting(letter: DeadLetter) -> Waiting:
    return outline(Row(1, Place("in", 0, 7), letter))


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        (DeadLetter(0, 7, "bad", b"k", b""), None),
        (DeadLetter(0, 7, "null", b"k", None), "no value"),
        (DeadLetter(0, 7, "the record batch failed its CRC check", None, b"raw"), "not one whole message"),
        (
            DeadLetter(0, 7, "bad; of the value 65,536 bytes are kept (of 9, SHA-256 x)", None, b""),
            "not one whole message",
        ),
        (DeadLetter(0, 7, "bad", b"k", b"x" * 1_000), "more than the topic takes"),
        (DeadLetter(0, 7, "bad", b"k", b"x", headers=(("h", b"x" * 1_000),)), "more than the topic takes"),
    ],
)
def test_what_must_not_be_sent_is_named_with_why(letter: DeadLetter, why: str | None) -> None:
    said = never(waiting(letter), 1_000)
    assert said is None if why is None else why in str(said)


def test_a_letter_that_was_requeued_before_has_one_header_of_it_and_its_own() -> None:
    own = (("a", b"1"), (REQUEUED, b"in/0/1"), ("b", None))
    sent = again(Place("in", 2, 9), DeadLetter(2, 9, "bad", None, b"x", headers=own))
    assert sent.headers == (("a", b"1"), ("b", None), (REQUEUED, b"in/2/9"))


def test_a_letter_whose_records_time_counts_says_when_it_was_written_first() -> None:
    letter = DeadLetter(2, 9, "bad", None, b"x", written_at=1_700_000_000_123_000)
    first = again(Place("in", 2, 9), letter, keep_time=True)
    assert first.headers == ((WRITTEN, b"1700000000123"), (REQUEUED, b"in/2/9"))
    moved = replace(first, written_at=1_800_000_000_000_000)
    assert again(Place("in", 2, 11), moved, keep_time=True).headers == (
        (WRITTEN, b"1700000000123"),
        (REQUEUED, b"in/2/11"),
    )
    assert again(Place("in", 2, 9), replace(letter, written_at=None), keep_time=True).headers == (
        (REQUEUED, b"in/2/9"),
    )


def test_letters_are_sent_with_their_times_where_those_count() -> None:
    letters, topic = shelf(), MemoryTopic()
    letters.rows[0].letter = replace(letters.rows[0].letter, written_at=5_000)
    work = Requeue(letters, topic, clock=lambda: 5, tell=lambda place, why: None, keep_time=True)
    work.run("me")
    found = {place: dict(letter.headers).get(WRITTEN) for place, letter in topic.sent}
    assert found == dict.fromkeys(expected(letters)) | {letters.rows[0].place: b"5"}
