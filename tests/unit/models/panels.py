"""Synthetic panels for the tests of this folder."""

from __future__ import annotations

import numpy as np

from models.panel import Panel, build_panel


def make_panel(
    *, series: int, steps: int | list[int], season: int, noise: float, features: int = 0, seed: int = 0
) -> Panel:
    """Sines of different level, size and phase, plus noise in units of their size."""
    random = np.random.default_rng(seed)
    length = np.full(series, steps) if isinstance(steps, int) else np.array(steps)
    parts = []
    for row in range(series):
        size, phase = random.uniform(1.0, 100.0), random.integers(season)
        wave = np.sin(2.0 * np.pi * (np.arange(length[row]) + phase) / season)
        parts.append(size * (3.0 + wave + noise * random.standard_normal(length[row])))
    return build_panel(
        np.concatenate(parts),
        length,
        first_step=np.zeros(series, dtype=np.int64),
        series=np.arange(1, series + 1),
        calendar=random.standard_normal((int(length.max()) + 64, features)),
        calendar_start=0,
        context_length=64,
        horizon=64,
    )
