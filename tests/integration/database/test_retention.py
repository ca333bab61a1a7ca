"""What retention deletes and what it never does, on both databases."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, text

from jobs.upkeep.retention import clear_out
from pipeline.database import Database, SqlStore
from pipeline.database.engine import reading
from pipeline.database.jobs.pruned import read_pruned
from pipeline.errors import ConfigError
from pipeline.records import Advance, Claim, DeadLetter, Forecasts, Turn, no_observations
from pipeline.settings import Settings
from tests import processes
from tests.contracts.rows import HOUR, NOW, START, at_once, mark_requeued, observations, turn_of, wide_observations
from tests.integration.database.test_views import around, one

DAY = 24 * HOUR
LATER = START + 500 * DAY
HORIZON = 3


def of(store: SqlStore, name: str) -> int:
    return int(store.recent([name], 1).series_id[0])


def issue(store: SqlStore, claim: Claim, *made: Forecasts) -> Claim:
    """Store each forecast by a turn of its own, which its offset ends."""
    for new in made:
        stop = claim.next_offset + 1
        new.offset[:] = claim.next_offset
        store.commit(turn_of(claim, stop, forecasts=new))
        claim = Claim(claim.partition, claim.epoch, stop)
    return claim


def hourly(name: str, own: int, hours: Sequence[int], steps: int = HORIZON, **changes: Any) -> list[Forecasts]:
    return [one(name, own, hour, [around(float(hour))] * steps, **changes) for hour in hours]


def run(database: Database, now: int = LATER, **keep: Any) -> dict[str, int]:
    """Run the job; return how many rows of what it deleted."""
    settings = Settings(series={"context": 4, "horizon": HORIZON}, retention=keep)  # type: ignore[arg-type]
    outcome = clear_out(database.retention, settings, clock=lambda: now, on_stage=lambda _: None, pause=lambda _: None)
    deleted: dict[str, int] = outcome.facts["deleted"]
    return {kind: count for kind, count in deleted.items() if count}


def stored(database: Database) -> dict[tuple[str, int, int], list[int]]:
    """The steps of every forecast, by (series, origin in hours, model version)."""
    rows = database.reader.query(
        "SELECT s.name, f.origin, f.model_version, f.step FROM forecasts f JOIN series s ON s.series_id = f.series_id"
        " ORDER BY f.target_time"
    )
    found: dict[tuple[str, int, int], list[int]] = {}
    for row in rows:
        hour = int((np.datetime64(row["origin"], "us").astype(np.int64) - START) // HOUR)
        found.setdefault((row["name"], hour, row["model_version"]), []).append(row["step"])
    return found


@pytest.fixture
def store(database: Database) -> SqlStore:
    return database.store("meters", "last", lambda: NOW)


def test_old_forecasts_are_thinned_to_the_first_origin_of_each_day_with_all_its_steps(
    database: Database, store: SqlStore
) -> None:
    claim = store.claim(0, "me")
    a, b = of(store, "a"), of(store, "b")
    made = hourly("a", a, range(5, 72)) + hourly("a", a, [30, 31], version=2) + hourly("b", b, range(100, 124))
    issue(store, claim, *made, *hourly("b", b, [400]))
    now = START + 99 * HOUR + 35 * DAY  # what is older than 99 hours is thinned by default
    left = {("a", 5, 1), ("a", 24, 1), ("a", 48, 1), ("a", 71, 1), ("a", 30, 2)}
    left |= {("b", hour, 1) for hour in (*range(100, 124), 400)}
    before = len(stored(database))
    assert run(database, now) == {"forecasts": before - len(left)}
    assert stored(database) == {key: [1, 2, 3] for key in left}
    assert run(database, now) == {}
    assert run(database)["forecasts"] == len(left) - 2, "then they go, but for each series' newest"
    assert set(stored(database)) == {("a", 71, 1), ("b", 400, 1)}
    assert [row["q50"] for row in database.reader.forecasts_latest("a")] == [71.0] * HORIZON


def test_nothing_of_a_partitions_newest_turn_is_deleted(database: Database, store: SqlStore) -> None:
    left, right = store.claim(0, "me"), store.claim(1, "me")
    a, b = of(store, "a"), of(store, "b")
    issue(store, left, *hourly("a", a, [1]))
    other = hourly("b", b, [1, 2, 3])
    for new in other:
        new.partition[:] = 1
    right = issue(store, right, *other)
    assert run(database) == {"forecasts": 2}, "b's at 1 and 2; a's is of partition 0's newest turn"
    assert set(stored(database)) == {("a", 1, 1), ("b", 3, 1)}
    store.commit(turn_of(right, right.next_offset + 1))  # b's at 3 is published now, but its newest
    assert run(database) == {}


def test_nothing_of_a_partitions_newest_reforecast_is_deleted(database: Database, store: SqlStore) -> None:
    claim = issue(store, store.claim(0, "me"), *hourly("a", of(store, "a"), [1, 2, 9]))
    store.commit(turn_of(claim, claim.next_offset + 1))
    at = claim.next_offset + 1
    for again in (1, 2):
        (new,) = hourly("a", of(store, "a"), [2 + again])
        new.offset[:] = -again
        advance = Advance(0, claim.epoch, at, at, reforecasts=again)
        store.commit(Turn((advance,), no_observations(), new, ()))
    assert run(database) == {"forecasts": 3}, "a's at 1 and 2, and its first re-forecast"
    assert set(stored(database)) == {("a", 4, 1), ("a", 9, 1)}


def test_a_forecast_of_a_topic_that_nobody_claimed_is_never_deleted(database: Database, store: SqlStore) -> None:
    issue(store, store.claim(0, "me"), *hourly("a", of(store, "a"), [1, 2, 3, 4]))
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE topics SET topic = 'another'"))
    assert run(database) == {}


def test_what_was_issued_within_a_day_stays_however_old_its_origin(database: Database, store: SqlStore) -> None:
    issue(store, store.claim(0, "me"), *hourly("a", of(store, "a"), [-10_000, -9_000, 1, 2]))
    assert run(database, NOW + DAY - 1, forecasts="1 day") == {}
    assert run(database, NOW + DAY + 1, forecasts="1 day") == {"forecasts": 2}


def test_days_that_deleted_forecasts_reached_into_are_noted(database: Database, store: SqlStore) -> None:
    a = of(store, "a")
    issue(store, store.claim(0, "me"), *hourly("a", a, range(4), steps=40), *hourly("a", a, range(4, 60)))
    keys = np.full(3, a), START + HOUR * np.arange(3), np.ones(3, np.int64)
    assert database.retention.delete_forecasts(*keys, issued_before=LATER) == 3
    left = stored(database)
    assert set(left) == {("a", hour, 1) for hour in range(3, 60)}
    assert left["a", 3, 1] == list(range(1, 41))
    with reading(database.engine) as connection:
        assert read_pruned(connection) == START + (2 + 40) * HOUR


def test_observations_and_covariates_go_but_not_the_rows_that_a_ring_needs(database: Database) -> None:
    store = database.store("meters", "last", lambda: NOW, ("wind",))
    claim = store.claim(0, "me")
    a, silent = of(store, "a"), of(store, "silent")
    cells = [(a, START + HOUR * hour, float(hour), (1.0,), hour, True) for hour in range(100)]
    cells += [(silent, START - HOUR * hour, None, (None,), 100 + hour, True) for hour in range(9)]
    store.commit(turn_of(claim, 200, observations=wide_observations(cells)))
    now = START + 80 * HOUR + DAY
    assert run(database, now) == {}, "observations stay for ever unless asked"
    assert run(database, now, observations="1 day") == {"observations": 80 + 2}  # context 4 + horizon 3 stay
    assert store.recent(["a"], 200).value.tolist() == [float(hour) for hour in range(80, 100)]
    assert store.recent(["silent"], 200).observed_at.tolist() == [START - HOUR * hour for hour in range(6, -1, -1)]
    assert len(database.reader.query("SELECT * FROM covariates")) == 20
    assert run(database, now, observations="1 day") == {}


@pytest.mark.parametrize("most", [1, 7, 20, 21])
def test_observations_go_oldest_first_in_bounded_batches(database: Database, store: SqlStore, most: int) -> None:
    claim = store.claim(0, "me")
    ids = store.recent(["a", "b", "c"], 1).series_id
    cells = [(own, START + HOUR * hour, 1.0, 1, 0, True) for own in ids.tolist() for hour in range(10)]
    store.commit(turn_of(claim, 100, observations=observations(cells)))
    counts = [most]
    while counts[-1] == most:
        counts.append(database.retention.delete_observations(ids, START + 8 * HOUR, kept=3, most=most))
        left = store.recent(["a", "b", "c"], 20)
        assert all(times.max() == START + 9 * HOUR for times in np.split(left.observed_at, left.bounds[1:-1]))
    assert sum(counts[1:]) == 3 * 7
    assert store.recent(["b"], 20).observed_at.tolist() == [START + HOUR * hour for hour in (7, 8, 9)]


def test_dead_letters_go_when_they_were_requeued_and_published(database: Database, store: SqlStore) -> None:
    claim = store.claim(0, "me")
    for offset in range(4):
        letter = DeadLetter(0, offset, "bad", None, b"{")
        store.commit(turn_of(Claim(0, claim.epoch, offset), offset + 1, dead_letters=(letter,)))
    for offset in (0, 3):
        mark_requeued(database, "meters", 0, offset, NOW)
    assert run(database, NOW + 35 * DAY) == {}
    assert run(database, NOW + 35 * DAY + 1) == {"dead letters": 1}, "the newest is of the newest turn"
    assert sorted(row["source_offset"] for row in database.reader.dead_letters()) == [1, 2, 3]
    assert run(database, waiting_dead_letters="30 days") == {"dead letters": 2}
    assert [row["source_offset"] for row in database.reader.dead_letters()] == [3]


def test_runs_go_but_for_each_jobs_newest_and_newest_good_one(database: Database) -> None:
    ledger = database.ledger
    for day, outcome in enumerate(["ok", "ok", "failed", "failed", None]):
        number = ledger.begin("retrain", START + DAY * day, "me", START + DAY * day)
        assert number is not None
        if outcome:
            ledger.finish(number, outcome, "because", START + DAY * day)  # type: ignore[arg-type]
    ledger.begin("monitor", START, "me", START)
    assert run(database, START + 400 * DAY + 1) == {"job runs": 1}
    assert run(database) == {"job runs": 2}, "those that failed; a run that has not ended stays"
    left = [(row.job, row.outcome, (row.scheduled_for - START) // DAY) for row in ledger.runs()]
    assert left == [("retrain", "running", 4), ("retrain", "ok", 1), ("monitor", "running", 0)]


def register(database: Database, now: int = NOW) -> int:
    return database.registry.register(
        name="gru",
        config={},
        metrics={"mase": 1},
        train_from=START,
        train_to=NOW,
        seed=0,
        code="",
        artifact=b"x",
        now=now,
    )


def test_artifacts_go_but_never_one_of_a_model_that_was_champion(database: Database) -> None:
    registry = database.registry
    versions = [register(database) for _ in range(15)]
    young = register(database, LATER - DAY)
    registry.promote(versions[0], expected=None, reason="first", now=NOW)
    registry.promote(versions[1], expected=versions[0], reason="better", now=NOW)
    registry.promote(versions[2], expected=versions[1], reason="better", now=NOW)
    registry.rollback(NOW)
    registry.record_backtest(version=4, compared_to=0, origins=4, mase=1.0, wql=0.2, coverage_80=None, n=96, now=NOW)
    assert run(database) == {"artifacts": 12}
    for version in (*versions[:3], young):
        assert registry.artifact(version) == b"x"
    assert registry.rollback(NOW) == versions[0]
    row = registry.model(versions[3])
    assert (row.metrics, row.train_to, len(str(row.sha256))) == ({"mase": 1}, NOW, 64), "the row stays, with its hash"
    assert len(registry.backtests(4)) == 1
    with pytest.raises(ConfigError, match="no artifact"):
        registry.promote(versions[3], expected=versions[0], reason="too late", now=NOW)
    assert run(database) == {}


def test_a_promotion_and_retention_at_once_leave_a_champion_with_an_artifact(database: Database) -> None:
    registry = database.registry
    champion = None
    for _ in range(12):
        version = register(database)

        def promote(version: int = version, champion: int | None = champion) -> bool:
            return registry.promote(version, expected=champion, reason="race", now=NOW)

        promoted, _ = at_once(promote, lambda: database.retention.drop_artifacts(LATER, 10))
        assert promoted is True or isinstance(promoted, ConfigError)
        champion = registry.champion()
        if champion is not None:
            assert registry.artifact(champion) == b"x"


def test_a_promotion_under_way_is_waited_for(database: Database) -> None:
    version = register(database)
    database.registry.promote(version, expected=None, reason="first", now=NOW)
    version = register(database)
    under_way, go_on = threading.Event(), threading.Event()

    def wait(connection: object) -> None:
        under_way.set()
        assert go_on.wait(20)

    dropped: list[int] = []
    event.listen(database.engine, "commit", wait, once=True)
    one = threading.Thread(
        target=lambda: database.registry.promote(version, expected=version - 1, reason="better", now=NOW)
    )
    other = threading.Thread(target=lambda: dropped.append(database.retention.drop_artifacts(LATER, 10)))
    one.start()
    assert under_way.wait(20)
    other.start()
    other.join(0.3)
    assert other.is_alive(), "the row of the model is locked"
    go_on.set()
    one.join(20)
    other.join(20)
    assert dropped == [0]
    assert database.registry.artifact(version) == b"x"


KILLED = """
import os, sys
from sqlalchemy import event
from pipeline.database import open_database
from tests.integration.database.test_retention import run
url, place, passes = sys.argv[1], sys.argv[2], int(sys.argv[3])
database = open_database(url, timeout=20)
left = [passes]
def die(*_):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), 9)
event.listen(database.engine, place, die)
run(database, observations="1 day")
"""


@pytest.mark.parametrize(("place", "passes"), [("commit", 4), ("commit", 5), ("after_cursor_execute", 23)])
def test_killed_at_any_point_it_leaves_whole_forecasts_and_the_next_run_ends_the_same(
    database: Database, store: SqlStore, url: str, place: str, passes: int
) -> None:
    claim = store.claim(0, "me")
    a, b = of(store, "a"), of(store, "b")
    claim = issue(store, claim, *hourly("a", a, range(50)), *hourly("b", b, range(50)))
    cells = [(own, START + HOUR * hour, 1.0, 1, 0, True) for own in (a, b) for hour in range(50)]
    store.commit(turn_of(claim, 200, observations=observations(cells)))
    done = processes.run(
        [sys.executable, "-c", KILLED, url, place, str(passes)], check=False, capture_output=True, env=dict(os.environ)
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-500:]
    assert set(map(tuple, stored(database).values())) == {(1, 2, 3)}
    run(database, observations="1 day")
    assert set(stored(database)) == {("a", 49, 1), ("b", 49, 1)}
    assert database.reader.counts()["observations"] == 2 * (4 + HORIZON)


def test_a_worker_goes_on_beside_it(
    database: Database, store: SqlStore, url: str, open_more: Callable[..., Database]
) -> None:
    claim = store.claim(0, "me")
    ids = [of(store, name) for name in "abcdef"]
    for name, own in zip("abcdef", ids, strict=True):
        claim = issue(store, claim, *hourly(name, own, range(60)))
    beside = open_more(url, timeout=5.0)
    worker = beside.store("meters", "last", lambda: NOW)
    deleted: list[dict[str, int]] = []
    job = threading.Thread(target=lambda: deleted.append(run(database)))
    job.start()
    for hour in range(60, 90):
        claim = issue(worker, claim, *hourly("a", ids[0], [hour]))
    job.join(60)
    assert deleted[0]["forecasts"] >= 5 * 59
    assert ("a", 89, 1) in stored(database)
    run(database)
    assert set(stored(database)) == {(name, 59, 1) for name in "bcdef"} | {("a", 89, 1)}


def test_two_runs_at_once_both_end_well(
    database: Database, store: SqlStore, url: str, open_more: Callable[..., Database]
) -> None:
    claim = store.claim(0, "me")
    for place, name in enumerate("abcdef"):  # their origins are days apart, so that each batch reaches farther
        claim = issue(store, claim, *hourly(name, of(store, name), range(48 * place, 48 * place + 30)))
    other = open_more(url, timeout=5.0)
    results = at_once(lambda: run(database), lambda: run(other))
    assert [type(result) for result in results] == [dict, dict]
    assert sum(result.get("forecasts", 0) for result in results) == 6 * 29
    run(database)
    assert set(stored(database)) == {(name, 48 * place + 29, 1) for place, name in enumerate("abcdef")}
