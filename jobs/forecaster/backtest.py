"""What a backtest found: its scores as tables, its forecasts, and charts of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd

from jobs.forecaster.charts import lay_out, name_of, pick_series
from jobs.forecaster.evaluation import (
    MODEL,
    NAIVE,
    Evaluation,
    HeldOut,
    reliability_table,
    score_table,
    series_table,
    step_table,
)
from jobs.frames.frames import Readings, write_frame
from jobs.retraining.search import Found
from models.fitting.training import FitReport
from models.metrics import METRICS
from pipeline import charts
from pipeline.charts import Fan, Lines
from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency

FittedT = TypeVar("FittedT")
"""The forecaster that was judged."""


@dataclass(frozen=True)
class Backtest(Generic[FittedT]):
    """What a backtest found; the tables are pandas frames.

    forecaster: the one that was fitted on the part before the first origin, or the last of them where it was fitted
    anew; readings: what was read from the frame; evaluation: the forecasts as arrays; report: how its fit went, None
    without one; search: what was chosen before it, if anything was; notes: what a reader may not expect.
    """

    forecaster: FittedT
    readings: Readings
    frequency: Frequency
    evaluation: Evaluation
    report: FitReport | None
    search: Found | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """The scores in one line."""
        own, naive = (METRICS["mase"](self.evaluation.matured[name]) for name in (MODEL, NAIVE))
        size = f"{len(np.unique(self.held_out.pairs.rows)):,} series, {len(self.held_out.pairs):,} windows"
        return f"Backtest({size}, MASE {own:.3f}, seasonal naive {naive:.3f})"

    @property
    def held_out(self) -> HeldOut:
        """The pairs that were scored."""
        return self.evaluation.held_out

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row per forecaster: every metric, skill, and how many targets, windows and origins."""
        return score_table(self.evaluation)

    @cached_property
    def by_step(self) -> pd.DataFrame:
        """One row per forecaster and step of the horizon."""
        return step_table(self.evaluation)

    @cached_property
    def by_series(self) -> pd.DataFrame:
        """One row per forecaster and series: MASE, MAE, WQL, coverage and how many targets were scored."""
        return series_table(self.evaluation, self.readings)

    @cached_property
    def reliability(self) -> pd.DataFrame:
        """One row per forecaster and central interval: the share that it should hold, and the share that it held."""
        return reliability_table(self.evaluation)

    @cached_property
    def forecasts(self) -> pd.DataFrame:
        """One row per series, origin and step: quantiles, the actual, and seasonal naive's median."""
        pairs, matured = self.held_out.pairs, self.evaluation.matured[MODEL]
        naive = self.evaluation.matured[NAIVE].quantile(0.5)
        more = {self.readings.columns.value or "value": matured.target, "seasonal_naive": naive}
        return write_frame(
            self.readings, pairs.rows, pairs.origins, matured.quantiles, frequency=self.frequency, more=more
        )

    def plot(
        self, what: str = "forecasts", *, series: Sequence[object] | None = None, file: str | Path | None = None
    ) -> Any:
        """Draw a figure of matplotlib, and write it where a file is named (PNG, SVG or PDF by its suffix).

        what: "forecasts", the last one of three series or of those named, with the actuals; "steps", the error by step;
        "reliability", what intervals hold. ConfigError for anything else, or without matplotlib.
        """
        if what == "forecasts":
            figure = charts.draw(draw_backtest(self, series))
        elif what in ("steps", "reliability"):
            lines = error_lines(self) if what == "steps" else reliability_lines(self)
            figure = charts.draw_lines(lines)
        else:
            raise ConfigError(f"there is no chart {what!r}: use forecasts, steps or reliability")
        if file is not None:
            charts.write(figure, Path(file))
        return figure


def draw_backtest(result: "Backtest[Any]", wanted: Sequence[object] | None = None) -> list[Fan]:
    """Lay out the last forecast of some series of a backtest, with the actuals."""
    pairs, matured = result.held_out.pairs, result.evaluation.matured[MODEL]
    fans = []
    for row in pick_series(result.readings, np.unique(pairs.rows).tolist(), wanted):
        pair = int(np.flatnonzero(pairs.rows == row)[-1])
        fan = lay_out(result.held_out.panel, row, int(pairs.ends[pair]), result.frequency, matured.quantiles[pair])
        fans.append(replace(fan, series=name_of(result.readings, row), actual=matured.target[pair]))
    return fans


def error_lines(result: "Backtest[Any]") -> Lines:
    """Error by step of the horizon: MASE, or the mean absolute error where no series has a scale."""
    table = result.by_step
    name, up = ("mase", "MASE") if table["mase"].notna().any() else ("mae", "mean absolute error")
    lines = {str(who): rows[name].to_numpy() for who, rows in table.groupby("forecaster", sort=False)}
    places = table["step"].unique().astype(float)
    return Lines("Error by step of the horizon", "step", up, places, lines)


def reliability_lines(result: "Backtest[Any]") -> Lines:
    """What central intervals should hold, and what they held."""
    table = result.reliability
    lines = {str(who): rows["held"].to_numpy() for who, rows in table.groupby("forecaster", sort=False)}
    places = table["interval"].unique()
    return Lines("Reliability", "central interval", "share of actuals inside", places, lines, ideal=True)
