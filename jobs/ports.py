"""What the jobs need from the outside, in their own words; the database's adapters keep these contracts.

Times are int microseconds since 1970 in UTC. Every method may raise Unavailable.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jobs.outcome import Ending
from pipeline.records import History, Ints


class Reader(Protocol):
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


class Registry(Protocol):
    """Models, and which of them is champion."""

    def champion(self) -> int | None:
        """Return the champion's version, or None."""
        ...

    def artifact(self, version: int) -> bytes:
        """Return a version's artifact; raises Corrupt when the bytes do not match the stored hash."""
        ...

    def register(  # noqa: PLR0913 - one row's columns, all by name
        self,
        *,
        name: str,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        train_from: int,
        train_to: int,
        seed: int,
        code: str,
        artifact: bytes,
        now: int,
    ) -> int:
        """Store a model with everything known about it, as JSON without NaN, and return its version."""
        ...

    def record_backtest(  # noqa: PLR0913 - one row's columns, all by name
        self,
        *,
        version: int,
        compared_to: int | None,
        origins: int,
        mase: float | None,
        wql: float | None,
        coverage_80: float | None,
        n: int,
        now: int,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Store what a version scored over `origins` origins and `n` targets; version 0 is seasonal naive."""
        ...

    def promote(self, version: int, *, expected: int | None, reason: str, now: int) -> bool:
        """Make `version` champion if `expected` still is; False, with nothing changed, if it no longer is."""
        ...


class Leases(Protocol):
    """Who is the one scheduler."""

    def acquire(self, name: str, owner: str, now: int, seconds: float) -> int | None:
        """Take the lease if it is free or has expired, and return its epoch; None while somebody else holds it."""
        ...

    def renew(self, name: str, owner: str, epoch: int, now: int, seconds: float) -> bool:
        """Hold it for `seconds` more; False when it was lost."""
        ...

    def release(self, name: str, owner: str, epoch: int) -> None:
        """Give it back, if it is still ours."""
        ...

    def mark_lost(self, now: int, silent_seconds: float) -> int:
        """Turn runs that sent no heartbeat for so long to `lost`; return how many."""
        ...


class Runs(Protocol):
    """What ran: one row per (job, scheduled_for)."""

    def begin(self, job: str, scheduled_for: int, owner: str, now: int) -> int | None:
        """Open a run and return its number; None when somebody already has this one."""
        ...

    def heartbeat(self, run: int, now: int, progress: Mapping[str, Any] | None = None) -> bool:
        """Note that the run is alive, and how far it is; False when the ledger thinks it has ended."""
        ...

    def finish(self, run: int, outcome: Ending, reason: str | None, now: int) -> bool:
        """Close a run that is running or was thought lost, with the reason in words; False when it was closed."""
        ...
