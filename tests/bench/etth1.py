"""Squared error on ETTh1 by the protocol of the published figures: 12 months to train, 4 to choose by, 4 to test.

Values are z-scores by the train part. Every series of the seven is forecast by itself, by one network for all. Each
window of the test part counts (stride 1, no batch dropped); its context may reach back into the validation part.
"""

import csv
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from models.config import QUANTILE_LEVELS, ModelConfig
from models.fitting.cpu import tune_cpu
from models.network.baselines import SeasonalNaive
from models.network.forecasters import Forecaster
from models.panel import Panel
from models.predict import predict
from pipeline.records import Floats
from pipeline.settings import Settings
from pipeline.settings.sources import load, shown
from tests.bench.fitting import fit_settings, lay_out
from tests.bench.results import Figure, Report, median, say

FILE = Path(__file__).parents[3] / "shared" / "data" / "ETT" / "ETTh1.csv"
MONTH, SEASON, SERIES = 30 * 24, 24, 7
TRAIN, VALIDATION, TEST = 12 * MONTH, 4 * MONTH, 4 * MONTH
BLOCK = 128
"""Origins scored at once: all windows of 720 steps x 13 quantiles would take 1.1 GB."""
SEGRNN = {96: 0.351, 192: 0.392, 336: 0.423, 720: 0.446}
"""Published, context 720 (96 at horizon 720). Our target is to be no worse."""
PROTOCOL = (
    "ETTh1, 12/4/4 months of 30 days, z-scores by the train part, {windows} test windows x 7 series x {horizon} steps, "
    "context {context}; early stop on the "
    "validation part; no calendar, no other series; {threads} threads; a run is a seed"
)
CHOSEN = (
    "series.context=720",
    "model.kind=gru",
    "model.decoder=recurrent",
    "model.segment=24",
    "model.hidden=512",
    "training.steps=300",
    "model.dropout=0.5",
    "model.location=last",
    "model.spread=series",
    "model.calendar=none",
    "training.loss=mae",
    "training.refit=0",
    "training.batch=256",
    "training.learning_rate=1e-3",
    "training.patience=8",
)
"""By the squared error on the validation part at 96 steps, one seed a trial; the other horizons take the same.

Matched pairs only: hidden 512 0.636 (250 steps), 256 0.643 (300); rectify 0.640, without 0.646; in a prototype unit
spread 0.635, window 0.646; unscaled 0.656, scaled 0.665; context 720 0.656, 336 0.659. The noise between seeds was
not measured. The decoder and the loss were never compared with all else equal.
"""
UNREACHED = {"scaled": False, "ema": 0.99, "validation_stride": 24, "id_dropout": 0.0, "history_dropout": 0.0}
"""Of the fit, where no setting reaches; no series of this benchmark is new, and no context is short."""
RECTIFIED = {"rectify": True}
"""Of the network, likewise."""


def run(
    file: Path, *, horizons: Sequence[int], seeds: Sequence[int], members: int, threads: int, sets: Sequence[str]
) -> Path:
    """Measure, and return the file of figures."""
    switches = tune_cpu(threads or os.cpu_count() or 1)
    values = read_scores(file)
    report = Report("etth1")
    for horizon in horizons:
        known = lay_out(list(values[: TRAIN + VALIDATION].T), horizon=horizon)
        whole = lay_out(list(values.T), horizon=horizon)
        origins = np.arange(TRAIN + VALIDATION, TRAIN + VALIDATION + TEST - horizon + 1)
        naive = check_baselines(whole, values, origins, horizon)
        found, fits = [], []
        for seed in seeds:
            settings = choose_settings(horizon, seed=seed, members=members, sets=sets)
            model, fitted = fit_settings(known, settings, validation_steps=VALIDATION, shape=RECTIFIED, **UNREACHED)
            found.append(score(model, whole, values, origins))
            fits.append(
                {
                    "seed": seed,
                    "seconds": round(fitted.seconds, 1),
                    "best_step": fitted.best_step,
                    "validation": fitted.best_validation,
                    "stopped": fitted.stopped,
                    **found[-1],
                }
            )
            say(f"horizon {horizon}, seed {seed}: MSE {found[-1]['mse']:.4f} in {fitted.seconds:.0f} s")
        protocol = PROTOCOL.format(
            windows=len(origins), horizon=horizon, context=settings.series.context, threads=switches.threads
        )
        impl = f"tidecast {settings.model.kind}" + (f", {members} members" if members > 1 else "")
        for name in ("mse", "mae"):
            runs = [each[name] for each in found]
            more: dict[str, Any] = {"seasonal_naive": naive[name]}
            if name == "mse":
                chosen = {section: shown(settings)[section] for section in ("series", "model", "training")}
                more |= {"to_segrnn": median(runs) / SEGRNN[horizon], "fits": fits, "settings": chosen}
            report.write(
                Figure(
                    bench=f"etth1/{name}-{horizon}",
                    impl=impl,
                    value=median(runs),
                    unit=name,
                    protocol=protocol,
                    runs=runs,
                    wanted=SEGRNN[horizon] if name == "mse" else None,
                    more=more,
                )
            )
    return report.path


