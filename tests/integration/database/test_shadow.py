"""The shadow on both databases: its alias, its forecasts apart from the champion's, their sums, its end by the job."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from jobs.catalog import find_work
from jobs.upkeep.retention import clear_out
from pipeline.database import Database
from pipeline.errors import ConfigError, Fenced
from pipeline.records import Claim, Forecasts
from pipeline.settings import Settings
from tests.contracts.registry import RegistryContract
from tests.contracts.rows import HOUR, NOW, START, at_once, forecasts, observations, turn_of

DAY = 24 * HOUR
SEASON, HORIZON = 6, 2
register = RegistryContract().register


def crowned(database: Database) -> int:
    version = register(database)
    assert database.registry.promote(version, expected=None, reason="first", now=START)
    return version


def test_a_shadow_begins_is_replaced_and_ends_with_a_history_of_its_own(database: Database) -> None:
    registry = database.registry
    champion, one, two = crowned(database), register(database), register(database)
    assert (registry.shadow(), registry.shadowing()) == (None, None)
    assert registry.begin_shadow(one, expected=None, reason="gain 2 %", now=NOW)
    assert not registry.begin_shadow(two, expected=None, reason="late", now=NOW)
    assert registry.begin_shadow(two, expected=one, reason="gain 3 %", now=NOW + 5)
    shadowing = registry.shadowing()
    assert shadowing is not None
    assert (shadowing.version, shadowing.since) == (two, NOW + 5)
    assert not registry.drop_shadow(one, reason="gone already", now=NOW)
    assert registry.drop_shadow(two, reason="by hand", now=NOW + 9)
    assert (registry.shadow(), registry.champion()) == (None, champion)
    changes = [(row.action, row.version, row.previous, row.reason) for row in registry.shadow_history()[::-1]]
    assert changes == [
        ("promote", one, None, "gain 2 %"),
        ("promote", two, one, "gain 3 %"),
        ("drop", two, two, "by hand"),
    ]
    assert [row.version for row in registry.history()] == [champion], "the champion's is not touched"


def test_a_shadow_needs_an_artifact(database: Database) -> None:
    with pytest.raises(ConfigError, match="model 9 cannot be shadow"):
        database.registry.begin_shadow(9, expected=None, reason="", now=NOW)


def test_a_shadow_that_becomes_champion_is_shadow_no_longer_and_rolls_back_like_any_other(database: Database) -> None:
    registry = database.registry
    champion, shadow = crowned(database), register(database)
    registry.begin_shadow(shadow, expected=None, reason="gain", now=NOW)
    assert not registry.promote_shadow(shadow, expected=shadow, reason="another champion", now=NOW)
    assert not registry.promote_shadow(champion, expected=champion, reason="another shadow", now=NOW)
    assert (registry.champion(), registry.shadow()) == (champion, shadow)
    assert registry.promote_shadow(shadow, expected=champion, reason="better live", now=NOW)
    assert (registry.champion(), registry.shadow()) == (shadow, None)
    assert registry.history()[0].reason == "better live"
    assert registry.shadow_history()[0].reason == "it became champion: better live"
    assert registry.rollback(NOW) == champion


def test_promoting_the_shadow_by_hand_ends_its_period_and_another_one_does_not(database: Database) -> None:
    registry = database.registry
    champion, shadow, other = crowned(database), register(database), register(database)
    registry.begin_shadow(shadow, expected=None, reason="gain", now=NOW)
    assert registry.promote(other, expected=champion, reason="by hand", now=NOW)
    assert registry.shadow() == shadow
    assert registry.promote(shadow, expected=other, reason="by hand", now=NOW)
    assert registry.shadow() is None


def test_of_a_promotion_by_hand_and_the_end_of_a_period_at_once_one_wins(
    url: str, database: Database, open_more: Callable[..., Database]
) -> None:
    other = open_more(url)
    champion = crowned(database)
    for _ in range(12):
        shadow, by_hand = register(database), register(database)
        before = len(database.registry.history())
        assert database.registry.begin_shadow(shadow, expected=None, reason="gain", now=NOW)
        expected = champion
        won = at_once(
            lambda: database.registry.promote_shadow(shadow, expected=expected, reason="live", now=NOW),  # noqa: B023
            lambda: other.registry.promote(by_hand, expected=expected, reason="by hand", now=NOW),  # noqa: B023
        )
        assert sorted(won) == [False, True]
        champion = shadow if won[0] else by_hand
        assert database.registry.champion() == champion
        assert len(database.registry.history()) == before + 1
        assert database.registry.shadow() == (None if won[0] else shadow)
        database.registry.drop_shadow(shadow, reason="next round", now=NOW)


def test_the_shadow_promoted_by_hand_and_by_the_end_of_its_period_at_once_is_promoted_once(
    url: str, database: Database, open_more: Callable[..., Database]
) -> None:
    other = open_more(url)
    champion = crowned(database)
    for _ in range(12):
        shadow = register(database)
        assert database.registry.begin_shadow(shadow, expected=None, reason="gain", now=NOW)
        expected = champion
        won = at_once(
            lambda: database.registry.promote_shadow(shadow, expected=expected, reason="live", now=NOW),  # noqa: B023
            lambda: other.registry.promote(shadow, expected=expected, reason="by hand", now=NOW),  # noqa: B023
        )
        assert sorted(won) == [False, True], "and neither waits for the other for ever"
        champion = shadow
        assert (database.registry.champion(), database.registry.shadow()) == (shadow, None)


def count(database: Database, table: str) -> int:
    with database.engine.connect() as connection:
        return int(connection.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar_one())


def test_a_turn_stores_the_shadow_apart_and_returns_and_shows_the_champion_only(database: Database) -> None:
    store = database.store("meters", "last", lambda: NOW)
    claim = store.claim(0, "me")
    ids = dict(zip("ab", store.recent(["a", "b"], 1).series_id.tolist(), strict=True))
    served, tried = forecasts(ids, START, 0, version=1), forecasts(ids, START, 0, version=2, seed=9)
    stored = store.commit(turn_of(claim, 2, forecasts=served, shadow=tried))
    assert set(stored.model_version.tolist()) == {1}
    assert (count(database, "forecasts"), count(database, "shadow_forecasts")) == (6, 6)
    published, _ = store.unpublished(0, 0, 2)
    assert set(published.model_version.tolist()) == {1}
    for view in ("latest_forecasts", "current_forecast", "forecast_vs_actual"):
        assert {row["model_version"] for row in database.reader.query(f"SELECT * FROM {view}")} <= {1}
    rows = database.reader.query("SELECT * FROM shadow_forecasts ORDER BY series_id, target_time")
    assert [(row["q50"], row["step"], row["quality"]) for row in rows] == [
        (tried.quantiles[n, step, 6], step + 1, "ok") for n in range(2) for step in range(3)
    ]
    assert {row["issued_at"] for row in rows} == {
        row["issued_at"] for row in database.reader.query("SELECT issued_at FROM forecasts")
    }


def test_a_shadow_is_stored_beside_what_was_just_stored_and_never_twice(database: Database) -> None:
    store = database.store("meters", "last", lambda: NOW)
    claim = store.claim(0, "me")
    ids = dict(zip("ab", store.recent(["a", "b"], 1).series_id.tolist(), strict=True))
    store.commit(turn_of(claim, 2, forecasts=forecasts(ids, START, 0, version=1)))
    claim = Claim(0, claim.epoch, 2)
    again, tried = forecasts(ids, START, 2, version=1), forecasts(ids, START, 2, version=5)
    assert len(store.commit(turn_of(claim, 4, forecasts=again, shadow=tried))) == 0
    assert count(database, "shadow_forecasts") == 0, "the forecasts it goes with were there before"
    claim = Claim(0, claim.epoch, 4)
    first = tried.take(np.array([0]))
    store.commit(turn_of(claim, 6, forecasts=forecasts(ids, START, 4, version=2), shadow=first))
    claim = Claim(0, claim.epoch, 6)
    other = replace(tried, quantiles=tried.quantiles + 1.0)
    stored = store.commit(turn_of(claim, 8, forecasts=forecasts(ids, START, 6, version=3), shadow=other))
    assert len(stored) == 2, "the champion's rows do not depend on the shadow's"
    rows = database.reader.query("SELECT q50 FROM shadow_forecasts WHERE step = 1 ORDER BY series_id")
    assert [row["q50"] for row in rows] == [tried.quantiles[0, 0, 6], tried.quantiles[1, 0, 6] + 1.0]


def test_a_fenced_turn_stores_nothing_of_the_shadow(database: Database) -> None:
    store = database.store("meters", "last", lambda: NOW)
    claim = store.claim(0, "me")
    own = {"a": int(store.recent(["a"], 1).series_id[0])}
    store.claim(0, "another")
    with pytest.raises(Fenced):
        store.commit(turn_of(claim, 1, forecasts=forecasts(own, START, 0), shadow=forecasts(own, START, 0, version=2)))
    assert count(database, "shadow_forecasts") == 0


class World:
    """Hourly series; every hour is observed and then forecast by champion and shadow, who err by so much."""

    names = tuple(f"s{n:02}" for n in range(12))

    def __init__(self, database: Database) -> None:
        self.database = database
        self.rng = np.random.default_rng(3)
        database.registry.describe_baseline({}, season=SEASON, step_seconds=3600.0)
        self.champion, self.shadow = crowned(database), register(database)
        assert database.registry.begin_shadow(self.shadow, expected=None, reason="gain", now=START)
        self.now = START + HOUR
        self.store = database.store("meters", "last", lambda: self.now)
        self.claim = self.store.claim(0, "me")
        self.ids = self.store.recent(self.names, 1).series_id
        self.hour = self.turn = 0

    def live(self, hours: int, *, champion: float = 1.0, shadow: float | None = 0.5) -> None:
        """Let hours pass, in one turn; without a shadow's error it does not score."""
        span = np.arange(self.hour, self.hour + hours)
        value = np.random.default_rng(7).normal(50.0, 10.0, 4_000)
        cells = [
            (own, START + HOUR * int(hour), float(value[hour]), 1, 0, True)
            for own in self.ids.tolist()
            for hour in span
        ]
        served = self.forecast(span, self.champion, champion, value)
        tried = None if shadow is None else self.forecast(span, self.shadow, shadow, value)
        at = Claim(0, self.claim.epoch, self.turn)
        self.turn += 1
        self.store.commit(turn_of(at, self.turn, observations=observations(cells), forecasts=served, shadow=tried))
        self.hour += hours
        self.now += HOUR * hours

    def forecast(self, span: np.ndarray, version: int, error: float, value: np.ndarray) -> Forecasts:
        n = len(self.names) * len(span)
        origins = np.tile(START + HOUR * span, len(self.names))
        steps = np.arange(1, HORIZON + 1)
        known = value[np.tile(span, len(self.names))[:, None] + steps] + self.rng.normal(0, error, (n, HORIZON))
        return Forecasts(
            series=[name for name in self.names for _ in span],
            series_id=np.repeat(self.ids, len(span)),
            origin=origins,
            target_times=origins[:, None] + HOUR * steps,
            quantiles=known[:, :, None] + 1.6 * error * np.linspace(-1, 1, 13),
            model_version=np.full(n, version),
            calibration=np.zeros(n, np.int64),
            quality=["ok"] * n,
            issued_at=np.full(n, self.now),
            partition=np.zeros(n, np.int64),
            offset=np.full(n, self.turn),
        )

    def run(self, job: str, **jobs: Any) -> tuple[str, Mapping[str, Any]]:
        settings = Settings(
            series={"season": SEASON, "horizon": HORIZON, "context": 24, "frequency": "1h"},  # type: ignore[arg-type]
            jobs={"shadow": "7 days", "drift": False} | jobs,  # type: ignore[arg-type]
        )
        outcome = find_work(job, settings, self.database, lambda: self.now)(lambda _: None)
        assert outcome.ending == "ok"
        return outcome.reason, outcome.facts

    def aliases(self) -> tuple[int | None, int | None]:
        return self.database.registry.champion(), self.database.registry.shadow()


