"""Sending dead letters to the input topic again, in order of arrival, each exactly once, however often this dies.

    1 SQL      give the next letters, at most MOST_LETTERS and MOST_BYTES, the next number: their batch
    2 Kafka    one transaction: the batch, and number + 1 as the offset of a group of the requeue's own
    3 SQL      mark the batch as sent

K, the offset in Kafka, says which batches are on the topic: those below it. A start first raises an epoch in SQL and
takes over the transactional id, so that whoever ran before can do neither 1 nor 2 any more; then it marks the batches
below K, and sends the others that have a number. Between two of these lines it may end at any time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from pipeline.errors import Refused
from pipeline.messages.letters import REQUEUED, TIME_DIGITS, WRITTEN, is_whole
from pipeline.records import DeadLetter

MOST_LETTERS = 500
MOST_BYTES = 8 << 20
"""Of a batch; at least one letter."""


class Place(NamedTuple):
    """The place of a dead letter's message."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """Write it as commands and headers do."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A letter that could be sent; `size` are the bytes of its key and value, `letter` lacks them."""

    recorded_at: int
    place: Place
    size: int
    letter: DeadLetter
    tombstone: bool


class Shelf(Protocol):
    """The dead letters in SQL."""

    def begin(self, owner: str, now: int) -> int:
        """Raise the epoch, so that an earlier requeue can assign nothing more, and return it."""
        ...

    def last_arrival(self) -> int | None:
        """Return when the newest letter arrived that waits; None if none does."""
        ...

    def last_number(self) -> int:
        """Return the highest number of a batch, -1 if there is none."""
        ...

    def unfinished(self) -> list[int]:
        """Return the numbers of batches that are not marked as sent, in order."""
        ...

    def page(self, after: Waiting | None, until: int, most: int) -> list[Waiting]:
        """Return the next letters without a number that arrived until then, in order of arrival."""
        ...

    def find(self, places: Sequence[Place]) -> list[Waiting]:
        """Return these letters, sent or not, in order of arrival; ConfigError if one is not there."""
        ...

    def assign(self, epoch: int, number: int, places: Sequence[Place]) -> None:
        """Give letters the number of their batch; Fenced if another requeue has begun."""
        ...

    def release(self, epoch: int, places: Sequence[Place]) -> None:
        """Take the number from letters again: they wait as before; Fenced if another requeue has begun."""
        ...

    def batch(self, number: int) -> list[tuple[Place, DeadLetter]]:
        """Return the letters of a batch that are not marked, in order of arrival."""
        ...

    def mark(self, number: int, now: int) -> int:
        """Mark the letters of a batch as sent, and return how many were not."""
        ...


class Sender(Protocol):
    """The input topic."""

    def begin(self) -> int:
        """Take over from an earlier requeue and return K: the number after the last batch that was sent."""
        ...

    def fits(self) -> int:
        """Return how many bytes of key, value and headers the topic takes."""
        ...

    def send(self, number: int, letters: Sequence[tuple[Place, DeadLetter]]) -> None:
        """Send a batch and move K to number + 1, in one transaction; Refused with what the topic will never take."""
        ...


@dataclass(frozen=True, slots=True)
class Requeue:
    """One requeue. `tell(place, why)` gets each letter that is not sent, `advance(count)` of those looked at.

    With `keep_time` a header says when the record was written first: the mapping reads that time, and the message may
    get another.
    """

    shelf: Shelf
    sender: Sender
    clock: Callable[[], int]
    tell: Callable[[Place, str], None]
    advance: Callable[[int], None] = lambda count: None
    passed: Callable[[str], None] = lambda point: None
    keep_time: bool = False

    def run(self, owner: str, places: Sequence[Place] | None = None) -> int:
        """Send these letters, or all that wait now, and what an earlier requeue left; return how many were sent."""
        until = self.shelf.last_arrival()  # before anything is sent: what is refused again waits for the next time
        found = None if places is None else self.shelf.find(places)
        epoch = self.shelf.begin(owner, self.clock())
        self.passed("begun")
        published = self.sender.begin()
        sent = 0
        for number in self.shelf.unfinished():
            if number >= published:
                self._send(epoch, number)
            sent += self.shelf.mark(number, self.clock())
        number = max(published, self.shelf.last_number() + 1)
        for some in self._batches(self._all(until) if found is None else iter(found)):
            self.shelf.assign(epoch, number, some)  # 1 SQL
            self.passed("assigned")
            self._send(epoch, number)  # 2 Kafka
            self.passed("sent")
            sent += self.shelf.mark(number, self.clock())  # 3 SQL
            self.passed("marked")
            number += 1
        return sent

    def _send(self, epoch: int, number: int) -> None:
        while letters := self.shelf.batch(number):
            try:
                sent = [(place, again(place, letter, keep_time=self.keep_time)) for place, letter in letters]
                self.sender.send(number, sent)
                break
            except Refused as refused:
                left = {each.index: each.reason for each in refused.left}
                self.shelf.release(epoch, [letters[i][0] for i in left])
                for i, why in left.items():
                    self.tell(letters[i][0], f"the topic refuses it ({why})")

    def _all(self, until: int | None) -> Iterator[Waiting]:
        last: Waiting | None = None
        while until is not None and (page := self.shelf.page(last, until, MOST_LETTERS)):
            yield from page
            last = page[-1]

    def _batches(self, waiting: Iterator[Waiting]) -> Iterator[list[Place]]:
        """Cut what can be sent into batches, and tell of what cannot."""
        fits = self.sender.fits()
        some: list[Place] = []
        size = 0
        for one in waiting:
            self.advance(1)
            if why := never(one, fits):
                self.tell(one.place, why)
                continue
            if some and (len(some) >= MOST_LETTERS or size + one.size > MOST_BYTES):
                yield some
                some, size = [], 0
            some.append(one.place)
            size += one.size
        if some:
            yield some


def never(one: Waiting, fits: int) -> str | None:
    """Say why a letter is not sent again, None if it is."""
    if not is_whole(one.letter):
        return "its bytes are not one whole message"
    if one.tombstone:
        return "it has no value, and compaction would take it for a delete"
    size = one.size + sum(len(name) + len(content or b"") for name, content in one.letter.headers)
    size += len(REQUEUED) + len(str(one.place)) + len(WRITTEN) + TIME_DIGITS
    return f"its {size:,} bytes are more than the topic takes" if size > fits else None


def again(place: Place, letter: DeadLetter, *, keep_time: bool = False) -> DeadLetter:
    """Return a letter with the headers that it is sent with: its own, and once its place and, if asked, its time."""
    own = [(name, content) for name, content in letter.headers if name != REQUEUED]
    if keep_time and letter.written_at is not None and WRITTEN not in dict(own):
        own.append((WRITTEN, str(letter.written_at // 1_000).encode()))
    return replace(letter, headers=(*own, (REQUEUED, str(place).encode())))
