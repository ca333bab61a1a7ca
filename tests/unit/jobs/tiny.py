"""Long frames and tiny forecasters for tests of the Python interface."""

from typing import Any

import numpy as np
import pandas as pd

from jobs.forecaster.forecaster import Forecaster

MODEL: dict[str, Any] = {"hidden": 8, "layers": 1, "series_dim": 2, "dropout": 0.0}
TRAINING: dict[str, Any] = {"steps": 10, "batch": 16, "device": "cpu", "threads": 1, "learning_rate": 0.02}


def make_forecaster(frequency: str = "1h", horizon: int = 4, **options: Any) -> Forecaster:
    """A forecaster that is fitted in a moment: a season of 4 and a context of 12, if nothing else is asked for."""
    chosen = {"season": 4, "context": 12} | options
    training = TRAINING | chosen.pop("training", {})
    return Forecaster(frequency, horizon, model=MODEL | chosen.pop("model", {}), training=training, **chosen)


def make_frame(start: str = "2026-01-01", frequency: str = "1h", **values: Any) -> pd.DataFrame:
    """One series per keyword, its values at consecutive times from `start`."""
    parts = [
        pd.DataFrame({"series_id": name, "time": pd.date_range(start, periods=len(v), freq=frequency), "value": v})
        for name, v in values.items()
    ]
    return pd.concat(parts, ignore_index=True)


def make_wave(length: int = 60, level: float = 100.0, seed: int = 1) -> np.ndarray:
    """A season of 4 around a level, with noise."""
    noise = np.random.default_rng(seed).standard_normal(length)
    return level + 10.0 * np.tile([0.0, 1.0, 0.0, -1.0], length // 4 + 1)[:length] + noise
