"""The zero-shot benchmark gives a forecaster the past and nothing else, keeps its parts apart, and scores by hand."""

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

from models.artifact import pack
from models.config import QUANTILE_LEVELS, ModelConfig
from models.network.baselines import SeasonalNaive
from models.presets import NAIVE
from models.pretrained import read_pretrained
from models.pretraining.windows import read_real
from pipeline.records import Floats
from tests.bench import zero_shot, zero_shot_own, zero_shot_peers, zero_shot_sources, zero_shot_tasks, zero_shot_tuned
from tests.bench.forecasters import Failed
from tests.bench.zero_shot_peers import Answer
from tests.bench.zero_shot_sources import CHOOSING, PART, REPORTED, SOURCES, Source
from tests.bench.zero_shot_tasks import FOLDER, KINDS, LEAST, PLANS, Plan, Task, load_tasks, training_series

needs_data = pytest.mark.skipif(not FOLDER.exists(), reason=f"the public data sets are not at {FOLDER}")


def make_task(*values: Floats, horizon: int = 4, backs: tuple[int, ...] = (8, 4)) -> Task:
    windows = tuple((row, len(each) - back) for row, each in enumerate(values) for back in backs)
    return Task("made", "made", CHOOSING, "1h", 3, horizon, len(backs), values, windows, 0)


def stamped(values: Floats, start: str, frequency: str, series: str = "s") -> pd.DataFrame:
    times = pd.date_range(start, periods=len(values), freq=frequency, unit="us")
    return pd.DataFrame({"series": series, "time": times, "value": values})


def lay_out(frame: pd.DataFrame, own: str, coarse: str) -> zero_shot_sources.Laid:
    return zero_shot_sources.lay_out(frame, Source(CHOOSING, own, lambda _: frame), coarse)


# The parts.


def test_each_part_has_tasks_of_every_frequency_one_series_and_panels() -> None:
    parts = {part: [plan for plan in PLANS.values() if PART[plan.source] == part] for part in (CHOOSING, REPORTED)}
    usual = {"5min", "30min", "1h", "1D", "W-MON", "MS", "QS"}
    assert len(PLANS) >= 25
    assert len(parts[REPORTED]) >= 14
    assert [usual - {plan.frequency for plan in plans} for plans in parts.values()] == [set(), set()]
    assert {plan.frequency for plan in PLANS.values()} <= set(KINDS)
    assert PART["M4-Hourly"] == PART["ETTh1"] == REPORTED
    assert {plan.source for plan in PLANS.values()} == set(PART)


@needs_data
def test_no_file_belongs_to_two_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    read = pd.read_csv
    files: dict[str, set[str]] = {}
    for name, source in SOURCES.items():
        found = files.setdefault(name, set())
        monkeypatch.setattr(pd, "read_csv", lambda path, found=found, **how: found.add(path.name) or read(path, **how))
        source.read(FOLDER)
    every = [file for found in files.values() for file in found]
    assert len(every) == len(set(every))
    assert files["bike-sharing"] == {"bike_sharing_dataset_clean.csv", "intermittent_demand.csv"}


@needs_data
def test_every_history_has_enough_observed_points_and_every_window_something_to_score() -> None:
    for task in load_tasks(FOLDER).values():
        assert min(np.isfinite(history).sum() for history in task.histories()) >= LEAST, task.name
        assert np.isfinite(task.targets()).any(axis=1).all(), task.name
        assert task.targets().shape == (len(task.windows), task.horizon), task.name
        assert np.isfinite(task.scales()).any(), task.name


@needs_data
def test_seasonal_naive_has_its_published_score_on_m4_hourly() -> None:
    task = load_tasks(FOLDER)["m4-hourly"]
    quantiles = zero_shot_own.predict_naive(task.histories(), task.season, task.frequency, task.horizon)
    answer = Answer({task.name: quantiles})
    assert zero_shot.rate(task, {"naive": answer})["naive"]["mase"] == pytest.approx(1.193, abs=5e-4)


def test_the_reported_part_is_no_training_data() -> None:
    with pytest.raises(ValueError, match="only reported, never trained on"):
        training_series(REPORTED)


