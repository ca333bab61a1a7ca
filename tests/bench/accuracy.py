"""Accuracy on the official split of M4-Hourly: train, choose the best weights on the last train hours, report the test.

No setting is chosen on the test hours: they come from models trained without the last 96 hours of the train file and
scored on those, with the early stop on the 48 before them. Test figures of earlier settings were known by then.
"""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.config import ModelConfig
from models.fitting.cpu import tune_cpu
from models.metrics import Matured, measure, seasonal_scale
from models.network.baselines import SeasonalNaive
from models.panel import Panel
from models.predict import predict
from models.presets import PRESETS
from pipeline.records import Floats
from pipeline.settings import Settings
from pipeline.settings.sources import load, shown
from tests.bench.fitting import fit_settings, lay_out
from tests.bench.results import Figure, Report, median, say

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "M4"
HORIZON, SEASON = 48, 24
NAIVE2_SMAPE, NAIVE2_MASE = 18.383, 2.395  # published with the competition; OWA is relative to them
NAIVE_SMAPE, NAIVE_MASE = 13.912, 1.193  # published for seasonal naive; found again before anything is trained
PROTOCOL = (
    "M4-Hourly, official split: {series} series, horizon 48, season 24, one origin; context {context}; early stop on "
    "the last 48 train hours, then on with them, too; no calendar, since the files have no times; {threads} threads; "
    "a run is a seed"
)
WANTED = {"mase": 0.85, "smape": 11.0, "owa": 0.44}


def run(folder: Path, *, seeds: Sequence[int], members: int, threads: int, sets: Sequence[str]) -> Path:
    """Measure, and return the file of figures."""
    switches = tune_cpu(threads or os.cpu_count() or 1)
    panel, target, scale, naive = prepare(folder)
    report = Report("m4-hourly")
    found: list[dict[str, float]] = []
    fits: list[dict[str, Any]] = []
    for seed in seeds:
        settings = choose_settings(seed=seed, members=members, sets=sets)
        model, fitted = fit_settings(panel, settings, validation_steps=HORIZON)
        found.append(score(model, panel, target, scale))
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
        say(f"seed {seed}: MASE {found[-1]['mase']:.4f} in {fitted.seconds:.0f} s")
    chosen = {section: shown(settings)[section] for section in ("series", "model", "training")}
    impl = f"tidecast {settings.model.kind}" + (f", {members} members" if members > 1 else "")
    for name, wanted in WANTED.items():
        runs = [each[name] for each in found]
        figure = Figure(
            bench=f"m4-hourly/{name}",
            impl=impl,
            value=median(runs),
            unit=name,
            protocol=PROTOCOL.format(series=len(panel), context=settings.series.context, threads=switches.threads),
            runs=runs,
            wanted=wanted,
            more={"seasonal_naive": naive[name], "fits": fits, "settings": chosen} if name == "mase" else {},
        )
        report.write(figure)
    return report.path


def run_every_kind(folder: Path, *, seeds: Sequence[int], members: int, threads: int, sets: Sequence[str]) -> Path:
    """Train every kind of network, one after the other, and write a line for each: MASE, beside seasonal naive's."""
    switches = tune_cpu(threads or os.cpu_count() or 1)
    panel, target, scale, naive = prepare(folder)
    report = Report("m4-hourly-kinds")
    for kind in PRESETS:
        found: list[dict[str, Any]] = []
        for seed in seeds:
            settings = choose_settings(seed=seed, members=members, sets=(*sets, f"model.kind={kind}"))
            model, fitted = fit_settings(panel, settings, validation_steps=HORIZON)
            fit = {"seed": seed, "seconds": round(fitted.seconds, 1), "steps": fitted.steps, "stopped": fitted.stopped}
            found.append(fit | score(model, panel, target, scale))
            say(f"{kind}, seed {seed}: MASE {found[-1]['mase']:.4f} in {fitted.seconds:.0f} s")
        runs = [each["mase"] for each in found]
        figure = Figure(
            bench="m4-hourly/every-kind",
            impl=f"tidecast {kind}" + (f", {members} members" if members > 1 else ""),
            value=median(runs),
            unit="mase",
            protocol=PROTOCOL.format(series=len(panel), context=settings.series.context, threads=switches.threads),
            runs=runs,
            wanted=NAIVE_MASE,
            more={
                "seasonal_naive": naive["mase"],
                "parameters": sum(weights.numel() for weights in model.parameters()),
                "fits": found,
                "settings": {section: shown(settings)[section] for section in ("series", "model", "training")},
            },
        )
        report.write(figure)
    return report.path


def prepare(folder: Path) -> tuple[Panel, Floats, Floats, dict[str, float]]:
    """Lay out the histories; return them with targets (S, 48), scales (S,) and seasonal naive's scores, checked."""
    histories, target = read_split(folder)
    panel = lay_out(histories, horizon=HORIZON)
    scale = np.array([seasonal_scale(each[None], SEASON)[0] for each in histories])  # (S,)
    naive = score(SeasonalNaive(ModelConfig(kind="seasonal_naive", segment=24)), panel, target, scale)
    assert abs(naive["mase"] - NAIVE_MASE) < 1e-3, "seasonal naive does not have its published MASE"
    assert abs(naive["smape"] - NAIVE_SMAPE) < 1e-3, "seasonal naive does not have its published sMAPE"
    return panel, target, scale, naive


def read_split(folder: Path) -> tuple[list[Floats], Floats]:
    """Read the official files: histories, and what came after them (S, 48)."""
    histories, tests = (_read(folder / f"Hourly-{part}.csv") for part in ("train", "test"))
    return histories, np.stack(tests)


def _read(path: Path) -> list[Floats]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [np.array([float(cell) for cell in row[1:] if cell]) for row in rows]


def choose_settings(*, seed: int, members: int, sets: Sequence[str]) -> Settings:
    """Take the defaults of the product, and what `sets` says."""
    own = (f"training.seed={seed}", f"training.members={members}", "model.calendar=none", f"series.horizon={HORIZON}")
    return load(None, (*own, *sets))


def score(model: Any, panel: Panel, target: Floats, scale: Floats) -> dict[str, float]:
    """Score the forecasts from the end of every history."""
    return score_quantiles(predict(model, panel, np.arange(len(panel)), panel.length.numpy()), target, scale)


def score_quantiles(quantiles: Floats, target: Floats, scale: Floats) -> dict[str, float]:
    """Score quantiles (S, 48, Q): MASE, sMAPE, OWA, SQL, WQL and coverage."""
    every = measure(Matured(target=target, quantiles=quantiles, scale=scale))
    owa = 0.5 * (every["smape"] / NAIVE2_SMAPE + every["mase"] / NAIVE2_MASE)
    return {"owa": owa} | {name: every[name] for name in ("mase", "smape", "sql", "wql", "coverage_80", "coverage_95")}
