"""The first model comes by itself: a retraining is requested as soon as the history allows a backtest.

The scheduler on duty looks once a minute, as long as no model was ever fitted, and requests it once: whatever becomes
of that run, the timetable goes on from there. While a history is loaded it waits, because a model of the first part of
it would have to wait for the timetable to learn the rest.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from pipeline.errors import Unavailable

JOB = "retrain"
CAUSE = "the history is long enough for the first model"
EVERY = 60.0
"""Seconds between two looks."""
GROWTH = 0.05
"""Share of all stored messages that may have arrived since the last look; with more of them a history is loaded."""
log = structlog.get_logger()


class History(Protocol):
    """What is stored, as far as the first model needs to know."""

    def fitted(self) -> bool:
        """Tell whether a model was ever fitted to a history here."""
        ...

    def messages(self) -> int:
        """Count the messages of the input topic that are stored."""
        ...

    def reached(self) -> int:
        """Count the steps that the longest history of a series reaches over."""
        ...


class Requests(Protocol):
    """Runs of jobs, and requests for them."""

    def caused(self, job: str, cause: str) -> bool:
        """Tell whether a run of the job had this cause, or one runs at this moment, whatever its cause."""
        ...

    def request(self, job: str, reason: str, now: int) -> bool:
        """Ask the scheduler on duty to run a job at once; False when a request waits already, which stays as it is."""
        ...


@dataclass(slots=True)
class FirstModel:
    """Requests the first retraining, when a series' history reaches over `needed` steps."""

    history: History
    requests: Requests
    needed: int
    clock: Callable[[], int]
    timer: Callable[[], float] = time.monotonic
    _next: float = field(default=0.0, init=False)
    _before: int | None = field(default=None, init=False)
    _over: bool = field(default=False, init=False)

    def look(self) -> None:
        """Look whether it is time, at most once a minute."""
        if self._over or self.timer() < self._next:
            return
        self._next = self.timer() + EVERY
        with suppress(Unavailable):  # then in a minute
            self._look()

    def _look(self) -> None:
        if self.history.fitted():
            self._over = True
            return
        before, messages = self._before, self.history.messages()
        self._before = messages
        if before is None or messages - before > GROWTH * messages:
            return
        reached = self.history.reached()
        if reached < self.needed or self.requests.caused(JOB, CAUSE):
            return
        if self.requests.request(JOB, CAUSE, self.clock()):
            log.info("first retraining requested", steps=reached, needed=self.needed)
