"""A small world for the page: series with a known signal, forecasts of three models, jobs and dead letters, in SQL.

Everything goes in through the adapters that the product uses: the worker's store, the registry, the ledger and the sums
that the job monitor keeps. One turn is one hour; `arrive` is the next one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist

import numpy as np

from models.config import QUANTILE_LEVELS
from pipeline.database import Database, SqlStore, open_database, upgrade
from pipeline.records import (
    Advance,
    Claim,
    DeadLetter,
    Floats,
    Forecasts,
    Observations,
    Quality,
    Turn,
    no_forecasts,
    no_observations,
)

HOUR = 3_600_000_000
DAY = 24 * HOUR
HORIZON = 48
MARKUP = '<img src=x onerror="document.title=1">&amp;<b>bold</b>'
TOPIC = "observations"
Z = np.array([NormalDist().inv_cdf(level) for level in QUANTILE_LEVELS])


@dataclass
class World:
    """`hours` of observations that end `spare` hours before `now`, and forecasts from the last `issued` of them."""

    folder: Path
    now: int
    series: int = 24
    hours: int = 21 * 24
    issued: int = 96
    spare: int = 8
    names: list[str] = field(default_factory=list)
    url: str = ""
    failing: bool = True
    """Whether a job has failed and a message could not be read."""
    database: Database = field(init=False)
    time: int = field(init=False)
    """The clock of everything that is stored."""

    def __post_init__(self) -> None:
        self.names = self.names or [f"site-{1 + i // 6:02d}/meter-{1 + i % 6}" for i in range(self.series)]
        self.series = len(self.names)
        self.end = self.now // HOUR * HOUR - self.spare * HOUR
        self.start = self.end - self.hours * HOUR
        self.time = self.start
        self.url = self.url or f"sqlite:///{self.folder}/world.db"
        upgrade(self.url)
        self.database = open_database(self.url, timeout=20.0)
        self.store: SqlStore = self.database.store(TOPIC, "last", lambda: self.time)
        self.offset = 0
        self.claim: Claim = self.store.claim(0, "worker-0:4711")
        self.ids = self.store.recent(self.names, 1).series_id
        self.random = np.random.default_rng(0)
        self.level = self.random.uniform(20, 400, self.series)

    def signal(self, at: int) -> Floats:
        """What a perfect forecaster would say of every series at a time, (N,)."""
        hour, day = at / HOUR % 24, at // DAY % 7
        daily = np.sin(2 * np.pi * (hour - 9 + np.arange(self.series) % 5) / 24) + 0.4 * np.sin(4 * np.pi * hour / 24)
        return self.level * (1 + 0.28 * daily - 0.12 * (day in {2, 3}))

    def fill(self) -> None:
        """Store all hours up to `end`, with forecasts from the last `issued` of them."""
        self._hours(range(self.start, self.end - self.issued * HOUR, HOUR))
        versions = self._register()
        quarter = self.issued // 8
        for place in range(self.issued):
            self.time = self.end - (self.issued - 1 - place) * HOUR + 2_400_000
            if place in (quarter, 3 * quarter, 5 * quarter):
                self._promote(versions[(quarter, 3 * quarter, 5 * quarter).index(place)])
            self._turn(self.time // HOUR * HOUR, self.champion)
        if self.failing:
            self._dead_letters()
        self.evaluate()
        self._jobs()

    def arrive(self) -> int:
        """The next hour of every series: observations and new forecasts in one turn; returns the hour."""
        self.end += HOUR
        self.time = max(self.now, self.end) + 1_000_000
        self._turn(self.end, self.champion)
        return self.end

    def evaluate(self) -> None:
        """What the job monitor does."""
        for _ in self.database.evaluations.refresh(self.now, margin=0.0, group=None):
            pass

    @property
    def champion(self) -> int:
        return self.database.registry.champion() or 0

    def _hours(self, times: Sequence[int]) -> None:
        values = np.stack([self._values(at) for at in times])  # (T, N)
        self._commit(self._observations(np.array(times), values), no_forecasts(HORIZON))

    def _values(self, at: int) -> Floats:
        return self.signal(at) * (1 + 0.05 * self.random.standard_normal(self.series))

    def _turn(self, at: int, version: int) -> None:
        self._commit(self._observations(np.array([at]), self._values(at)[None]), self._forecasts(at, version))

    def _observations(self, times: np.ndarray, values: Floats) -> Observations:
        n, hours = self.series, len(times)
        ones = np.ones(n * hours, np.int64)
        return Observations(
            series_id=np.tile(self.ids, hours),
            observed_at=np.repeat(times, n),
            value=np.round(values.ravel(), 2),
            observed=ones > 0,
            events=ones,
            partition=0 * ones,
            offset=self.offset + np.arange(n * hours),
            fresh=ones > 0,
            covariates=np.empty((n * hours, 0)),
            covariate_events=np.empty((n * hours, 0), np.int64),
        )

    def _forecasts(self, origin: int, version: int) -> Forecasts:
        """Quantiles around the signal; the older the model, the farther off."""
        n = self.series
        targets = origin + HOUR * np.arange(1, HORIZON + 1)
        bias = {0: 0.10, 1: 0.06, 2: 0.035, 3: 0.015}.get(version, 0.01)
        wander = np.cumsum(self.random.standard_normal((HORIZON, n)), axis=0) * bias / 6
        median = np.stack([self.signal(int(at)) for at in targets]) * (1 + wander)  # (H, N)
        spread = self.level * (0.045 + 0.0006 * np.arange(HORIZON)[:, None]) * (1 if version > 2 else 0.8)
        quantiles = median[:, :, None] + spread[:, :, None] * Z  # (H, N, Q)
        quality: list[Quality] = ["fallback" if version == 0 else "ok"] * n
        if n > 3 and version:
            quality[3] = "degraded"
        return Forecasts(
            series=self.names,
            series_id=self.ids,
            origin=np.full(n, origin, np.int64),
            target_times=np.tile(targets, (n, 1)),
            quantiles=np.round(quantiles.transpose(1, 0, 2), 4),
            model_version=np.full(n, version, np.int64),
            calibration=np.zeros(n, np.int64),
            quality=quality,
            issued_at=np.full(n, self.time, np.int64),
            partition=np.zeros(n, np.int64),
            offset=self.offset + np.arange(n),
        )

    def _commit(self, new: Observations, forecasts: Forecasts, letters: tuple[DeadLetter, ...] = ()) -> None:
        stop = self.offset + max(1, len(new)) + len(letters)
        self.store.commit(Turn((Advance(0, self.claim.epoch, self.offset, stop),), new, forecasts, letters))
        self.offset = stop

    def _dead_letters(self) -> None:
        bad = [
            (
                b'{"series_id": "site-01/meter-2", "timestamp": "yesterday", "value": 3}',
                "timestamp 'yesterday' is no time",
            ),
            (b'{"series_id": "<script>alert(1)</script>", "value": {}}', "value is not a number"),
            (b"\xff\xfe not json", "not JSON: invalid UTF-8 at byte 0"),
        ]
        letters = tuple(
            DeadLetter(0, self.offset + i, reason, b"site-01/meter-2", value) for i, (value, reason) in enumerate(bad)
        )
        self._commit(no_observations(), no_forecasts(HORIZON), letters)

    def _register(self) -> list[int]:
        """Three models and a challenger that was kept back."""
        registry = self.database.registry
        registry.describe_baseline({"season": 24, "step_seconds": 3600.0}, season=24, step_seconds=3600.0)
        figures = [
            (0.912, 0.061, 0.74, "gain 24.6 % over seasonal naive on 4 origins, 96 % sure"),
            (0.861, 0.057, 0.77, "gain 5.6 % over version 1 on 4 origins, 93 % sure"),
            (0.834, 0.055, 0.79, "gain 3.1 % over version 2 on 4 origins, 95 % sure"),
            (0.836, 0.055, 0.78, "kept as challenger: no gain over version 3 (-0.2 %), 41 % sure"),
        ]
        before = self.end - self.issued * HOUR
        versions = []
        for place, (mase, wql, coverage, words) in enumerate(figures):
            made = before + (place + 1) * self.issued * HOUR // 6
            versions.append(
                registry.register(
                    name="attention-lstm" if place else "gru-gru",
                    config={"season": 24, "step_seconds": 3600.0},
                    metrics={"mase": mase, "wql": wql, "coverage_80": coverage, "verdict": words},
                    train_from=self.start,
                    train_to=made - HOUR,
                    seed=place,
                    code="0.1.0",
                    artifact=b"none",
                    now=made,
                )
            )
        return versions[:3]

    def _promote(self, version: int) -> None:
        registry = self.database.registry
        model = registry.model(version)
        expected = registry.champion()
        assert registry.promote(version, expected=expected, reason=str(model.metrics["verdict"]), now=self.time)

    def _jobs(self) -> None:
        ledger, now = self.database.ledger, self.now
        ended = [
            ("monitor", "ok", "1,152 cells renewed; no drift", 40),
            ("calibrate", "ok", "calibration 7 of version 3 from 2,304 matured steps", 900),
            ("retention", "ok", "nothing to delete", 30_000),
            ("promote", "failed" if self.failing else "ok", "the shadow has no forecasts yet", 1500),
        ]
        for job, outcome, reason, age in ended:
            began = now - age * 1_000_000
            run = ledger.begin(job, began, "scheduler:4712", began)
            assert run is not None
            ledger.finish(run, "ok" if outcome == "ok" else "failed", reason, began + 2_400_000)
        run = ledger.begin("retrain", now - 100_000_000, "scheduler:4712", now - 95_000_000)
        assert run is not None
        stage = {"name": "fitting", "done": 1240, "total": 3000, "words": "loss 0.213, validation 0.221"}
        ledger.heartbeat(run, now, stage)


@contextmanager
def world(folder: Path, now: int, **shape: int | str | list[str]) -> Iterator[World]:
    """A filled world for the length of a block."""
    made = World(folder, now, **shape)  # type: ignore[arg-type]
    try:
        made.fill()
        yield made
    finally:
        made.database.close()
