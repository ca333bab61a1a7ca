"""Schedulers in real processes over real databases: killed, frozen, paused, and a training that is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.clock.first_model import CAUSE
from pipeline.commands.jobs import build_schedule
from pipeline.commands.opened import now
from pipeline.database import Database, open_database, upgrade
from pipeline.database.jobs.ledger import RunRow
from pipeline.settings.sources import load
from tests import processes
from tests.integration.test_jobs import ROOT, TINY, children, observe, ran, tidecast, wait_until
from tests.moved_clock import MovedClock

SECOND = 1_000_000
LEASE = 3.0
SLACK = 5.0  # seconds that a busy machine may add
LIGHT = """
import sys, threading
from jobs.clock.child import Child
from jobs.clock.runner import Runner
from jobs.clock.schedule import Schedule
from pipeline.commands.opened import now
from pipeline.database import open_database

url, owner, lease, timing = sys.argv[1:]
ledger = open_database(url, timeout=30).ledger
say = "from jobs.clock.outcome import *; print(write_line(Outcome('ok', 'done')))"
runner = Runner(ledger, now, owner, 60)
fire = lambda job, due, halt: runner.run_child(job, due, lambda: Child([sys.executable, '-P', '-c', say], ''), halt)
Schedule({'retrain': timing}, ledger, fire, now, owner, float(lease)).serve(threading.Event())
"""
"""A scheduler whose job takes no time."""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an upgraded and empty database, on each kind in turn."""
    if request.param == "sqlite":
        address = f"sqlite:///{tmp_path / 'tidecast.db'}"
    else:
        address = request.getfixturevalue("postgresql").upgraded_database()
    upgrade(address)
    return address


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = open_database(url, timeout=30)
    yield opened
    opened.close()


@pytest.fixture
def place(url: str, tmp_path: Path) -> Callable[..., None]:
    """Write a settings file."""

    def write(timing: str = "off", steps: int = 60) -> None:
        jobs = f'retrain = "{timing}"'  # the other jobs are off there
        text = TINY.format(url=url, steps=steps).replace('retrain = "0 0 1 1 *"', jobs)
        (tmp_path / "tidecast.toml").write_text(text)

    return write


