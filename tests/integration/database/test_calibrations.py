"""Calibrations and what they are found from, the same on both databases."""

import numpy as np
import pytest
from sqlalchemy import update

from jobs.upkeep.calibrate import run_calibration
from pipeline.database import Database
from pipeline.database.schema.tables import packed_forecasts
from pipeline.errors import ConfigError, Corrupt
from pipeline.forecasting.calibration import correct
from pipeline.forecasting.scorer import Scorer
from pipeline.forecasting.windows import Grid, model_config
from pipeline.grid.frequency import Frequency
from pipeline.quantiles import pack, shorten
from pipeline.records import Claim, Forecasts
from pipeline.settings import JobSettings, SeriesSettings, Settings
from tests.contracts.rows import HOUR, NOW, START, observations, turn_of

HORIZON = 3
HOURS = 200
FACTORS = [[1.0 if place == 6 else 2.0 for place in range(13)]] * HORIZON
SETTINGS = Settings(
    series=SeriesSettings(horizon=HORIZON, context=24, season=4), jobs=JobSettings(calibration_window=168)
)


def record(database: Database, model: int = 0, factors: object = FACTORS, now: int = NOW) -> int:
    return database.calibrations.record(
        model, between=(START, START + HOUR), n=7, factors=factors, metrics={"off": 0.1, "left": None}, now=now
    )  # type: ignore[arg-type]


def test_the_newest_calibration_of_a_model_is_found_and_only_if_it_is_newer(database: Database) -> None:
    calibrations = database.calibrations
    assert calibrations.newest(0) is None
    assert [record(database), record(database, now=NOW + 1)] == [1, 2]
    newest = calibrations.newest(0)
    assert newest is not None
    assert (newest.version, newest.model_version, newest.created_at, newest.n) == (2, 0, NOW + 1, 7)
    assert (newest.first, newest.last) == (START, START + HOUR)
    assert newest.factors == FACTORS
    assert newest.metrics == {"off": 0.1, "left": None}
    assert calibrations.newest(0, after=1) == newest
    assert calibrations.newest(0, after=2) is None
    assert calibrations.newest(5) is None
    assert [each.version for each in calibrations.versions(0, [2, 1, 9])] == [2, 1]
    assert calibrations.versions(5, [1]) == calibrations.versions(0, []) == []


def test_a_calibration_needs_a_model(database: Database) -> None:
    with pytest.raises((ConfigError, Corrupt), match=r"(?i)foreign key"):
        record(database, model=9)


def filled(database: Database, hours: int = HOURS) -> dict[str, int]:
    """Two series with noise, forecast every hour by model 0 with intervals half as wide as they should be."""
    store = database.store("meters", "last", lambda: NOW)
    claim = store.claim(0, "me")
    ids = dict(zip("ab", store.recent(["a", "b"], 1).series_id.tolist(), strict=True))
    random = np.random.default_rng(3)
    values = {name: 100.0 + 10.0 * random.standard_normal(hours) for name in ids}
    cells = [
        (series, START + HOUR * hour, None if hour == 50 else float(values[name][hour]), 1, hour, True)
        for name, series in ids.items()
        for hour in range(hours)
    ]
    store.commit(turn_of(claim, 1, observations=observations(cells)))
    spread = np.array([-1.96, -1.645, -1.282, -0.842, -0.524, -0.253, 0.0, 0.253, 0.524, 0.842, 1.282, 1.645, 1.96])
    origins = np.arange(hours)
    for stop, (name, series) in enumerate(ids.items(), 2):
        made = Forecasts(
            series=[name] * hours,
            series_id=np.full(hours, series),
            origin=START + HOUR * origins,
            target_times=START + HOUR * (origins[:, None] + np.arange(1, HORIZON + 1)),
            quantiles=np.tile(100.0 + 5.0 * spread, (hours, HORIZON, 1)),
            model_version=np.zeros(hours, np.int64),
            calibration=np.zeros(hours, np.int64),
            quality=["fallback"] * hours,
            issued_at=np.full(hours, NOW),
            partition=np.zeros(hours, np.int64),
            offset=np.full(hours, stop - 2),
        )
        store.commit(turn_of(Claim(0, claim.epoch, stop - 1), stop, forecasts=made))
    return ids


