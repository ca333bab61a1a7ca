"""What the jobs need from the outside, in their own words; the database's adapters keep these contracts.

Times are int microseconds since 1970 in UTC. Every method may raise Unavailable.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from jobs.clock.outcome import Ending
from pipeline.forecasting.calibration import Calibration, MaturedSteps
from pipeline.live import LivePairs
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

    def shadow(self) -> int | None:
        """Return the version of the shadow, or None."""
        ...

    def begin_shadow(self, version: int, *, expected: int | None, reason: str, now: int) -> bool:
        """Let `version` score beside the champion in place of the shadow `expected`; False if that is another."""
        ...


class Shadowing(Protocol):
    """A model that scores beside the champion."""

    @property
    def version(self) -> int:
        """Which one."""
        ...

    @property
    def since(self) -> int:
        """When it became shadow."""
        ...


class ShadowRegistry(Protocol):
    """Which models are champion and shadow, for the end of a shadow's period."""

    def champion(self) -> int | None:
        """Return the champion's version, or None."""
        ...

    def shadowing(self) -> Shadowing | None:
        """Return the shadow and since when it is one, or None."""
        ...

    def promote_shadow(self, version: int, *, expected: int | None, reason: str, now: int) -> bool:
        """Make the shadow champion if both still are what they were; False, with nothing changed, if not."""
        ...

    def drop_shadow(self, version: int, *, reason: str, now: int) -> bool:
        """End the shadow `version`; False when it is the shadow no longer."""
        ...


class Shadows(Protocol):
    """Live forecasts of shadow and champion."""

    def live_pairs(self, shadow: int, champion: int, since: int) -> LivePairs:
        """Sum up what both forecast at or after `since`, as far as it has matured."""
        ...


class Calibrations(Protocol):
    """Calibrations of models, and the matured forecasts they are found from."""

    def newest(self, model_version: int, after: int = 0) -> Calibration | None:
        """Return a model's newest calibration if its version is higher than `after`."""
        ...

    def versions(self, model_version: int, versions: Sequence[int]) -> list[Calibration]:
        """Return those of a model's calibrations that have these versions, newest first."""
        ...

    def series(self) -> Ints:
        """Return the ids of all series, ascending."""
        ...

    def newest_observation(self, series_ids: Ints) -> int | None:
        """Return the time of the newest observed value of some series."""
        ...

    def matured(self, model_version: int, series_ids: Ints, target_times: Ints) -> MaturedSteps:
        """Return every forecast step of a model for these series and targets whose target has a value."""
        ...

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
        """Store a calibration found from `n` steps with targets `between` two times; return its version, 1 or more."""
        ...


class Leases(Protocol):
    """Who is the one scheduler, and what it is told."""

    def holding(self, name: str) -> tuple[str, int, int] | None:
        """Tell who holds or held it last: owner, epoch, expiry."""
        ...

    def acquire(
        self, name: str, owner: str, now: int, seconds: float, *, silent: tuple[str, int, int] | None = None
    ) -> int | None:  # fmt: skip
        """Take the lease if it is free, has expired or is still exactly `silent`, and return its epoch; None while
        somebody else holds it.
        """
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

    def requested(self) -> Sequence[str]:
        """List the jobs for which a request waits."""
        ...

    def held(self, job: str, due: int | None) -> bool:
        """Tell whether a job is paused, or still was when the run was due; None asks for this moment only."""
        ...


class Runs(Protocol):
    """What ran: one row per (job, scheduled_for)."""

    def begin(self, job: str, scheduled_for: int, owner: str, now: int, *, cause: str | None = None) -> int | None:
        """Open a run and return its number; None when somebody already has this one. No cause is the timetable."""
        ...

    def begin_requested(self, job: str, owner: str, now: int) -> int | None:
        """Turn the request that waits for a job into its run, at once or not at all; None when none waits."""
        ...

    def heartbeat(self, run: int, now: int, progress: Mapping[str, Any] | None = None) -> bool:
        """Note that the run is alive, and how far it is; False when the ledger thinks it has ended."""
        ...

    def finish(
        self, run: int, outcome: Ending, reason: str | None, now: int, *, exit_code: int | None = None,
        log: str | None = None,
    ) -> bool:  # fmt: skip
        """Close a run that is running or was thought lost, with the reason in words, and how its process ended and
        what it wrote last; False when it was closed.
        """
        ...


class EvaluatedBatch(Protocol):
    """A batch of accuracy that was stored."""

    @property
    def done(self) -> int:
        """Ranges of days done so far."""
        ...

    @property
    def total(self) -> int:
        """Of so many."""
        ...

    @property
    def cells(self) -> int:
        """Sums in this batch."""
        ...


class Evaluations(Protocol):
    """Matured forecasts as sums per series, model, day and bucket of steps."""

    def refresh(self, now: int, *, margin: float, group: str | None) -> Iterator[EvaluatedBatch]:
        """Work out again what changed, batch by batch, each stored when it is returned.

        `margin`: seconds that a row may become visible later than the time it bears says; `group`: a pattern that finds
        a series' group in its name.
        """
        ...


class LiveErrors(Protocol):
    """Matured forecasts one step ahead, as means over the series of a group."""

    def groups(self) -> Sequence[str]:
        """List the groups."""
        ...

    def step_means(
        self, group: str, version: int, after: int | None
    ) -> Sequence[tuple[int, float | None, float | None]]:
        """Return (origin, error, level) of the next steps of time after an origin, in order, in units of the scale."""
        ...


class States(Protocol):
    """What a job remembers between runs."""

    def read(self, name: str) -> tuple[int, dict[str, Any]]:
        """Return a state and its epoch; (0, {}) before the first."""
        ...

    def replace(self, name: str, epoch: int, state: Mapping[str, Any]) -> bool:
        """Replace the state of that epoch; False, with nothing changed, when somebody else has."""
        ...

    def replace_and_request(
        self, name: str, epoch: int, state: Callable[[bool], Mapping[str, Any]], *, job: str, reason: str, now: int
    ) -> bool | None:
        """Ask for a job and replace the state of that epoch by `state(new)`, in one transaction.

        Returns whether the request is new: False when one waits already, which stays as it is. None, with nothing
        changed and nothing asked for, when somebody else has replaced the state.
        """
        ...
