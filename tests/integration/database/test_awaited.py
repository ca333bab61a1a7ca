"""What is waited for next, in words, on both databases."""

from typing import Any

import pytest

from pipeline.database import Database, SqlStore
from pipeline.database.pages.awaited import FirstHistory
from pipeline.records import Advance, Turn, no_observations
from pipeline.settings import Settings
from tests.contracts.rows import HOUR, NOW, START, forecasts, observations, turn_of

SETTINGS = Settings(series={"horizon": 3}, kafka={"input_topic": "meters"})  # type: ignore[arg-type]
NEEDED = 4 * (3 + 4 - 1)
LATER = START + 1000 * HOUR
NEXT = "the first retraining: "


@pytest.fixture
def store(database: Database) -> SqlStore:
    return database.store("meters", "last", lambda: NOW)


@pytest.fixture
def first(database: Database) -> FirstHistory:
    return database.first_history(SETTINGS, lambda: LATER)


def observe(store: SqlStore, name: str, hours: list[int]) -> None:
    claim = store.claim(0, "me")
    own = int(store.recent([name], 1).series_id[0])
    cells = [(own, START + HOUR * hour, 1.0, 1, place, True) for place, hour in enumerate(hours)]
    store.commit(turn_of(claim, claim.next_offset + len(hours), observations=observations(cells)))


def register(database: Database, train_to: int | None) -> int:
    facts: dict[str, Any] = {"config": {"kind": "gru"}, "metrics": {}, "seed": 0, "code": "", "train_from": train_to}
    return database.registry.register(name="gru", artifact=b"x", now=NOW, train_to=train_to, **facts)


def test_the_first_model_waits_for_steps_of_one_series(store: SqlStore, first: FirstHistory) -> None:
    assert first.awaited() == [f"{NEXT}needs {NEEDED} steps of a series, has 0"]
    assert (first.reached(), first.messages(), first.fitted()) == (0, 0, False)
    observe(store, "short", [40, 41])
    observe(store, "long", [1, 5, NEEDED - 1])  # gaps count, for the backtest is cut in time
    assert first.awaited() == [f"{NEXT}needs {NEEDED} steps of a series, has {NEEDED - 1}"]
    assert (first.reached(), first.messages()) == (NEEDED - 1, 5)
    observe(store, "long", [NEEDED])
    assert first.awaited() == [f"{NEXT}has the {NEEDED} steps of a series that it needs"]


def test_a_reading_of_the_future_is_no_history(database: Database, store: SqlStore) -> None:
    observe(store, "fast", [1, 2, 500])
    assert database.first_history(SETTINGS, lambda: START + 10 * HOUR).reached() == 2


def test_where_nothing_is_retrained_by_itself_it_says_so(database: Database) -> None:
    off = Settings(jobs={"retrain": "off"})  # type: ignore[arg-type]
    assert database.first_history(off, lambda: LATER).awaited() == [f"{NEXT}jobs.retrain is off"]


def test_a_model_that_learned_from_no_history_is_not_the_first_one(database: Database, first: FirstHistory) -> None:
    register(database, None)
    assert not first.fitted()
    register(database, START)
    assert first.fitted()
    assert first.awaited() == []


def test_after_a_swap_it_counts_the_series_that_the_champion_has_forecast(
    database: Database, store: SqlStore, first: FirstHistory
) -> None:
    version = register(database, START)
    ids = dict(zip("abcd", store.recent(list("abcd"), 1).series_id.tolist(), strict=True))
    claim = store.claim(0, "me")
    own = {name: ids[name] for name in "abc"}  # d has no forecast yet
    store.commit(turn_of(claim, 9, forecasts=forecasts(own, START, 0, version=0)))
    assert first.awaited() == []
    assert database.registry.promote(version, expected=None, reason="test", now=NOW + 1)
    assert first.awaited() == ["re-forecasting: 0 of 3 series are done"]
    for number, name in enumerate("abc", start=1):
        again = forecasts({name: ids[name]}, START, -number, version=version)
        advance = Advance(0, claim.epoch, 9, 9, reforecasts=number)
        store.commit(Turn((advance,), no_observations(), again, ()))
        left = [] if name == "c" else [f"re-forecasting: {number} of 3 series are done"]
        assert first.awaited() == left


def test_a_series_that_the_champion_could_not_forecast_since_is_not_waited_for(
    database: Database, store: SqlStore, first: FirstHistory
) -> None:
    version = register(database, START)
    assert database.registry.promote(version, expected=None, reason="test", now=NOW - 1)
    own = {"a": int(store.recent(["a"], 1).series_id[0])}
    store.commit(turn_of(store.claim(0, "me"), 9, forecasts=forecasts(own, START, 0, version=0)))
    assert first.awaited() == []


def test_of_many_series_some_are_looked_at(
    database: Database, store: SqlStore, first: FirstHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.database.pages.awaited.FORECAST_OF", 4)
    version = register(database, START)
    names = [f"s{i}" for i in range(12)]
    ids = dict(zip(names, store.recent(names, 1).series_id.tolist(), strict=True))
    claim = store.claim(0, "me")
    store.commit(turn_of(claim, 99, forecasts=forecasts(ids, START, 0, version=0)))
    assert database.registry.promote(version, expected=None, reason="test", now=NOW + 1)
    assert first.awaited() == ["re-forecasting: 0 of 4 series that were looked at are done"]
