"""The views on a data set that is small enough to work out by hand, the same on both databases."""

import math
from typing import Any

import numpy as np
import pytest

from models.config import QUANTILE_LEVELS
from pipeline.database import Database
from pipeline.records import Claim, Forecasts
from tests.contracts.rows import HOUR, NOW, START, observations, turn_of, wide_observations

DAY = "2026-01-01"


def one(series: str, series_id: int, origin: int, quantiles: list[list[float]], **changes: Any) -> Forecasts:
    """A forecast that starts at START + origin hours; quantiles (H, 13)."""
    horizon = len(quantiles)
    return Forecasts(
        series=[series],
        series_id=np.array([series_id]),
        origin=np.array([START + HOUR * origin]),
        target_times=(START + HOUR * (origin + np.arange(1, horizon + 1)))[None],
        quantiles=np.array([quantiles]),
        model_version=np.array([changes.get("version", 1)]),
        calibration=np.array([changes.get("calibration", 0)]),
        quality=["ok"],
        issued_at=np.array([NOW + changes.get("issued", 0)]),
        partition=np.array([0]),
        offset=np.array([changes.get("offset", 0)]),
    )


def around(median: float) -> list[float]:
    """Thirteen quantiles, one unit apart, around a median."""
    return [median + place - 6 for place in range(13)]


@pytest.fixture
def filled(database: Database) -> Database:
    """Series `a` is 0 1 2 3 10 5 - 7 at hours 0 to 7 (6 is an explicit null); season 2; two forecasts overlap."""
    database.registry.describe_baseline({"kind": "seasonal_naive"}, season=2, step_seconds=3600.0)
    store = database.store("meters", "last", lambda: NOW)
    claim = store.claim(0, "me")
    a = int(store.recent(["a", "silent"], 1).series_id[0])
    values = [0.0, 1.0, 2.0, 3.0, 10.0, 5.0, None, 7.0]
    cells = [(a, START + HOUR * hour, value, int(value is not None), hour, True) for hour, value in enumerate(values)]
    store.commit(turn_of(claim, 8, observations=observations(cells)))
    turns = [
        one("a", a, 2, [around(3.0), around(7.0), around(20.0)], offset=8, calibration=4),  # targets 3 4 5
        one("a", a, 3, [around(9.0), around(6.0), around(0.0)], offset=9, issued=1),  # targets 4 5 6
        one("a", a, 3, [around(1.0), around(1.0), around(1.0)], offset=10, issued=0, version=2),
    ]
    for stop, new in enumerate(turns, 9):
        store.commit(turn_of(Claim(0, claim.epoch, stop - 1), stop, forecasts=new))
    return database


def refresh(database: Database) -> None:
    """What the job `monitor` does."""
    list(database.evaluations.refresh(NOW, margin=60.0, group=None))


def pinball(quantiles: list[float], actual: float) -> float:
    losses = [
        (actual - value) * level if actual >= value else (value - actual) * (1 - level)
        for value, level in zip(quantiles, QUANTILE_LEVELS, strict=True)
    ]
    return sum(losses) / len(losses)


def test_latest_forecasts_has_the_newest_of_each_target(filled: Database) -> None:
    rows = filled.reader.query("SELECT * FROM latest_forecasts ORDER BY target_time")
    assert [(row["target_time"], row["step"], row["model_version"], row["q50"]) for row in rows] == [
        (f"{DAY} 03:00:00", 1, 1, 3.0),
        (f"{DAY} 04:00:00", 1, 1, 9.0),
        (f"{DAY} 05:00:00", 2, 1, 6.0),
        (f"{DAY} 06:00:00", 3, 1, 0.0),
    ]


def test_current_forecast_is_the_whole_newest_horizon(filled: Database) -> None:
    rows = filled.reader.forecasts_latest("a")
    assert [(row["origin"], row["step"], row["q025"], row["q975"]) for row in rows] == [
        (f"{DAY} 03:00:00", 1, 3.0, 15.0),
        (f"{DAY} 03:00:00", 2, 0.0, 12.0),
        (f"{DAY} 03:00:00", 3, -6.0, 6.0),
    ]
    assert filled.reader.forecasts_latest() == rows
    assert filled.reader.forecasts_latest("silent") == []


def test_as_of_knows_only_what_had_been_issued(filled: Database) -> None:
    def seen(at: int) -> list[tuple[int, float]]:
        return [(row["model_version"], row["q50"]) for row in filled.reader.forecasts_as_of(at, "a")]

    assert seen(NOW - 1) == []
    assert seen(NOW) == [(2, 1.0), (2, 1.0), (2, 1.0)]
    assert seen(NOW + 1) == [(1, 9.0), (1, 6.0), (1, 0.0)]


