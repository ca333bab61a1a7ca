"""Readings that a person removes or corrects: what is kept, and who follows."""

import json

import pytest

from pipeline.database import Database, Repair
from pipeline.errors import ConfigError, Fenced
from tests.contracts.rows import HOUR, NOW, START, observations, turn_of, wide_observations

WHY = "the clock was fast"


def repair(since: int, until: int, series: str = "a") -> Repair:
    return Repair(series, since, until, "ann", WHY, NOW + 5)


def filled(database: Database) -> int:
    """Six hours of series a, with a covariate."""
    store = database.store("observations", "last", lambda: NOW, ("x",))
    own = int(store.recent(["a"], 1).series_id[0])
    cells = [(own, START + HOUR * step, float(step), [step + 0.5], step, True) for step in range(6)]
    store.commit(turn_of(store.claim(0, "x"), 6, observations=wide_observations(cells)))
    return own


def test_removed_readings_are_nulls_and_what_was_there_is_kept_with_who_and_why(database: Database) -> None:
    filled(database)
    store = database.store("observations", "last", lambda: NOW, ("x",))
    assert database.repairs.remove(repair(START + 4 * HOUR, START + 9 * HOUR)) == 2
    history = store.recent(["a"], 9)
    assert history.observed.tolist() == [True] * 4 + [False] * 2
    assert str(history.covariates[4, 0]) == "nan"
    rows = database.reader.query(
        "SELECT value, events, source_offset, recorded_at FROM observations ORDER BY observed_at"
    )
    assert [(row["value"], row["events"], row["source_offset"]) for row in rows][4:] == [(None, 0, -1)] * 2
    assert rows[4]["recorded_at"] != rows[3]["recorded_at"], "the monitor finds what changed by it"
    [kept] = database.reader.query("SELECT action, readings, actor, reason, before FROM repairs")
    assert (kept["action"], kept["readings"], kept["actor"], kept["reason"]) == ("remove", 2, "ann", WHY)
    assert [value for _, value in json.loads(kept["before"])] == [4.0, 5.0]
    [health] = database.reader.query("SELECT last_observed_at, missing FROM series_health")
    assert (health["last_observed_at"][:13], health["missing"]) == ("2026-01-01 03", 2)
    [listed] = database.repairs.newest(5)
    assert (listed["series"], listed["until"]) == ("a", START + 9 * HOUR)


@pytest.mark.parametrize("policy", ["last", "first", "mean", "sum", "max"])
def test_a_reading_that_comes_again_after_it_was_removed_is_as_new(database: Database, policy: str) -> None:
    store = database.store("observations", policy, lambda: NOW)  # type: ignore[arg-type]
    own = int(store.recent(["a"], 1).series_id[0])
    claim = store.claim(0, "x")
    store.commit(turn_of(claim, 2, observations=observations([(own, START, 99.0, 3, 1, True)])))
    database.repairs.remove(repair(START, START))
    again = store.claim(0, "x")
    store.commit(turn_of(again, 3, observations=observations([(own, START, 4.0, 1, 2, False)])))
    [row] = database.reader.query("SELECT value, events, source_offset FROM observations")
    assert (row["value"], row["events"], row["source_offset"]) == (4.0, 1, 2)


def test_a_correction_replaces_one_reading(database: Database) -> None:
    filled(database)
    database.repairs.correct(repair(START + HOUR, START + HOUR), -7.5)
    values = database.reader.query("SELECT value, source_offset FROM observations ORDER BY observed_at")
    assert [(row["value"], row["source_offset"]) for row in values][:3] == [(0.0, 0), (-7.5, -1), (2.0, 2)]
    [kept] = database.reader.query("SELECT action, value FROM repairs")
    assert (kept["action"], kept["value"]) == ("set", -7.5)


def test_a_turn_that_does_not_know_of_a_repair_is_refused(database: Database) -> None:
    filled(database)
    store = database.store("observations", "last", lambda: NOW)
    claim, standing = store.claim(0, "x"), store.standing()
    database.repairs.remove(repair(START, START))
    turn = turn_of(claim, 7)
    object.__setattr__(turn, "standing", standing)
    with pytest.raises(Fenced, match="repaired"):
        store.commit(turn)
    assert store.standing().repairs == standing.repairs + 1


def test_what_is_not_there_is_named(database: Database) -> None:
    filled(database)
    with pytest.raises(ConfigError, match="there is no series b"):
        database.repairs.remove(repair(START, START, "b"))
    with pytest.raises(ConfigError, match="no reading from 2026-01-01 10:00:00"):
        database.repairs.correct(repair(START + 10 * HOUR, START + 10 * HOUR), 1.0)
    assert database.reader.query("SELECT repairs FROM topics")[0]["repairs"] == 0, "a repair that failed warns nobody"
