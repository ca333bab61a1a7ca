"""The classic example as a setting: Keras' SimpleRNN(32) and Dense(1), RMSprop, mean squared error.

Ten times through 1,000 windows of 100 x 32 in batches of 32, in the settings of docs/models.md.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.retraining.challenger import train_config
from models.batch import Batch
from models.fitting.fit import fit
from models.network.forecasters import RecurrentForecaster, Single, build
from models.panel import build_panel
from pipeline.forecasting.windows import model_config
from pipeline.grid.frequency import Frequency
from pipeline.settings import Settings
from pipeline.settings.sources import load
from tests.documents import blocks

STEPS = 2648  # of history: 1,000 windows before the validation cut
HELD_BACK = 48


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    """The settings of docs/models.md."""
    (block,) = blocks("ini", "docs/models.md")
    file = tmp_path / "tidecast.toml"
    file.write_text(block, encoding="utf-8")
    return load(file)


def build_classic(chosen: Settings) -> RecurrentForecaster:
    model = build(model_config(chosen, Frequency("1h"), 1))
    assert isinstance(model, Single)
    return model


def test_it_is_one_vanilla_layer_of_32_units_and_a_dense_output(chosen: Settings) -> None:
    model = build_classic(chosen)
    (layer,) = model.encoder.layers.children()
    assert isinstance(layer.recur, torch.nn.RNN)
    assert {name: tuple(weight.shape) for name, weight in layer.recur.named_parameters()} == {
        "weight_ih_l0": (32, 32),
        "weight_hh_l0": (32, 32),
        "bias_ih_l0": (32,),
        "bias_hh_l0": (32,),
    }
    assert tuple(model.head.project.weight.shape) == (1, 32)
    parts = (model.series, model.queries.calendar, model.attention, model.steps, model.skip.weight, model.encoder.norm)
    assert parts == (None,) * 6
    target = torch.randn((32, 3200))
    tokens = model.tokens(target, torch.ones_like(target, dtype=torch.bool))
    assert tokens.shape == (32, 100, 32)
    batch = Batch.without_covariates(
        target, torch.ones_like(target, dtype=torch.bool), torch.zeros(32).long(), torch.zeros(32, 1, 0)
    )
    assert model(batch).shape == (32, 1, 13)


def test_ten_times_through_a_thousand_windows_lower_the_loss(chosen: Settings) -> None:
    model = build_classic(chosen)
    step = np.arange(STEPS)
    values = np.sin(2.0 * np.pi * step / 64) + 0.1 * np.random.default_rng(0).standard_normal(STEPS)
    panel = build_panel(
        values,
        np.array([STEPS]),
        first_step=np.array([0]),
        series=np.array([1]),
        calendar=np.zeros((0, 0)),
        calendar_start=0,
        context_length=3200,
        horizon=1,
    )
    training = train_config(chosen, HELD_BACK)
    assert (training.steps * training.batch_size, training.loss, training.optimizer) == (10_016, "mse", "rmsprop")
    report = fit(model, panel, training, device=torch.device("cpu"), on_progress=lambda _: None)
    assert report.steps == 313
    losses = [progress.loss for progress in report.history]
    assert losses[-1] < 0.3 * losses[0]