def test_training_series_end_before_any_task_of_their_source_forecasts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hours = np.arange(30 * 24.0)
    source = Source(CHOOSING, "1h", lambda _: stamped(hours, "2026-01-01", "h"))
    plans = {"hours": Plan("made", "1h", 24, 2), "days": Plan("made", "1D", 5, 2)}
    monkeypatch.setattr(zero_shot_tasks, "SOURCES", {"made": source})
    monkeypatch.setattr(zero_shot_tasks, "PART", {"made": CHOOSING})
    monkeypatch.setattr(zero_shot_tasks, "PLANS", plans)
    held_back = {frequency: values for _, frequency, _, values in training_series(folder=tmp_path)}
    assert held_back["1h"].tolist() == hours[: 20 * 24].tolist()  # the days forecast the last ten
    assert held_back["1D"].tolist() == [24 * day + 11.5 for day in range(20)]
    whole = {frequency: values for _, frequency, _, values in training_series(folder=tmp_path, held_back=False)}
    assert [len(whole["1h"]), len(whole["1D"])] == [30 * 24, 30]
    assert [season for _, _, season, _ in training_series(folder=tmp_path)] == [24, 7]


# The grid.


def test_of_two_rows_of_a_step_the_last_counts_and_a_missing_step_is_a_gap() -> None:
    frame = stamped(np.array([1.0, 2.0, 3.0, 4.0]), "2026-01-01", "10min").drop(index=3)
    later = stamped(np.array([5.0]), "2026-01-01 01:05", "h")
    (values,) = lay_out(pd.concat([frame, later]), "30min", "30min").values
    assert values.tolist() == pytest.approx([3.0, np.nan, 5.0], nan_ok=True)


def test_a_coarse_step_is_the_mean_of_its_observed_steps_or_a_gap_with_too_few() -> None:
    values = np.arange(96.0)
    values[24 + 3] = np.nan  # one hour of the second day
    values[48 : 48 + 10] = np.nan  # ten of the third: 14 of 24 are less than two thirds
    (days,) = lay_out(stamped(values, "2026-01-01", "h"), "1h", "1D").values
    assert days[0] == 11.5
    assert days[1] == pytest.approx((np.arange(24, 48).sum() - 27) / 23)
    assert np.isnan(days[2])
    assert days[3] == 83.5


def test_a_series_spans_its_own_first_to_last_observed_step() -> None:
    frame = pd.concat(
        [stamped(np.arange(6.0), "2026-01-01", "h", "long"), stamped(np.arange(2.0), "2026-01-01 02:00", "h", "short")]
    )
    laid = lay_out(frame, "1h", "1h")
    assert [values.tolist() for values in laid.values] == [[0, 1, 2, 3, 4, 5], [0, 1]]
    assert [len(times) for times in laid.times] == [7, 3]


# What a forecaster sees.


def test_a_history_ends_at_its_origin_and_the_target_begins_there() -> None:
    task = make_task(np.arange(20.0), np.arange(100.0, 130.0))
    assert [history[-1] for history in task.histories()] == [11, 15, 121, 125]
    assert task.targets()[:, 0].tolist() == [12, 16, 122, 126]
    assert all(history.base is None for history in task.histories())  # nothing lies behind it in memory


def test_what_comes_after_an_origin_changes_no_forecast() -> None:
    values = np.random.default_rng(0).normal(10.0, 1.0, 40)
    poisoned = np.where(np.arange(40) >= 32, 1e9, values)
    first = [make_task(each, backs=(8,)).histories() for each in (values, poisoned)]
    clean, dirty = (zero_shot_own.predict_naive(each, 3, "1h", 4) for each in first)
    assert np.array_equal(clean, dirty)


# Scores.


def test_a_perfect_forecast_scores_0_and_covers_all() -> None:
    task = make_task(np.arange(40.0) ** 1.5)
    perfect = np.repeat(task.targets()[..., None], len(QUANTILE_LEVELS), axis=-1)
    scores = zero_shot.rate(task, {"oracle": Answer({"made": perfect})})["oracle"]
    assert scores == {"mase": 0, "wql": 0, "coverage_80": 1, "coverage_95": 1, "width_80": 0, "wql_9": 0}


