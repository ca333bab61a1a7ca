"""How every job runs: opened in the ledger, watched, closed with its outcome; as a child process or right here."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from jobs.clock.child import Child
from jobs.clock.outcome import OnStage, Outcome, Stage
from pipeline.errors import TidecastError, Unavailable
from pipeline.job_facts import Ending

BEAT = 10.0
"""Seconds between two heartbeats."""
SILENCE = 180.0
"""A run that sent none for so long is lost."""
TICK = 0.2
RETRIES = (0.5, 2.0, 5.0)

Work = Callable[[OnStage], Outcome]
log = structlog.get_logger()


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
        self,
        run: int,
        outcome: Ending,
        reason: str | None,
        now: int,
        *,
        exit_code: int | None = None,
        log: str | None = None,
    ) -> bool:
        """Close a run that is running or was thought lost, with the reason in words, and how its process ended and
        what it wrote last; False when it was closed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs jobs against one ledger; `owner` names this process there, `beat` and `timeout` are seconds."""

    runs: Runs
    clock: Callable[[], int]
    owner: str
    timeout: float
    beat: float = BEAT

    def run_child(
        self, job: str, scheduled_for: int | None, start: Callable[[], Child], stop: threading.Event
    ) -> Outcome | None:
        """Run a job in the child that `start` makes, None for the time it was due takes the request that waits for it;
        None when somebody else has this run.

        1 begin in the ledger, 2 start, 3 watch: heartbeats, until it ends, `stop` is set or the time is up, 4 end what
        is left of its process group, 5 finish in the ledger.
        """
        if scheduled_for is None:
            run = self.runs.begin_requested(job, self.owner, self.clock())
        else:
            run = self.runs.begin(job, scheduled_for, self.owner, self.clock())
        if run is None:
            log.info("job already taken", job=job, scheduled_for=scheduled_for)
            return None
        log.info("job started", job=job, run=run)
        began = time.monotonic()
        try:
            child = start()
        except OSError as error:
            outcome = self._finish(run, Outcome("failed", f"could not start a process: {error}"))
            log_ending(job, run, outcome, time.monotonic() - began, None)
            return outcome
        cut_short = Outcome("failed", "stopped: the runner ended")
        try:
            cut_short = self._watch(child, run, stop) or cut_short
        finally:
            finished = child.wait(0)
            child.end()
        outcome = self._finish(run, child.outcome() if finished else cut_short, child)
        log_ending(job, run, outcome, time.monotonic() - began, child.exit_code)
        return outcome

    def run_here(self, job: str, scheduled_for: int, work: Work, on_stage: OnStage) -> Outcome | None:
        """Run a job in this process, with the same entries in the ledger; errors go on to the caller after that."""
        run = self.runs.begin(job, scheduled_for, self.owner, self.clock(), cause="by hand")
        if run is None:
            return None
        latest: list[Stage | None] = [None]
        ended = threading.Event()

        def tell(stage: Stage) -> None:
            latest[0] = stage
            on_stage(stage)

        def beat() -> None:
            while not ended.wait(self.beat):
                self._heartbeat(run, latest[0])

        heart = threading.Thread(target=beat, daemon=True)
        outcome = Outcome("failed", "it crashed; its traceback is on the terminal that ran it")
        try:  # before the thread: starting it waits, and an interrupt at that moment left the run open
            heart.start()
            outcome = work(tell)
        except TidecastError as error:
            outcome = Outcome("failed", str(error))
            raise
        except KeyboardInterrupt:
            outcome = Outcome("failed", "stopped: interrupted")
            raise
        finally:
            ended.set()
            if heart.is_alive():
                heart.join()
            self._finish(run, outcome)
        return outcome

    def _watch(self, child: Child, run: int, stop: threading.Event) -> Outcome | None:
        began = beaten = time.monotonic()
        while not child.wait(TICK):
            now = time.monotonic()
            if stop.is_set():
                return Outcome("failed", "stopped: the scheduler ended or lost its lease")
            if now - began > self.timeout:
                return Outcome("timeout", f"stopped after {self.timeout:.0f} s, the most that jobs.timeouts allows")
            if now - beaten >= self.beat:
                beaten = now
                self._heartbeat(run, child.stage)
        return None

    def _heartbeat(self, run: int, stage: Stage | None) -> None:
        try:
            self.runs.heartbeat(run, self.clock(), stage.to_dict() if stage else None)
        except Unavailable as error:
            log.warning("heartbeat not stored", run=run, reason=str(error))

    def _finish(self, run: int, outcome: Outcome, child: Child | None = None) -> Outcome:
        exit_code, said = (child.exit_code, child.log) if child else (None, None)
        for pause in RETRIES:
            try:
                now = self.clock()
                self.runs.finish(run, outcome.ending, outcome.reason, now, exit_code=exit_code, log=said or None)
                break
            except Unavailable as error:
                log.warning("outcome not stored yet", run=run, reason=str(error))
                time.sleep(pause)
        return outcome


def log_ending(job: str, run: int, outcome: Outcome, seconds: float, exit_code: int | None) -> None:
    """Log the one event of a run, with its outcome and those of its facts that are short."""
    tell = log.info if outcome.ending == "ok" else log.warning
    facts = {name: value for name, value in outcome.facts.items() if _short(value)}
    tell(
        "job ended",
        job=job,
        run=run,
        outcome=outcome.ending,
        reason=outcome.reason,
        seconds=round(seconds, 1),
        exit_code=exit_code,
        facts=facts,
    )


def _short(value: object) -> bool:
    """A single value, or a flat table of such: no lists, which have a number for every step or series."""
    if isinstance(value, dict):
        return all(not isinstance(each, dict | list) for each in value.values())
    return not isinstance(value, list)
