"""Which connection is dropped when there are too many, whom an address stands for, and how many files there may be."""

import resource
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.web.connections import BACKLOG, OTHER_FILES, Connection, Connections, allow_files, network_of


class Still(Connection):
    """A connection without a network; `answering` while a request of it is being answered."""

    def __init__(self, address: str, since: float, *, answering: bool = False) -> None:
        self.address, self.since, self._closing = address, since, False
        self.cycle: Any = SimpleNamespace(response_complete=False) if answering else None
        self.flow: Any = SimpleNamespace(write_paused=False)
        self.aborted = False
        self.transport: Any = SimpleNamespace(abort=self.note, is_closing=lambda: self.aborted)

    def note(self) -> None:
        self.aborted = True


def opened(connections: Connections, *made: Still) -> list[bool]:
    """Open them one after the other; return which were dropped."""
    for each in made:
        connections.connections.add(each)
        connections.admit(each)
    return [each.aborted for each in made]


def test_of_too_many_in_all_the_one_that_waited_longest_goes_wherever_it_comes_from() -> None:
    connections = Connections(3, 3)
    made = [Still(f"10.0.0.{number}", float(number)) for number in range(5)]
    assert opened(connections, *made) == [True, True, False, False, False]
    assert (len(connections), connections.dropped) == (3, 2)


def test_of_too_many_from_one_address_only_its_own_go() -> None:
    connections = Connections(10, 2)
    first = Still("10.0.0.1", 0.0)
    flood = [Still("10.0.0.2", 1.0 + number) for number in range(5)]
    assert opened(connections, first, *flood) == [False, True, True, True, False, False]


def test_one_that_is_being_answered_never_goes_and_a_new_one_does_when_all_are() -> None:
    connections = Connections(2, 2)
    answering = [Still("a", 0.0, answering=True), Still("b", 1.0, answering=True)]
    assert opened(connections, *answering, Still("c", 2.0)) == [False, False, True]


def test_a_time_is_absolute_and_one_that_is_being_answered_has_none() -> None:
    asks, answering, deaf = Still("a", 0.0), Still("a", 0.0, answering=True), Still("a", 0.0, answering=True)
    deaf.flow.write_paused = True
    connections = Connections(9, 9)
    opened(connections, asks, answering, deaf)
    connections.expire(9.0)
    assert not asks.aborted
    connections.expire(11.0)
    assert asks.aborted and not deaf.aborted
    connections.expire(21.0)
    assert deaf.aborted and not answering.aborted


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::2%eth0", "2001:db8:1:2::/64"),
        ("::ffff:10.1.2.3", "::ffff:10.1.2.3"),
    ],
)
def test_one_host_may_have_a_whole_network_of_ipv6(address: str, whose: str) -> None:
    assert network_of(address) == whose


def test_connections_fit_into_the_files_that_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"soft": 256, "hard": 4096}
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limits["soft"], limits["hard"]))
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.update(soft=new[0]))
    assert (allow_files(512), limits["soft"]) == (512, 512 + BACKLOG + OTHER_FILES)
    limits |= {"soft": 400, "hard": 400}
    assert (allow_files(512), limits["soft"]) == (400 - BACKLOG - OTHER_FILES, 400)
