"""Quantiles as decimal numbers: rounded to what a forecast knows, and packed into bytes that SQL can read.

The numbers of a forecast are integers over one power of ten, its scale: number = (base + digits) / scale. The digits
are packed two to a byte, in as many bytes as the forecast needs, so that the hexadecimal text of the bytes is the
integer in every SQL dialect: bytes 01 23 45 are 12,345. The division here and in SQL is of the same two float64
numbers, so all readers get the same bits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Floats, Ints, Mask

NARROWEST = 3
"""Bytes of a number at least: a million units from the lowest to the highest quantile of a forecast."""
MOST = 9
"""Bytes of a number at most: 16 digits, what float64 holds, of either sign."""
FINEST = 1_000
"""Units that the narrowest interval of a forecast has at least."""
SAME = 1e-15
"""Relative difference of numbers that float64 may make of the same one."""
AT_ONCE = 128
"""Forecasts worked on at a time: of 48 steps they fit into a core's cache, which makes it twice as fast."""
WHOLE = 9e15  # below 2**53: integers that float64 holds exactly
_TRIES = 16  # powers of ten from the finest on that `shorten` chooses from
_LEAST = 300  # the negative of the lowest power of ten, and the highest
_POWERS = np.array([float(f"1e{power}") for power in range(-_LEAST, _LEAST + 1)])
_BYTES = np.array([tens * 16 + ones for tens in range(10) for ones in range(10)], np.uint8)
_PAIRS = np.zeros(256, np.int64)
_PAIRS[_BYTES] = np.arange(100)


@dataclass(frozen=True, slots=True)
class Packed:
    """Forecasts whose numbers take the same bytes: number (h, q) of forecast i is (base[i] + its digits) / scale[i]."""

    rows: Ints  # (N,) their places among the forecasts that were packed
    width: int  # bytes of a number
    base: Ints  # (N,)
    scale: Floats  # (N,) a power of ten
    digits: NDArray[np.uint8]  # (N, H * Q * width)


def shorten(quantiles: Floats) -> Floats:
    """Round the quantiles of forecasts (N, H, Q), ascending along the last axis, to decimals that are short to write.

    A forecast has one unit: at most a hundred thousandth of the distance between its lowest and its highest quantile,
    and a thousandth of its narrowest interval. A value that several levels of a step share may be an end of what is
    possible, which actuals are equal to: it is kept to within SAME. No unit is finer than float64 holds at the
    forecast's level.
    """
    whole = quantiles.astype(np.float64, copy=False)
    return np.concatenate([_shorten(whole[at : at + AT_ONCE]) for at in range(0, len(whole) or 1, AT_ONCE)])


def _shorten(quantiles: Floats) -> Floats:
    lowest, highest = _ends(quantiles)
    limit = _limit(lowest, highest, WHOLE)
    power = _finest(lowest, highest, 100.0**NARROWEST - 3)
    width = quantiles[..., -1] - quantiles[..., 0]  # (N, H)
    narrowest = np.where(width > 0.0, width, np.inf).min(axis=1)  # (N,)
    needed = np.ceil(np.log10(FINEST) - np.log10(np.where(np.isfinite(narrowest), narrowest, 1e300)))
    power = np.minimum(np.maximum(power, needed.astype(np.int64)), limit)
    rounded = _round(quantiles, power)
    equal = quantiles[..., 1:] == quantiles[..., :-1]  # (N, H, Q - 1)
    coarse = np.flatnonzero(_differ(quantiles, rounded, equal) & (power < limit))
    while len(coarse):
        power[coarse] += 1
        some = quantiles[coarse]
        rounded[coarse] = _round(some, power[coarse])
        coarse = coarse[_differ(some, rounded[coarse], equal[coarse]) & (power[coarse] < limit[coarse])]
    return rounded


def pack(quantiles: Floats) -> Iterator[Packed]:
    """Pack the quantiles of forecasts (N, H, Q), finite and as `shorten` makes them, those of equal width together.

    Such numbers lose nothing. Others are rounded to the 15 digits that float64 holds of a forecast's largest.
    """
    for start in range(0, len(quantiles), AT_ONCE):
        yield from _pack(quantiles, np.arange(start, min(start + AT_ONCE, len(quantiles))))


def _pack(quantiles: Floats, left: Ints) -> Iterator[Packed]:
    lowest, highest = _ends(quantiles[left])
    most = _limit(lowest, highest, 2.0**53)
    for width in range(NARROWEST, MOST - 1):
        for coarser in (0, 1):  # rounding may have moved the ends to the other side of a power of ten
            power = np.minimum(_finest(lowest, highest, 100.0**width - 1), most) - coarser
            units, exact = _count(quantiles[left], power)
            fits = exact & (_distance(units) < 100.0**width)
            if fits.any():
                yield _write(left[fits], units[fits], power[fits], width)
                left, lowest, highest, most = left[~fits], lowest[~fits], highest[~fits], most[~fits]
            if not len(left):
                return
    for i in left.tolist():
        yield _pack_one(quantiles[i : i + 1], i, _limit(*_ends(quantiles[i : i + 1]), 2.0**53))


