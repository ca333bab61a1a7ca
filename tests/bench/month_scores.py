"""Scores of the simulated month, week by week: the live forecasts beside what was not live, on the same windows."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from jobs.retraining.backtest import find_scales
from jobs.retraining.training_set import find_rows, name_series
from models.artifact import Loaded, unpack
from models.config import QUANTILE_LEVELS
from models.metrics import METRICS, Matured
from models.network.baselines import SeasonalNaive
from models.panel import Panel
from models.predict import predict
from pipeline.database import Database
from pipeline.forecasting.windows import lay_out, model_config
from pipeline.grid.frequency import DAY, Frequency
from pipeline.records import Floats, Ints, Mask
from pipeline.settings import Settings
from tests.bench.sensors import END, START

WEEK = 7 * DAY
LEVELS = ", ".join("f.q" + f"{level:.3f}"[2:].removesuffix("0") for level in QUANTILE_LEVELS)
ISSUED = f"""
SELECT f.origin, f.model_version, f.step, {LEVELS}
FROM forecasts f JOIN series s ON s.series_id = f.series_id
WHERE s.name = :series AND f.origin >= :since
ORDER BY f.origin, f.model_version, f.step
"""
SAME = "transformer-"
"""Sensors with one event an hour: the window that a live forecast saw can be cut again exactly."""


@dataclass(frozen=True, slots=True)
class Issued:
    """The N forecasts that were issued in the month; series `rows` and steps `ends` are those of the panel."""

    rows: Ints  # (N,)
    ends: Ints  # (N,)
    week: Ints  # (N,)
    version: Ints  # (N,)
    quantiles: Floats  # (N, H, Q)


def score_weeks(database: Database, settings: Settings) -> list[dict[str, Any]]:
    """Score week by week: MASE of each forecaster, and what the intervals held with and without calibration."""
    frequency = Frequency(settings.series.frequency)
    shape = model_config(settings, frequency, 0)
    names, history = database.reader.training_history(None, settings.training.history)
    unnamed = np.zeros(len(names), np.int64)
    panel = lay_out(history, frequency=frequency, rows=unnamed, context=shape.context_length, horizon=shape.horizon)
    issued = read_issued(database, names, panel, frequency)
    target, observed = panel.future(torch.from_numpy(issued.rows), torch.from_numpy(issued.ends), shape.horizon)
    truth = np.where(observed.numpy(), target.double().numpy(), np.nan)  # (N, H)
    start = int(frequency.step_of(np.array([START.value // 1000]))[0])
    known = replace(panel, length=(start - panel.first_step).clamp(min=0).minimum(panel.length))
    scale = find_scales(known, shape.season, issued.rows)[issued.rows]  # (N,)

    versions = [int(version) for version in np.unique(issued.version) if version]
    loaded = {version: unpack(database.registry.artifact(version)) for version in versions}
    naive = predict(SeasonalNaive(shape), panel, issued.rows, issued.ends)
    uncalibrated = naive.copy()  # version 0 is seasonal naive
    for version, model in loaded.items():
        of = issued.version == version
        uncalibrated[of] = predict_again(model, panel, names, issued, of)
    forecasters = {
        "live": issued.quantiles,
        "uncalibrated": uncalibrated,
        "frozen": predict_again(loaded[min(loaded)], panel, names, issued, np.ones(len(naive), np.bool_)),
        "naive": naive,
    }
    check_same(issued, uncalibrated, names)
    weeks = []
    for week in range(int((END.value - START.value) // 1000 // WEEK)):
        of = issued.week == week
        matured = {
            name: Matured(target=truth[of], quantiles=quantiles[of], scale=scale[of])
            for name, quantiles in forecasters.items()
        }
        row: dict[str, Any] = {"week": week + 1, "forecasts": int(of.sum())}
        row |= {name: METRICS["mase"](matured[name]) for name in ("live", "frozen", "naive")}
        for percent in (80, 95):
            row |= {
                f"{name}_{percent}": METRICS[f"coverage_{percent}"](matured[name])
                for name in ("live", "uncalibrated", "frozen")
            }
        weeks.append({name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()})
    return weeks


def read_issued(database: Database, names: list[str], panel: Panel, frequency: Frequency) -> Issued:
    """Read the forecasts from SQL, series by series."""
    first = panel.first_step.numpy()
    rows, ends, week, version, quantiles = [], [], [], [], []
    for row, name in enumerate(names):
        found = database.reader.query(ISSUED, {"series": name, "since": f"{START:%Y-%m-%d %H:%M:%S}"})
        for step in found[:: panel_horizon(found)]:
            at = np.datetime64(step["origin"], "us").astype(np.int64)
            rows.append(row)
            ends.append(int(frequency.step_of(np.array([at]))[0]) + 1 - int(first[row]))
            week.append((int(at) - START.value // 1000) // WEEK)
            version.append(step["model_version"])
        quantiles += [[value for name, value in step.items() if name.startswith("q")] for step in found]
    shape = (len(rows), -1, len(QUANTILE_LEVELS))
    return Issued(np.array(rows), np.array(ends), np.array(week), np.array(version), np.array(quantiles).reshape(shape))


def panel_horizon(found: list[dict[str, Any]]) -> int:
    """Count the steps of each forecast; they are complete, because a forecast is one transaction."""
    return max((step["step"] for step in found), default=1)


def predict_again(loaded: Loaded, panel: Panel, names: list[str], issued: Issued, of: Mask) -> Floats:
    """Forecast the windows `of` the issued ones by a registered model: (n, H, Q)."""
    known = name_series(panel, find_rows(tuple(names), loaded.series))
    return predict(loaded.model, known, issued.rows[of], issued.ends[of])


def check_same(issued: Issued, uncalibrated: Floats, names: list[str]) -> None:
    """Check that the medians of live forecasts, which calibration leaves, are those of the registered models."""
    same = np.array([names[row].startswith(SAME) for row in issued.rows]) & (issued.version > 0)
    middle = len(QUANTILE_LEVELS) // 2
    live, again = issued.quantiles[same, :, middle], uncalibrated[same, :, middle]
    assert np.allclose(live, again, rtol=1e-3, atol=1e-3), "a live forecast is not what its model says"