def test_a_window_without_a_scale_is_left_out_of_mase_and_no_other_score() -> None:
    task = make_task(np.arange(40.0), np.concatenate([np.full(32, 7.0), np.full(8, 8.0)]), backs=(8,))
    late = np.repeat((task.targets() - 3.0)[..., None], len(QUANTILE_LEVELS), axis=-1)
    scores = zero_shot.rate(task, {"late": Answer({"made": late})})["late"]
    assert task.scales().tolist() == [3, 0]
    assert scores["mase"] == 1.0
    assert scores["wql"] == pytest.approx(
        np.mean([2 * 3.0 * level * 8 for level in QUANTILE_LEVELS]) / (32 + 33 + 34 + 35 + 32)
    )


def test_a_forecaster_is_compared_where_both_forecast() -> None:
    both = {"mase": 2.0, "wql": 1.0, "wql_9": 1.0}
    scores = {
        "a": {"x": both, "y": {"mase": 1.0, "wql": 2.0, "wql_9": 1.0}},
        "b": {"x": both, "y": {"mase": 4.0, "wql": 2.0, "wql_9": 1.0}},
        "c": {"x": both},
    }
    found = zero_shot.compare("x", "y", scores)
    assert found["tasks"] == 2
    assert found["mase"] == pytest.approx(1.0)  # of 2 and 1/2
    assert (found["mase_better"], found["wql_better"], found["wql_9_better"]) == (0.5, 1.0, 0.0)
    assert (found["mase_worst"], found["wql_worst"]) == (2.0, 0.5)
    assert zero_shot.compare("y", "z", scores) == {"tasks": 0}


