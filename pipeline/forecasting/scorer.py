"""The windows that are due -> forecasts: the champion where it can, seasonal naive where it cannot."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import structlog
import torch

from models.artifact import Loaded
from models.batch import Batch
from models.config import ModelConfig
from models.network.baselines import SeasonalNaive
from models.network.scaling import find_coarse
from pipeline.columns import concat
from pipeline.errors import ConfigError, Corrupt, Unloadable
from pipeline.forecasting.calibration import NO_CALIBRATION, Calibration, correct, read_factors
from pipeline.forecasting.served import ADVICE, FAILURES, load_model, number_series
from pipeline.forecasting.windows import Grid, batch
from pipeline.quantiles import shorten
from pipeline.records import Due, Floats, Forecasts, Ints, Mask, Quality, no_forecasts

log = structlog.get_logger()
NAIVE_VERSION = 0
NEVER = 2**62
RETRY = 60_000_000  # microseconds after which a champion that was refused is tried again
MOST_WINDOWS = 1024  # in one forward pass; more only costs memory
SECOND = 1_000_000
WIDEST = 1e30  # of a quantile: its error can still be squared


class Champion(Protocol):
    """The registry as the scorer sees it."""

    def champion(self) -> int | None:
        """Return the version that the alias `champion` points at, or None."""
        ...

    def artifact(self, version: int) -> bytes:
        """Return a version's artifact; raises Corrupt when the bytes do not match the stored hash."""
        ...


class Calibrations(Protocol):
    """The calibrations as the scorer sees them."""

    def newest(self, model_version: int, after: int = 0) -> Calibration | None:
        """Return a model's newest calibration if its version is higher than `after`; its factors are not checked."""
        ...


class Scorer:
    """Holds the model in use and its calibration.

    `shape` is what the settings ask of a model; a champion of another shape is refused. `refused` is the champion that
    is not in use because it was refused or has failed, 0 if there is none, and `failures` counts how often that was.
    It is tried again every minute: an artifact can be restored, and memory be there again.
    """

    def __init__(
        self,
        registry: Champion,
        calibrations: Calibrations,
        grid: Grid,
        shape: ModelConfig,
        *,
        refresh_seconds: float = 2.0,
    ) -> None:
        self._registry = registry
        self._calibrations = calibrations
        self._grid = grid
        self._shape = shape
        self._naive = SeasonalNaive(shape).eval()
        self._refresh = int(refresh_seconds * SECOND)
        self._looked: int | None = None
        self._again: int | None = None
        self._seen: int | None = None
        self._loaded: Loaded | None = None
        self._rows: dict[str, int] = {}
        self._factors: Floats | None = None
        self._seen_calibration = NO_CALIBRATION
        self._calibrate_again = -NEVER
        self.version = NAIVE_VERSION
        self.calibration = NO_CALIBRATION
        self.refused = NAIVE_VERSION
        self.failures = 0

    @property
    def trained_until(self) -> int | None:
        """The newest event time, in microseconds, that the model in use has learned from; None for seasonal naive."""
        loaded = self._loaded
        cut = (loaded.provenance.get("lineage") or {}).get("train_to") if loaded else None
        return None if cut is None else int(cut)

    def refresh(self, now: int) -> None:
        """Swap to the champion and to its calibration if they changed; called between two turns, every few seconds.

        Raises ConfigError when the first champion that it sees does not fit the settings. A later one that does not
        fit, and any one that is broken, is logged, and the model in use stays: seasonal naive after a start.
        """
        if self._looked is not None and now - self._looked < self._refresh:
            return
        champion = self._registry.champion()
        if self.refused and self._again is None:
            self._again = now + RETRY
        if champion != self._seen or (self._again is not None and now >= self._again):
            self._swap(champion, first=self._looked is None)
        self._recalibrate(now)
        self._looked = now  # only now: after an Unavailable no turn is scored by a model without its calibration

    def score(self, dues: Sequence[Due], now: int) -> Forecasts:
        """Forecast every window that is due; forecasts come in the order of partition and offset."""
        horizon = self._shape.horizon
        parts = [self._score(due, now) for due in dues if len(due)]
        if not parts:
            return no_forecasts(horizon)
        joined = concat(parts)
        return joined.take(np.lexsort((joined.offset, joined.partition)))

    def _swap(self, champion: int | None, *, first: bool) -> None:
        before, refused, again = self.version, NAIVE_VERSION, None
        if champion is None or champion == NAIVE_VERSION:
            self._loaded, self._rows, self.version = None, {}, NAIVE_VERSION
        else:
            try:
                self._use(champion)
            except (ConfigError, Unloadable) as error:
                if first and isinstance(error, ConfigError):
                    raise
                refused = champion
                again = None if isinstance(error, Unloadable) else NEVER  # the settings stay what they are
                self.failures += 1
                log.error("champion refused", version=champion, reason=str(error), serving=self.version)
        self._seen, self.refused, self._again = champion, refused, again  # only now, as above
        if self.version != before:
            self._forget_calibration()

    def _recalibrate(self, now: int) -> None:
        """Take the newest calibration of the model in use; one that cannot be right leaves the last one."""
        if now < self._calibrate_again:
            return
        newest = None
        try:
            newest = self._calibrations.newest(self.version, after=self._seen_calibration)
            if newest is None:
                return
            self._seen_calibration = newest.version
            self._factors = read_factors(newest.factors, self._shape.horizon)
        except Corrupt as error:
            self.failures += 1
            self._calibrate_again = now if newest else now + RETRY  # a row that cannot be read has no version to skip
            version = newest.version if newest else None
            log.error("calibration refused", calibration=version, reason=str(error), using=self.calibration)
            return
        self.calibration = newest.version
        log.info("calibration in use", calibration=newest.version, version=self.version)

    def _use(self, version: int) -> None:
        self._loaded, self.version = load_model(self._registry, version, self._grid, self._shape), version
        self._rows = number_series(self._loaded)
        log.info("champion in use", version=version, series=len(self._rows))

    def _forget_calibration(self) -> None:
        self._factors, self.calibration, self._seen_calibration = None, NO_CALIBRATION, NO_CALIBRATION

    def _score(self, due: Due, now: int) -> Forecasts:
        rows = np.fromiter((self._rows.get(name, 0) for name in due.series), np.int64, len(due))
        windows = batch(due, rows, self._grid.frequency, self._shape.horizon)
        quantiles = self._forward(windows)
        version = np.full(len(due), self.version, np.int64)
        if self._loaded is not None:
            short = due.observed.sum(axis=1) < self._loaded.config.least_observed
            broken = ~np.isfinite(quantiles).all(axis=(1, 2)) & ~short
            if (aside := broken | short).any():
                quantiles[aside] = run(self._naive, windows.take(torch.from_numpy(aside)))
                version[aside] = NAIVE_VERSION
            if broken.any():
                log.error("forecasts not finite", version=self.version, series=int(broken.sum()))
        quantiles = np.clip(quantiles, -WIDEST, WIDEST)
        own = version == self.version
        if self._factors is not None:
            corrected = np.clip(correct(quantiles[own], self._factors), -WIDEST, WIDEST)
            quantiles[own] = self._raise(corrected, windows, own)
        calibration = np.where(own, self.calibration, NO_CALIBRATION)
        return assemble(due, self._grid, quantiles, version=version, calibration=calibration, now=now)

    def _raise(self, quantiles: Floats, windows: Batch, own: Mask) -> Floats:
        """Raise what a calibration has put below the floor of its window again."""
        floor = (self._loaded.model if self._loaded else self._naive).find_floor(windows)
        return quantiles if floor is None else np.maximum(quantiles, floor.double().numpy()[own, None, None])

    def _forward(self, windows: Batch) -> Floats:
        """Run the model in use; a champion that fails is left out for a while, or no worker would get past a window."""
        if self._loaded is not None:
            try:
                return run(self._loaded.model, windows)
            except FAILURES as error:
                self.failures += 1
                reason = f"{type(error).__name__}: {error}; {ADVICE}"
                log.error("champion failed", version=self.version, reason=reason, serving=NAIVE_VERSION)
                self.refused = self.version
                self._loaded, self._rows, self.version = None, {}, NAIVE_VERSION
                self._forget_calibration()
        return run(self._naive, windows)


