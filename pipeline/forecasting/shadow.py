"""The shadow: a challenger that scores the windows that the champion scores. Nothing of it is ever published.

It may not touch what the champion does: one that does not fit, or that fails, is logged and left out until another
model becomes shadow; a forecast of it that is not finite is left out alone. What it left out counts against it.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import structlog

from models.artifact import Loaded
from models.config import ModelConfig
from pipeline.columns import concat
from pipeline.errors import ConfigError, Unloadable
from pipeline.forecasting.calibration import NO_CALIBRATION
from pipeline.forecasting.scorer import WIDEST, assemble, run
from pipeline.forecasting.served import FAILURES, load_model, number_series
from pipeline.forecasting.windows import Grid, batch
from pipeline.records import Due, Forecasts, Mask

log = structlog.get_logger()
SECOND = 1_000_000
ADVICE = "it is left out; run tidecast models drop-shadow"


class Shadow(Protocol):
    """The registry as the scorer of the shadow sees it."""

    def shadow(self) -> int | None:
        """Return the version that the alias `shadow` points at, or None."""
        ...

    def artifact(self, version: int) -> bytes:
        """Return a version's artifact; raises Corrupt when the bytes do not match the stored hash."""
        ...


class ShadowScorer:
    """Holds the shadow in use, if there is one; `shape` is what the settings ask of a model.

    `failures` counts how often one was refused, failed, or gave numbers that are not finite.
    """

    def __init__(self, registry: Shadow, grid: Grid, shape: ModelConfig, *, refresh_seconds: float = 2.0) -> None:
        self._registry = registry
        self._grid = grid
        self._shape = shape
        self._refresh = int(refresh_seconds * SECOND)
        self._looked: int | None = None
        self._seen: int | None = None
        self._loaded: Loaded | None = None
        self._rows: dict[str, int] = {}
        self.failures = 0

    @property
    def version(self) -> int | None:
        """The version that scores, or None."""
        return None if self._loaded is None else self._seen

    def refresh(self, now: int) -> None:
        """Swap to the shadow of the moment; called between two turns, every few seconds. An unfit one is logged."""
        if self._looked is not None and now - self._looked < self._refresh:
            return
        version = self._registry.shadow()
        if version != self._seen:
            self._loaded = None if version is None else self._load(version)
            self._seen = version
        self._looked = now  # only now: after an Unavailable it is looked at again

    def _load(self, version: int) -> Loaded | None:
        try:
            loaded = load_model(self._registry, version, self._grid, self._shape, alias="shadow", advice=ADVICE)
        except (ConfigError, Unloadable) as error:
            self.failures += 1
            log.error("shadow refused", version=version, reason=str(error))
            return None
        self._rows = number_series(loaded)
        log.info("shadow in use", version=version, series=len(self._rows))
        return loaded

    def score(self, dues: Sequence[Due], now: int) -> Forecasts | None:
        """Forecast every window that is due, as far as that is finite; None without a shadow, or when it fails."""
        if self._loaded is None:
            return None
        try:
            parts = [self._score(due, self._loaded, now) for due in dues if len(due)]
        except FAILURES as error:
            self.failures += 1
            log.error("shadow failed", version=self.version, reason=f"{type(error).__name__}: {error}")
            self._loaded = None
            return None
        return concat(parts) if parts else None

    def _score(self, due: Due, loaded: Loaded, now: int) -> Forecasts:
        rows = np.fromiter((self._rows.get(name, 0) for name in due.series), np.int64, len(due))
        quantiles = run(loaded.model, batch(due, rows, self._grid.frequency, self._shape.horizon))
        finite: Mask = np.asarray(np.isfinite(quantiles).all(axis=(1, 2)))
        enough: Mask = due.observed.sum(axis=1) >= loaded.config.least_observed
        made = assemble(
            due,
            self._grid,
            np.clip(np.where(finite[:, None, None], quantiles, 0.0), -WIDEST, WIDEST),
            version=np.full(len(due), self._seen, np.int64),
            calibration=np.full(len(due), NO_CALIBRATION, np.int64),
            now=now,
        )
        if (broken := ~finite & enough).any():
            self.failures += 1
            log.error("forecasts of the shadow not finite", version=self._seen, series=int(broken.sum()))
        return made.take(finite & enough)
