"""The dead letters in SQL as a requeue sees them, on both databases."""

import pytest

from pipeline.database import Database
from pipeline.database.turns.requeue import RequeueShelf
from pipeline.errors import ConfigError, Fenced
from pipeline.records import Claim, DeadLetter
from pipeline.stream.requeue import Place, Waiting
from tests.contracts.rows import NOW, turn_of

HEADERS = (("a", b"\x00"), ("b", None))


@pytest.fixture
def shelf(database: Database) -> RequeueShelf:
    """Nine letters of two topics that arrived in three turns, the later offsets first; one of them is a tombstone."""
    for arrival in range(3):
        for topic in ("meters", "others"):
            store = database.store(topic, "last", lambda at=NOW + arrival: at)
            claim = store.claim(0, "me")
            letters = [
                DeadLetter(0, 10 * (2 - arrival) + i, "bad", b"key", b"x" * i, headers=HEADERS, written_at=NOW - i)
                for i in range(1, 3 if topic == "meters" else 2)
            ]
            letters[0] = DeadLetter(0, letters[0].offset, "bad", b"key", None if arrival else b"", written_at=None)
            store.commit(turn_of(Claim(0, claim.epoch, claim.next_offset), claim.next_offset + 1, dead_letters=letters))
    return RequeueShelf(database.engine)


def places(found: list[Waiting]) -> list[str]:
    return [str(one.place) for one in found]


def test_letters_come_in_order_of_arrival_page_by_page_without_their_bytes(shelf: RequeueShelf) -> None:
    everything = shelf.page(None, NOW + 2, 100)
    assert places(everything) == [
        "meters/0/21",
        "meters/0/22",
        "others/0/21",
        "meters/0/11",
        "meters/0/12",
        "others/0/11",
        "meters/0/1",
        "meters/0/2",
        "others/0/1",
    ]
    assert shelf.last_arrival() == NOW + 2
    assert shelf.count() == 9
    assert shelf.last_number() == -1
    after, paged = None, []
    while page := shelf.page(after, NOW + 2, 2):
        paged += page
        after = page[-1]
    assert paged == everything
    assert places(shelf.page(None, NOW, 100)) == places(everything)[:3]
    assert [(one.size, one.tombstone) for one in everything[:4]] == [(3, False), (5, False), (3, False), (3, True)]
    assert everything[1].letter == DeadLetter(0, 22, "bad", None, None, headers=HEADERS)


def test_a_batch_is_assigned_read_marked_and_released(shelf: RequeueShelf) -> None:
    epoch = shelf.begin("one", NOW)
    some = [Place("others", 0, 11), Place("meters", 0, 22)]
    shelf.assign(epoch, 7, some)
    assert shelf.unfinished() == [7]
    assert shelf.last_number() == 7
    assert [place for place, _ in shelf.batch(7)] == some[::-1]
    assert shelf.batch(7)[0][1] == DeadLetter(0, 22, "bad", b"key", b"xx", headers=HEADERS, written_at=NOW - 2)
    assert not set(some) & {one.place for one in shelf.page(None, NOW + 2, 100)}
    shelf.release(epoch, some[:1])
    assert shelf.mark(7, NOW + 9) == 1
    assert shelf.mark(7, NOW + 9) == 0
    assert shelf.unfinished() == []
    assert shelf.count() == 8
    assert shelf.batch(7) == []
    shelf.assign(epoch, 8, some[1:])  # named again
    assert [place for place, _ in shelf.batch(8)] == some[1:]


def test_only_the_newest_requeue_assigns_and_releases(shelf: RequeueShelf) -> None:
    first = shelf.begin("one", NOW)
    shelf.assign(first, 3, [Place("meters", 0, 22)])
    assert shelf.begin("two", NOW) == first + 1
    with pytest.raises(Fenced, match="another requeue"):
        shelf.assign(first, 0, [Place("meters", 0, 22)])
    with pytest.raises(Fenced, match="another requeue"):
        shelf.release(first, [Place("meters", 0, 22)])
    assert shelf.unfinished() == [3]


def test_letters_are_found_by_name_in_order_of_arrival(shelf: RequeueShelf) -> None:
    named = [Place("meters", 0, 1), Place("meters", 0, 22), Place("meters", 0, 1)]
    assert places(shelf.find(named)) == ["meters/0/22", "meters/0/1"]
    with pytest.raises(ConfigError, match="there is no dead letter meters/0/99"):
        shelf.find([Place("meters", 0, 99)])
