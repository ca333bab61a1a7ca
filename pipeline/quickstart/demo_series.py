"""The series of the demo: a packaged slice of M4-Hourly, ordered by how far each value is from its series' end.

The series come from different years, so each is moved by whole weeks to end in the week of the newest one: hours and
weekdays stay true, and one stream, one training cut and one backtest have all of them. `left` counts the hours to a
series' own end.

    left   1007 ...... 49 | 48 | 47 ............. 0
           replayed first | the forecasts issued  | what comes after,
                          | here are scored on    | hour by hour
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from models.config import ModelConfig
from models.metrics import METRICS, Matured, seasonal_scale
from models.panel import build_panel
from models.predict import predict
from models.presets import PRETRAINED
from models.pretrained import load_pretrained
from pipeline.charts import Fan
from pipeline.quickstart.produce import FileColumns, read
from pipeline.records import Floats, Ints

FILE = Path(__file__).parent / "data" / "m4_hourly_64.csv.gz"
SERIES = 64
HORIZON = 48
SEASON = 24
SHOWN = 3 * SEASON
WEEK = pd.Timedelta(weeks=1)


def load(count: int = SERIES) -> pd.DataFrame:
    """Read `count` evenly spread series as series_id, timestamp, value, left; ordered by left, the farthest first."""
    table = read(FILE, FileColumns())
    names = sorted(table["series_id"].unique(), key=lambda name: int(name[1:]))
    chosen = [names[i] for i in np.linspace(0, len(names) - 1, count).round().astype(int)]
    table = table[table["series_id"].isin(chosen)].copy()
    end = table.groupby("series_id")["timestamp"].transform("max")
    table["timestamp"] += (end.max() - end) // WEEK * WEEK
    table["left"] = table.groupby("series_id").cumcount(ascending=False)
    return table.sort_values(["left", "series_id"], ascending=[False, True], kind="stable", ignore_index=True)


@dataclass(frozen=True, slots=True)
class Issued:
    """Forecasts issued at each series' cut, in the order of `names`: quantiles (N, H, Q), model_version (N,)."""

    names: tuple[str, ...]
    quantiles: Floats
    model_version: Ints


@dataclass(frozen=True, slots=True)
class Figures:
    """Accuracy over the last 48 hours: one forecast per series, one origin, M4's own protocol.

    zero_shot: of the pretrained network as it came, which has learned nothing of these series.
    """

    mase: float
    mase_zero_shot: float
    mase_seasonal_naive: float
    coverage_80: float
    coverage_80_zero_shot: float


def measure(table: pd.DataFrame, issued: Issued, *, context: int) -> Figures:
    """Score the forecasts issued at the cut, and two others from the same cut, against the actuals.

    context: steps that the pretrained network sees.
    """
    known, actual = _split(table, issued.names)
    scale = np.concatenate([seasonal_scale(values[None], SEASON) for values in known])
    last_day = np.stack([np.tile(values[-SEASON:], HORIZON // SEASON) for values in known])  # (N, H)
    naive = np.repeat(last_day[:, :, None], issued.quantiles.shape[2], axis=2)  # (N, H, Q)
    quantiles = (issued.quantiles, _forecast_zero_shot(known, context), naive)
    ours, zero_shot, theirs = (Matured(target=actual, quantiles=each, scale=scale) for each in quantiles)
    mase, coverage = METRICS["mase"], METRICS["coverage_80"]
    return Figures(mase(ours), mase(zero_shot), mase(theirs), coverage(ours), coverage(zero_shot))


def _forecast_zero_shot(known: list[Floats], context: int) -> Floats:
    config = ModelConfig(kind=PRETRAINED, context_length=context, horizon=HORIZON, season=SEASON, non_negative="auto")
    lengths = np.array([min(len(values), context) for values in known])
    none = np.zeros(len(known), np.int64)
    panel = build_panel(
        np.concatenate([values[-context:] for values in known]),
        lengths,
        first_step=none,
        series=none,
        calendar=np.zeros((0, 0)),
        calendar_start=0,
        context_length=context,
        horizon=HORIZON,
    )
    return predict(load_pretrained(config).model, panel, np.arange(len(known)), lengths)


def fans(table: pd.DataFrame, issued: Issued, count: int = 3) -> list[Fan]:
    """Lay out evenly spread series for charts: three days before the cut, the forecast, and the actuals."""
    picked = np.unique(np.linspace(0, len(issued.names) - 1, count).round().astype(int))
    drawn = []
    for i in picked:
        rows = table[table["series_id"] == issued.names[i]]
        times = rows["timestamp"].dt.as_unit("us").astype("int64").to_numpy()
        values = rows["value"].to_numpy(np.float64)
        past = slice(-HORIZON - SHOWN, -HORIZON)
        drawn.append(
            Fan(issued.names[i], times[past], values[past], times[-HORIZON:], issued.quantiles[i], values[-HORIZON:])
        )
    return drawn


def _split(table: pd.DataFrame, names: tuple[str, ...]) -> tuple[list[Floats], Floats]:
    values = {name: rows.to_numpy(np.float64) for name, rows in table.groupby("series_id")["value"]}
    return [values[name][:-HORIZON] for name in names], np.stack([values[name][-HORIZON:] for name in names])
