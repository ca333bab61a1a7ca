"""Batches to pretrain on: windows of synthetic and of real series that share one season, and what came after them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.network.pretrained import REACH, find_long_season
from models.pretraining.synthetic import Array, Rng, draw

LEAST = 8
"""Observed points of a window, at least."""


class Group(NamedTuple):
    """Windows of one season: how often they are drawn, how long they are, and how far ahead they are forecast."""

    season: int
    weight: float
    contexts: tuple[int, ...]
    horizons: tuple[int, ...]


GROUPS = (
    Group(24, 0.22, (256, 512, 1024, 1024), (24, 48, 48, 96, 168)),
    Group(48, 0.07, (512, 1024, 1024), (48, 48, 96, 336)),
    Group(96, 0.04, (512, 1024), (96, 192)),
    Group(288, 0.07, (512, 1024), (48, 96, 288)),
    Group(144, 0.02, (512, 1024), (144,)),
    Group(60, 0.02, (512,), (60,)),
    Group(7, 0.15, (128, 256, 512, 1024), (14, 30, 30, 60)),
    Group(12, 0.17, (48, 96, 192, 256), (12, 18, 24)),
    Group(4, 0.1, (24, 48, 128), (8, 8, 12)),
    Group(52, 0.08, (128, 256, 512), (8, 13, 26)),
    Group(1, 0.06, (16, 32, 64, 256), (6, 8, 14, 24)),
)
AVERAGED = (2, 3, 4, 6, 12)
"""Steps of a real series that may be averaged into one."""


@dataclass(frozen=True, slots=True)
class Windows:
    """B windows and X of the steps after them, `steps`, counted from 0."""

    values: Tensor
    known: Tensor
    targets: Tensor
    there: Tensor
    steps: tuple[int, ...]


def read_real(file: Path) -> dict[int, list[Array]]:
    """The real series of an .npz file by season: its arrays are named 'season/name'; each is one series, NaN for gaps.

    A series also counts for the coarser grids that its season divides into.
    """
    found: dict[int, list[Array]] = {}
    wanted = {group.season for group in GROUPS}
    with np.load(file, allow_pickle=False) as archive:
        for key in archive.files:
            season, values = int(key.split("/", 1)[0]), archive[key].astype(float)
            found.setdefault(season, []).append(values)
            for count in AVERAGED:
                if season % count == 0 and season // count in wanted and season // count > 1:
                    found.setdefault(season // count, []).append(_average(values, count))
    return found


def _average(values: Array, count: int) -> Array:
    rows = values[: len(values) // count * count].reshape(-1, count)
    known = np.isfinite(rows)
    total = np.where(known, rows, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


def batches(
    rng: Rng, rows: int, real: Mapping[int, Sequence[Array]], *, real_share: float, steps: int = 24
) -> Iterator[tuple[int, Windows]]:
    """Season and windows, without end."""
    weights = np.array([group.weight for group in GROUPS])
    while True:
        group = GROUPS[rng.choice(len(GROUPS), p=weights / weights.sum())]
        context, horizon = int(rng.choice(group.contexts)), min(int(rng.choice(group.horizons)), REACH)
        yield (
            group.season,
            _draw(rng, rows, group.season, context, horizon, real.get(group.season, ()), real_share, steps),
        )


def _draw(
    rng: Rng,
    rows: int,
    season: int,
    context: int,
    horizon: int,
    real: Sequence[Array],
    real_share: float,
    steps: int,
) -> Windows:
    length = context + horizon
    long = find_long_season(season)
    series = draw(rng, rows, length, (season, long if long <= 2 * length else 0))
    values, observed = series.values, series.observed
    taken = rng.random(rows) < real_share if real else np.zeros(rows, dtype=bool)
    for row in np.flatnonzero(taken):
        values[row], observed[row] = _take(rng, real, length, horizon)
    values = _mix(rng, values, observed, taken)
    values = np.where(rng.random((rows, 1)) < 0.1, -values, values)
    _shorten(rng, observed, context)
    chosen = np.sort(rng.choice(horizon, min(steps, horizon), replace=False))
    values = np.where(observed, values, 0.0)
    there = observed[:, context:][:, chosen] & (observed[:, :context].sum(axis=1, keepdims=True) >= LEAST)
    return Windows(
        torch.from_numpy(values[:, :context].copy()),
        torch.from_numpy(observed[:, :context].copy()),
        torch.from_numpy(values[:, context:][:, chosen].copy()),
        torch.from_numpy(there.copy()),
        tuple(chosen.tolist()),
    )


def _take(rng: Rng, real: Sequence[Array], length: int, horizon: int) -> tuple[Array, NDArray[np.bool_]]:
    """A stretch of one real series; one that is too short has nothing before it."""
    sizes = np.sqrt([len(each) for each in real])
    chosen = real[rng.choice(len(real), p=sizes / sizes.sum())]
    end = len(chosen) if len(chosen) <= LEAST + horizon else int(rng.integers(LEAST + horizon, len(chosen) + 1))
    stretch = chosen[max(0, end - length) : end]
    values, observed = np.zeros(length), np.zeros(length, dtype=bool)
    known = np.isfinite(stretch)
    observed[length - len(stretch) :] = known
    values[length - len(stretch) :] = np.where(known, stretch, 0.0)
    if not known.any():
        return values, observed
    spread = values[observed].std() or 1.0
    return np.where(observed, (values - values[observed].mean()) / spread, 0.0), observed


def _mix(rng: Rng, values: Array, observed: NDArray[np.bool_], taken: NDArray[np.bool_]) -> Array:
    """Add a little of another row to some of the real ones, so that none is seen twice."""
    partner = rng.permutation(len(values))
    spread = values.std(axis=1, keepdims=True) + 1e-9
    share = rng.uniform(0.0, 0.5, (len(values), 1)) * ((rng.random(len(values)) < 0.3) & taken)[:, None]
    both = observed & observed[partner]
    centred = (values[partner] - values[partner].mean(axis=1, keepdims=True)) / spread[partner]
    return np.where(both | (share == 0.0), values + share * spread * np.where(both, centred, 0.0), values)


def _shorten(rng: Rng, observed: NDArray[np.bool_], context: int) -> None:
    """Let two of five windows begin later, down to LEAST steps."""
    rows = len(observed)
    short = rng.random(rows) < 0.4
    kept = np.exp(rng.uniform(np.log(LEAST), np.log(context), rows)).astype(int)
    begin = np.where(short, context - kept, 0)
    observed &= np.arange(observed.shape[1]) >= begin[:, None]