def test_a_fit_on_a_task_learns_what_was_known_at_its_first_origins_and_no_more() -> None:
    wave = 50.0 + np.sin(np.arange(160.0)) + np.random.default_rng(0).standard_normal(160) / 4
    task = make_task(wave, horizon=4, backs=(40, 20))
    later = make_task(np.concatenate([wave[:120], np.full(40, 1e3)]), horizon=4, backs=(40, 20))
    states = [zero_shot_tuned.tune(each, None)[0].state_dict() for each in (task, later)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert [len(values) for values in zero_shot_tuned.learnable(task)] == [120]


def test_a_task_without_enough_history_is_forecast_as_without_a_fit() -> None:
    long, short = np.sin(np.arange(160.0)), np.sin(np.arange(12.0))
    answer = zero_shot_tuned.answer_tuned("tuned", [make_task(long), replace(make_task(short), name="short")], None)
    assert set(answer.fits) == {"made"}
    assert answer.fits["made"]["share"] in {0.0, 0.1, 0.25, 0.5, 1.0}
    histories = make_task(short).histories()
    assert np.array_equal(answer.quantiles["short"], zero_shot_own.predict_own(None, histories, 3, "1h", 4))


def test_forecasts_that_are_not_finite_are_refused_not_left_out() -> None:
    task = make_task(np.arange(40.0))
    quantiles = np.zeros((2, 4, len(QUANTILE_LEVELS)))
    quantiles[0, 0, 0] = np.nan
    with pytest.raises(Failed, match="1 of 104 quantiles are not finite"):
        zero_shot_peers.check("some", task, quantiles)
    with pytest.raises(Failed, match="shape"):
        zero_shot_peers.check("some", task, quantiles[:1])


# Ours and peers.


def test_an_artifact_forecasts_windows_of_its_season_and_refuses_others(tmp_path: Path) -> None:
    model = SeasonalNaive(
        ModelConfig(kind=NAIVE, context_length=16, segment=1, horizon=8, season=4, non_negative="auto")
    )
    path = tmp_path / "model.safetensors"
    path.write_bytes(pack(model, series=[], provenance={}))
    windows = [np.arange(12.0) % 4, np.array([np.nan, 4.0, 5.0, 6.0, 7.0, np.nan])]
    artifact = zero_shot_own.own(path)
    found = zero_shot_own.predict_own(artifact, windows, 4, "QS", 6)
    assert found.shape == (2, 6, 13)
    assert np.allclose(found, zero_shot_own.predict_naive(windows, 4, "QS", 6))
    with pytest.raises(ValueError, match="season 4, not 6 of season 24"):
        zero_shot_own.predict_own(artifact, windows, 24, "1h", 6)


def test_the_network_of_the_wheel_forecasts_every_season_and_horizon() -> None:
    windows = [np.arange(40.0) % 4, np.where(np.arange(30) % 5, np.arange(30.0), np.nan)]
    for season, frequency, horizon in ((4, "QS", 6), (24, "1h", 48)):
        found = zero_shot_own.predict_own(None, windows, season, frequency, horizon)
        assert found.shape == (2, horizon, 13)
        assert np.isfinite(found).all()
        wheel = zero_shot_own.predict_own(read_pretrained(), windows, season, frequency, horizon)
        assert np.array_equal(found, wheel)


@needs_data
def test_what_is_trained_on_is_written_by_season_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "real.npz"
    count = zero_shot_tasks.write_training_series(file)
    series = training_series()
    assert count == len(series)
    found = read_real(file)
    assert sum(len(values) for *_, values in series) <= sum(len(each) for group in found.values() for each in group)
    assert set(found) >= {season for _, _, season, _ in series}


def test_a_peer_is_asked_once_for_the_same_histories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def ask(name: str, tasks: list[Task]) -> Answer:
        asked.append([task.source for task in tasks])
        said = {task.name: np.full((2, 4, 13), 7.0) for task in tasks if task.season == 3}
        return Answer(said, {task.name: "too long" for task in tasks if task.name not in said}, {}, {"single_ms": 1.0})

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(zero_shot_peers, "_ask", ask)
    first = make_task(np.arange(20.0))
    changed = replace(make_task(np.arange(20.0) + 1.0), source="changed")
    refused = replace(first, name="refused", source="refused", season=5)
    for tasks in ([first, refused], [first, refused], [changed, refused]):
        found = zero_shot_peers.ask_peer("fracast", tasks)
        assert (found.quantiles["made"] == 7.0).all()
        assert found.left_out == {"refused": "too long"}
        assert found.speed == {"single_ms": 1.0}
    zero_shot_peers.ask_peer("fracast", [first], fresh=True)
    assert asked == [["made", "refused"], [], ["changed"], ["made"]]


def test_a_forecaster_that_cannot_forecast_a_task_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(zero_shot.SPEED, "rounds", 1)

    def forecast(windows: Sequence[Floats], season: int, frequency: str, horizon: int) -> Floats:
        if season != 3:
            raise ValueError(f"no season {season}")
        return np.zeros((len(windows), horizon, len(QUANTILE_LEVELS)))

    task = make_task(np.arange(20.0))
    found = zero_shot.answer("ours", [task, replace(task, name="other", season=4)], forecast)
    assert list(found.quantiles) == ["made"]
    assert found.left_out == {"other": "no season 4"}
    assert found.speed == {}


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The peers' script, which lies beside what it imports."""
    monkeypatch.syspath_prepend(str(Path(zero_shot.__file__).parent))
    return importlib.import_module("peer_zero_shot")


def test_tails_of_a_peer_are_those_of_a_normal_distribution(peer: ModuleType) -> None:
    normal = NormalDist(5.0, 2.0)
    own = np.array([[[normal.inv_cdf(level) for level in peer.FRACAST_LEVELS]]])
    found = peer.extend(own, QUANTILE_LEVELS)
    assert found.shape == (1, 1, 13)
    assert found.ravel() == pytest.approx([normal.inv_cdf(level) for level in QUANTILE_LEVELS])


def test_gaps_are_straight_lines_for_models_that_know_none(peer: ModuleType) -> None:
    assert peer.fill(np.array([1.0, np.nan, 3.0, np.nan])).tolist() == [1, 2, 3, 3]


def test_a_peer_says_why_it_leaves_a_task_out(peer: ModuleType) -> None:
    assert peer.why_not("AutoETS", {"season": 288}, 5) == "season 288 is over 24"
    assert peer.why_not("AutoETS", {"season": 24}, 500) == "500 windows are over 120"
    assert not peer.why_not("AutoETS", {"season": 24}, 5)
    assert not peer.why_not("fracast", {"season": 288}, 500)
