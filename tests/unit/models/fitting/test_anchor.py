"""A fit from good weights keeps what the held-back steps bear out of the way that it went."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from models.config import ModelConfig, TrainConfig
from models.fitting.anchor import EPOCHS, LEAST, SHARES, choose_share, count_independent, go_part_of_the_way
from models.fitting.fit import count_steps, fit
from models.fitting.training import FitReport, clone
from models.network.forecasters import Single
from models.panel import Panel
from models.pretrained import load_pretrained
from tests.unit.models.panels import make_panel

CPU = torch.device("cpu")
SHAPE = ModelConfig(kind="pretrained", context_length=48, horizon=6, season=6)
TUNE = TrainConfig(
    steps=40, batch_size=8, validate_every=20, validation_steps=12, learning_rate=3e-4, anchored=True, refit=0.5
)


def tuned(panel: Panel, config: TrainConfig) -> tuple[Single, dict[str, torch.Tensor], FitReport]:
    """The network of the wheel after a fit, its weights before, and the report."""
    model = load_pretrained(SHAPE).model
    assert isinstance(model, Single)
    before = clone(model)
    return model, before, fit(model, panel, config, device=CPU, on_progress=[].append)


@pytest.mark.parametrize(
    ("losses", "share"),
    [
        ((1.0, 0.995, 0.99, 0.98, 0.97), 0.25),  # a quarter of the way, where more of it is a little better still
        ((1.0, 0.99, 0.98, 0.95, 0.96), 0.5),  # more of it, where that is much better
        ((1.0, 0.99, 0.98, 0.95, 0.92), 1.0),
        ((1.0, 0.98, 0.985, 1.1, 1.2), 0.1),  # a tenth, where that is best
        ((1.0, 1.01, 1.03, 1.1, 1.2), 0.1),  # noise does not speak against it
        ((1.0, 1.02, 1.06, 1.1, 1.2), 0.0),
        ((0.0, 0.0, 0.0, 0.0, 0.0), 0.0),  # nothing can be better
        ((math.nan,) * 5, 0.0),  # nothing was held back
    ],
)
def test_a_share_of_the_way_is_chosen_by_the_held_back_steps(losses: tuple[float, ...], share: float) -> None:
    assert choose_share(dict(zip(SHARES, losses, strict=True)), 9.0) == share


def test_of_more_windows_a_smaller_gain_is_believed() -> None:
    losses = dict(zip(SHARES, (1.0, 0.99, 0.98, 0.97, 0.96), strict=True))
    assert [choose_share(losses, windows) for windows in (9.0, 64.0)] == [0.25, 1.0]
    panel = make_panel(series=9, steps=60, season=6, noise=0.3)
    assert count_independent(panel, 6, TUNE) == 3.0 * 2.0


def test_a_share_of_the_way_lies_between_its_ends_and_nothing_but_weights_is_shared() -> None:
    start = {"weight": torch.tensor([0.0, 2.0])}
    end = {"weight": torch.tensor([1.0, math.inf]), "sign": torch.tensor([True])}
    assert go_part_of_the_way(start, end, 0.0)["weight"].tolist() == [0.0, 2.0], "whatever the end is"
    end["weight"] = torch.tensor([1.0, 4.0])
    assert go_part_of_the_way(start, end, 0.25)["weight"].tolist() == [0.25, 2.5]
    assert go_part_of_the_way(start, end, 1.0)["weight"].tolist() == [1.0, 4.0]
    assert go_part_of_the_way(start, end, 0.0)["sign"].tolist() == [True]


def test_a_fit_goes_part_of_the_way_without_a_refit_and_says_so() -> None:
    panel = make_panel(series=3, steps=120, season=6, noise=0.3)
    model, before, report = tuned(panel, TUNE)
    assert report.share in SHARES[1:]
    assert (report.steps, report.refit_steps, count_steps(TUNE)) == (40, 0, 40)
    assert not torch.equal(model.state_dict()["deepen.weight"], before["deepen.weight"])
    again, _, _ = tuned(panel, TUNE)
    assert all(torch.equal(one, other) for one, other in zip(clone(model).values(), clone(again).values(), strict=True))


def test_a_fit_that_makes_it_worse_leaves_the_weights_as_they_were() -> None:
    panel = make_panel(series=3, steps=120, season=6, noise=0.3)
    wild = replace(TUNE, learning_rate=30.0, schedule="constant")
    model, before, report = tuned(panel, wild)
    assert (report.share, report.best_step) == (0.0, 0)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert model.head.stretch.tolist() == [1.0, 1.0]
    diverged = replace(wild, learning_rate=1e30, clip_norm=1e30)
    model, before, report = tuned(panel, diverged)
    assert (report.share, report.stopped) == (0.0, "loss not finite")
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_no_window_is_learned_from_too_often() -> None:
    config = replace(TUNE, steps=1000, validate_every=1000)
    _, _, report = tuned(make_panel(series=1, steps=60, season=6, noise=0.3), config)
    windows = 60 - 12 - 6 - 21 + 1  # after half of the 42 steps that can be a context
    assert report.steps == math.ceil(EPOCHS * windows / config.batch_size)
    _, _, report = tuned(make_panel(series=1, steps=26, season=6, noise=0.3), config)
    assert report.steps == LEAST
