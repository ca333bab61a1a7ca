"""The backtest: every forecaster forecasts the same held-out windows and is scored by the same functions."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.retraining.significance import Losses, find_losses
from jobs.retraining.verdict import Score
from models.metrics import METRICS, Matured, seasonal_scale
from models.panel import Panel
from pipeline.records import Floats, Ints

MAX_TARGETS = 1_000_000
"""Targets scored at most: their quantiles are 100 MB; more would not change the third digit of a score."""

Named = TypeVar("Named")
Forecast = Callable[[Ints, Ints], Floats]
"""A forecaster bound to its panel: series rows (N,) and ends (N,) to quantiles (N, H, Q), as models.predict."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """The (series, origin) pairs of a backtest: series `rows[i]` known up to its step `ends[i] - 1`."""

    rows: Ints  # (N,)
    ends: Ints  # (N,)
    origins: Ints  # (N,) grid step of the first target

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Scored:
    """What a forecaster got, and the losses of each pair that its WQL is made of."""

    score: Score
    losses: Losses


def pick_pairs(panel: Panel, firsts: Sequence[int], horizon: int) -> Pairs:
    """Pair every series with every origin (`firsts`: grid steps of the first target) that has an observed target.

    Where that is more than MAX_TARGETS, evenly spread series are kept, each with all its origins.
    """
    wanted = max(1, MAX_TARGETS // (horizon * len(firsts)))
    chosen = np.unique(np.linspace(0, len(panel) - 1, min(wanted, len(panel))).round().astype(np.int64))
    rows, origins = (grid.ravel() for grid in np.meshgrid(chosen, np.asarray(firsts, np.int64), indexing="ij"))
    ends = origins - panel.first_step.cpu().numpy()[rows]
    inside = (ends >= 1) & (ends < panel.length.cpu().numpy()[rows])
    rows, ends, origins = rows[inside], ends[inside], origins[inside]
    _, observed = _truth(panel, rows, ends, horizon)
    seen = observed.any(axis=1)
    return Pairs(rows[seen], ends[seen], origins[seen])


def backtest(
    forecasters: Mapping[Named, Forecast], panel: Panel, pairs: Pairs, *, horizon: int, scale: Floats
) -> dict[Named, Scored]:
    """Score forecasters on exactly the same pairs; `scale` (S,) is each series' seasonal scale before the cut."""
    target, observed = _truth(panel, pairs.rows, pairs.ends, horizon)
    truth = np.where(observed, target, math.nan)  # (N, H)
    scored = {}
    for name, forecast in forecasters.items():
        matured = Matured(target=truth, quantiles=forecast(pairs.rows, pairs.ends), scale=scale[pairs.rows])
        scored[name] = Scored(score(matured, pairs), find_losses(matured, pairs.rows, pairs.origins))
    return scored


def score(matured: Matured, pairs: Pairs) -> Score:
    """Measure one forecaster; targets for which its quantiles are not finite are left out and not counted."""
    scored = matured.observed.any(axis=1)  # (N,)
    return Score(
        wql=METRICS["wql"](matured),
        mase=METRICS["mase"](matured),
        sql=METRICS["sql"](matured),
        coverage_80=METRICS["coverage_80"](matured),
        steps=int(matured.observed.sum()),
        windows=int(scored.sum()),
        origins=len(np.unique(pairs.origins[scored])),
    )


def find_scales(known: Panel, season: int, rows: Ints) -> Floats:
    """Measure the seasonal scale, the unit of MASE, of `rows` on a panel that ends at the cut: (S,), NaN elsewhere."""
    target, observed = known.target.cpu().numpy(), known.observed.cpu().numpy()
    starts, lengths = known.start.tolist(), known.length.tolist()
    scale = np.full(len(known), math.nan)
    for row in np.unique(rows).tolist():
        part = slice(starts[row], starts[row] + lengths[row])
        scale[row] = seasonal_scale(np.where(observed[part], target[part], math.nan)[None], season)[0]
    return scale


def _truth(panel: Panel, rows: Ints, ends: Ints, horizon: int) -> tuple[Floats, NDArray[np.bool_]]:
    device = panel.device
    target, observed = panel.future(torch.from_numpy(rows).to(device), torch.from_numpy(ends).to(device), horizon)
    return target.cpu().numpy().astype(np.float64), observed.cpu().numpy()
