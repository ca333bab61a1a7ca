import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from jobs.retraining.backtest import backtest, find_scales, pick_pairs
from jobs.retraining.training_set import (
    TooLittleHistory,
    TrainingSet,
    cut_training_set,
    keep_newest,
    pick_origins,
    usual_validation,
)
from models.config import QUANTILE_LEVELS, ModelConfig
from models.network.baselines import SeasonalNaive
from models.predict import predict
from pipeline.grid.frequency import Frequency
from pipeline.settings import Settings
from tests.unit.jobs.fakes import HOUR, START, make_history

HOURLY = Frequency("1h")
Make = Callable[..., Settings]


def cut(settings: Settings, **values: np.ndarray) -> TrainingSet:
    names, history = make_history(values)
    return cut_training_set(names, history, settings, HOURLY)


def naive(trained_on: TrainingSet, season: int = 4) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    config = ModelConfig(kind="seasonal_naive", context_length=12, horizon=4, season=season, segment=4)
    return lambda rows, ends: predict(SeasonalNaive(config), trained_on.panel, rows, ends)


def test_an_oracle_scores_exactly_zero_over_the_whole_path(tiny: Make) -> None:
    t = np.arange(61.0)
    trained_on = cut(tiny(), a=t, b=t[:50] + 100.0)
    first_value = torch.tensor([0.0, 100.0])

    def oracle(rows: np.ndarray, ends: np.ndarray) -> np.ndarray:
        path = first_value.numpy()[rows][:, None] + ends[:, None] + np.arange(4)
        return np.repeat(path[:, :, None], len(QUANTILE_LEVELS), axis=2)

    pairs = pick_pairs(trained_on.panel, trained_on.firsts, 4)
    scores = backtest(
        {"oracle": oracle, "naive": naive(trained_on)},
        trained_on.panel,
        pairs,
        horizon=4,
        scale=find_scales(trained_on.known, 4, pairs.rows),
    )
    oracle_score, naive_score = scores["oracle"].score, scores["naive"].score
    assert (oracle_score.wql, oracle_score.mase, oracle_score.sql) == (0.0, 0.0, 0.0)
    assert oracle_score.coverage_80 == 1.0
    assert naive_score.mase == 1.0  # y(t) = t errs by one season at every step, which is its scale
    assert naive_score.steps == oracle_score.steps > 0
    for one in scores.values():  # the losses of the pairs are what the score is made of
        assert one.losses.loss.sum() / one.losses.size.sum() == pytest.approx(one.score.wql)


def test_a_perfect_seasonal_series_gives_seasonal_naive_no_loss(tiny: Make) -> None:
    season = np.tile([1.0, 5.0, 2.0, 8.0], 20)
    season[1] = 6.0  # so that the series has a scale
    trained_on = cut(tiny(), a=season)
    pairs = pick_pairs(trained_on.panel, trained_on.firsts, 4)
    scale = find_scales(trained_on.known, 4, pairs.rows)
    score = backtest({"naive": naive(trained_on)}, trained_on.panel, pairs, horizon=4, scale=scale)["naive"].score
    assert (score.mase, score.wql) == (0.0, 0.0)
    assert (score.origins, score.windows, score.steps) == (3, 3, 12)


def test_scales_are_those_of_the_known_part_only(tiny: Make) -> None:
    values = np.tile([1.0, 2.0, 3.0, 4.0], 20)
    values[4:8] += 1.0
    trained_on = cut(tiny(), a=values, late=np.concatenate([np.full(75, math.nan), np.ones(5)]))
    poisoned = values.copy()
    poisoned[-8:] = 1e6
    assert (
        find_scales(trained_on.known, 4, np.array([0, 1]))[0]
        == find_scales(cut(tiny(), a=poisoned).known, 4, np.array([0]))[0]
        > 0.0
    )
    assert math.isnan(find_scales(trained_on.known, 4, np.array([0, 1]))[1])


