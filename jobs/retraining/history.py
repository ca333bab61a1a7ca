"""The history that a retraining reads: all of it, or as much of it as training.max_rows allows.

    all series, newest training.history steps      if that fits
    all series, fewer steps, down to a floor       if that fits
    a sample of the series, at the floor           else; drawn by training.seed

Rows are counted in SQL before any is read, so that memory is bounded by what is read, not by what is stored.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.grid.frequency import Frequency
from pipeline.records import History, Ints
from pipeline.settings import Settings
from pipeline.settings.jobs import HELD_OUT


@dataclass(frozen=True, slots=True)
class HistoryShare:
    """How much of the history was read: rows of series, of how many.

    depth: newest observations of each series at most; wished: without `limit`, which is training.max_rows.
    """

    series: int
    rows: int
    of_series: int
    of_rows: int
    depth: int
    wished: int
    limit: int

    @property
    def sampled(self) -> bool:
        """Whether less was read than the settings allow."""
        return self.series < self.of_series or self.depth < self.wished

    @property
    def words(self) -> str:
        """Say what was read."""
        if not self.sampled:
            return f"{self.rows:,} rows of {self.series:,} series"
        return (
            f"sampled: {self.rows:,} of {self.of_rows:,} rows, the newest {self.depth:,} of each of {self.series:,} of "
            f"{self.of_series:,} series (training.max_rows {self.limit:,})"
        )


class HistoryReader(Protocol):
    """Observations, for training."""

    def training_history(
        self, since: int | None, depth: int, covariates: Sequence[str] = (), *, series_ids: Ints | None = None
    ) -> tuple[list[str], History]:
        """Return every series' name and its newest `depth` observations, none older than `since`, with covariates.

        `series_ids`, ascending: only these series.
        """
        ...

    def count_history(self, depth: int) -> tuple[Ints, Ints]:
        """Return the ids (S,) of all series, ascending, and how many of its newest `depth` observations each has."""
        ...


def read_history(reader: HistoryReader, settings: Settings, depth: int) -> tuple[list[str], History, HistoryShare]:
    """Read names and newest `depth` observations of every series, or less within training.max_rows."""
    limit, covariates = settings.training.max_rows, settings.input.covariates
    series_ids, counts = reader.count_history(depth)
    total = int(counts.sum())
    if total <= limit:
        names, history = reader.training_history(None, depth, covariates)
        read = len(names), len(history.observed_at)
        return names, history, HistoryShare(*read, *read, depth, depth, limit)
    generator = np.random.default_rng(settings.training.seed)
    least, chosen = plan_sample(counts, limit, depth, find_floor(settings), generator)
    names, history = reader.training_history(None, least, covariates, series_ids=series_ids[chosen])
    read = len(names), len(history.observed_at)
    return names, history, HistoryShare(*read, len(series_ids), total, least, depth, limit)


def plan_sample(counts: Ints, limit: int, depth: int, floor: int, generator: np.random.Generator) -> tuple[int, Ints]:
    """Choose how many newest observations of which series to read, `limit` at most: depth, and rows of counts (S,)."""
    fewest, most = min(floor, depth, limit), depth
    while fewest < most:  # the greatest depth that fits
        middle = (fewest + most + 1) // 2
        if int(np.minimum(counts, middle).sum()) <= limit:
            fewest = middle
        else:
            most = middle - 1
    order = generator.permutation(len(counts))
    fits = np.cumsum(np.minimum(counts, fewest)[order]) <= limit
    return fewest, np.sort(order[fits])


def find_floor(settings: Settings) -> int:
    """Count the steps below which series are left out instead: enough to hold a context and the backtest four times."""
    backtest = settings.series.horizon * settings.jobs.gate_origins
    return HELD_OUT * (settings.series.context + backtest)


def find_depth(settings: Settings, frequency: Frequency, *, recent: bool) -> int:
    """Count the newest steps to read: training.history, or what training.recent and the backtest after it need."""
    if not recent:
        return settings.training.history
    backtest = settings.series.horizon * settings.jobs.gate_origins
    steps = count_recent(settings, frequency) + settings.series.context + backtest
    return min(settings.training.history, max(steps, HELD_OUT * backtest))


def count_recent(settings: Settings, frequency: Frequency) -> int:
    """Count the steps of training.recent."""
    return max(1, math.ceil(settings.training.recent / frequency.seconds))
