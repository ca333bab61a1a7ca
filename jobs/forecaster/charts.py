"""Charts of a backtest and of a forecast: fans of some series, error by step, reliability."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jobs.frames.frames import Readings
from models.config import QUANTILE_NAMES
from models.panel import Panel
from pipeline.charts import Fan
from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency
from pipeline.records import Floats

if TYPE_CHECKING:
    import pandas as pd


FANS = 3
PAST = 2
"""Horizons of history in a chart."""


def pick_series(readings: Readings, rows: Sequence[int], wanted: Sequence[object] | None) -> list[int]:
    """Choose rows to draw: those of the `wanted` names, or FANS evenly spread ones; ConfigError for an unknown name."""
    if wanted is None:
        spread = np.unique(np.linspace(0, len(rows) - 1, min(FANS, len(rows))).round().astype(int))
        return [rows[place] for place in spread.tolist()]
    row = {readings.names[each]: each for each in rows}
    missing = [str(name) for name in wanted if str(name) not in row]
    if missing or not wanted:
        raise ConfigError(f"series {', '.join(missing) or 'none'}: there is no forecast of it to draw")
    return [row[str(name)] for name in wanted]


def draw_forecast(
    forecast: "pd.DataFrame", readings: Readings, panel: Panel, frequency: Frequency, wanted: Sequence[object] | None
) -> list[Fan]:
    """Lay out what `predict` said of some series, after the history that it said it from."""
    labels = forecast[readings.columns.series_id or "series_id"].astype(str).to_numpy()
    said = set(labels.tolist())
    rows = [row for row, label in enumerate(readings.labels) if str(label) in said]
    fans = []
    for row in pick_series(readings, rows, wanted):
        quantiles = forecast.loc[labels == str(readings.labels[row]), list(QUANTILE_NAMES)].to_numpy()
        fan = lay_out(panel, row, int(panel.length[row]), frequency, quantiles)
        fans.append(replace(fan, series=name_of(readings, row)))
    return fans


def lay_out(panel: Panel, row: int, end: int, frequency: Frequency, quantiles: Floats) -> Fan:
    """Lay out a forecast (H, Q) after the first `end` steps of a series, without a name and without actuals."""
    horizon = len(quantiles)
    past = min(end, PAST * horizon)
    stop = int(panel.start[row]) + end
    seen = panel.observed[stop - past : stop].numpy()
    values = panel.target[stop - past : stop].double().numpy()
    times = frequency.time_of(int(panel.first_step[row]) + end + np.arange(-past, horizon))
    history = np.where(seen, values, np.nan)
    return Fan("", times[:past], history, times[past:], quantiles, actual=np.full(horizon, np.nan))


def name_of(readings: Readings, row: int) -> str:
    """Name a series, or the column of values where there is one series alone."""
    return readings.names[row] if readings.columns.series_id else str(readings.columns.value)