def test_forecast_vs_actual_joins_the_matured_and_the_naive(filled: Database) -> None:
    rows = filled.reader.query("SELECT * FROM forecast_vs_actual WHERE model_version = 1 ORDER BY origin, step")
    # step 3 of season 2 looks back two seasons: the value one season before was not known at the origin
    assert [(row["actual"], row["naive"], row["error"], row["inside_80"], row["inside_95"]) for row in rows] == [
        (3.0, 1.0, 0.0, 1, 1),
        (10.0, 2.0, -3.0, 1, 1),
        (5.0, 1.0, 15.0, 0, 0),
        (10.0, 2.0, -1.0, 1, 1),
        (5.0, 3.0, 1.0, 1, 1),
    ]
    expected = [pinball(around(m), y) for m, y in [(3, 3), (7, 10), (20, 5), (9, 10), (6, 5)]]
    assert [row["pinball"] for row in rows] == pytest.approx(expected)
    assert {row["day"] for row in rows} == {DAY}


def test_the_scale_is_the_mean_seasonal_difference_of_observed_pairs(filled: Database) -> None:
    rows = filled.reader.query("SELECT * FROM seasonal_scale")
    assert [(row["pairs"], row["scale"]) for row in rows] == [(5, pytest.approx((2 + 2 + 8 + 2 + 2) / 5))]


def test_accuracy_by_horizon_and_day_is_what_one_computes_by_hand(filled: Database) -> None:
    refresh(filled)
    rows = [row for row in filled.reader.accuracy() if row["model_version"] == 1]
    assert [(row["horizon_from"], row["horizon_to"], row["n"], row["day"]) for row in rows] == [
        (1, 1, 2, DAY),
        (2, 6, 3, DAY),
    ]
    assert {row["series_group"] for row in rows} == {"all"}
    first, rest = rows
    assert (first["mae"], first["bias"], first["coverage_80"]) == (0.5, -0.5, 1.0)
    assert first["rmse"] == pytest.approx(math.sqrt(0.5))
    assert first["mase"] is None  # nothing was known before this first day
    assert first["skill"] == pytest.approx(1 - 1 / 10)
    assert rest["mae"] == pytest.approx((3 + 15 + 1) / 3)
    assert rest["skill"] == pytest.approx(1 - 19 / 14)
    assert rest["coverage_95"] == pytest.approx(2 / 3)
    losses = [pinball(around(m), y) for m, y in [(7, 10), (20, 5), (6, 5)]]
    assert rest["wql"] == pytest.approx(2 * sum(losses) / 20)


def test_without_a_grid_there_is_no_evidence_rather_than_zero(database: Database) -> None:
    store = database.store("meters", "last", lambda: NOW)
    claim = store.claim(0, "me")
    a = int(store.recent(["a"], 1).series_id[0])
    cells = [(a, START + HOUR * hour, 1.0, 1, hour, True) for hour in range(4)]
    new = one("a", a, 2, [around(3.0)])
    store.commit(turn_of(claim, 8, observations=observations(cells), forecasts=new))
    refresh(database)
    (row,) = database.reader.accuracy()
    assert (row["n"], row["mae"], row["mase"], row["skill"]) == (1, 2.0, None, None)


def test_monthly_grids_find_the_same_month_of_the_year_before(database: Database) -> None:
    database.registry.describe_baseline({}, season=12, step_seconds=365.2425 * 86400 / 12)
    months = np.arange("2022-01", "2026-01", dtype="datetime64[M]")
    times = months.astype("datetime64[us]").astype(np.int64)
    store = database.store("shops", "last", lambda: NOW)
    claim = store.claim(0, "me")
    a = int(store.recent(["a"], 1).series_id[0])
    cells = [(a, int(time), float(month), 1, month, True) for month, time in enumerate(times)]
    store.commit(turn_of(claim, 48, observations=observations(cells)))
    rows = database.reader.query("SELECT * FROM seasonal_scale")
    assert [(row["pairs"], row["scale"]) for row in rows] == [(36, 12.0)]


