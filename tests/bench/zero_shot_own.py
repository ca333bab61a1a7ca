"""Ours in the zero-shot benchmark: an artifact, or seasonal naive, forecasts windows of any series without a fit."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from models.artifact import unpack
from models.config import ModelConfig
from models.network.baselines import SeasonalNaive
from models.network.forecasters import Forecaster
from models.panel import build_panel
from models.predict import predict
from models.presets import NAIVE, PRETRAINED
from models.pretrained import load_pretrained
from pipeline.records import Floats

CONTEXT = 2048
"""Steps that seasonal naive may look back: as many as fracast reads."""
OWN_CONTEXT = 1024
"""Steps that the pretrained network may look back: as many as it was trained with."""


def own(path: Path) -> bytes:
    """Read an artifact; ArtifactError says what is wrong with the file."""
    artifact = path.read_bytes()
    unpack(artifact)
    return artifact


def predict_own(artifact: bytes | None, windows: Sequence[Floats], season: int, frequency: str, horizon: int) -> Floats:
    """Quantiles (N, H, 13) of the network of the wheel, or of an artifact: pretrained, or for one grid and horizon."""
    if artifact and (loaded := unpack(artifact)).config.kind != PRETRAINED:
        return predict_zero_shot(loaded.model, windows, season, frequency, horizon)
    longest = max(2, min(OWN_CONTEXT, max(map(len, windows))))
    return predict_zero_shot(_shape(artifact, longest, season, horizon), windows, season, frequency, horizon)


@lru_cache(maxsize=8)
def _shape(artifact: bytes | None, longest: int, season: int, horizon: int) -> Forecaster:
    config = ModelConfig(kind=PRETRAINED, context_length=longest, horizon=horizon, season=season, non_negative="auto")
    return load_pretrained(config, artifact).model


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
