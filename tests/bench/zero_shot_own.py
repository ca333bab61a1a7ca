"""Ours in the zero-shot benchmark: an artifact, or seasonal naive, forecasts windows of any series without a fit."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.artifact import unpack
from models.config import ModelConfig
from models.network.baselines import SeasonalNaive
from models.network.forecasters import Forecaster
from models.panel import build_panel
from models.predict import predict
from models.presets import NAIVE
from pipeline.records import Floats

CONTEXT = 2048
"""Steps that seasonal naive may look back: as many as fracast reads."""


def own(path: Path) -> Forecaster:
    """Load the model of an artifact; ArtifactError says what is wrong with the file."""
    return unpack(path.read_bytes()).model


def predict_zero_shot(
    model: Forecaster, windows: Sequence[Floats], season: int, frequency: str, horizon: int
) -> Floats:
    """Quantiles (N, H, 13) from the ends of N histories (NaN for missing) of series that the model does not know."""
    config = model.config
    if config.season != season or config.horizon < horizon:
        raise ValueError(
            f"the artifact forecasts {config.horizon} steps of season {config.season}, "
            f"not {horizon} of season {season} ({frequency}): give one that was pretrained for every season"
        )
    newest = [window[-config.context_length :] for window in windows]
    length = np.array([len(window) for window in newest])
    none = np.zeros(len(newest), np.int64)  # every history begins at step 0 and belongs to an unknown series
    panel = build_panel(
        np.concatenate(newest),
        length,
        first_step=none,
        series=none,
        calendar=np.zeros((0, 0)),
        calendar_start=0,
        context_length=config.context_length,
        horizon=config.horizon,
    )
    return predict(model, panel, np.arange(len(newest)), length)[:, :horizon]


def predict_naive(windows: Sequence[Floats], season: int, frequency: str, horizon: int) -> Floats:
    """Quantiles (N, H, 13) of seasonal naive, as the scorer falls back on it."""
    config = ModelConfig(
        kind=NAIVE, context_length=CONTEXT, segment=1, horizon=horizon, season=season, non_negative="auto"
    )
    return predict_zero_shot(SeasonalNaive(config), windows, season, frequency, horizon)
