"""Synthetic series: what streams bring, from a few dozen causes that are drawn and combined at random.

Every function takes a generator and how many rows and steps, and returns (B, L) float64 of about unit spread;
`draw` puts them together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rng = np.random.Generator


class Series(NamedTuple):
    """B series of L steps: values, float64, and which of them were observed, bool."""

    values: Array
    observed: NDArray[np.bool_]


def draw(rng: Rng, rows: int, length: int, seasons: tuple[int, int]) -> Series:
    """Draw `rows` series of `length` steps with seasons of that many steps, 0 or 1 for none."""
    values = _compose(rng, rows, length, seasons)
    evolved = _some(rng, rows, _share_of_states(seasons[0]))[:, 0]
    values[evolved] = evolve(rng, int(evolved.sum()), length, seasons[0])
    other = values[rng.permutation(rows)]
    blended = _some(rng, rows, 0.15) * rng.uniform(0.2, 0.5, (rows, 1))
    values = (1.0 - blended) * values + blended * other
    values = _change_regime(rng, values, other)
    values = _transform(rng, values)
    values = disturb(rng, values)
    return Series(values, _observe(rng, rows, length))


def _some(rng: Rng, rows: int, share: float) -> NDArray[np.bool_]:
    """Which rows something happens to, (B, 1)."""
    return rng.random((rows, 1)) < share


def _log_uniform(rng: Rng, low: float, high: float, rows: int) -> Array:
    return np.exp(rng.uniform(np.log(low), np.log(high), (rows, 1)))


def _unit(values: Array) -> Array:
    """Each row at mean 0 and deviation 1; constant rows at 0."""
    centred = values - values.mean(axis=1, keepdims=True)
    unit: Array = centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-9)
    return unit


def _compose(rng: Rng, rows: int, length: int, seasons: tuple[int, int]) -> Array:
    """Season, second season, trend, wandering and noise, each of a strength of its own, some of them left away."""
    short, long = seasons
    parts = np.zeros((rows, length))
    strength = rng.gamma(1.0, 1.0, (rows, 1)) + 0.3
    if short > 1:
        pattern = _season(rng, rows, length, short)
        if long and long % short == 0 and long // short <= 60:
            pattern = _modulate(rng, pattern, rows, length, short, long // short)
        parts += strength * _some(rng, rows, 0.85) * pattern
    if long > 1:
        apart = _some(rng, rows, 0.35) * rng.gamma(1.0, 0.5, (rows, 1))
        parts += apart * _season(rng, rows, length, long)
    wandering = _wander(rng, rows, length)
    parts += _some(rng, rows, 0.6) * rng.gamma(1.0, 0.6, (rows, 1)) * wandering
    parts += _some(rng, rows, 0.5) * rng.gamma(1.0, 0.8, (rows, 1)) * _trend(rng, rows, length)
    smooth = _some(rng, rows, 0.2)[:, 0]
    count = int(smooth.sum())
    parts[smooth] += rng.gamma(1.0, 0.8, (count, 1)) * _gaussian_process(rng, count, length, short)
    amplitude = 1.0 + _some(rng, rows, 0.2) * rng.uniform(-0.9, 2.0, (rows, 1)) * np.linspace(0.0, 1.0, length)
    noise = _log_uniform(rng, 0.01, 1.5, rows) * _noise(rng, rows, length, parts)
    return parts * np.maximum(amplitude, 0.05) + noise


def _season(rng: Rng, rows: int, length: int, period: int) -> Array:
    """A pattern of one period, repeated; in some rows it drifts towards another, or its strength wanders."""
    time = (np.arange(length) + rng.integers(0, period, (rows, 1))) % period  # (B, L)
    patterns = _pattern(rng, rows, period)
    first = np.take_along_axis(patterns, time, axis=1)
    second = np.take_along_axis(patterns[rng.permutation(rows)], time, axis=1)
    share = _some(rng, rows, 0.25) * np.linspace(0.0, 1.0, length) * rng.uniform(0.0, 1.0, (rows, 1))
    count = -(-length // period) + 1
    wobble = 1.0 + _some(rng, rows, 0.3) * rng.uniform(0.05, 0.6, (rows, 1)) * rng.standard_normal((rows, count))
    cycle = np.arange(length) // period
    mixed: Array = ((1.0 - share) * first + share * second) * wobble[:, cycle]
    return mixed


def _pattern(rng: Rng, rows: int, period: int) -> Array:
    """One period (B, m): a few harmonics, bumps, or a value for each phase; of deviation 1."""
    phase = np.arange(period) / period
    harmonics = min(period // 2, 8)
    smooth = np.zeros((rows, period))
    decay = rng.uniform(0.3, 2.5, (rows, 1))
    for k in range(1, harmonics + 1):
        weight = rng.standard_normal((rows, 1)) * k**-decay
        smooth += weight * np.sin(2.0 * np.pi * (k * phase + rng.random((rows, 1))))
    bumps = np.zeros((rows, period))
    for _ in range(3):
        place, width = rng.random((rows, 1)), _log_uniform(rng, 0.01, 0.25, rows)
        apart = np.abs(phase - place)
        apart = np.minimum(apart, 1.0 - apart)
        bumps += rng.standard_normal((rows, 1)) * np.exp(-0.5 * (apart / width) ** 2)
    plateau = ((phase - rng.random((rows, 1))) % 1.0 < rng.uniform(0.1, 0.7, (rows, 1))).astype(float)
    each = rng.standard_normal((rows, period))
    if period > 60:  # a value for each phase of a year by minutes would be noise
        knots = rng.integers(12, 60)
        each = each[:, : knots + 1]
        each = _interpolate(each, period)
    kinds = np.stack((smooth, bumps, plateau + 0.2 * smooth, each))  # (4, B, m)
    chosen = rng.choice(4, rows, p=(0.45, 0.25, 0.15, 0.15))
    pattern = _unit(kinds[chosen, np.arange(rows)])
    daylight = _some(rng, rows, 0.08)
    return np.where(daylight, _unit(np.maximum(pattern, 0.0)), pattern)


def _interpolate(knots: Array, length: int) -> Array:
    """Values at evenly spaced knots (B, n) to (B, L), straight between them."""
    at = np.linspace(0.0, knots.shape[1] - 1.0, length)
    low = np.minimum(at.astype(int), knots.shape[1] - 2)
    share = at - low
    between: Array = knots[:, low] * (1.0 - share) + knots[:, low + 1] * share
    return between


def _modulate(rng: Rng, pattern: Array, rows: int, length: int, short: int, count: int) -> Array:
    """Change some of the `count` short periods of a long one: another pattern, another strength, another level."""
    other = _season(rng, rows, length, short)
    cycle = ((np.arange(length) + rng.integers(0, short * count, (rows, 1))) // short) % count  # (B, L)
    weekend = (cycle >= count - max(1, round(count * 2 / 7))).astype(float)
    free = np.take_along_axis(rng.standard_normal((rows, count)), cycle, axis=1)
    kind = rng.random((rows, 1))
    exchanged = pattern * (1.0 - weekend) + other * weekend * rng.uniform(0.2, 1.2, (rows, 1))
    weaker = pattern * (1.0 - weekend * rng.uniform(0.1, 1.0, (rows, 1)))
    weaker = weaker - weekend * rng.uniform(0.0, 1.5, (rows, 1))
    varied = pattern * (1.0 + 0.4 * rng.random((rows, 1)) * free) + rng.uniform(0.0, 0.6, (rows, 1)) * free
    return np.select([kind < 0.35, kind < 0.5, kind < 0.7, kind < 0.85], [pattern, exchanged, weaker, varied], pattern)


def _trend(rng: Rng, rows: int, length: int) -> Array:
    """Straight, bent, saturating or exponential."""
    time = np.linspace(0.0, 1.0, length)
    straight = rng.standard_normal((rows, 1)) * time * 2.0
    bent = straight.copy()
    for _ in range(3):
        knot = rng.random((rows, 1))
        bent = bent + rng.standard_normal((rows, 1)) * 3.0 * np.maximum(time - knot, 0.0)
    middle, width = rng.uniform(-0.2, 1.2, (rows, 1)), _log_uniform(rng, 0.02, 0.5, rows)
    logistic = 2.0 * rng.standard_normal((rows, 1)) / (1.0 + np.exp(-np.clip((time - middle) / width, -50, 50)))
    rate = rng.uniform(-3.0, 3.0, (rows, 1))
    exponential = rng.standard_normal((rows, 1)) * (np.exp(rate * time) - 1.0) / np.maximum(np.abs(rate), 0.3)
    kinds = np.stack((straight, bent, logistic, exponential))
    return kinds[rng.choice(4, rows, p=(0.35, 0.3, 0.2, 0.15)), np.arange(rows)]


def _wander(rng: Rng, rows: int, length: int) -> Array:
    """Random walks, autoregressions of all memories, smooth walks, and steps now and then."""
    shocks = rng.standard_normal((rows, length))
    heavy = _some(rng, rows, 0.2)
    shocks = np.where(heavy, rng.standard_t(3, (rows, length)) * 0.6, shocks)
    memory = 1.0 - _log_uniform(rng, 1e-3, 1.0, rows)  # (B, 1)
    walk = np.cumsum(shocks, axis=1)
    smooth = np.cumsum(_filter(shocks, np.full((rows, 1), 0.95)), axis=1)
    autoregressive = _filter(shocks, memory)
    happens = rng.random((rows, length)) < _log_uniform(rng, 0.002, 0.05, rows)
    steps = np.cumsum(np.where(happens, shocks, 0.0), axis=1)
    kinds = np.stack((walk, smooth, autoregressive, steps))
    chosen = kinds[rng.choice(4, rows, p=(0.3, 0.1, 0.45, 0.15)), np.arange(rows)]
    return _unit(chosen)


def _filter(shocks: Array, memory: Array) -> Array:
    """x[t] = memory x[t - 1] + shock[t], row by row."""
    out = np.empty_like(shocks)
    state = np.zeros(len(shocks))
    kept = memory[:, 0]
    for step in range(shocks.shape[1]):
        state = kept * state + shocks[:, step]
        out[:, step] = state
    return out


def _share_of_states(season: int) -> float:
    """How many series are like those of business and economics: most of what is counted by month, quarter or year."""
    return 0.4 if season in {1, 4, 12} else 0.25 if season in {7, 52} else 0.08


def evolve(rng: Rng, rows: int, length: int, season: int) -> Array:
    """Exponential smoothing, run forwards: level, damped slope and season, all of which follow the same errors."""
    alpha = rng.random(rows) ** 2 * _some(rng, rows, 0.85)[:, 0]
    beta = alpha * rng.uniform(0.0, 0.3, rows) * _some(rng, rows, 0.5)[:, 0]
    gamma = (1.0 - alpha) * rng.uniform(0.0, 0.4, rows) * _some(rng, rows, 0.6)[:, 0]
    damping = np.where(_some(rng, rows, 0.4)[:, 0], rng.uniform(0.8, 1.0, rows), 1.0)
    normal, heavy = rng.standard_normal((rows, length)), rng.standard_t(3, (rows, length)) * 0.6
    errors = np.where(_some(rng, rows, 0.2), heavy, normal)
    slope = rng.standard_normal(rows) * _log_uniform(rng, 0.1, 60.0, rows)[:, 0] / length
    level = np.zeros(rows)
    pattern = np.zeros((rows, max(season, 1)))
    if season > 1:
        pattern = _pattern(rng, rows, season) * rng.gamma(1.0, 3.0, (rows, 1)) * _some(rng, rows, 0.8)
    out = np.empty((rows, length))
    for step in range(length):
        error, phase = errors[:, step], step % max(season, 1)
        slope = damping * slope
        out[:, step] = level + slope + pattern[:, phase] + error
        level = level + slope + alpha * error
        slope = slope + beta * error
        if season > 1:
            pattern[:, phase] += gamma * error
    grown = np.exp(np.clip(_unit(out) * rng.uniform(0.05, 1.0, (rows, 1)), -6.0, 6.0))
    return _unit(np.where(_some(rng, rows, 0.5), grown, out))


def _gaussian_process(rng: Rng, rows: int, length: int, season: int, features: int = 24) -> Array:
    """Smooth and quasi-periodic functions, by random Fourier features of RBF, Matern and spectral mixture kernels."""
    time = np.arange(length)
    scale = _log_uniform(rng, 4.0, float(length), rows)
    tails = np.where(_some(rng, rows, 0.5), rng.standard_t(3, (rows, features)), rng.standard_normal((rows, features)))
    centre = np.where(_some(rng, rows, 0.4), 1.0 / rng.uniform(3.0, max(2.0 * season, 60.0), (rows, 1)), 0.0)
    frequency = tails / scale / (2.0 * np.pi) + centre * np.where(rng.random((rows, features)) < 0.5, 1.0, 2.0)
    values = np.zeros((rows, length))
    for each in range(features):
        angle = 2.0 * np.pi * (frequency[:, each, None] * time + rng.random((rows, 1)))
        values += np.cos(angle)
    return _unit(values)


def _noise(rng: Rng, rows: int, length: int, signal: Array) -> Array:
    """White, heavy-tailed, a little remembered, of a spread that follows the signal or comes in bursts."""
    white = rng.standard_normal((rows, length))
    tails = np.where(_some(rng, rows, 0.2), rng.standard_t(3, (rows, length)) * 0.6, white)
    kept = _filter(white, rng.uniform(-0.4, 0.8, (rows, 1)))
    noise = np.where(_some(rng, rows, 0.3), kept, tails)
    follows = np.exp(np.clip(0.7 * _unit(signal), -2.0, 2.0))
    bursts = np.exp(np.clip(_filter(0.15 * white[::-1], np.full((rows, 1), 0.98)), -2.5, 2.5))
    noise = np.where(_some(rng, rows, 0.25), noise * follows, noise)
    return np.where(_some(rng, rows, 0.12), noise * bursts, noise)


def _change_regime(rng: Rng, values: Array, other: Array) -> Array:
    """In some rows: from some step on another series, another level, another strength, or a season out of step."""
    rows, length = values.shape
    begin = rng.integers(0, length, (rows, 1))
    after = np.arange(length) >= begin
    spread = values.std(axis=1, keepdims=True)
    values = np.where(_some(rng, rows, 0.05) & after, other, values)
    values = values + _some(rng, rows, 0.15) * after * spread * rng.standard_normal((rows, 1)) * 2.0
    values = np.where(_some(rng, rows, 0.06) & after, values * rng.uniform(0.2, 2.5, (rows, 1)), values)
    shifted = np.take_along_axis(values, (np.arange(length) + rng.integers(1, 12, (rows, 1))) % length, axis=1)
    return np.where(_some(rng, rows, 0.03) & after, shifted, values)


def _transform(rng: Rng, values: Array) -> Array:
    """As they are, or multiplicative, positive, counted, intermittent, capped, floored, or in whole steps."""
    rows, length = values.shape
    unit = _unit(values)
    grown = np.exp(np.clip(unit * rng.uniform(0.1, 1.2, (rows, 1)), -6.0, 6.0))
    rate = np.exp(np.clip(unit * rng.uniform(0.2, 1.0, (rows, 1)), -4.0, 4.0)) * _log_uniform(rng, 0.05, 60.0, rows)
    counts = rng.poisson(np.minimum(rate, 1e4)).astype(float)
    sales = (rng.random((rows, length)) < np.clip(rate / 20.0, 0.01, 0.9)) * rng.gamma(2.0, 1.0, (rows, length))
    high, low = rng.uniform(-0.2, 2.0, (rows, 1)), rng.uniform(-2.0, 0.2, (rows, 1))
    capped = np.where(_some(rng, rows, 0.5), np.minimum(unit, high), np.maximum(unit, low))
    size = _log_uniform(rng, 0.02, 1.0, rows)
    whole = np.round(unit / size) * size
    held = np.maximum.accumulate(np.where(rng.random((rows, length)) < 0.4, np.arange(length), 0), axis=1)
    sticky = np.take_along_axis(unit, held, axis=1)
    kinds = np.stack((values, grown, counts, sales, capped, whole, sticky))
    chosen = rng.choice(len(kinds), rows, p=(0.52, 0.2, 0.08, 0.04, 0.08, 0.06, 0.02))
    transformed: Array = kinds[chosen, np.arange(rows)]
    return transformed


def disturb(rng: Rng, values: Array) -> Array:
    """Outliers, bursts, up and down, and one value of quite another size."""
    rows, length = values.shape
    spread = values.std(axis=1, keepdims=True)
    often = _log_uniform(rng, 5e-4, 0.02, rows) * _some(rng, rows, 0.15)
    hit = rng.random((rows, length)) < often
    values = values + hit * spread * rng.standard_t(2, (rows, length)).clip(-12.0, 12.0) * 2.0
    begin, lasts = rng.integers(0, length, (rows, 1)), rng.integers(1, 40, (rows, 1))
    time = np.arange(length)
    alone = (time == rng.integers(0, length, (rows, 1))) & _some(rng, rows, 0.03)
    values = values + alone * spread * _log_uniform(rng, 8.0, 300.0, rows) * rng.choice((-1.0, 1.0), (rows, 1))
    burst = (time >= begin) & (time < begin + lasts) & _some(rng, rows, 0.06)
    disturbed: Array = values + burst * spread * rng.standard_normal((rows, 1)) * 3.0
    return disturbed


def _observe(rng: Rng, rows: int, length: int) -> NDArray[np.bool_]:
    """Single steps and runs that are missing in some rows."""
    share = np.where(_some(rng, rows, 0.2), _log_uniform(rng, 0.005, 0.5, rows), 0.0)
    observed = rng.random((rows, length)) >= share
    time = np.arange(length)
    for _ in range(2):
        begin, lasts = rng.integers(0, length, (rows, 1)), rng.integers(1, max(2, length // 6), (rows, 1))
        observed &= ~((time >= begin) & (time < begin + lasts) & _some(rng, rows, 0.08))
    return observed
