"""A fit goes on with the held-back steps once it knows the best weights."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from models.config import ModelConfig, TrainConfig
from models.fitting.fit import count_steps, fit
from models.fitting.ranks import Ranks
from models.fitting.training import FitReport, Progress
from models.network.forecasters import RecurrentForecaster, Single, build
from models.panel import Panel
from tests.unit.models.panels import make_panel

CPU = torch.device("cpu")
CONFIG = ModelConfig(
    kind="gru",
    hidden=16,
    heads=1,
    segment=6,
    context_length=24,
    horizon=6,
    season=6,
    series=8,
    series_dim=4,
    location="mean",
)
TRAIN = TrainConfig(steps=60, batch_size=32, validate_every=20, validation_steps=12, learning_rate=1e-2, ema=0.9)


def fitted(
    config: TrainConfig, panel: Panel, told: list[Progress] | None = None
) -> tuple[RecurrentForecaster, FitReport]:
    model = build(CONFIG, seed=0)
    assert isinstance(model, Single)
    return model, fit(model, panel, config, device=CPU, on_progress=[].append if told is None else told.append)


def weights(model: RecurrentForecaster) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def test_without_a_refit_the_held_back_steps_change_no_weight_and_with_one_they_do() -> None:
    panel = make_panel(series=8, steps=90, season=6, noise=0.3)
    newest = panel.start[:, None] + panel.length[:, None] - 1 - torch.arange(12)  # (S, 12)
    other = replace(panel, target=panel.target.index_fill(0, newest.flatten(), 3.0))
    plain = replace(TRAIN, patience=100, steps=20)  # one validation: the last weights are the best in both
    alike = [weights(fitted(plain, each)[0]) for each in (panel, other)]
    assert torch.equal(*alike)
    differing = [weights(fitted(replace(plain, refit=0.5), each)[0]) for each in (panel, other)]
    assert not torch.equal(*differing)


def test_a_refit_goes_on_from_the_best_weights_and_says_what_it_did() -> None:
    panel = make_panel(series=8, steps=90, season=6, noise=0.3)
    told: list[Progress] = []
    config = replace(TRAIN, refit=0.5)
    model, report = fitted(config, panel, told)
    _, alone = fitted(TRAIN, panel)
    assert count_steps(config) == 90
    assert (report.steps, report.refit_steps, alone.steps, alone.refit_steps) == (90, 30, 60, 0)
    assert (report.best_step, report.best_validation) == (alone.best_step, alone.best_validation)
    assert [each.step for each in told] == [20, 40, 60, 80, 90]
    assert {each.steps for each in told} == {90}
    assert [each.seconds for each in told] == sorted(each.seconds for each in told)
    assert torch.equal(weights(model), weights(fitted(config, panel)[0])), "the seed decides everything"


def test_a_refit_is_shorter_and_rehearsed_where_the_best_weights_came_early() -> None:
    panel = make_panel(series=8, steps=90, season=6, noise=0.3)
    config = replace(TRAIN, refit=0.5, patience=3, learning_rate=2.0, clip_norm=1e6, steps=400)
    told: list[Progress] = []
    _, report = fitted(config, panel, told)
    _, alone = fitted(replace(config, refit=0.0), panel)
    assert alone.stopped.startswith("no better")
    assert alone.steps == alone.best_step + 60
    assert report.refit_steps == math.ceil(0.5 * max(2 * alone.best_step, alone.steps / 8)) < alone.steps / 2
    assert report.steps == alone.steps + 2 * report.refit_steps == told[-1].step == told[-1].steps


def test_a_fit_that_diverged_keeps_its_best_weights_and_is_not_gone_on_with() -> None:
    panel = make_panel(series=8, steps=90, season=6, noise=0.3)
    model, report = fitted(replace(TRAIN, refit=0.5, learning_rate=1e20, schedule="constant", clip_norm=1e30), panel)
    assert report.stopped == "loss not finite"
    assert report.refit_steps == 0
    assert bool(weights(model).isfinite().all())


@pytest.mark.parametrize("refit", [-0.1, float("nan")])
def test_a_share_that_is_none_is_refused(refit: float) -> None:
    with pytest.raises(ValueError, match="refit"):
        replace(TRAIN, refit=refit)


def test_with_nothing_held_back_there_is_no_refit() -> None:
    panel = make_panel(series=8, steps=90, season=6, noise=0.3)
    _, report = fitted(replace(TRAIN, refit=0.5, validation_steps=0), panel)
    assert (report.steps, report.refit_steps) == (60, 0)


def test_a_point_loss_that_diverged_takes_its_widths_from_the_best_weights() -> None:
    panel = make_panel(series=8, steps=90, season=6, noise=0.3)
    model = build(replace(CONFIG, output="point"), seed=0)
    assert isinstance(model, Single)
    wild = replace(TRAIN, loss="mse", refit=0.5, learning_rate=1e20, schedule="constant", clip_norm=1e30)
    report = fit(model, panel, wild, device=CPU, on_progress=[].append)
    assert report.stopped == "loss not finite"
    assert all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values())


class Follower(Ranks):
    """One process that believes rank 0 has been at it for a thousand seconds."""

    def follow(self, *numbers: float) -> list[float]:
        return [1000.0] if len(numbers) == 1 else list(numbers)


def test_the_time_that_is_left_for_a_refit_is_that_of_rank_0() -> None:
    panel = make_panel(series=8, steps=90, season=6, noise=0.3)
    model = build(CONFIG, seed=0)
    assert isinstance(model, Single)
    config = replace(TRAIN, refit=0.5, max_seconds=900.0)
    report = fit(model, panel, config, device=CPU, on_progress=[].append, ranks=Follower())
    assert report.steps - report.refit_steps == 60
    assert 1 <= report.refit_steps < 30, "its own clock would have left time for all 30"
