"""Charts of a backtest and of a forecast: fans of some series, error by step, reliability."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jobs.frames.frames import QUANTILE_COLUMNS, Readings
from models.panel import Panel
from pipeline.charts import Fan, Lines
from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency
from pipeline.records import Floats

if TYPE_CHECKING:
    import pandas as pd

    from jobs.forecaster.evaluation import Backtest

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


def draw_backtest(result: "Backtest", wanted: Sequence[object] | None = None) -> list[Fan]:
    """Lay out the last forecast of some series of a backtest, with what came."""
    from jobs.forecaster.evaluation import MODEL

    pairs, matured = result.held_out.pairs, result.evaluation.matured[MODEL]
    fans = []
    for row in pick_series(result.readings, np.unique(pairs.rows).tolist(), wanted):
        pair = int(np.flatnonzero(pairs.rows == row)[-1])
        fan = _lay_out(result.held_out.panel, row, int(pairs.ends[pair]), result.frequency, matured.quantiles[pair])
        fans.append(replace(fan, series=_name(result.readings, row), actual=matured.target[pair]))
    return fans


def draw_forecast(
    forecast: "pd.DataFrame", readings: Readings, panel: Panel, frequency: Frequency, wanted: Sequence[object] | None
) -> list[Fan]:
    """Lay out what `predict` said of some series, after the history that it said it from."""
    labels = forecast[readings.columns.series_id or "series_id"].astype(str).to_numpy()
    said = set(labels.tolist())
    rows = [row for row, label in enumerate(readings.labels) if str(label) in said]
    fans = []
    for row in pick_series(readings, rows, wanted):
        quantiles = forecast.loc[labels == str(readings.labels[row]), list(QUANTILE_COLUMNS)].to_numpy()
        fan = _lay_out(panel, row, int(panel.length[row]), frequency, quantiles)
        fans.append(replace(fan, series=_name(readings, row)))
    return fans


def error_lines(result: "Backtest") -> Lines:
    """Error by step of the horizon: MASE, or the mean absolute error where no series has a scale."""
    table = result.by_step
    name, up = ("mase", "MASE") if table["mase"].notna().any() else ("mae", "mean absolute error")
    lines = {str(who): rows[name].to_numpy() for who, rows in table.groupby("forecaster", sort=False)}
    places = table["step"].unique().astype(float)
    return Lines("Error by step of the horizon", "step", up, places, lines)


def reliability_lines(result: "Backtest") -> Lines:
    """What central intervals should hold, and what they held."""
    table = result.reliability
    lines = {str(who): rows["held"].to_numpy() for who, rows in table.groupby("forecaster", sort=False)}
    places = table["interval"].unique()
    return Lines("Reliability", "central interval", "share of what came inside", places, lines, ideal=True)


def _lay_out(panel: Panel, row: int, end: int, frequency: Frequency, quantiles: Floats) -> Fan:
    """Lay out a forecast (H, Q) after the first `end` steps of a series, without a name and without what came."""
    horizon = len(quantiles)
    past = min(end, PAST * horizon)
    stop = int(panel.start[row]) + end
    seen = panel.observed[stop - past : stop].numpy()
    values = panel.target[stop - past : stop].double().numpy()
    times = frequency.time_of(int(panel.first_step[row]) + end + np.arange(-past, horizon))
    history = np.where(seen, values, np.nan)
    return Fan("", times[:past], history, times[past:], quantiles, actual=np.full(horizon, np.nan))


def _name(readings: Readings, row: int) -> str:
    return readings.names[row] if readings.columns.series_id else str(readings.columns.value)