def by_hand(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], tuple[int, float, float]]:
    """Sums per cell: n, absolute error, pinball."""
    cells: dict[tuple[Any, ...], tuple[int, float, float]] = {}
    for row in rows:
        key = (row["series_id"], row["model_version"], str(row["day"]), 1 if row["step"] == 1 else 2)
        n, error, pinball = cells.get(key, (0, 0.0, 0.0))
        cells[key] = (n + 1, error + row["absolute_error"], pinball + row["pinball"])
    return cells


def evaluated(database: Database) -> dict[tuple[Any, ...], tuple[int, float, float]]:
    rows = database.reader.query("SELECT * FROM evaluations")
    return {
        (row["series_id"], row["model_version"], str(row["day"]), row["horizon_from"]): (
            row["n"],
            row["absolute_error"],
            row["pinball"],
        )
        for row in rows
    }


def same(one: dict[tuple[Any, ...], Any], other: dict[tuple[Any, ...], Any]) -> bool:
    return one.keys() == other.keys() and all(one[key] == pytest.approx(other[key]) for key in one)


def test_the_monitor_sums_the_shadow_beside_the_champion_and_the_leaderboard_shows_both(database: Database) -> None:
    world = World(database)
    world.live(30)
    world.run("monitor")
    rows = database.reader.query("SELECT * FROM forecast_vs_actual")
    tried = database.reader.query("SELECT * FROM shadow_vs_actual")
    assert {row["model_version"] for row in tried} == {world.shadow}
    assert len(rows) == len(tried) > 0
    assert same(evaluated(database), by_hand(rows + tried))
    board = {row["model_version"]: row for row in database.reader.query("SELECT * FROM model_leaderboard")}
    assert board[world.champion]["n"] == board[world.shadow]["n"]
    assert board[world.shadow]["wql"] < board[world.champion]["wql"]
    accuracy = database.reader.query("SELECT DISTINCT model_version FROM forecast_accuracy ORDER BY 1")
    assert [row["model_version"] for row in accuracy] == [world.champion, world.shadow]
    before = evaluated(database)
    world.run("monitor")
    assert evaluated(database) == before


