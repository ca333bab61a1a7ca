"""The commit protocol under crashes while retention deletes all that it may, between any two of its lines.

The tables and the retention are real, Kafka is in memory. What was published must be what is published without any
retention, message for message, though most of what was stored is gone by then.
"""

from collections.abc import Callable, Sequence

import pytest
from sqlalchemy import text

from jobs.upkeep.retention import clear_out
from pipeline.database import Database, SqlStore
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.stream.worker import Worker
from tests.fakes import MemoryTopics
from tests.unit.stream.test_protocol import EVERY, POINTS, CrashAt, CrashError, filled, nothing_stored
from tests.unit.workers import run_dry, worker

DAY = 86_400_000_000
LATER = 1_800_000_000_000_000 + 1000 * DAY  # the workers' clock stands at the first number
GREEDY = {"observations": "1 day", "forecasts": "1 day", "waiting_dead_letters": "1 day"}
MOST = 61  # messages of a turn, so that there are three
Clear = Callable[[], int]


@pytest.fixture
def clear(database: Database) -> Clear:
    """Delete everything that may be deleted; return how many rows."""
    settings = Settings(series=EVERY, retention=GREEDY)  # type: ignore[arg-type]

    def run() -> int:
        outcome = clear_out(
            database.retention, settings, clock=lambda: LATER, on_stage=lambda _: None, pause=lambda _: None
        )
        return sum(outcome.facts["deleted"].values())

    return run


@pytest.fixture(scope="module")
def undisturbed() -> MemoryTopics:
    """What is published when nothing crashes and nothing is deleted; for all tests, which only read it."""
    topics = filled()
    run_dry(worker(nothing_stored(), topics, series=EVERY, most=MOST))
    return topics


def over(store: SqlStore, topics: MemoryTopics, passed: Callable[[str], None]) -> Worker:
    one = worker(nothing_stored(), topics, series=EVERY, most=MOST, passed=passed)
    object.__setattr__(one.parts, "store", store)
    return one


def live(database: Database, topics: MemoryTopics, passed: Callable[[str], None], lives: int) -> int:
    """Start a worker so many times, until it ends well; return how often it crashed."""
    store = database.store("meters", "last", lambda: 0, ("temperature", "wind"))
    for crashes in range(lives):
        try:
            run_dry(over(store, topics, passed))
        except CrashError:
            continue
        return crashes
    return lives


def check_nothing_lost(topics: MemoryTopics, undisturbed: MemoryTopics) -> None:
    assert sorted(topics.output) == sorted(undisturbed.output)
    assert len(topics.output) == 160
    assert topics.letters == undisturbed.letters
    assert topics.offsets == undisturbed.offsets


@pytest.mark.parametrize("turn", [1, 2])
@pytest.mark.parametrize("point", POINTS)
def test_retention_at_every_line_and_a_crash_at_one_lose_and_double_nothing(
    database: Database, clear: Clear, undisturbed: MemoryTopics, point: str, turn: int
) -> None:
    topics, crash = filled(), CrashAt(point, turn)
    deleted = 0

    def passed(name: str) -> None:
        nonlocal deleted
        deleted += clear()
        crash(name)

    crashes = live(database, topics, passed, 3)
    check_nothing_lost(topics, undisturbed)
    assert crashes == 1
    assert deleted > 160, "most of what was stored and published is gone"
    assert database.reader.counts()["forecasts"] < 160


@pytest.mark.parametrize("seconds", [POINTS[:4], POINTS[2:]])
def test_crash_upon_crash_with_retention_between_lives_loses_nothing(
    database: Database, clear: Clear, undisturbed: MemoryTopics, seconds: Sequence[str]
) -> None:
    topics, left = filled(), [*seconds]
    store = database.store("meters", "last", lambda: 0, ("temperature", "wind"))
    for point in left:
        try:
            run_dry(over(store, topics, CrashAt(point, 1)))
        except CrashError:
            clear()
    run_dry(over(store, topics, lambda _: None))
    check_nothing_lost(topics, undisturbed)


def test_a_retention_that_took_all_that_is_stored_for_published_would_be_caught(
    database: Database, clear: Clear, undisturbed: MemoryTopics
) -> None:
    topics, crash = filled(), CrashAt("after_sql", 2)

    def passed(name: str) -> None:
        with database.engine.begin() as connection:
            connection.execute(text("UPDATE ingest_state SET turn_start = next_offset"))
        clear()
        crash(name)

    with pytest.raises((AssertionError, ConfigError)):  # the claim notices, or what is left out does
        live(database, topics, passed, 3)
        check_nothing_lost(topics, undisturbed)
    assert len(topics.output) < len(undisturbed.output)
