"""Judging forecasters on a panel: what is held out, forecasts that are always finite, and tables of scores.

series a  |------------ known ------------| origin 1 | origin 2 | origin 3 |
series b       |--------- known ---------| origin 1 | origin 2 | origin 3 |       each to its own end, or
common time    everything is cut at one time, that of the newest step of all: a series that ended has fewer origins

Nothing of an origin or later is known to the forecaster that is judged there, apart from the windows it is given.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from jobs.frames.frames import Readings
from jobs.retraining.backtest import MAX_TARGETS, Forecast, Pairs, find_scales
from models.metrics import METRICS, Interval, Matured, Metric, average, measure, skill
from models.network.baselines import SeasonalNaive
from models.network.forecasters import Forecaster as Network
from models.network.scaling import find_coarse
from models.panel import Panel, slices
from models.predict import predict
from pipeline.errors import ConfigError
from pipeline.records import Floats, Ints, Mask

NAIVE = "seasonal naive"
MODEL = "tidecast"
"""What a backtest calls the forecaster under test; NAIVE is beside it."""
AT_ONCE = 1024  # windows laid out side by side
ORIGINS, WINDOWS, HELD_OUT = 4, 64, 4
"""Origins where their number is left open: four, more until there are 64 windows, as long as no more than a quarter of
the usual series is held out."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A panel whose series end at the first origin (`known`), the whole (`panel`), and the pairs to be scored.

    at (N,): the number of each pair's origin, from 0; ends (S,): where the series end for the count of origins.
    """

    panel: Panel
    known: Panel
    pairs: Pairs
    origins: int
    stride: int
    at: Ints
    ends: Ints
    horizon: int

    def split(self, every: int) -> list[tuple[Panel, Mask]]:
        """Split the origins into groups of `every`: what is known before the first of a group, and its pairs (N,)."""
        parts = []
        for first in range(0, self.origins, every):
            back = self.horizon + self.stride * (self.origins - 1 - first)
            length = np.clip(self.ends - back, 0, self.panel.length.cpu().numpy())
            known = replace(self.panel, length=torch.from_numpy(length).to(self.panel.device))
            inside = (self.at >= first) & (self.at < first + every)
            if inside.any():
                parts.append((known, inside))
        return parts


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Matured forecasts of several forecasters on exactly the same pairs and targets; NAIVE is among them."""

    held_out: HeldOut
    matured: Mapping[str, Matured]