def test_sums_of_the_day_on_which_a_shadow_became_champion_are_of_both_its_times(database: Database) -> None:
    world = World(database)
    world.live(8)
    assert database.registry.promote_shadow(world.shadow, expected=world.champion, reason="better", now=world.now)
    world.champion = world.shadow
    world.live(8, shadow=None)
    world.run("monitor")
    rows = database.reader.query("SELECT * FROM forecast_vs_actual UNION ALL SELECT * FROM shadow_vs_actual")
    assert same(evaluated(database), by_hand(rows))


def test_a_better_shadow_is_promoted_after_its_period_on_what_it_forecast_live(database: Database) -> None:
    world = World(database)
    world.live(24)
    reason, _ = world.run("promote")
    assert reason == f"version {world.shadow} is shadow until 2026-01-08 00:00"
    world.live(7 * 24)
    reason, facts = world.run("promote")
    assert reason.startswith(f"version {world.shadow} promoted after its shadow period: live, gain ")
    assert f"over version {world.champion} on " in reason
    assert "better in 100 % of resamples of 12 series" in reason
    assert world.aliases() == (world.shadow, None)
    assert database.registry.history()[0].reason in reason
    assert facts["scores"]["shadow"]["steps"] == facts["scores"]["champion"]["steps"]
    assert world.run("promote")[0] == "there is no shadow"


