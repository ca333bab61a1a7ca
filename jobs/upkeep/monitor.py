"""Monitor: matured forecasts into sums, and drift of the champion into a request for the next retraining."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from jobs.clock.outcome import OnStage, Outcome, Stage, spell_minute
from jobs.upkeep.drift import Alarm, Limits, Step, Watch, feed
from pipeline.grid.frequency import Frequency
from pipeline.settings import Settings

STATE = "drift"
CLOCKS = 300.0
"""Seconds by which the clock of a worker may be behind that of this machine."""
COMMITS = 4.0
"""Longest turn in units of database.timeout, from reading its clock to the commit: then the worker ends itself."""
DELTA = 0.5
"""Standard deviations above the mean that are no drift."""
COOLDOWN = 86_400_000_000
"""Least microseconds between two retrainings that drift requests."""
WARM_UP = (48, 3)
"""Steps, and seasons, before the first alarm: whichever is more."""
log = structlog.get_logger()


class Champion(Protocol):
    """Which model is champion."""

    def champion(self) -> int | None:
        """Return the champion's version, or None."""
        ...


@dataclass(frozen=True, slots=True)
class Memory:
    """What the detection remembers: one watch per group for this champion, and when it last requested a retraining.

    `waiting` is an alarm in words that the cool-down holds back; `requests` counts all that were ever made.
    """

    champion: int | None = None
    watches: Mapping[str, Watch] | None = None
    asked_at: int | None = None
    waiting: str | None = None
    requests: int = 0

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "Memory":
        """Read what `to_dict` wrote; {} is a memory without anything."""
        watches = {group: Watch.from_dict(each) for group, each in saved.get("watches", {}).items()}
        return cls(
            saved.get("champion"), watches, saved.get("asked_at"), saved.get("waiting"), saved.get("requests", 0)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        watches = {group: each.to_dict() for group, each in (self.watches or {}).items()}
        return {
            "champion": self.champion,
            "watches": watches,
            "asked_at": self.asked_at,
            "waiting": self.waiting,
            "requests": self.requests,
        }


class StoredRanges(Protocol):
    """Ranges of days whose accuracy was stored together."""

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
        """Sums in these ranges."""
        ...


class Evaluations(Protocol):
    """Matured forecasts as sums per series, model, day and bucket of steps."""

    def refresh(self, now: int, *, margin: float, group: str | None) -> Iterator[StoredRanges]:
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
        """Request a job and replace the state of that epoch by `state(new)`, in one transaction.

        Returns whether the request is new: False when one waits already, which stays as it is. None, with nothing
        changed and nothing requested, when somebody else has replaced the state.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """What the job works on."""

    evaluations: Evaluations
    live_errors: LiveErrors
    registry: Champion
    states: States


def monitor(sources: Sources, settings: Settings, *, clock: Callable[[], int], on_stage: OnStage) -> Outcome:
    """Bring the sums up to date, then look for drift. Both go on from what is stored, so any run may be cut short."""
    margin = COMMITS * settings.database.timeout + CLOCKS
    cells = 0
    for batch in sources.evaluations.refresh(clock(), margin=margin, group=settings.jobs.group):
        cells += batch.cells
        on_stage(Stage("accuracy", batch.done, batch.total, f"{cells} cells"))
    reason = f"{cells} cells of accuracy worked out"
    if not settings.jobs.drift:
        return Outcome("ok", reason, {"cells": cells})
    on_stage(Stage("drift"))
    found = detect(sources, settings, now=clock())
    return Outcome("ok", f"{reason}; {found}", {"cells": cells, "drift": found})


def detect(sources: Sources, settings: Settings, *, now: int) -> str:
    """Feed the tests what has matured since the last run, request a retraining if one alarms, and say so in words.

    1 read, 2 feed, 3 ask and remember, in one transaction. A crash before its end feeds the same steps again, to the
    same alarm. Another monitor that remembers first wins: it was fed the same, and asked.
    """
    champion = sources.registry.champion()
    if champion is None:
        return "drift: no champion yet"
    epoch, saved = sources.states.read(STATE)
    memory = Memory.from_dict(saved)
    if memory.champion != champion:
        memory = Memory(champion, {}, memory.asked_at, requests=memory.requests)
    watches, alarms = feed_all(sources.live_errors, champion, memory.watches or {}, _limits(settings))
    waiting = "; ".join(alarms) or memory.waiting
    words = "no drift"
    new: bool | None = False
    if waiting and _cooled_down(memory.asked_at, now):

        def asked(new: bool) -> Mapping[str, Any]:
            return Memory(champion, watches, now, None, memory.requests + new).to_dict()

        reason = f"drift: {waiting}"
        new = sources.states.replace_and_request(STATE, epoch, asked, job="retrain", reason=reason, now=now)
        remembered = new is not None
        words = f"drift: {waiting}; {'a retraining was requested' if new else 'a retraining waits already'}"
    else:
        if waiting:
            asked_at = spell_minute(memory.asked_at or 0)
            words = f"drift: {waiting}; held back for a day after the request of {asked_at}"
        same = Memory(champion, watches, memory.asked_at, waiting, memory.requests)
        remembered = sources.states.replace(STATE, epoch, same.to_dict())
    if not remembered:
        return "drift: left to another monitor that is at work"
    if alarms or new:  # not again for what the cool-down holds back
        log.warning("drift found", champion=champion, found=waiting, requested=bool(new))
    return words


def feed_all(
    live_errors: LiveErrors, champion: int, watches: Mapping[str, Watch], limits: Limits
) -> tuple[dict[str, Watch], list[str]]:
    """Feed every group what it has not seen yet; return the watches after that, and the alarms in words."""
    fed: dict[str, Watch] = {}
    alarms = []
    for group in live_errors.groups():
        watch = watches.get(group, Watch())
        while steps := live_errors.step_means(group, champion, watch.fed):
            for step in steps:
                watch, alarm = feed(watch, Step(*step), limits)
                if alarm is not None:
                    alarms.append(describe(alarm, group, champion))
        fed[group] = watch
    return fed, alarms


def describe(alarm: Alarm, group: str, champion: int) -> str:
    """Say what was found, in units of the series' scale."""
    of = f"of version {champion} " if alarm.signal.startswith("errors") else ""
    return (
        f"{alarm.signal} {of}in group {group} from {alarm.before:.2f} to {alarm.after:.2f} scales"
        f" over {alarm.steps} steps from {spell_minute(alarm.since)}"
    )


def _limits(settings: Settings) -> Limits:
    season = settings.series.season or Frequency.of(settings.series).season
    steps, seasons = WARM_UP
    return Limits(DELTA, settings.jobs.drift_threshold, max(steps, seasons * season))


def _cooled_down(asked_at: int | None, now: int) -> bool:
    return asked_at is None or now - asked_at >= COOLDOWN


class Stored(Protocol):
    """The parts of the database that the job works on."""

    @property
    def evaluations(self) -> Evaluations:
        """Accuracy of matured forecasts."""
        ...

    @property
    def live_errors(self) -> LiveErrors:
        """The champion's errors, step by step."""
        ...

    @property
    def registry(self) -> Champion:
        """Which model is champion."""
        ...

    @property
    def states(self) -> States:
        """What the job remembers between its runs."""
        ...


def run(database: Stored, settings: Settings, *, clock: Callable[[], int], on_stage: OnStage) -> Outcome:
    """Run the job on a database."""
    sources = Sources(database.evaluations, database.live_errors, database.registry, database.states)
    return monitor(sources, settings, clock=clock, on_stage=on_stage)
