"""Fakes that keep the contracts of the ports of jobs, in memory."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.errors import ConfigError, Unavailable
from pipeline.records import History, Ints

HOUR = 3_600_000_000
START = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z, a Thursday


@dataclass
class Clock:
    """A clock that stands still until a test moves it."""

    now: int = START

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * 1e6)


def make_history(
    values: Mapping[str, np.ndarray], delays: Mapping[str, int] | None = None
) -> tuple[list[str], History]:
    """Lay out a history from hourly values per series, NaN for missing, from START or some hours later."""
    lengths = [len(series) for series in values.values()]
    flat = np.concatenate([np.empty(0), *values.values()])
    late = delays or {}
    times = [START + HOUR * (late.get(name, 0) + np.arange(len(series))) for name, series in values.items()]
    return list(values), History(
        series_id=np.arange(1, len(values) + 1),
        bounds=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        observed_at=np.concatenate([np.empty(0, np.int64), *times]).astype(np.int64),
        value=np.nan_to_num(flat),
        observed=np.isfinite(flat),
        events=np.ones(len(flat), np.int64),
        covariates=np.empty((len(flat), 0)),
    )


@dataclass
class FakeReader:
    """Observations that were given; `asked` is every (depth, series_ids) of training_history."""

    names: list[str]
    history: History
    asked: list[tuple[int, list[int] | None]] = field(default_factory=list)

    def training_history(
        self, since: int | None, depth: int, covariates: Sequence[str] = (), *, series_ids: Ints | None = None
    ) -> tuple[list[str], History]:
        assert since is None, "a retraining is bounded by depth"
        assert len(covariates) == self.history.covariates.shape[1], "ask for the covariates that were given"
        self.asked.append((depth, None if series_ids is None else series_ids.tolist()))
        given, bounds = self.history, self.history.bounds
        wanted = given.series_id if series_ids is None else series_ids
        rows = np.flatnonzero(np.isin(given.series_id, wanted))
        kept = [np.arange(max(bounds[row], bounds[row + 1] - depth), bounds[row + 1]) for row in rows]
        at = np.concatenate([np.empty(0, np.int64), *kept])
        return [self.names[row] for row in rows], History(
            series_id=given.series_id[rows],
            bounds=np.concatenate([[0], np.cumsum([len(each) for each in kept])]).astype(np.int64),
            observed_at=given.observed_at[at],
            value=given.value[at],
            observed=given.observed[at],
            events=given.events[at],
            covariates=given.covariates[at],
        )

    def count_history(self, depth: int) -> tuple[Ints, Ints]:
        return self.history.series_id, np.minimum(np.diff(self.history.bounds), depth)


@dataclass
class FakeRegistry:
    """A registry; `while_training` runs when a model is registered, as a race would."""

    models: list[dict[str, Any]] = field(default_factory=list)
    current: int | None = None
    history: list[tuple[int, str]] = field(default_factory=list)
    backtests: list[dict[str, Any]] = field(default_factory=list)
    while_training: Callable[["FakeRegistry"], None] | None = None
    meanwhile: Callable[["FakeRegistry"], None] | None = None
    beside: int | None = None
    shadow_history: list[tuple[int, str]] = field(default_factory=list)

    def shadow(self) -> int | None:
        return self.beside

    def begin_shadow(self, version: int, *, expected: int | None, reason: str, now: int) -> bool:
        if self.beside != expected:
            return False
        self.beside = version
        self.shadow_history.append((version, reason))
        return True

    def champion(self) -> int | None:
        return self.current

    def artifact(self, version: int) -> bytes:
        if version == 0:
            raise ConfigError("model 0 has no artifact; see tidecast models list")
        artifact: bytes = self.models[version - 1]["artifact"]
        return artifact

    def register(self, **columns: Any) -> int:
        self.models.append(columns)
        if self.while_training is not None:
            self.while_training(self)
        return len(self.models)

    def adopt(self, *, artifact: bytes, expected: int | None, reason: str, now: int, **columns: Any) -> int | None:
        if self.meanwhile is not None:
            self.meanwhile(self)
        if self.current != expected:
            return None
        held = [place for place, row in enumerate(self.models, start=1) if row["artifact"] == artifact]
        if not held:
            given = {"train_from": None, "train_to": None, "seed": 0, "artifact": artifact, "now": now}
            self.models.append(columns | given)
        version = max(held, default=len(self.models))
        assert self.promote(version, expected=expected, reason=reason, now=now)
        return version

    def record_backtest(self, **columns: Any) -> None:
        self.backtests.append(columns)

    def promote(self, version: int, *, expected: int | None, reason: str, now: int) -> bool:
        if self.current != expected:
            return False
        self.current = version
        self.history.append((version, reason))
        return True


@dataclass
class Run:
    """A row of the ledger."""

    job: str
    scheduled_for: int
    owner: str
    heartbeat_at: int
    outcome: str = "running"
    reason: str | None = None
    progress: dict[str, Any] | None = None
    finished_at: int | None = None
    cause: str | None = None
    exit_code: int | None = None
    log: str | None = None


@dataclass
class Pause:
    """The latest pause of a job."""

    paused_by: str
    reason: str | None
    resumed_at: int | None = None


@dataclass
class FakeLedger:
    """Runs and leases; several schedulers may share one. `away` makes every call raise Unavailable."""

    rows: list[Run] = field(default_factory=list)
    leases: dict[str, tuple[str, int, int]] = field(default_factory=dict)  # owner, epoch, expires
    requests: dict[str, tuple[str, int]] = field(default_factory=dict)  # reason, time
    stopped: dict[str, Pause] = field(default_factory=dict)
    away: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, job: str, scheduled_for: int, owner: str, now: int, *, cause: str | None = None) -> int | None:
        with self._reach():
            return self._begin(Run(job, scheduled_for, owner, now, cause=cause))

    def _begin(self, run: Run) -> int | None:
        if any((other.job, other.scheduled_for) == (run.job, run.scheduled_for) for other in self.rows):
            return None
        self.rows.append(run)
        return len(self.rows)

    def request(self, job: str, reason: str, now: int) -> bool:
        with self._reach():
            if job in self.requests:
                return False
            self.requests[job] = (reason, now)
            return True

    def requested(self) -> list[str]:
        with self._reach():
            return sorted(self.requests, key=lambda job: (self.requests[job][1], job))

    def caused(self, job: str, cause: str) -> bool:
        with self._reach():
            return any(run.job == job and (run.cause == cause or run.outcome == "running") for run in self.rows)

    def begin_requested(self, job: str, owner: str, now: int) -> int | None:
        with self._reach():
            if job not in self.requests:
                return None
            reason, requested_at = self.requests.pop(job)
            return self._begin(Run(job, requested_at, owner, now, cause=reason))

    def heartbeat(self, run: int, now: int, progress: Mapping[str, Any] | None = None) -> bool:
        with self._reach():
            row = self.rows[run - 1]
            if row.outcome not in ("running", "lost"):
                return False
            row.heartbeat_at, row.outcome, row.reason, row.finished_at = now, "running", None, None
            row.progress = row.progress if progress is None else dict(progress)
            return True

    def finish(
        self,
        run: int,
        outcome: str,
        reason: str | None,
        now: int,
        *,
        exit_code: int | None = None,
        log: str | None = None,
    ) -> bool:
        with self._reach():
            row = self.rows[run - 1]
            if row.outcome not in ("running", "lost"):
                return False
            row.outcome, row.reason, row.finished_at = outcome, reason, now
            row.exit_code, row.log = exit_code, log
            return True

    def log(self, run: int) -> str | None:
        with self._reach():
            return self.rows[run - 1].log if run <= len(self.rows) else None

    def pause(self, job: str, by: str, reason: str | None, now: int) -> bool:
        with self._reach():
            if job in self.stopped and self.stopped[job].resumed_at is None:
                return False
            self.stopped[job] = Pause(by, reason)
            return True

    def resume(self, job: str, now: int) -> bool:
        with self._reach():
            if job not in self.stopped or self.stopped[job].resumed_at is not None:
                return False
            self.stopped[job].resumed_at = now
            return True

    def pauses(self) -> dict[str, Pause]:
        with self._reach():
            return {job: pause for job, pause in self.stopped.items() if pause.resumed_at is None}

    def held(self, job: str, due: int | None) -> bool:
        with self._reach():
            if job not in self.stopped:
                return False
            until = self.stopped[job].resumed_at
            return until is None or (due is not None and due < until)

    def runs(self, job: str | None = None, limit: int = 100) -> list[Run]:
        with self._reach():
            found = [run for run in self.rows if job in (None, run.job)]
            return sorted(found, key=lambda run: -run.scheduled_for)[:limit]

    def last(self, job: str) -> Run | None:
        return next(iter(self.runs(job, 1)), None)

    def mark_lost(self, now: int, silent_seconds: float) -> int:
        with self._reach():
            lost = [
                run for run in self.rows if run.outcome == "running" and run.heartbeat_at < now - silent_seconds * 1e6
            ]
            for run in lost:
                run.outcome = "lost"
            return len(lost)

    def holding(self, name: str) -> tuple[str, int, int] | None:
        with self._reach():
            return self.leases.get(name)

    def acquire(
        self, name: str, owner: str, now: int, seconds: float, *, silent: tuple[str, int, int] | None = None
    ) -> int | None:
        with self._reach():
            held = _, epoch, expires = self.leases.get(name, ("", 0, 0))
            if now < expires and held != silent:
                return None
            self.leases[name] = (owner, epoch + 1, now + round(seconds * 1e6))
            return epoch + 1

    def renew(self, name: str, owner: str, epoch: int, now: int, seconds: float) -> bool:
        with self._reach():
            held = self.leases.get(name)
            if held is None or held[:2] != (owner, epoch) or held[2] <= now:
                return False
            self.leases[name] = (owner, epoch, now + round(seconds * 1e6))
            return True

    def release(self, name: str, owner: str, epoch: int) -> None:
        with self._reach():
            if self.leases.get(name, ("", 0, 0))[:2] == (owner, epoch):
                self.leases[name] = (owner, epoch, 0)

    def _reach(self) -> threading.Lock:
        if self.away:
            raise Unavailable("the database is away")
        return self.lock