def read_scores(file: Path) -> Floats:
    """Read the seven series up to the end of the test part, as z-scores by the train part: (14400, 7)."""
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.reader(lines))[1 : 1 + TRAIN + VALIDATION + TEST]
    values = np.array([[float(cell) for cell in row[1:]] for row in rows])
    assert values.shape == (TRAIN + VALIDATION + TEST, SERIES), f"{file} is not the published ETTh1.csv"
    scores: Floats = (values - values[:TRAIN].mean(axis=0)) / values[:TRAIN].std(axis=0)
    return scores


def check_baselines(panel: Panel, values: Floats, origins: np.ndarray, horizon: int) -> dict[str, float]:
    """Score the last value and seasonal naive, each also by NumPy over the raw values; return seasonal naive's."""
    config = ModelConfig(kind="seasonal_naive", context_length=336, horizon=horizon, season=SEASON)
    begin, stop = int(origins[0]), int(origins[-1]) + horizon
    target = sliding_window_view(values[begin:stop], horizon, axis=0)  # (windows, 7, H)
    assert len(target) == len(origins) == TEST - horizon + 1, "the published protocol has another number of windows"
    scored = {}
    for season in (1, SEASON):
        past = np.stack([values[first - season : first].T for first in origins])  # (windows, 7, season)
        error = target - np.tile(past, -(-horizon // season))[..., :horizon]
        scored = score(SeasonalNaive(replace(config, season=season)), panel, values, origins)
        assert abs(scored["mse"] - np.square(error).mean()) < 1e-5, f"a season of {season} has another squared error"
        assert abs(scored["mae"] - np.abs(error).mean()) < 1e-5, f"a season of {season} has another absolute error"
    return scored


def choose_settings(horizon: int, *, seed: int, members: int, sets: Sequence[str]) -> Settings:
    """Take what was chosen, and what `sets` says."""
    own = (f"training.seed={seed}", f"training.members={members}", f"series.horizon={horizon}")
    return load(None, (*own, *CHOSEN, *sets))


def score(model: Forecaster, panel: Panel, values: Floats, origins: np.ndarray) -> dict[str, float]:
    """Score the median, and the 80 % interval, of every series' forecast from every origin (the first target step)."""
    horizon = model.config.horizon
    low, middle, high = (QUANTILE_LEVELS.index(level) for level in (0.1, 0.5, 0.9))
    squared = absolute = covered = 0.0
    for first in range(0, len(origins), BLOCK):
        ends = np.repeat(origins[first : first + BLOCK], SERIES)  # (N,)
        rows = np.tile(np.arange(SERIES), len(ends) // SERIES)  # (N,)
        target = values[ends[:, None] + np.arange(horizon), rows[:, None]]  # (N, H)
        quantiles = predict(model, panel, rows, ends)  # (N, H, Q)
        error = quantiles[..., middle] - target
        squared += float(np.square(error).sum())
        absolute += float(np.abs(error).sum())
        covered += int(((quantiles[..., low] <= target) & (target <= quantiles[..., high])).sum())
    count = len(origins) * SERIES * horizon
    return {"mse": squared / count, "mae": absolute / count, "coverage_80": covered / count}