def hold_out(
    panel: Panel, *, context: int, horizon: int, origins: int | None, stride: int | None, common_time: bool
) -> HeldOut:
    """Choose rolling origins, `stride` steps apart (the horizon if left open), the last one `horizon` before the end.

    The end is each series' own, or with `common_time` the newest of all. A pair needs an observed step in its context
    and an observed target. Where the panel has more than MAX_TARGETS targets, evenly spread series are scored, each at
    all its origins. ConfigError when there is nothing to score.
    """
    length, first_step = panel.length.cpu().numpy(), panel.first_step.cpu().numpy()
    apart = horizon if stride is None else stride
    many = _count_origins(length, horizon, apart) if origins is None else origins
    if apart < 1 or many < 1:
        raise ConfigError(f"origins and stride must be at least 1, not {many} and {apart}")
    end = length if not common_time else (first_step + length).max() - first_step  # (S,) in steps of each series
    before = horizon + apart * np.arange(many - 1, -1, -1)  # (O,)
    wanted = max(1, MAX_TARGETS // (horizon * many))
    chosen = np.unique(np.linspace(0, len(panel) - 1, min(wanted, len(panel))).round().astype(np.int64))
    rows, at = (grid.ravel() for grid in np.meshgrid(chosen, np.arange(many), indexing="ij"))
    ends = end[rows] - before[at]
    inside = (ends >= 1) & (ends < length[rows])
    rows, ends, at = rows[inside], ends[inside], at[inside]
    seen = np.isfinite(find_truth(panel, rows, ends, horizon)).any(axis=1)
    seen &= count_observed(panel, rows, ends - context, ends) > 0
    rows, ends, at = rows[seen], ends[seen], at[seen]
    if not len(rows):
        raise ConfigError(
            f"nothing to score: the longest series has {int(length.max())} steps, a horizon of {horizon} and {many} "
            f"origins {apart} apart need more than {int(before[0])} with observed values: lower horizon or origins"
        )
    cut = torch.from_numpy(np.clip(end - before[0], 0, length)).to(panel.device)
    pairs = Pairs(rows, ends, first_step[rows] + ends)
    return HeldOut(panel, replace(panel, length=cut), pairs, many, apart, at, end, horizon)


def evaluate(held_out: HeldOut, forecasters: Mapping[str, Forecast], *, horizon: int, season: int) -> Evaluation:
    """Let every forecaster forecast the pairs; the scale of MASE is that of the known part."""
    pairs = held_out.pairs
    truth = find_truth(held_out.panel, pairs.rows, pairs.ends, horizon)
    scale = find_scales(held_out.known, season, pairs.rows)[pairs.rows]
    return Evaluation(
        held_out,
        {
            name: Matured(target=truth, quantiles=forecast(pairs.rows, pairs.ends), scale=scale)
            for name, forecast in forecasters.items()
        },
    )


def forecast_finite(
    network: Network, panel: Panel, rows: Ints, ends: Ints, *, device: torch.device | str = "cpu"
) -> tuple[Floats, Mask]:
    """Quantiles (N, H, Q), finite, and where (N,) they are seasonal naive's.

    They are where the network's were not finite, and where a window has fewer observed values than it needs.
    """
    quantiles = predict(network, panel, rows, ends, device=device)
    config = network.config
    broken: Mask = np.logical_not(np.isfinite(quantiles).all(axis=(1, 2)))  # (N,)
    if config.least_observed:
        broken |= count_observed(panel, rows, ends - config.context_length, ends) < config.least_observed
    if broken.any():
        naive = predict(SeasonalNaive(network.config), panel, rows[broken], ends[broken])
        quantiles[broken] = np.nan_to_num(naive)
    return quantiles, broken


def count_observed(panel: Panel, rows: Ints, first: Ints, stop: Ints) -> Ints:
    """Count the observed steps first[i] .. stop[i] - 1 of series rows[i]; steps before a series began are not."""
    before = np.concatenate([[0], panel.observed.cpu().numpy().cumsum()])  # (N + 1,)
    start = panel.start.cpu().numpy()[rows]
    counts: Ints = before[start + np.maximum(stop, 0)] - before[start + np.maximum(first, 0)]
    return counts


def find_coarse_windows(panel: Panel, rows: Ints, ends: Ints, context: int) -> Mask:
    """Which windows (N,) move by less than float64 holds well at their level."""
    begin = panel.start[torch.from_numpy(rows)] + torch.from_numpy(ends) - context  # (N,)
    coarse = np.zeros(len(rows), np.bool_)
    for first in range(0, len(rows), AT_ONCE):
        some = begin[first : first + AT_ONCE]
        windows = slices(panel.target, some, context), slices(panel.observed, some, context)
        coarse[first : first + AT_ONCE] = find_coarse(*windows).numpy()
    return coarse


def count_unknown(panel: Panel, rows: Ints, ends: Ints, horizon: int) -> int:
    """Count the values of future covariates that are missing in the horizons after the windows."""
    begin = panel.start[torch.from_numpy(rows)] + torch.from_numpy(ends)
    return int((~slices(panel.known_future_observed, begin, horizon)).sum())


def find_truth(panel: Panel, rows: Ints, ends: Ints, horizon: int) -> Floats:
    """The actuals after the windows: (N, H), NaN where nothing was observed."""
    device = panel.device
    target, observed = panel.future(torch.from_numpy(rows).to(device), torch.from_numpy(ends).to(device), horizon)
    return np.where(observed.cpu().numpy(), target.cpu().numpy().astype(np.float64), math.nan)


def score_table(evaluation: Evaluation) -> pd.DataFrame:
    """One row per forecaster: every metric of models.metrics, skill (WQL against NAIVE), and how much was scored."""
    reference = METRICS["wql"](evaluation.matured[NAIVE])
    origins = evaluation.held_out.pairs.origins
    rows = []
    for name, matured in evaluation.matured.items():
        scores = measure(matured)
        scored = matured.observed.any(axis=1)
        counts = {"targets": int(matured.observed.sum()), "windows": int(scored.sum())}
        times = {"origins": len(np.unique(origins[scored]))}
        rows.append({"forecaster": name, **scores, "skill": skill(scores["wql"], reference), **counts, **times})
    return pd.DataFrame(rows)


def step_table(evaluation: Evaluation) -> pd.DataFrame:
    """One row per forecaster and step of the horizon: MASE, MAE, WQL and coverage of that step alone."""
    chosen = ("mase", "mae", "wql", "coverage_80")
    rows = []
    for name, matured in evaluation.matured.items():
        for step in range(matured.target.shape[1]):
            part = slice(step, step + 1)
            one = replace(matured, target=matured.target[:, part], quantiles=matured.quantiles[:, part])
            scores = {metric: METRICS[metric](one) for metric in chosen}
            rows.append({"forecaster": name, "step": step + 1, **scores, "targets": int(one.observed.sum())})
    return pd.DataFrame(rows)


def series_table(evaluation: Evaluation, readings: Readings) -> pd.DataFrame:
    """One row per forecaster and series: MASE, MAE, WQL and coverage of that series alone."""
    chosen = ("mase", "mae", "wql", "coverage_80")
    column = readings.columns.series_id or "series_id"
    pairs = evaluation.held_out.pairs
    order = np.argsort(pairs.rows, kind="stable")
    each, firsts = np.unique(pairs.rows[order], return_index=True)
    rows = []
    for name, matured in evaluation.matured.items():
        for row, part in zip(each.tolist(), np.split(order, firsts[1:]), strict=True):
            one = replace(
                matured, target=matured.target[part], quantiles=matured.quantiles[part], scale=matured.scale[part]
            )
            scores = {metric: METRICS[metric](one) for metric in chosen}
            label = {"forecaster": name, column: readings.labels[row]}
            rows.append({**label, **scores, "targets": int(one.observed.sum())})
    return pd.DataFrame(rows)


def reliability_table(evaluation: Evaluation) -> pd.DataFrame:
    """One row per forecaster and central interval that its levels give exactly: the share it should hold, and held."""
    rows = []
    for name, matured in evaluation.matured.items():
        for level in reversed([level for level in matured.levels if level < 0.5]):
            if any(math.isclose(1.0 - level, other) for other in matured.levels):
                should = round(1.0 - 2.0 * level, 6)
                held = Metric(Interval(should).covered, average)(matured)
                rows.append({"forecaster": name, "interval": should, "held": held})
    return pd.DataFrame(rows)


def _count_origins(length: Ints, horizon: int, stride: int) -> int:
    most = max(ORIGINS, -(-WINDOWS // len(length)))
    return min(most, 1 + max(0, int(np.median(length)) // HELD_OUT - horizon) // max(1, stride))