def test_a_worse_shadow_is_dropped_and_the_champion_stays(database: Database) -> None:
    world = World(database)
    world.live(8 * 24, shadow=2.0)
    reason, _ = world.run("promote")
    assert reason.startswith(f"version {world.shadow} dropped after its shadow period: live, ")
    assert f"worse than version {world.champion} on " in reason
    assert world.aliases() == (world.champion, None)
    assert database.registry.shadow_history()[0].reason in reason


def test_a_shadow_that_never_scored_stays_and_one_that_stopped_scoring_is_dropped(database: Database) -> None:
    world = World(database)
    world.live(8 * 24, shadow=None)
    reason, _ = world.run("promote")
    assert "its period goes on, 0 origins have matured beside version 1, 4 are needed" in reason
    assert world.aliases() == (world.champion, world.shadow)
    world.live(24)
    world.live(24, shadow=None)
    reason, _ = world.run("promote")
    assert "dropped after its shadow period: live, it left out " in reason
    assert world.aliases() == (world.champion, None)


def test_a_champion_chosen_during_the_period_is_the_one_to_beat(database: Database) -> None:
    world = World(database)
    world.live(7 * 24)
    before, world.champion = world.champion, register(database)
    database.registry.promote(world.champion, expected=before, reason="by hand", now=world.now)
    reason, _ = world.run("promote")
    assert f"0 origins have matured beside version {world.champion}" in reason
    world.live(48, champion=0.1)
    reason, _ = world.run("promote")
    assert f"worse than version {world.champion} on " in reason