def _pack_one(quantiles: Floats, row: int, most: Ints) -> Packed:
    """Pack a forecast (1, H, Q) of numbers near the limits of float64, or of numbers that were not rounded."""
    units, power = _count(quantiles, most - 1)[0], most - 1
    for coarser in range(_TRIES):
        scale = _scale(most - coarser)[:, None, None]
        found = np.rint(quantiles * scale)
        found += np.sign(quantiles - found / scale)  # two roundings, there and back, may be a unit
        if np.array_equal(found / scale, quantiles):
            units, power = found, most - coarser
            break
    return _write(np.array([row]), units, power, max(NARROWEST, -(-len(str(int(_distance(units)[0]))) // 2)))


def unpack(data: bytes, shape: tuple[int, int, int], width: int, base: Ints, scale: Floats) -> Floats:
    """Return the numbers (N, H, Q) of forecasts of one width, whose digits follow one another in `data`."""
    digits = unpack_integers(data, width).reshape(shape)
    numbers: Floats = (base[:, None, None] + digits) / scale[:, None, None]
    return numbers


def pack_integers(values: Ints, width: int) -> NDArray[np.uint8]:
    """Write integers of at least 0 (...,) as decimal digits, two to a byte: (..., width)."""
    packed = np.empty((*values.shape, width), np.uint8)
    left: NDArray[Any] = values.astype(np.uint32) if width < 5 else values
    for place in range(width - 1, 0, -1):
        rest = left // 100
        packed[..., place] = _BYTES[left - rest * 100]
        left = rest
    packed[..., 0] = _BYTES[left]
    return packed


def unpack_integers(data: bytes, width: int) -> Ints:
    """Read what `pack_integers` wrote, as a column (N,)."""
    pairs = _PAIRS[np.frombuffer(data, np.uint8)].reshape(-1, width)
    integers: Ints = pairs[:, 0].copy()
    for place in range(1, width):
        integers *= 100
        integers += pairs[:, place]
    return integers


def _count(quantiles: Floats, power: Ints) -> tuple[Floats, Mask]:
    """Return the numbers in units (N, H, Q), and whether they are these and nothing is lost (N,)."""
    scale = _scale(power)[:, None, None]
    units = np.rint(quantiles * scale)
    exact: Mask = np.all(units / scale == quantiles, axis=(1, 2))
    return units, exact


def _distance(units: Floats) -> Floats:
    distance: Floats = units.max(axis=(1, 2)) - units.min(axis=(1, 2))  # (N,)
    return distance


def _write(rows: Ints, units: Floats, power: Ints, width: int) -> Packed:
    whole = units.astype(np.int64)  # their distance may be more than float64 holds exactly
    base = whole.min(axis=(1, 2))  # (N,)
    digits = pack_integers(whole - base[:, None, None], width)
    return Packed(rows, width, base, _scale(power), digits.reshape(len(rows), -1))


def _ends(quantiles: Floats) -> tuple[Floats, Floats]:
    return quantiles.min(axis=(1, 2)), quantiles.max(axis=(1, 2))  # (N,) each


def _finest(lowest: Floats, highest: Floats, most: float) -> Ints:
    """Return the highest power of ten (N,) that makes at most so many units of the distance."""
    distance = highest - lowest
    power = np.floor(np.log10(most) - np.log10(np.where(distance > 0.0, distance, 1e-300)))
    finest: Ints = np.clip(power, -_LEAST, _LEAST).astype(np.int64)
    return finest


def _limit(lowest: Floats, highest: Floats, whole: float) -> Ints:
    """Return the highest power of ten (N,) that leaves the numbers below `whole`; 0 where all are zero."""
    largest = np.maximum(np.abs(lowest), np.abs(highest))
    power = np.floor(np.log10(whole) - np.log10(np.where(largest > 0.0, largest, whole)))
    most: Ints = np.clip(power, _TRIES - _LEAST, _LEAST).astype(np.int64)
    return most


def _scale(power: Ints) -> Floats:
    scale: Floats = _POWERS[power + _LEAST]
    return scale


def _round(quantiles: Floats, power: Ints) -> Floats:
    scale = _scale(power)[:, None, None]
    rounded: Floats = np.rint(quantiles * scale) / scale + 0.0  # no minus before a zero
    return rounded


def _differ(quantiles: Floats, rounded: Floats, equal: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell where a value that levels share is not kept (N,)."""
    off = np.abs(rounded - quantiles)[..., 1:] > SAME * np.abs(quantiles)[..., 1:]
    differ: Mask = np.any(off & equal, axis=(1, 2))
    return differ