def test_what_has_matured_is_read_for_the_series_and_targets_that_are_asked_for(database: Database) -> None:
    ids = filled(database, hours=60)
    calibrations = database.calibrations
    assert calibrations.series().tolist() == sorted(ids.values())
    assert calibrations.newest_observation(calibrations.series()) == START + 59 * HOUR
    assert calibrations.newest_observation(np.array([999])) is None
    wanted = START + HOUR * np.array([49, 50, 51, 60])
    found = calibrations.matured(0, calibrations.series()[:1], wanted)
    assert set(found.series_id.tolist()) == {min(ids.values())}
    assert sorted(zip(((found.target_time - START) // HOUR).tolist(), found.step.tolist(), strict=True)) == [
        (hour, step) for hour in (49, 51) for step in (1, 2, 3)
    ], "not hour 50, which is a null, nor hour 60, which is to come"
    assert found.quantiles.shape == (6, 13)
    assert len(set(found.actual.tolist())) == 2
    assert len(calibrations.matured(1, calibrations.series(), wanted)) == 0
    assert len(calibrations.matured(0, np.empty(0, np.int64), wanted)) == 0


def test_the_job_widens_what_was_too_narrow_and_then_keeps_it(database: Database) -> None:
    filled(database)
    outcome = run_calibration(database.calibrations, database.registry, SETTINGS, now=NOW, on_stage=lambda stage: None)
    assert (outcome.ending, outcome.facts["calibration"]) == ("ok", 1)
    stored = database.calibrations.newest(0)
    assert stored is not None
    assert stored.n == outcome.facts["n"] == 2 * 3 * 167
    assert (stored.first, stored.last) == (START + 32 * HOUR, START + 199 * HOUR)
    tails = np.array(stored.factors)[:, [0, 1, 2, 10, 11, 12]]
    assert 1.6 < tails.mean() < 2.4
    again = run_calibration(database.calibrations, database.registry, SETTINGS, now=NOW, on_stage=lambda stage: None)
    assert again.reason == "calibration 1 kept for model 0: nothing has matured that would change it"


def test_the_job_takes_out_what_a_stored_forecast_carries(database: Database) -> None:
    filled(database)
    run = {"now": NOW, "on_stage": lambda stage: None}
    run_calibration(database.calibrations, database.registry, SETTINGS, **run)
    plain = database.calibrations.newest(0)
    assert plain is not None
    carried = record(database)
    matured = database.calibrations.matured(0, database.calibrations.series(), START + HOUR * np.arange(HOURS))
    numbers = np.tile(shorten(correct(matured.quantiles[:1], np.array(FACTORS[0]))[:, None]), (1, HORIZON, 1))
    (packed,) = pack(numbers)
    changed = {
        "calibration": carried,
        "base": int(packed.base[0]),
        "scale": float(packed.scale[0]),
        "width": packed.width,
        "quantiles": packed.digits[0].tobytes(),
    }
    with database.engine.begin() as connection:
        connection.execute(update(packed_forecasts).values(changed))
    outcome = run_calibration(database.calibrations, database.registry, SETTINGS, **run)
    assert outcome.facts["trials"]["uncorrected"]["coverage_80"] < 0.6, "as the model itself said"
    assert 0.7 < outcome.facts["trials"]["in_use"]["coverage_80"] < 0.9


def test_a_database_without_anything_is_no_failure(database: Database) -> None:
    outcome = run_calibration(database.calibrations, database.registry, SETTINGS, now=NOW, on_stage=lambda stage: None)
    assert outcome.reason == "no calibration kept for model 0: 0 forecast steps have matured, 100 are needed"
    assert outcome.ending == "ok"


def test_the_scorer_takes_what_the_job_stored_and_leaves_what_cannot_be_right(database: Database) -> None:
    hours = Frequency("1h")
    scorer = Scorer(
        database.registry, database.calibrations, Grid(hours, SETTINGS.series), model_config(SETTINGS, hours, 0)
    )
    scorer.refresh(0)
    assert scorer.calibration == 0
    filled(database)
    run_calibration(database.calibrations, database.registry, SETTINGS, now=NOW, on_stage=lambda stage: None)
    scorer.refresh(5_000_000)
    assert scorer.calibration == 1
    record(database, factors=[[1.0] * 13])
    scorer.refresh(10_000_000)
    assert scorer.calibration == 1, "one of another horizon"