def assemble(due: Due, grid: Grid, quantiles: Floats, *, version: Ints, calibration: Ints, now: int) -> Forecasts:
    """Make the forecasts of windows from their quantiles (N, H, Q) and the version of each (N,)."""
    steps = due.origin[:, None] + np.arange(1, quantiles.shape[1] + 1)  # (N, H)
    return Forecasts(
        series=due.series,
        series_id=due.series_id,
        origin=grid.frequency.time_of(due.origin),
        target_times=grid.frequency.time_of(steps.ravel()).reshape(steps.shape),
        quantiles=shorten(quantiles),
        model_version=version,
        calibration=calibration,
        quality=_grade(due, version, grid.series.min_observed),
        issued_at=np.full(len(due), now, np.int64),
        partition=due.partition,
        offset=due.offset,
    )


@torch.inference_mode()
def run(model: Callable[[Batch], torch.Tensor], windows: Batch) -> Floats:
    """Run a model over windows in pieces: quantiles (N, H, Q) float64."""
    pieces = []
    for first in range(0, len(windows), MOST_WINDOWS):
        piece = windows.take(slice(first, first + MOST_WINDOWS))
        pieces.append(model(piece).numpy())
    return np.concatenate(pieces)


def _grade(due: Due, version: Ints, least: float) -> list[Quality]:
    """Grade windows: one that messages on their way may still fill is degraded, whichever model forecast from it.

    So is one of a model's whose values move by less than float64 holds at their level.
    """
    coarse = find_coarse(torch.from_numpy(due.target), torch.from_numpy(due.observed)).numpy()  # (N,)
    enough = (due.observed.mean(axis=1) >= least) & ~coarse
    facts = zip(version.tolist(), enough.tolist(), due.partial.tolist(), strict=True)
    return [
        "degraded" if partial else "fallback" if used == NAIVE_VERSION else "ok" if full else "degraded"
        for used, full, partial in facts
    ]