def test_the_leaderboard_lists_every_model_with_live_and_backtest_figures(filled: Database) -> None:
    version = filled.registry.register(
        name="gru", config={}, metrics={}, train_from=None, train_to=None, seed=0, code="", artifact=b"x", now=NOW
    )
    filled.registry.promote(version, expected=None, reason="first", now=NOW)
    for mase in (0.9, 0.8):
        filled.registry.record_backtest(
            version=version, compared_to=0, origins=4, mase=mase, wql=0.1, coverage_80=0.8, n=4, now=NOW
        )
    refresh(filled)
    rows = filled.reader.query("SELECT * FROM model_leaderboard ORDER BY model_version")
    assert [(row["name"], row["champion"], row["n"], row["backtest_mase"]) for row in rows] == [
        ("seasonal-naive", 0, 0, None),
        ("gru", 1, 5, 0.8),
    ]
    assert rows[1]["mae"] == pytest.approx((0 + 3 + 15 + 1 + 1) / 5)


def test_series_health_says_what_arrived_and_what_was_forecast(filled: Database) -> None:
    healthy, silent = filled.reader.query("SELECT * FROM series_health ORDER BY series")
    assert (healthy["observations"], healthy["missing"], healthy["events"]) == (8, 1, 7)
    assert (healthy["last_observed_at"], healthy["last_origin"]) == (f"{DAY} 07:00:00", f"{DAY} 03:00:00")
    assert (silent["observations"], silent["last_observed_at"], silent["model_version"]) == (0, None, None)


def test_job_status_shows_the_latest_run_and_the_tally(database: Database) -> None:
    ledger = database.ledger
    for due, outcome in enumerate(["ok", "failed"]):
        run = ledger.begin("retrain", START + HOUR * due, "me", NOW)
        assert run is not None
        ledger.finish(run, outcome, "because", NOW + due)  # type: ignore[arg-type]
    (row,) = database.reader.query("SELECT * FROM job_status")
    assert (row["outcome"], row["runs"], row["ok"], row["not_ok"]) == ("failed", 2, 1, 1)
    assert row["last_ok_at"] == f"{DAY} 00:00:00.123456"


def test_exports_stream_the_same_plain_rows_on_both_databases(filled: Database) -> None:
    rows = list(filled.reader.observations("a", since=START + HOUR * 5, until=START + HOUR * 7))
    assert rows[0] == {
        "series": "a",
        "observed_at": f"{DAY} 05:00:00",
        "value": 5.0,
        "events": 1,
        "source_topic": "meters",
        "source_partition": 0,
        "source_offset": 5,
        "recorded_at": f"{DAY} 00:00:00.123456",
    }
    assert [row["value"] for row in rows] == [5.0, None]
    assert len(list(filled.reader.forecasts())) == 9
    assert list(filled.reader.forecasts("silent")) == []


def test_covariate_values_lists_what_is_known_and_nothing_that_is_missing(database: Database) -> None:
    store = database.store("meters", "last", lambda: NOW, ("wind", "temperature"))
    claim = store.claim(0, "me")
    own = int(store.recent(["a"], 1).series_id[0])
    for number, covariates in enumerate([(1.5, 2.5), (None, 3.5)]):  # the second event of the step lacks wind
        rows = wide_observations([(own, START, 1.0, covariates, number, number == 0)])
        store.commit(turn_of(Claim(0, claim.epoch, number), number + 1, observations=rows))
    assert database.reader.query("SELECT * FROM covariate_values") == [
        {"series": "a", "series_id": own, "observed_at": f"{DAY} 00:00:00", "name": "temperature", "value": 3.5}
    ]


def test_training_history_is_bounded_by_time_and_depth(filled: Database) -> None:
    names, history = filled.reader.training_history(START + HOUR * 3, 3)
    assert names == ["a", "silent"]
    assert history.bounds.tolist() == [0, 3, 3]
    assert history.value.tolist() == [5.0, 0.0, 7.0]
    assert history.observed.tolist() == [True, False, True]
    assert filled.reader.training_history(START + HOUR * 7, 3)[1].value.tolist() == [7.0]


def test_counts_count(filled: Database) -> None:
    assert filled.reader.counts() == {
        "series": 2,
        "observations": 8,
        "events": 7,
        "forecasts": 3,
        "forecast_rows": 9,
        "dead_letters": 0,
    }


def test_every_view_of_forecasts_names_the_calibration(filled: Database) -> None:
    for view, carried in {
        "latest_forecasts": [4, 0, 0, 0],
        "current_forecast": [0, 0, 0],
        "matured_forecasts": [4, 4, 4],
        "forecast_vs_actual": [4, 4, 4],
    }.items():
        rows = filled.reader.query(f"SELECT * FROM {view} WHERE model_version = 1 ORDER BY target_time, origin")
        assert list(rows[0])[-1] == "calibration", "columns are added at the end"
        whole = view in ("latest_forecasts", "current_forecast")
        found = [row["calibration"] for row in rows if whole or row["origin"].endswith("02:00:00")]
        assert found == carried, view
