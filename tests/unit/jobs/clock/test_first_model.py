"""The first retraining is requested by itself, once, and not while a history is loaded."""

from dataclasses import dataclass, field

from jobs.clock.first_model import CAUSE, EVERY, JOB, FirstModel
from pipeline.errors import Unavailable
from tests.unit.jobs.fakes import START, FakeLedger


@dataclass
class Place:
    """What is stored, and a scheduler that looks at it a minute later each time."""

    steps: int = 0
    stored: int = 0
    was_fitted: bool = False
    away: bool = False
    ledger: FakeLedger = field(default_factory=FakeLedger)
    seconds: float = 0.0
    looks: int = 0

    def __post_init__(self) -> None:
        self.watch = FirstModel(self, self.ledger, needed=20, clock=lambda: START, timer=lambda: self.seconds)

    def fitted(self) -> bool:
        self.looks += 1
        if self.away:
            raise Unavailable("away")
        return self.was_fitted

    def messages(self) -> int:
        return self.stored

    def reached(self) -> int:
        return self.steps

    def look(self, steps: int, stored: int) -> list[str]:
        """Look a minute later, and return what is requested."""
        self.steps, self.stored = steps, stored
        self.watch.look()
        self.seconds += EVERY
        return self.ledger.requested()


def test_it_is_requested_once_the_history_is_long_enough() -> None:
    place = Place()
    assert place.look(18, 1000) == []
    assert place.look(19, 1010) == []
    assert place.look(20, 1020) == [JOB]
    assert place.ledger.requests[JOB] == (CAUSE, START)


def test_while_a_history_is_loaded_it_waits() -> None:
    place = Place()
    assert [place.look(100, stored) for stored in (1000, 2000, 3000, 3500)] == [[]] * 4
    assert place.look(100, 3600) == [JOB]


def test_a_service_that_starts_on_a_history_looks_twice() -> None:
    place = Place()
    assert [place.look(100, 5000) for _ in range(2)] == [[], [JOB]]


def test_whatever_becomes_of_that_run_it_is_not_requested_again() -> None:
    place = Place()
    place.look(100, 5000)
    assert place.look(100, 5000) == [JOB]
    run = place.ledger.begin_requested(JOB, "me", START)
    assert run is not None
    place.ledger.finish(run, "failed", "out of memory", START)
    assert [place.look(100, 5000) for _ in range(3)] == [[]] * 3
    again = Place(ledger=place.ledger)  # another scheduler
    assert [again.look(100, 5000) for _ in range(3)] == [[]] * 3


def test_while_a_retraining_runs_none_is_requested() -> None:
    place = Place()
    run = place.ledger.begin(JOB, START, "me", START)
    assert run is not None
    assert [place.look(100, 5000) for _ in range(3)] == [[]] * 3
    place.ledger.finish(run, "ok", "waiting for history", START)
    assert place.look(100, 5000) == [JOB]


def test_once_a_model_was_fitted_it_looks_no_more() -> None:
    place = Place(was_fitted=True)
    assert [place.look(100, 5000) for _ in range(4)] == [[]] * 4
    assert place.looks == 1


def test_it_looks_once_a_minute_and_a_database_that_is_away_is_asked_again() -> None:
    place = Place(away=True)
    for _ in range(5):
        place.watch.look()
    assert place.looks == 1
    place.seconds += EVERY
    place.look(100, 5000)
    assert place.looks == 2
    place.away = False
    assert [place.look(100, 5000) for _ in range(2)] == [[], [JOB]]
