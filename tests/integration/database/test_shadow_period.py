"""A shadow period from end to end: retrain, worker, monitor and promote over one database, the clock moved."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from jobs.catalog import find_work
from models.artifact import pack
from models.network.forecasters import build
from pipeline.database import Database, open_database
from pipeline.forecasting.scorer import Scorer
from pipeline.forecasting.shadow import ShadowScorer
from pipeline.forecasting.windows import Grid, model_config
from pipeline.grid.frequency import Frequency
from pipeline.health.logs import Phases
from pipeline.messages.codec import Reader
from pipeline.settings import Settings
from pipeline.stream.turn import Parts
from pipeline.stream.worker import Worker
from tests.fakes import Clock, MemoryPublisher, MemorySource, MemoryTopics
from tests.unit.jobs.conftest import TINY
from tests.unit.workers import START, event, run_dry

HOURS = Frequency("1h")
NAMES = tuple(f"meter-{n:02}" for n in range(12))
PAST, LIVE = 160, 48
DAY = 86_400.0


def readings(first: int, last: int) -> list[tuple[bytes, bytes]]:
    """Seasonal series with a trend, which seasonal naive must lag behind."""
    wave = np.array([0.0, 3.0, 1.0, -2.0])
    return [
        event(name, step, 10.0 * (n + 1) + 0.5 * step + float(wave[step % 4]))
        for step in range(first, last)
        for n, name in enumerate(NAMES)
    ]


class Site:
    """A worker and the jobs on one database; `topics` is the broker."""

    def __init__(self, url: str) -> None:
        series = TINY["series"] | {"on": "every_step"}
        jobs = TINY["jobs"] | {"shadow": "4 days", "drift": False}
        self.settings = Settings(series=series, model=TINY["model"], training=TINY["training"], jobs=jobs)  # type: ignore[arg-type]
        self.database = open_database(url, timeout=30)
        self.topics = MemoryTopics(inputs={0: readings(0, PAST)})
        self.clock = Clock(int((START + PAST * 3600) * 1e6))
        self.shape = model_config(self.settings, HOURS, len(NAMES))
        self.database.registry.describe_baseline({}, season=4, step_seconds=3600.0)

    def serve(self) -> None:
        """Let a new worker take what is in the topic."""
        grid = Grid(HOURS, self.settings.series)
        registry = self.database.registry
        parts = Parts(
            source=MemorySource(self.topics, 10_000),
            store=self.database.store("observations", "last", self.clock),
            publisher=MemoryPublisher(self.topics),
            scorer=Scorer(registry, self.database.calibrations, grid, model_config(self.settings, HOURS, 0)),
            reader=Reader(self.settings.input, HOURS),
            grid=grid,
            clock=self.clock,
            timer=self.clock,
            phases=Phases(),
            shadow=ShadowScorer(registry, grid, model_config(self.settings, HOURS, 0)),
            input_topic="input",
        )
        run_dry(Worker(parts, "test", 20_000))

    def crown_a_weak_champion(self) -> int:
        artifact = pack(build(self.shape, seed=1), series=NAMES, provenance={"frequency": "1h"})
        version = self.database.registry.register(
            name="weak",
            config={},
            metrics={},
            train_from=None,
            train_to=None,
            seed=1,
            code="",
            artifact=artifact,
            now=self.clock(),
        )
        assert self.database.registry.promote(version, expected=None, reason="first", now=self.clock())
        return version

    def run(self, job: str) -> tuple[str, Any]:
        outcome = find_work(job, self.settings, self.database, self.clock)(lambda _: None)
        assert outcome.ending == "ok", outcome.reason
        return outcome.reason, outcome.facts


@pytest.fixture
def site(url: str) -> Iterator[Site]:
    made = Site(url)
    yield made
    made.database.close()


def count(database: Database, what: str) -> int:
    return int(database.reader.query(f"SELECT COUNT(*) AS n FROM {what}")[0]["n"])


def test_a_challenger_is_retrained_scores_in_the_shadow_and_is_promoted_by_what_it_forecast_live(site: Site) -> None:
    site.serve()
    weak = site.crown_a_weak_champion()
    reason, facts = site.run("retrain")
    shadow = facts["version"]
    assert reason.startswith(f"version {shadow} is shadow now: gain ")
    assert (site.database.registry.champion(), site.database.registry.shadow()) == (weak, shadow)
    assert count(site.database, "shadow_forecasts") == 0

    site.clock.advance(LIVE * 3600)
    before = len(site.topics.output)
    site.topics.inputs[0] += readings(PAST, PAST + LIVE)
    site.serve()
    assert len(site.topics.output) == before + len(NAMES) * LIVE, "one message per forecast of the champion"
    forecast = f"forecasts WHERE model_version = {weak} AND step = 1"
    assert count(site.database, forecast) == count(site.database, "shadow_forecasts WHERE step = 1")
    assert count(site.database, f"forecasts WHERE model_version = {shadow}") == 0
    site.run("monitor")
    board = {row["model_version"]: row for row in site.database.reader.query("SELECT * FROM model_leaderboard")}
    assert board[shadow]["n"] == board[weak]["n"] > 0
    assert board[shadow]["wql"] < board[weak]["wql"]
    assert "is shadow until" in site.run("promote")[0]

    site.clock.advance(2 * DAY)
    reason, _ = site.run("promote")
    assert reason.startswith(f"version {shadow} promoted after its shadow period: live, gain "), reason
    assert f"over version {weak} on " in reason
    assert "of 12 series" in reason
    assert (site.database.registry.champion(), site.database.registry.shadow()) == (shadow, None)
    site.clock.advance(2 * 3600)
    site.topics.inputs[0] += readings(PAST + LIVE, PAST + LIVE + 2)
    site.serve()
    assert count(site.database, f"forecasts WHERE model_version = {shadow} AND step = 1") == 2 * len(NAMES)
    assert count(site.database, "shadow_forecasts WHERE step = 1") == len(NAMES) * LIVE, "nobody scores twice any more"
