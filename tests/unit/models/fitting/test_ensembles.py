"""Ensembles are their members, fitted alone, and the mean of what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.config import ModelConfig, TrainConfig
from models.fitting.ensembles import fit_members
from models.fitting.fit import fit
from models.fitting.training import FitReport, Progress
from models.network.forecasters import Ensemble, Single, build
from models.panel import Panel
from models.predict import predict
from tests.unit.models.panels import make_panel

CPU = torch.device("cpu")
ALONE = ModelConfig(
    hidden=8, heads=2, layers=1, segment=6, context_length=24, horizon=6, season=6, series=4, series_dim=4
)
TRAIN = TrainConfig(steps=20, batch_size=16, validate_every=10, validation_steps=12, learning_rate=1e-2, seed=5)


@pytest.fixture
def panel() -> Panel:
    return make_panel(series=4, steps=[90, 70, 30, 13], season=6, noise=0.2)


def fit_three(
    panel: Panel, config: TrainConfig = TRAIN, heard: list[Progress] | None = None
) -> tuple[Ensemble, FitReport]:
    model = build(replace(ALONE, members=3), seed=5)
    assert isinstance(model, Ensemble)
    told: list[Progress] = [] if heard is None else heard
    return model, fit_members(model, panel, config, device=CPU, on_progress=told.append)


def test_an_ensemble_is_the_mean_of_networks_fitted_alone_with_the_same_seeds(panel: Panel) -> None:
    ensemble, _ = fit_three(panel)
    rows, ends = np.arange(4), np.array([80, 60, 20, 10])
    alone = []
    for seed in (5, 6, 7):
        model = build(ALONE, seed=seed)
        assert isinstance(model, Single)
        fit(model, panel, replace(TRAIN, seed=seed), device=CPU, on_progress=lambda _: None)
        alone.append(predict(model, panel, rows, ends))
    assert not np.allclose(alone[0], alone[1])
    np.testing.assert_allclose(predict(ensemble, panel, rows, ends), np.mean(alone, axis=0), rtol=1e-5)


def test_progress_goes_on_over_the_members_and_the_report_sums_up(panel: Panel) -> None:
    heard: list[Progress] = []
    _, report = fit_three(panel, heard=heard)
    assert [progress.step for progress in heard] == [10, 20, 30, 40, 50, 60]
    assert {progress.steps for progress in heard} == {60}
    assert sorted(progress.seconds for progress in heard) == [progress.seconds for progress in heard]
    assert (report.steps, report.history, report.stopped) == (60, tuple(heard), "all steps done")
    assert report.best_validation < heard[0].validation


def test_the_budget_is_for_all_members_together(panel: Panel) -> None:
    _, report = fit_three(panel, replace(TRAIN, steps=100_000, max_seconds=0.3, patience=10_000))
    assert report.stopped == "time budget spent"
    assert 3 <= report.steps < 300_000