@contextmanager
def scheduler(tmp_path: Path, lease: float = 1.0) -> Iterator["subprocess.Popen[str]"]:
    """Run `tidecast schedule` and kill it at the end, if nobody has."""
    with tidecast(tmp_path, "schedule", lease=lease) as process:
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@contextmanager
def light_scheduler(
    url: str, owner: str, lease: float, timing: str = "every 1s", *, clock: MovedClock | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """Run LIGHT, from when it waits for the lease."""
    command = [sys.executable, "-u", "-c", LIGHT, url, owner, str(lease), timing]
    environment = os.environ | (clock.environment if clock else {})
    pipes = {"stderr": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    with processes.Popen(command, cwd=ROOT, env=environment, text=True, forking=True, **pipes) as process:
        try:
            assert process.stdout is not None
            assert any("scheduler waits" in line for line in iter(process.stdout.readline, ""))
            yield process
        finally:
            process.kill()


def holder(database: Database) -> tuple[str, int] | None:
    rows = database.reader.query("SELECT owner, epoch FROM leases")
    return (rows[0]["owner"], rows[0]["epoch"]) if rows else None


def ended(database: Database) -> list[RunRow]:
    return [run for run in database.ledger.runs() if run.finished_at]


def test_the_second_scheduler_takes_over_from_one_that_is_killed_and_each_due_run_happens_once(
    url: str, database: Database
) -> None:
    # on duty, one run each 5 s     kill -9 between two     lease expires     the other: what was missed, what is due
    with ExitStack() as stack:
        first = stack.enter_context(light_scheduler(url, "first", LEASE, "every 5s"))
        wait_until(lambda: holder(database) == ("first", 1))
        stack.enter_context(light_scheduler(url, "second", LEASE, "every 5s"))
        wait_until(lambda: len(database.ledger.runs()) >= 2 and database.ledger.runs()[0].outcome == "ok")
        first.kill()
        killed = now()
        wait_until(lambda: holder(database) == ("second", 2))
        taken = now()
        wait_until(lambda: database.ledger.runs()[0].scheduled_for > taken + 5 * SECOND)
        wait_until(lambda: database.ledger.runs()[1].outcome == "ok")
        runs = database.ledger.runs()[::-1]
    assert taken - killed < (LEASE + LEASE / 3 + SLACK) * SECOND
    due = [run.scheduled_for for run in runs]
    assert due == sorted(set(due))
    assert {run.owner for run in runs if run.started_at < killed} == {"first"}
    assert {run.owner for run in runs if run.started_at > killed} == {"second"}
    assert taken // (5 * SECOND) * 5 * SECOND in due, "what was due last when the other took over"
    assert {run.outcome for run in runs[:-1]} == {"ok"}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_scheduler_frozen_over_ten_due_times_runs_the_job_once(url: str, database: Database) -> None:
    with light_scheduler(url, "frozen", LEASE, "every 2s") as process:
        wait_until(lambda: freeze_idle(process.pid, database))
        frozen = now()
        wait_until(lambda: now() > frozen + 20 * SECOND and now() % (2 * SECOND) < SECOND // 2)  # just after a due time
        thawed = now()
        os.kill(process.pid, signal.SIGCONT)
        wait_until(lambda: database.ledger.runs()[0].scheduled_for > thawed)
        wait_until(lambda: database.ledger.runs()[1].outcome == "ok")
        assert holder(database) == ("frozen", 2), "the lease had expired, and nobody had it since"
    meanwhile = [run.scheduled_for for run in database.ledger.runs() if frozen < run.scheduled_for <= thawed]
    assert meanwhile == [thawed // (2 * SECOND) * 2 * SECOND]


def freeze_idle(pid: int, database: Database) -> bool:
    """Stop a scheduler in a moment without a run; False, with nothing changed, when it was busy after all."""
    os.kill(pid, signal.SIGSTOP)
    runs = database.ledger.runs()
    if len(runs) >= 2 and runs[0].outcome == "ok" and now() // (2 * SECOND) * 2 * SECOND <= runs[0].scheduled_for:
        return True
    os.kill(pid, signal.SIGCONT)
    return False


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_clock_that_moves_by_an_hour_and_back_stops_no_job_and_runs_none_twice(
    url: str, database: Database, tmp_path: Path
) -> None:
    clock = MovedClock(tmp_path)
    with light_scheduler(url, "moved", 1.0, clock=clock):
        wait_until(lambda: ended(database))
        clock.move(3600)
        wait_until(lambda: database.ledger.runs()[0].scheduled_for > now() + 3000 * SECOND)
        ahead = now()
        clock.move(0)
        wait_until(lambda: len([run for run in ended(database) if ahead < run.scheduled_for <= now()]) >= 3)
    skipped = [run for run in database.ledger.runs() if now() < run.scheduled_for < ahead + 3590 * SECOND]
    assert skipped == [], "of the hour that was jumped over only the last due time is run"
    assert {run.outcome for run in ended(database)} == {"ok"}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_scheduler_that_is_killed_an_hour_ahead_of_the_other_is_replaced_within_its_lease(
    url: str, database: Database, tmp_path: Path
) -> None:
    clock = MovedClock(tmp_path)
    clock.move(3600)
    with light_scheduler(url, "ahead", LEASE, clock=clock) as process:
        wait_until(lambda: holder(database))
        process.kill()
    killed = time.monotonic()
    with light_scheduler(url, "right", LEASE):
        wait_until(lambda: holder(database) == ("right", 2))
        assert time.monotonic() - killed >= LEASE, "not before it has seen it unrenewed for so long"
        wait_until(lambda: "right" in {run.owner for run in ended(database)})


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_what_a_frozen_scheduler_missed_was_run_by_the_other_and_it_adds_nothing_when_it_wakes_up(
    url: str, database: Database
) -> None:
    with ExitStack() as stack:
        process = stack.enter_context(light_scheduler(url, "frozen", 1.0))
        wait_until(database.ledger.runs)
        stack.enter_context(light_scheduler(url, "other", 1.0))
        os.kill(process.pid, signal.SIGSTOP)
        wait_until(lambda: (holder(database) or ("", 0))[0] == "other")
        taken = now()
        time.sleep(4.0)
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(3.0)
        runs = database.ledger.runs()
    assert len([run for run in runs if run.scheduled_for > taken]) >= 4
    assert {run.owner for run in runs if run.started_at > taken} == {"other"}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_pause_and_resume_bind_the_scheduler_on_duty_and_leave_a_run_by_hand_alone(
    place: Callable[..., None], database: Database, tmp_path: Path
) -> None:
    place("every 2s")
    assert ran(tmp_path, "job", "pause", "retrain", "--reason", "holidays")[:2] == (0, "retrain is paused\n")
    with scheduler(tmp_path):
        wait_until(lambda: holder(database))
        database.ledger.request("retrain", "drift of meter-7", now())
        assert ran(tmp_path, "job", "run", "retrain")[0] == 0  # it ran, and found nothing to train on
        assert [run.cause for run in database.ledger.runs()] == ["by hand"]
        assert ran(tmp_path, "job", "resume", "retrain")[0] == 0
        wait_until(lambda: {run.cause for run in ended(database)} == {"by hand", "drift of meter-7", None})
    due = [run.scheduled_for for run in database.ledger.runs() if run.cause is None]
    assert not any(database.ledger.held("retrain", each) for each in due), "none from before it was resumed"
    (asked,) = [run for run in database.ledger.runs() if run.cause == "drift of meter-7"]
    assert (asked.reason or "").startswith("waiting for history: there are no observations to train on yet")


@pytest.mark.usefixtures("forked_jobs")
def test_the_first_model_comes_by_itself_and_until_then_no_run_fails(
    place: Callable[..., None], database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.clock.first_model.EVERY", 0.1)
    place("0 0 1 1 *")
    stop = threading.Event()
    schedule = replace(build_schedule(load(tmp_path / "tidecast.toml"), database, now), lease=0.6)
    thread = threading.Thread(target=schedule.serve, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: ended(database))
        (run,) = database.ledger.runs()
        words = "waiting for history: there are no observations to train on yet"
        assert (run.outcome, (run.reason or "").split(":")[:2]) == ("ok", words.split(":"))
        observe(database)
        wait_until(lambda: len(ended(database)) == 2)
    finally:
        stop.set()
        thread.join()
    first, _ = database.ledger.runs()
    assert (first.outcome, first.cause) == ("ok", CAUSE)
    assert (first.reason or "").startswith("version 1 promoted")
    assert database.registry.champion() == 1


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_kill_9_in_training_leaves_the_champion_untouched_and_the_next_run_clean(
    place: Callable[..., None], database: Database, tmp_path: Path
) -> None:
    place()
    observe(database)
    assert ran(tmp_path, "job", "run", "retrain")[0] == 0
    champion, artifact = database.registry.champion(), database.registry.artifact(1)

    place(steps=1_000_000)
    with scheduler(tmp_path) as process:
        wait_until(lambda: holder(database))
        database.ledger.request("retrain", "drift of meter-1", now())
        wait_until(lambda: (database.ledger.runs()[0].progress or {}).get("name") == "fit")
        (child,) = children(process.pid)
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: database.ledger.runs()[0].finished_at)
        assert process.poll() is None
    killed = database.ledger.runs()[0]
    assert (killed.outcome, killed.exit_code, killed.cause) == ("failed", -signal.SIGKILL, "drift of meter-1")
    assert (database.registry.champion(), database.registry.artifact(1)) == (champion, artifact)
    assert [model.version for model in database.registry.models()] == [1, 0]

    place()
    with scheduler(tmp_path):
        database.ledger.request("retrain", "again", now())
        wait_until(lambda: database.ledger.runs()[0].outcome == "ok")
    assert database.ledger.runs()[0].reason.startswith("version 2 ")
