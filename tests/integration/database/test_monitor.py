"""The job `monitor` on both databases: sums, then drift, then the request that the scheduler takes."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from jobs.catalog import find_work
from jobs.clock.outcome import Stage
from jobs.upkeep.monitor import STATE, Sources, detect, monitor
from pipeline.database import Database
from pipeline.database.jobs.live_errors import StepMeans
from pipeline.errors import Unavailable
from pipeline.job_facts import DriftFacts
from pipeline.records import Claim, Forecasts
from pipeline.settings import Settings
from tests import processes
from tests.contracts.rows import HOUR, START, observations, turn_of
from tests.servers import upgraded_file

SEASON = 6
DAY = 86_400.0
STEADY, SHIFTED = 240, 90  # hours before and after the change of regime
SERIES = ("north/a", "north/b", "south/a")
Steps = Sequence[tuple[int, float | None, float | None]]


def settings(**jobs: Any) -> Settings:
    return Settings(series={"season": SEASON, "frequency": "1h"}, jobs={"group": r"^(\w+)/"} | jobs)


def sources(database: Database) -> Sources:
    return Sources(database.evaluations, database.live_errors, database.registry, database.states)


def crown(database: Database, expected: int | None = None) -> int:
    """Register a model and make it champion."""
    version = database.registry.register(
        name="gru", config={}, metrics={}, train_from=None, train_to=None, seed=0, code="", artifact=b"x", now=START
    )
    assert database.registry.promote(version, expected=expected, reason="test", now=START)
    return version


class Feed:
    """Hourly series with a season, each hour observed and then forecast two steps ahead by the champion."""

    def __init__(self, database: Database) -> None:
        self.rng = np.random.default_rng(5)
        self.now = START
        database.registry.describe_baseline({}, season=SEASON, step_seconds=3600.0)
        self.store = database.store("meters", "last", lambda: self.now)
        self.claim = self.store.claim(0, "me")
        self.ids = self.store.recent(SERIES, 1).series_id
        self.hour = 0
        self.turn = 0

    def live(self, hours: int, version: int, *, shift: float = 0.0) -> None:
        """Let hours pass; `shift` is added to the values of the north, which the champion does not know of."""
        span = np.arange(self.hour, self.hour + hours)
        cells = []
        for place, own in enumerate(self.ids.tolist()):
            values = 3.0 * (span % SEASON) + self.rng.normal(0, 1, hours) + shift * (place < 2)
            cells += [(own, START + HOUR * int(h), float(v), 1, 0, True) for h, v in zip(span, values, strict=True)]
        n = len(SERIES) * hours
        origins = np.tile(START + HOUR * span, len(SERIES))
        steps = np.arange(1, 3)
        known = 3.0 * ((np.tile(span, len(SERIES))[:, None] + steps) % SEASON)  # (N, 2)
        new = Forecasts(
            series=[name for name in SERIES for _ in span],
            series_id=np.repeat(self.ids, hours),
            origin=origins,
            target_times=origins[:, None] + HOUR * steps,
            quantiles=known[:, :, None] + np.linspace(-2, 2, 13),
            model_version=np.full(n, version),
            calibration=np.zeros(n, np.int64),
            quality=["ok"] * n,
            issued_at=np.full(n, self.now),
            partition=np.zeros(n, np.int64),
            offset=np.full(n, self.turn),
        )
        place = Claim(0, self.claim.epoch, self.turn)
        self.turn += 1
        self.store.commit(turn_of(place, self.turn, observations=observations(cells), forecasts=new))
        self.hour += hours
        self.now += HOUR * hours


def run(database: Database, wanted: Settings, now: int) -> Mapping[str, Any]:
    outcome = find_work("monitor", wanted, database, lambda: now)(lambda _: None)
    assert outcome.ending == "ok"
    return outcome.facts


def test_a_change_of_regime_is_found_within_a_day_and_becomes_a_retraining(database: Database) -> None:
    feed = Feed(database)
    version = crown(database)
    feed.live(STEADY, version)
    assert run(database, settings(), feed.now)["drift"] == "no drift"
    assert database.ledger.requested() == []
    feed.live(24, version, shift=8.0)
    with capture_logs() as logs:
        found = run(database, settings(), feed.now)["drift"]
        run(database, settings(), feed.now)
    assert "a retraining was requested" in found
    (event,) = [each for each in logs if each["event"] == "drift found"]
    assert (event["champion"], event["requested"]) == (version, True)
    assert f"drift: {event['found']}; a retraining was requested" == found
    assert database.job_facts.read(("monitor",), feed.now).drift == DriftFacts(1, feed.now, waiting=False)
    assert f"errors rose of version {version} in group north" in found
    assert "2026-01-1" in found
    assert "south" not in found
    assert database.ledger.requested() == ["retrain"]
    run_id = database.ledger.begin_requested("retrain", "me", feed.now)
    assert run_id is not None
    (row,) = database.ledger.runs("retrain")
    assert row.cause is not None
    assert row.cause.startswith("drift: ")
    assert "group north" in row.cause


def test_a_champion_of_long_ago_is_judged_by_hours_that_retention_left_whole(database: Database) -> None:
    feed = Feed(database)
    version = crown(database)
    feed.live(240, version)
    feed.live(1, version)  # a turn more, so that those are published
    wanted = Settings(series={"season": SEASON, "horizon": 2}, retention={"thin_forecasts": "5 days"})
    now = feed.now + 2 * 24 * HOUR
    run(database, settings(), now)
    facts = find_work("retention", wanted, database, lambda: now)(lambda _: None).facts
    assert facts["deleted"]["forecasts"] > 0
    steps = database.live_errors.step_means("north", version, None)
    assert len(steps) > 2
    assert set(np.diff([origin for origin, *_ in steps]).tolist()) == {HOUR}


@pytest.mark.parametrize("most", [1, 8, 30])
def test_of_many_series_fewer_steps_are_read_at_once_and_the_same_in_all(
    database: Database, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    feed = Feed(database)
    version = crown(database)
    feed.live(60, version)
    run(database, settings(), feed.now)
    whole = database.live_errors.step_means("north", version, None)
    assert len(whole) > 40
    monkeypatch.setattr("pipeline.database.jobs.live_errors.FORECASTS", most)
    found: list[StepMeans] = []
    while some := database.live_errors.step_means("north", version, found[-1].origin if found else None):
        assert len(some) <= max(1, most // 2)
        found += some
    assert found == whole


def test_without_a_change_a_long_run_asks_for_nothing(database: Database) -> None:
    feed = Feed(database)
    version = crown(database)
    for _ in range(4):
        feed.live(250, version)
        assert run(database, settings(), feed.now)["drift"] == "no drift"
    assert database.ledger.requested() == []


def test_many_short_runs_remember_what_one_long_run_does(database: Database, empty_world: Database) -> None:
    states = []
    for each, cuts in ((database, 8), (empty_world, 1)):
        feed = Feed(each)
        version = crown(each)
        for part in range(8):
            feed.live(20, version)
            if (part + 1) % (8 // cuts) == 0:
                run(each, settings(), feed.now)
        states.append(each.states.read(STATE)[1])
    for group in ("north", "south"):
        one, other = states[0]["watches"][group], states[1]["watches"][group]
        assert one["fed"] == other["fed"]
        assert one["error"]["n"] == other["error"]["n"] > 100
        assert one["error"]["mean"] == pytest.approx(other["error"]["mean"], rel=1e-12)
        assert one["level"]["rise"]["statistic"] == pytest.approx(other["level"]["rise"]["statistic"], rel=1e-9)


@pytest.fixture
def empty_world(tmp_path: Any, open_more: Any) -> Database:
    """A second database, to compare with."""
    file = tmp_path / "second.db"
    file.write_bytes(upgraded_file())
    opened: Database = open_more(f"sqlite:///{file}")
    return opened


def test_a_second_run_at_once_changes_nothing(database: Database) -> None:
    feed = Feed(database)
    version = crown(database)
    feed.live(STEADY, version)
    run(database, settings(), feed.now)
    before = database.states.read(STATE)[1]
    run(database, settings(), feed.now)
    assert database.states.read(STATE)[1] == before


def test_drift_off_looks_for_none_and_still_evaluates(database: Database) -> None:
    feed = Feed(database)
    version = crown(database)
    feed.live(STEADY, version)
    feed.live(SHIFTED, version, shift=20.0)
    facts = run(database, settings(drift="off"), feed.now)
    assert "drift" not in facts
    assert facts["cells"] > 0
    assert database.ledger.requested() == []


def test_without_a_champion_there_is_no_drift(database: Database) -> None:
    Feed(database).live(10, 0)
    assert run(database, settings(), START)["drift"] == "drift: no champion yet"


def test_stages_say_how_far_it_is(database: Database) -> None:
    feed = Feed(database)
    feed.live(48, crown(database))
    stages: list[Stage] = []
    monitor(sources(database), settings(), clock=lambda: feed.now, on_stage=stages.append)
    assert [(stage.name, stage.done, stage.total) for stage in stages] == [("accuracy", 3, 3), ("drift", 0, 0)]


@dataclass
class Script:
    """Live errors of one group, as a test wrote them: calm, then wild from a place on."""

    wild_from: int
    length: int

    def groups(self) -> list[str]:
        return ["all"]

    def step_means(self, group: str, version: int, after: int | None) -> Steps:
        calm = np.random.default_rng(1).normal(1.0, 0.1, self.length)
        calm[self.wild_from :] += 1.0
        start = 0 if after is None else after // HOUR + 1
        return [(HOUR * place, float(calm[place]), None) for place in range(start, self.length)]


def test_the_cool_down_holds_an_alarm_back_and_asks_when_it_is_over(database: Database) -> None:
    crown(database)
    own = settings()
    script = Script(wild_from=100, length=120)
    at = replace(sources(database), live_errors=script)
    assert "was requested" in detect(at, own, now=START)
    assert database.ledger.begin_requested("retrain", "me", START) is not None
    script.wild_from, script.length = 300, 330  # the retraining kept the champion, and it gets worse again
    hour = 3_600 * 1_000_000
    assert "held back for a day" in detect(at, own, now=START + hour)
    assert database.ledger.requested() == []
    assert "held back" in detect(at, own, now=START + 23 * hour)
    assert "was requested" in detect(at, own, now=START + 24 * hour)
    assert database.ledger.requested() == ["retrain"]
    assert detect(at, own, now=START + 24 * hour) == "no drift"


def test_a_new_champion_starts_anew_and_forgets_what_was_held_back(database: Database) -> None:
    first = crown(database)
    own = settings()
    script = Script(wild_from=100, length=120)
    at = replace(sources(database), live_errors=script)
    detect(at, own, now=START)
    script.wild_from, script.length = 300, 330
    assert "held back" in detect(at, own, now=START + 1)
    crown(database, expected=first)
    script.wild_from, script.length = 400, 330
    assert detect(at, own, now=START + 2 * round(DAY * 1e6)) == "no drift"


def test_a_request_that_waits_already_stays_and_is_not_repeated(database: Database) -> None:
    crown(database)
    database.ledger.request("retrain", "an operator wanted it", START)
    at = replace(sources(database), live_errors=Script(wild_from=100, length=120))
    assert "a retraining waits already" in detect(at, settings(), now=START)
    database.ledger.begin_requested("retrain", "me", START)
    (row,) = database.ledger.runs("retrain")
    assert row.cause == "an operator wanted it"


def test_a_monitor_that_dies_between_the_request_and_the_memory_has_asked_for_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    crown(database)
    at = replace(sources(database), live_errors=Script(wild_from=100, length=120))

    def lost(connection: object, name: str, epoch: int, state: Mapping[str, Any]) -> bool:
        raise Unavailable("the machine was lost")

    with monkeypatch.context() as crash:
        crash.setattr("pipeline.database.jobs.states.replace_state", lost)
        with pytest.raises(Unavailable):
            detect(at, settings(), now=START)
    assert database.ledger.requested() == [], "so a scheduler cannot run it before it is asked for again"
    assert "a retraining was requested" in detect(at, settings(), now=START + 1)
    assert database.ledger.begin_requested("retrain", "me", START + 2) is not None
    assert detect(at, settings(), now=START + 3) == "no drift"
    assert database.job_facts.read(("monitor",), START).drift == DriftFacts(1, START + 1, waiting=False)
    assert len(database.ledger.runs("retrain")) == 1


KILLED = """
import os, sys
from pipeline.database import open_database
from pipeline.database.jobs import states
database = open_database(sys.argv[1], timeout=20)
states.replace_state = lambda *_: os.kill(os.getpid(), 9)
database.states.replace_and_request("drift", 0, lambda new: {}, job="retrain", reason="drift", now=1)
"""


def test_a_monitor_killed_between_the_two_leaves_no_request(database: Database, url: str) -> None:
    done = processes.run([sys.executable, "-c", KILLED, url], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr.decode()
    assert (database.ledger.requested(), database.states.read(STATE)) == ([], (0, {}))


def test_a_monitor_that_is_overtaken_takes_its_request_back(database: Database) -> None:
    states = database.states
    assert states.replace("drift", 0, {"champion": 1})
    asking = {"job": "retrain", "reason": "drift", "now": START}
    assert states.replace_and_request("drift", 0, lambda new: {"new": new}, **asking) is None
    assert (database.ledger.requested(), states.read("drift")) == ([], (1, {"champion": 1}))
    assert states.replace_and_request("drift", 1, lambda new: {"new": new}, **asking) is True
    assert states.replace_and_request("drift", 2, lambda new: {"new": new}, **asking) is False
    assert (database.ledger.requested(), states.read("drift")) == (["retrain"], (3, {"new": False}))


def test_of_two_monitors_at_once_one_remembers_and_both_end_well(database: Database) -> None:
    crown(database)

    class Overtaken(Script):
        def groups(self) -> list[str]:
            assert database.states.replace(STATE, 0, {"champion": 1, "watches": {}, "asked_at": None, "waiting": None})
            return super().groups()

    at = replace(sources(database), live_errors=Overtaken(wild_from=100, length=90))
    assert detect(at, settings(), now=START) == "drift: left to another monitor that is at work"
    assert database.states.read(STATE)[0] == 1


def test_a_state_is_replaced_only_by_who_knows_it(database: Database) -> None:
    states = database.states
    assert states.read("x") == (0, {})
    assert states.replace("x", 0, {"a": 1})
    assert not states.replace("x", 0, {"a": 2})
    assert states.replace("x", 1, {"a": 0.1})
    assert not states.replace("x", 1, {"a": 4})
    assert states.read("x") == (2, {"a": 0.1})