def test_every_forecaster_sees_the_same_pairs_and_none_without_a_target(tiny: Make) -> None:
    values = np.arange(64.0)
    gap = values.copy()
    gap[-12:] = math.nan
    trained_on = cut(tiny(), full=values, ended=values[:30], gap=gap)
    pairs = pick_pairs(trained_on.panel, trained_on.firsts, 4)
    assert set(pairs.rows.tolist()) == {0}
    seen = []

    def forecast(rows: np.ndarray, ends: np.ndarray) -> np.ndarray:
        seen.append((rows.tolist(), ends.tolist()))
        return np.zeros((len(rows), 4, len(QUANTILE_LEVELS)))

    backtest({"a": forecast, "b": forecast}, trained_on.panel, pairs, horizon=4, scale=np.ones(3))
    assert seen[0] == seen[1]
    assert [end + START // HOUR for end in seen[0][1]] == pairs.origins.tolist()


def test_targets_without_a_finite_forecast_are_not_counted(tiny: Make) -> None:
    trained_on = cut(tiny(), a=np.arange(64.0))
    pairs = pick_pairs(trained_on.panel, trained_on.firsts, 4)

    def forecast(rows: np.ndarray, ends: np.ndarray) -> np.ndarray:
        quantiles = np.zeros((len(rows), 4, len(QUANTILE_LEVELS)))
        quantiles[0] = math.nan
        return quantiles

    score = backtest({"a": forecast}, trained_on.panel, pairs, horizon=4, scale=np.ones(1))["a"].score
    assert (score.steps, score.windows, score.origins) == (8, 2, 2)


def test_a_large_panel_is_scored_on_evenly_spread_series(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.retraining.backtest.MAX_TARGETS", 3 * 4 * 3)
    trained_on = cut(tiny(), **{f"s{n}": np.arange(64.0) for n in range(9)})
    pairs = pick_pairs(trained_on.panel, trained_on.firsts, 4)
    assert sorted(set(pairs.rows.tolist())) == [0, 4, 8]
    assert len(pairs) == 9


def test_nothing_after_the_cut_is_known_and_the_origins_reach_the_end(tiny: Make) -> None:
    trained_on = cut(tiny(), a=np.arange(64.0), b=np.arange(30.0), new=np.full(64, math.nan))
    first = START // HOUR
    assert trained_on.firsts == (first + 52, first + 56, first + 60)
    assert trained_on.known.length.tolist() == [52, 30, 52]
    assert trained_on.panel.length.tolist() == [64, 30, 64]
    lineage = trained_on.lineage
    assert (lineage.train_from, lineage.train_to, lineage.backtest_to) == (START, START + 51 * HOUR, START + 63 * HOUR)
    assert lineage.rows == 52 + 30 + 52


def test_what_is_older_than_recent_is_context_and_never_learned_from(tiny: Make) -> None:
    names, history = make_history({"a": np.arange(64.0), "ended": np.arange(30.0)})
    trained_on = cut_training_set(names, history, tiny(), HOURLY, recent=20)
    first = START // HOUR
    assert trained_on.firsts == (first + 52, first + 56, first + 60), "the backtest is that of a fit on all of it"
    assert trained_on.panel.length.tolist() == [64, 30]
    assert trained_on.learned == ("a",)
    known = trained_on.known
    assert (known.first_step[0], known.length.tolist()) == (first + 32, [20, 0])
    row, end = torch.tensor([0]), torch.tensor([1])
    window = known.cut(row, end, context_length=12, horizon=4)
    assert window.target.tolist() == [[float(step) for step in range(21, 33)]]
    assert window.observed.all()
    assert known.future(row, end, 4)[0].tolist() == [[33.0, 34.0, 35.0, 36.0]]
    lineage = trained_on.lineage
    assert (lineage.train_from, lineage.train_to, lineage.rows) == (START + 32 * HOUR, START + 51 * HOUR, 20)


def test_a_series_too_new_to_learn_from_has_no_row_of_its_own(tiny: Make) -> None:
    names, history = make_history({"old": np.arange(64.0), "new": np.arange(10.0)}, {"new": 54})
    trained_on = cut_training_set(names, history, tiny(), HOURLY)
    assert trained_on.learned == ("old",)
    assert trained_on.rows_of(("other", "old")).tolist() == [2, 0]
    assert 1 in pick_pairs(trained_on.panel, trained_on.firsts, 4).rows


def test_the_history_is_bounded_in_steps_from_the_newest_of_all() -> None:
    names, history = make_history({"a": np.arange(10.0), "none": np.empty(0), "short": np.arange(3.0)})
    kept_names, kept = keep_newest(names, history, HOURLY, 4)
    assert kept_names == ["a"]
    assert kept.value.tolist() == [6.0, 7.0, 8.0, 9.0]
    assert kept.bounds.tolist() == [0, 4]


@pytest.mark.parametrize(
    ("span", "horizon", "origins", "expected"),
    [(24, 4, 3, (6, 5, 4)), (1000, 4, 3, (12, 8, 4)), (36, 4, 3, (8, 6, 4)), (16, 4, 1, (4,))],
)
def test_origins_are_a_horizon_apart_where_there_is_room(
    span: int, horizon: int, origins: int, expected: tuple[int, ...]
) -> None:
    assert pick_origins(span, horizon, origins, HOURLY) == expected


def test_too_little_history_says_what_is_there_and_what_is_needed(tiny: Make) -> None:
    with pytest.raises(TooLittleHistory, match="over 20 steps of 1h; a horizon of 4 and 3 backtest origins need 24"):
        cut(tiny(), a=np.arange(20.0))
    with pytest.raises(TooLittleHistory, match="no observations to train on yet"):
        cut(tiny())
    with pytest.raises(TooLittleHistory, match="no series has steps to learn from before the 60 validation"):
        cut(tiny(training={"validation_steps": 60}), a=np.arange(64.0))


@pytest.mark.parametrize(
    ("lengths", "validation"),
    [
        ([1000], 192),
        ([400], 80),
        ([60], 24),
        ([20], 24),
        ([1000, 1000, 1000], 72),
        ([1000, 1000, 60], 24),
        ([1000, 1000, 3], 96),
        ([1000] * 8, 24),
        ([1000] * 500, 24),
    ],
)
def test_few_series_hold_back_several_horizons_and_no_series_loses_its_history_to_that(
    lengths: list[int], validation: int
) -> None:
    assert usual_validation(np.array(lengths), 24) == validation
