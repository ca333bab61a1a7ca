"""Where requests wait for the database: so many at a time; what was just read is not read again; outages are dated."""

import asyncio
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

import anyio
import structlog
from anyio import CapacityLimiter, to_thread

from pipeline.errors import TooSlow, Unavailable

log = structlog.get_logger()
P = ParamSpec("P")
R = TypeVar("R")
MOST_WAITING = 128
"""Requests that wait for a connection; the next one is told to try again."""


class Busy(Exception):
    """Too many requests wait already."""


class Away(Exception):
    """The database does not answer; `since` is when it was first found away, microseconds UTC."""

    def __init__(self, since: int, why: str) -> None:
        super().__init__(why)
        self.since = since


class QueryQueue:
    """Hands questions to threads; for one event loop. `clock` returns microseconds UTC.

    A question without an answer after `patience` seconds is given up, and its thread left to itself: a database that is
    frozen keeps its connection open and never says that the query was stopped.
    """

    def __init__(self, queries: int, clock: Callable[[], int], patience: float) -> None:
        self._queries = queries
        self._patience = patience
        self._clock = clock
        self._limiter: CapacityLimiter | None = None
        self._waiting = 0
        self._away_since: int | None = None
        self._remembered: dict[Hashable, tuple[float, Any]] = {}
        self._locks: dict[Hashable, asyncio.Lock] = {}

    @property
    def away_since(self) -> int | None:
        """Since when the database has not answered, None while it does."""
        return self._away_since

    async def ask(self, read: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a reading function in a thread; Busy, Away or TooSlow when it cannot be answered."""
        if self._waiting >= MOST_WAITING:
            raise Busy
        if self._limiter is None:
            self._limiter = CapacityLimiter(self._queries)
        self._waiting += 1
        try:
            async with self._limiter:
                found = await self.within(self._patience, partial(read, *args, **kwargs))
        except TooSlow:
            raise
        except (Unavailable, TimeoutError) as error:
            if self._away_since is None:
                self._away_since = self._clock()
                log.warning("database away", error=str(error) or f"no answer in {self._patience:g} s")
            raise Away(self._away_since, str(error)) from error
        finally:
            self._waiting -= 1
        if self._away_since is not None:
            log.info("database is back", away_seconds=(self._clock() - self._away_since) / 1e6)
            self._away_since = None
        return found

    async def remembered(self, key: Hashable, seconds: float, read: Callable[[], R]) -> R:
        """Ask, unless somebody has asked for `key` within `seconds`; who asks meanwhile waits for the same answer.

        Keys are kept for good: there must be few, and none with a text that a client chose.
        """
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            until, found = self._remembered.get(key, (0.0, None))
            if time.monotonic() >= until:
                found = await self.ask(read)
                self._remembered[key] = (time.monotonic() + seconds, found)
        return cast(R, found)

    async def within(self, seconds: float, read: Callable[[], R]) -> R:
        """Call a function in a thread; TimeoutError after so long."""
        with anyio.fail_after(seconds):
            return await to_thread.run_sync(read, abandon_on_cancel=True)
