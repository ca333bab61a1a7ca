"""What the benchmarks of accuracy share: a panel of arrays without times, and one fit of the settings on it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from jobs.retraining.challenger import train_config
from jobs.retraining.warm_start import begin, warm_start
from models.fitting.ensembles import fit_members
from models.fitting.training import FitReport
from models.network.baselines import SeasonalNaive
from models.network.forecasters import Ensemble, RecurrentForecaster, build
from models.panel import Panel, build_panel
from pipeline.forecasting.windows import model_config
from pipeline.grid.frequency import Frequency
from pipeline.records import Floats
from pipeline.settings import Settings
from tests.bench.results import say

MARGIN = 2048
"""The longest context of these benchmarks, in steps."""


def lay_out(histories: Sequence[Floats], *, horizon: int) -> Panel:
    """Put histories without times into a panel, each from step 0 on."""
    length = np.array([len(history) for history in histories])
    return build_panel(
        np.concatenate(histories),
        length,
        first_step=np.zeros(len(histories), np.int64),
        series=np.arange(1, len(histories) + 1),
        calendar=np.zeros((0, 0)),
        calendar_start=0,
        context_length=MARGIN,
        horizon=horizon,
    )


def fit_settings(
    panel: Panel, settings: Settings, *, validation_steps: int, shape: Mapping[str, Any] | None = None, **changes: Any
) -> tuple[RecurrentForecaster | Ensemble, FitReport]:
    """Fit a model of hourly `settings` as a retraining does, the last `validation_steps` held back.

    `shape` are fields of ModelConfig, `changes` of TrainConfig, that no setting reaches. Kind pretrained starts from
    the weights of the wheel.
    """
    start = begin(settings, Frequency("1h"))
    settings = start.adapt(settings)
    config = replace(model_config(settings, Frequency("1h"), len(panel), days=1.0), **(shape or {}))
    model = build(config, seed=settings.training.seed)
    assert not isinstance(model, SeasonalNaive)
    if start.champion:
        warm_start(model, [str(row) for row in range(len(panel))], start.champion)

    def tell(progress: Any) -> None:
        if progress.step % 250 == 0:
            validated = "" if math.isnan(progress.validation) else f", validation {progress.validation:.4f}"
            say(f"step {progress.step}/{progress.steps}, {progress.seconds:.0f} s{validated}")

    training = replace(train_config(settings, validation_steps), **changes)
    return model, fit_members(model, panel, training, device=torch.device("cpu"), on_progress=tell)
