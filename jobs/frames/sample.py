"""A sample of the rows of a frame, from which the frequency is found, and what a grid is judged by."""

from dataclasses import dataclass
from datetime import tzinfo
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.grid.frequency import DAY
from pipeline.records import Floats, Ints, Mask

SERIES, ROWS, SAY = 200, 100_000, 100
"""Series in a sample, spread evenly; its rows, the newest of each; the rows from which on a series has a full say."""
COMMON, RARE = 6, 0.05
"""Values that are tried, and the least share of one whose common divisor is tried, too."""


class Candidate(NamedTuple):
    """A frequency and the shares that speak for it; of two that are alike the one of more worth wins."""

    text: str
    on: float
    next: float
    worth: float = 1.0


@dataclass(frozen=True)
class Sample:
    """N rows at different times of a few series, each series' in order of time.

    row (N,); times (N,) microseconds in UTC; local (N,) the same by the clock of the rows' zone; share (N,) what each
    says, in all 1.
    """

    row: Ints
    times: Ints
    local: Ints
    share: Floats

    @cached_property
    def within(self) -> Mask:
        """The rows (N - 1,) after the first that have one of their series before them."""
        inside: Mask = self.row[1:] == self.row[:-1]
        return inside

    @cached_property
    def share_of_steps(self) -> Floats:
        """What each way (M,) from a row to the next of its series says, in all 1."""
        share = self.share[1:][self.within]
        whole: Floats = share / share.sum()
        return whole


def pick(row: Ints, times: Ints) -> Ints:
    """Pick evenly spread series that have rows at two times or more."""
    count = int(row.max(initial=-1)) + 1
    first, last = np.full(count, np.iinfo(np.int64).max), np.full(count, np.iinfo(np.int64).min)
    np.minimum.at(first, row, times)
    np.maximum.at(last, row, times)
    some = np.flatnonzero(last > first)
    return some[np.unique(np.linspace(0, len(some) - 1, min(SERIES, len(some))).round().astype(np.int64))]


def draw(row: Ints, times: Ints, zone: tzinfo | None) -> Sample | None:
    """Take the newest rows of evenly spread series; None when no series has rows at two times."""
    picked = pick(row, times)
    if not len(picked):
        return None
    chosen = np.zeros(int(row.max()) + 1, np.bool_)
    chosen[picked] = True
    kept = chosen[row]
    row, times = row[kept], times[kept]
    order = np.lexsort((times, row))
    row, times = row[order], times[order]
    fresh = np.r_[True, (row[1:] != row[:-1]) | (times[1:] != times[:-1])]
    row, times = row[fresh], times[fresh]
    counts = np.bincount(row)
    newest = np.cumsum(counts)[row] - np.arange(len(row)) <= ROWS // len(picked)
    row, times = row[newest], times[newest]
    counts = np.bincount(row)
    share = (np.minimum(counts - 1, SAY) / np.maximum(counts, 1))[row]
    return Sample(row, times, _local(times, zone), share / share.sum())


def commonest(values: Ints, share: Floats) -> list[int]:
    """Name the values (M,) that have the largest shares, and what divides all that are not rare."""
    found, place = np.unique(values, return_inverse=True)
    weight = np.bincount(place, weights=share)
    order = np.argsort(-weight, kind="stable")
    usual = found[weight >= RARE]
    return [*found[order[:COMMON]].tolist(), *([int(np.gcd.reduce(usual))] if len(usual) else [])]


def mode(values: NDArray[Any], share: Floats) -> int:
    """Name the value that has the largest share."""
    return commonest(values.astype(np.int64), share)[0]


def _local(times: Ints, zone: tzinfo | None) -> Ints:
    """Read times (microseconds in UTC) on the clock of a zone.

    Where the times of day lie on both sides of midnight within half a day, as local midnights do in UTC, they are moved
    behind it, so that a day has one of each.
    """
    if zone is not None:
        clock = pd.DatetimeIndex(times.astype("datetime64[us]")).tz_localize("UTC").tz_convert(zone).tz_localize(None)
        times = clock.as_unit("us").to_numpy().astype(np.int64)
    hours = np.unique((times % DAY) * 24 // DAY)
    late, early = hours[hours >= 12], hours[hours < 12]
    if len(late) and len(early) and late.min() - early.max() >= 12:
        return times + (24 - int(late.min())) * (DAY // 24)
    return times
