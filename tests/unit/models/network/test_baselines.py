"""Seasonal naive by hand."""

from __future__ import annotations

import math

import torch

from models.batch import Batch
from models.config import ModelConfig
from models.network.baselines import SeasonalNaive

CONFIG = ModelConfig(
    kind="seasonal_naive", context_length=6, segment=1, season=3, horizon=7, quantile_levels=(0.1, 0.5, 0.9)
)
Z90 = 1.2815515655446004


def forecast(target: list[float], observed: list[bool]) -> torch.Tensor:
    batch = Batch.without_covariates(
        torch.tensor([target]), torch.tensor([observed]), torch.zeros(1).long(), torch.zeros(1, 7, 0)
    )
    return SeasonalNaive(CONFIG)(batch)[0]


def test_the_last_season_repeats_and_widens_with_the_root_of_the_seasons_walked() -> None:
    quantiles = forecast([1.0, 2.0, 3.0, 2.0, 2.0, 5.0], [True] * 6)
    assert quantiles[:, 1].tolist() == [2.0, 2.0, 5.0, 2.0, 2.0, 5.0, 2.0]
    deviation = math.sqrt(math.pi / 2.0) * (1.0 + 0.0 + 2.0) / 3.0
    width = quantiles[:, 2] - quantiles[:, 0]
    wanted = [2.0 * Z90 * deviation * math.sqrt(k) for k in (1, 1, 1, 2, 2, 2, 3)]
    torch.testing.assert_close(width, torch.tensor(wanted))


def test_a_gap_walks_back_to_the_newest_observed_season_and_costs_width() -> None:
    quantiles = forecast([1.0, 2.0, 3.0, 2.0, 77.0, 5.0], [True, True, True, True, False, True])
    assert quantiles[:3, 1].tolist() == [2.0, 2.0, 5.0]
    width = quantiles[:, 2] - quantiles[:, 0]
    torch.testing.assert_close(width[1], width[0] * math.sqrt(2.0))


def test_a_phase_never_seen_gets_the_last_value() -> None:
    quantiles = forecast([1.0, 77.0, 3.0, 2.0, 77.0, 5.0], [True, False, True, True, False, True])
    assert quantiles[:3, 1].tolist() == [2.0, 5.0, 5.0]


def test_without_a_whole_season_neighbours_give_the_width() -> None:
    quantiles = forecast([0.0, 0.0, 0.0, 0.0, 4.0, 5.0], [False] * 4 + [True] * 2)
    assert quantiles[:3, 1].tolist() == [5.0, 4.0, 5.0]
    width = quantiles[2, 2] - quantiles[2, 0]
    torch.testing.assert_close(width, torch.tensor(2.0 * Z90 * math.sqrt(math.pi / 2.0)))
