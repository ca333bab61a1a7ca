"""Matured forecasts of real series, and a stream of them that is calibrated while it goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from models.batch import Batch
from models.config import ModelConfig
from models.network.baselines import SeasonalNaive
from pipeline.forecasting.calibration import MEDIAN, NO_CALIBRATION, Calibration, MaturedSteps, correct
from pipeline.quantiles import shorten
from pipeline.quickstart.demo_series import load
from pipeline.records import Floats, Ints, Mask
from tests.unit.jobs.fakes import HOUR, START

HORIZON = 4
CONTEXT = 168
LENGTH = 700


@dataclass(frozen=True)
class Stream:
    """Forecast steps as the model made them: columns (N,), quantiles (N, Q); `target` is an hour from 0."""

    series: Ints
    step: Ints
    target: Ints
    actual: Floats
    quantiles: Floats

    @property
    def origin(self) -> Ints:
        return self.target - self.step

    def take(self, chosen: Mask) -> "Stream":
        return Stream(*(getattr(self, name)[chosen] for name in ("series", "step", "target", "actual", "quantiles")))

    def narrowed(self, share: float) -> "Stream":
        """The same model, as sure of itself as if its errors were that share of what they are."""
        return replace(self, quantiles=correct(self.quantiles, np.full(13, share)))

    def shifted(self, hour: int, times: float) -> "Stream":
        """The same, with errors that many times as large from an hour on."""
        median = self.quantiles[:, MEDIAN]
        later = median + times * (self.actual - median)
        return replace(self, actual=np.where(self.target >= hour, later, self.actual))


@cache
def seasonal_naive(series: int = 64) -> Stream:
    """HORIZON steps from each of 532 hours of the packaged series of M4-Hourly, by the seasonal naive."""
    table = load(series)
    values = np.stack([rows.to_numpy(np.float64)[-LENGTH:] for _, rows in table.groupby("series_id")["value"]])
    model = SeasonalNaive(ModelConfig(context_length=CONTEXT, horizon=HORIZON, season=24))
    windows = torch.from_numpy(values).float().unfold(1, CONTEXT, 1)[:, :-1].reshape(-1, CONTEXT)  # (S * O, T)
    none = torch.zeros(len(windows), dtype=torch.int64), torch.zeros(len(windows), HORIZON, 0)
    made = model(Batch.without_covariates(windows, torch.ones_like(windows, dtype=torch.bool), *none))
    origins = LENGTH - CONTEXT  # of each series
    target = np.tile(np.arange(CONTEXT, LENGTH), len(values))[:, None] + np.arange(HORIZON)  # (S * O, H)
    own = np.broadcast_to(np.repeat(np.arange(len(values)), origins)[:, None], target.shape)
    step = np.broadcast_to(np.arange(1, HORIZON + 1), target.shape)
    inside = target < LENGTH
    actual = values[own, np.minimum(target, LENGTH - 1)]
    return Stream(own[inside], step[inside], target[inside], actual[inside], made.double().numpy()[inside])


def coverage(actual: Floats, quantiles: Floats) -> tuple[float, float]:
    """Percent of actuals in the 80 % and the 95 % interval."""
    low, high = quantiles[:, [2, 0]], quantiles[:, [10, 12]]
    inside = (actual[:, None] >= low) & (actual[:, None] <= high)
    eighty, ninety_five = 100.0 * inside.mean(axis=0)
    return float(eighty), float(ninety_five)


@dataclass
class Live:
    """A stream at an hour: the `Calibrations` of jobs.upkeep.calibrate over the forecasts issued so far."""

    stream: Stream
    hour: int = 0
    stored: list[Calibration] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.issued = np.zeros(len(self.stream.step), np.bool_)
        self.carried = np.full(len(self.stream.step), NO_CALIBRATION)
        self.quantiles = self.stream.quantiles.copy()

    def advance(self, hour: int) -> None:
        """Issue the forecasts until an hour, with the newest calibration."""
        new = ~self.issued & (self.stream.origin < hour - 1)
        if self.stored:
            factors = np.array(self.stored[-1].factors)[self.stream.step[new] - 1]
            self.quantiles[new] = shorten(correct(self.stream.quantiles[new], factors)[:, None])[:, 0]
            self.carried[new] = self.stored[-1].version
        self.issued |= new
        self.hour = hour

    def newest(self, model_version: int, after: int = 0) -> Calibration | None:
        own = [each for each in self.stored if each.model_version == model_version and each.version > after]
        return own[-1] if own else None

    def versions(self, model_version: int, versions: Sequence[int]) -> list[Calibration]:
        return [each for each in self.stored if each.model_version == model_version and each.version in versions]

    def series(self) -> Ints:
        return np.unique(self.stream.series)

    def newest_observation(self, series_ids: Ints) -> int | None:
        return START + HOUR * (self.hour - 1)

    def matured(self, model_version: int, series_ids: Ints, target_times: Ints) -> MaturedSteps:
        times = START + HOUR * self.stream.target
        chosen = self.issued & (self.stream.target < self.hour) & np.isin(times, target_times)
        chosen &= np.isin(self.stream.series, series_ids) & (model_version == 0)
        return MaturedSteps(
            series_id=self.stream.series[chosen],
            step=self.stream.step[chosen],
            target_time=times[chosen],
            calibration=self.carried[chosen],
            quantiles=self.quantiles[chosen],
            actual=self.stream.actual[chosen],
        )

    def record(
        self,
        model_version: int,
        *,
        between: tuple[int, int],
        n: int,
        factors: Sequence[Sequence[float]],
        metrics: Mapping[str, Any],
        now: int,
    ) -> int:
        version = len(self.stored) + 1
        self.stored.append(Calibration(version, model_version, now, *between, n, factors, metrics))
        return version

    def coverage(self, first: int, stop: int) -> tuple[float, float]:
        """Percent held by the intervals that were issued, for targets first .. stop - 1."""
        chosen = self.issued & (self.stream.target >= first) & (self.stream.target < stop)
        return coverage(self.stream.actual[chosen], self.quantiles[chosen])
