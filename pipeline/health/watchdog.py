"""A watchdog for calls that may never return: it ends the process, and the next start claims again."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pipeline.forecasting.calibration import Calibration
from pipeline.forecasting.scorer import Calibrations, Champion
from pipeline.forecasting.shadow import Shadow
from pipeline.records import Claim, DeadLetter, Forecasts, Left, RecentHistory, Standing, Turn
from pipeline.stream.ports import Store

log = logging.getLogger(__name__)


def end_process(doing: str, seconds: float) -> None:
    """End this process at once, as a crash would; everything it had begun is undone or finished by the next claim."""
    log.critical(
        "ending this process: %s did not return within %.0f s; a restart goes on where it stopped", doing, seconds
    )
    os._exit(1)


class Watchdog:
    """Watches one call at a time, from a daemon thread.

    `seconds` is how long a guarded call may take; `expire(doing, seconds)` is called once it took longer.
    """

    def __init__(self, seconds: float, expire: Callable[[str, float], None] = end_process) -> None:
        self._seconds = seconds
        self._expire = expire
        self._guarded: tuple[str, float] | None = None
        self._thread: threading.Thread | None = None

    @contextmanager
    def guard(self, doing: str) -> Iterator[None]:
        """Run the body under the watchdog; guards may nest, the outer one's deadline then comes back."""
        outer, self._guarded = self._guarded, (doing, time.monotonic() + self._seconds)
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        try:
            yield
        finally:
            self._guarded = outer

    def guarding(self, doing: str, call: Callable[[int], int]) -> Callable[[int], int]:
        """Return the call under the watchdog."""

        def guarded(argument: int) -> int:
            with self.guard(doing):
                return call(argument)

        return guarded

    def _watch(self) -> None:
        pause = min(1.0, self._seconds / 10)
        while True:
            time.sleep(pause)
            guarded = self._guarded
            if guarded is not None and time.monotonic() > guarded[1]:
                self._expire(guarded[0], self._seconds)
                return


class WatchedStore:
    """A `Store` under a watchdog: a database server that is frozen still acknowledges, so its calls never time out."""

    def __init__(self, store: Store, watchdog: Watchdog) -> None:
        self._store = store
        self._watchdog = watchdog

    def claim(self, partition: int, owner: str) -> Claim:
        """See pipeline.stream.ports.Store."""
        with self._watchdog.guard("claiming a partition in SQL"):
            return self._store.claim(partition, owner)

    def recent(self, names: Sequence[str], depth: int, until: int | None = None) -> RecentHistory:
        """See pipeline.stream.ports.Store."""
        with self._watchdog.guard("reading history from SQL"):
            return self._store.recent(names, depth, until)

    def place(self, names: Sequence[str], partition: int) -> set[str]:
        """See pipeline.stream.ports.Store."""
        with self._watchdog.guard("placing series in SQL"):
            return self._store.place(names, partition)

    def standing(self) -> Standing:
        """See pipeline.stream.ports.Store."""
        with self._watchdog.guard("reading the standing from SQL"):
            return self._store.standing()

    def spread_after(self, number: int) -> set[str]:
        """See pipeline.stream.ports.Store."""
        with self._watchdog.guard("looking for spread series in SQL"):
            return self._store.spread_after(number)

    def known(self, names: Sequence[str]) -> set[str]:
        """See pipeline.stream.ports.Store."""
        with self._watchdog.guard("looking for series in SQL"):
            return self._store.known(names)

    def count_series(self) -> int:
        """See pipeline.stream.ports.Store."""
        with self._watchdog.guard("counting series in SQL"):
            return self._store.count_series()

    def commit(self, turn: Turn) -> Forecasts:
        """See pipeline.stream.ports.Store."""
        with self._watchdog.guard("storing a turn in SQL"):
            return self._store.commit(turn)

    def identify(self, partition: int, incarnation: str) -> str:
        """See pipeline.stream.ports.Store."""
        with self._watchdog.guard("identifying the topic in SQL"):
            return self._store.identify(partition, incarnation)

    def retire(self, incarnation: str, reason: str) -> str:
        """See pipeline.stream.ports.Store."""
        with self._watchdog.guard("retiring a topic in SQL"):
            return self._store.retire(incarnation, reason)

    def unpublished(self, partition: int, start: int, stop: int) -> tuple[Forecasts, tuple[DeadLetter, ...]]:
        """See pipeline.stream.ports.Store."""
        with self._watchdog.guard("reading the outbox from SQL"):
            return self._store.unpublished(partition, start, stop)

    def leave(self, left: Sequence[Left]) -> None:
        """See pipeline.stream.ports.Store."""
        with self._watchdog.guard("noting in SQL what a topic refused"):
            self._store.leave(left)

    def rewind(self, claim: Claim, next_offset: int, reason: str) -> Claim:
        """See pipeline.stream.ports.Store."""
        with self._watchdog.guard("moving an offset in SQL"):
            return self._store.rewind(claim, next_offset, reason)


class WatchedChampion:
    """A `Champion` under a watchdog, for the same reason."""

    def __init__(self, registry: Champion, watchdog: Watchdog) -> None:
        self._registry = registry
        self._watchdog = watchdog

    def champion(self) -> int | None:
        """See pipeline.forecasting.scorer.Champion."""
        with self._watchdog.guard("looking for the champion in SQL"):
            return self._registry.champion()

    def artifact(self, version: int) -> bytes:
        """See pipeline.forecasting.scorer.Champion."""
        with self._watchdog.guard("reading a model from SQL"):
            return self._registry.artifact(version)


class WatchedShadow:
    """The registry's `Shadow` under a watchdog, for the same reason."""

    def __init__(self, registry: Shadow, watchdog: Watchdog) -> None:
        self._registry = registry
        self._watchdog = watchdog

    def shadow(self) -> int | None:
        """See pipeline.forecasting.shadow.Shadow."""
        with self._watchdog.guard("looking for the shadow in SQL"):
            return self._registry.shadow()

    def artifact(self, version: int) -> bytes:
        """See pipeline.forecasting.shadow.Shadow."""
        with self._watchdog.guard("reading a shadow from SQL"):
            return self._registry.artifact(version)


class WatchedCalibrations:
    """`Calibrations` under a watchdog, for the same reason."""

    def __init__(self, calibrations: Calibrations, watchdog: Watchdog) -> None:
        self._calibrations = calibrations
        self._watchdog = watchdog

    def newest(self, model_version: int, after: int = 0) -> Calibration | None:
        """See pipeline.forecasting.scorer.Calibrations."""
        with self._watchdog.guard("looking for a calibration in SQL"):
            return self._calibrations.newest(model_version, after)