def test_live_sums_are_those_of_the_rows_that_all_three_have(database: Database) -> None:
    world = World(database)
    world.live(30)
    found = database.shadows.live_pairs(world.shadow, world.champion, world.now - 100 * DAY)
    rows = database.reader.query(
        "SELECT v.*, s.pinball AS tried FROM forecast_vs_actual v JOIN shadow_vs_actual s ON s.series_id = v.series_id"
        " AND s.target_time = v.target_time AND s.origin = v.origin WHERE v.naive IS NOT NULL"
    )
    assert found.left_out == 0
    assert found.n.sum() == len(rows) > 0
    assert found.champion_pinball.sum() == pytest.approx(sum(row["pinball"] for row in rows))
    assert found.shadow_pinball.sum() == pytest.approx(sum(row["tried"] for row in rows))
    assert found.naive_error.sum() == pytest.approx(sum(abs(row["naive_error"]) for row in rows))
    later = database.shadows.live_pairs(world.shadow, world.champion, world.now + 1)
    assert len(later.n) == 0


def test_retention_thins_and_deletes_what_a_shadow_left_like_the_forecasts(database: Database) -> None:
    world = World(database)
    world.live(72)
    settings = Settings(
        series={"context": 24, "horizon": HORIZON},  # type: ignore[arg-type]
        retention={"thin_forecasts": "35 days", "forecasts": "400 days"},  # type: ignore[arg-type]
    )

    def clear(now: int) -> dict[str, int]:
        outcome = clear_out(
            database.retention, settings, clock=lambda: now, on_stage=lambda _: None, pause=lambda _: None
        )
        deleted: dict[str, int] = outcome.facts["deleted"]
        return deleted

    whole = count(database, "shadow_forecasts")
    assert whole == 12 * 72 * HORIZON
    assert clear(START + 100 * DAY)["shadow forecasts"] == 0, "it is still to be judged"
    database.registry.drop_shadow(world.shadow, reason="by hand", now=world.now)
    assert clear(START + 30 * DAY)["shadow forecasts"] == 0
    assert clear(START + 100 * DAY)["shadow forecasts"] == whole // HORIZON - 12 * 3
    assert count(database, "shadow_forecasts") == 12 * 3 * HORIZON, "the first origin of each day, with all its steps"
    assert clear(START + 500 * DAY)["shadow forecasts"] == 12 * 3
    assert count(database, "shadow_forecasts") == 0
    assert count(database, "forecasts") > 0


def test_the_artifact_of_a_shadow_stays_and_that_of_a_dropped_one_may_go(database: Database) -> None:
    champion, shadow = crowned(database), register(database)
    database.registry.begin_shadow(shadow, expected=None, reason="gain", now=NOW)
    assert database.retention.drop_artifacts(NOW + DAY, 10) == 0
    database.registry.drop_shadow(shadow, reason="worse", now=NOW)
    assert database.retention.drop_artifacts(NOW + DAY, 10) == 1
    assert database.registry.artifact(champion)
