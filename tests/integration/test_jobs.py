"""The jobs over a real SQLite database, through the command line and in real processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.clock.child import Child, job_command, write_settings
from jobs.clock.runner import Runner
from pipeline.commands.opened import now
from pipeline.database import Database, open_database, upgrade
from pipeline.errors import ConfigError
from pipeline.forecasting.scorer import Scorer
from pipeline.forecasting.windows import Grid, model_config
from pipeline.grid.frequency import Frequency
from pipeline.records import Advance, Events, Observations, Turn, no_forecasts
from pipeline.settings import InputSettings, Settings
from pipeline.settings.sources import load
from pipeline.stream.observe import observe as observe_events
from pipeline.stream.ring import RingStore
from tests import processes
from tests.servers import free_port

HOUR = 3_600_000_000
START = 1_767_225_600_000_000
PATIENCE = 120.0
ROOT = Path(__file__).resolve().parents[2]
TINY = """
[database]
url = "{url}"
[series]
context = 12
horizon = 4
season = 4
[model]
hidden = 8
layers = 1
segment = 4
series_dim = 2
[training]
steps = {steps}
batch = 32
device = "cpu"
learning_rate = 0.02
threads = 1
[jobs]
retrain = "0 0 1 1 *"
monitor = "off"
calibrate = "off"
retention = "off"
promote = "off"
gate_origins = 3
gate_coverage = [0.0, 1.0]
"""
LEASED = "import pipeline.commands.jobs as jobs; jobs.LEASE = {}; from pipeline.cli import main; main()"
Place = Callable[..., Settings]


@pytest.fixture
def url(tmp_path: Path) -> str:
    address = f"sqlite:///{tmp_path / 'tidecast.db'}"
    upgrade(address)
    return address


@pytest.fixture
def place(url: str, tmp_path: Path) -> Place:
    """Write a settings file and load it."""

    def write(steps: int = 60) -> Settings:
        (tmp_path / "tidecast.toml").write_text(TINY.format(url=url, steps=steps))
        return load(tmp_path / "tidecast.toml")

    return write


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = open_database(url, timeout=30)
    yield opened
    opened.close()


def observe(database: Database, length: int = 160, count: int = 3, covariates: tuple[str, ...] = ()) -> None:
    """Store seasonal series with a trend, as a stream worker would; covariates run one step ahead of the value."""
    names = [f"meter-{n}" for n in range(count)]
    store = database.store("observations", "last", now, covariates)
    claim = store.claim(0, "test")
    ids = store.recent(names, 1).series_id
    t = np.arange(length)
    values = [10.0 * (n + 1) + 0.5 * t + np.tile([0.0, 3.0, 1.0, -2.0], length)[:length] for n in range(count)]
    size = length * count
    rows = Observations(
        series_id=np.repeat(ids, length),
        observed_at=np.tile(START + HOUR * t, count),
        value=np.concatenate(values),
        observed=np.ones(size, np.bool_),
        events=np.ones(size, np.int64),
        partition=np.zeros(size, np.int64),
        offset=np.arange(size),
        fresh=np.ones(size, np.bool_),
        covariates=np.column_stack([np.roll(each, -1) for each in values]).T.reshape(size, 1)[:, : len(covariates)],
        covariate_events=np.ones((size, len(covariates)), np.int64),
    )
    advance = Advance(0, claim.epoch, claim.next_offset, size)
    store.commit(Turn((advance,), rows, no_forecasts(4), ()))


def tidecast(tmp_path: Path, *arguments: str, lease: float | None = None) -> "subprocess.Popen[str]":
    """Start a command; `lease` is for a scheduler that is to be replaced soon."""
    command = ["-m", "pipeline.cli"] if lease is None else ["-c", LEASED.format(lease)]
    command = [sys.executable, *command, "--config", str(tmp_path / "tidecast.toml"), *arguments]
    forking = "schedule" in arguments or "run" in arguments  # they start jobs and roles
    return processes.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, forking=forking
    )


def ran(tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    with tidecast(tmp_path, *arguments) as process:
        output, errors = process.communicate(timeout=PATIENCE)
        return process.returncode, output, errors


def wait_until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_job_run_retrain_promotes_a_champion_and_is_in_the_history(
    place: Place, database: Database, tmp_path: Path
) -> None:
    place()
    observe(database)
    code, output, errors = ran(tmp_path, "job", "run", "retrain", "--json")
    assert code == 0, errors
    outcome = json.loads(output)
    assert outcome["reason"].startswith("version 1 promoted: first champion: gain ")
    assert database.registry.champion() == 1
    assert "fit" in errors  # plain lines of progress

    row = database.registry.model(1)
    assert (row.season, row.step_seconds, row.train_from) == (4, 3600.0, START)
    assert {backtest["model_version"] for backtest in database.registry.backtests()} == {0, 1}
    (run,) = json.loads(ran(tmp_path, "job", "history", "--json")[1])
    assert (run["job"], run["outcome"], run["reason"]) == ("retrain", "ok", outcome["reason"])
    assert (run["cause"], run["exit_code"]) == ("by hand", None)
    job, *_ = json.loads(ran(tmp_path, "job", "list", "--json")[1])
    assert (job["job"], job["timetable"], job["outcome"]) == ("retrain", "0 0 1 1 *", "ok")


def test_a_champion_trained_on_covariates_in_sql_is_served_with_those_of_the_ring(
    place: Place, database: Database, tmp_path: Path
) -> None:
    settings = place()
    settings = settings.model_copy(update={"input": InputSettings(covariates=("ahead",))})
    observe(database, covariates=("ahead",))
    assert ran(tmp_path, "--set", 'input.covariates=["ahead"]', "job", "run", "retrain")[0] == 0
    assert database.registry.model(1).config["past_covariates"] == ["ahead"]

    hours = Frequency("1h")
    grid = Grid(hours, settings.series, 1)
    scorer = Scorer(database.registry, database.calibrations, grid, model_config(settings, hours, 0))
    scorer.refresh(now())
    answers = []
    for reading in (80.0, -80.0):
        store = database.store("observations", "last", now, ("ahead",))
        event = Events(
            np.array([0]),
            ["meter-1"],
            np.array([START + 160 * HOUR]),
            np.array([90.0]),
            np.array([True]),
            np.array([999]),
            np.array([[reading]]),
        )
        _, due = observe_events(event, RingStore.of(grid), grid, store.recent)
        forecasts = scorer.score([due], now())
        assert list(forecasts.quality) == ["ok"]
        answers.append(forecasts.quantiles)
    assert scorer.version == 1
    assert not np.array_equal(*answers), "the newest covariate bears on the forecast"

    plain = Scorer(
        database.registry, database.calibrations, Grid(hours, settings.series), model_config(place(), hours, 0)
    )
    with pytest.raises(ConfigError, match="reads past covariates ahead"):
        plain.refresh(now())


def torchrun(tmp_path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    launch = ["torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    program = ["pipeline.cli", "--config", str(tmp_path / "tidecast.toml"), *arguments]
    return processes.run(
        [sys.executable, "-m", *launch, "--master-port", str(free_port()), "-m", *program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        forking=True,
    )


def test_under_torchrun_one_process_keeps_the_books_and_both_train(
    place: Place, database: Database, tmp_path: Path
) -> None:
    place()
    observe(database)
    done = torchrun(tmp_path, "job", "run", "retrain", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["facts"]["fit"]["processes"] == 2
    assert [model.version for model in database.registry.models() if model.version] == [1]
    assert [run.outcome for run in database.ledger.runs()] == ["ok"]


def test_under_torchrun_a_batch_that_does_not_divide_is_one_line(
    place: Place, database: Database, tmp_path: Path
) -> None:
    place()
    observe(database)
    done = torchrun(tmp_path, "--set", "training.batch=33", "job", "run", "retrain")
    assert done.returncode == 1
    assert "settings: training.batch 33 does not divide among 2 processes: use a multiple of 2" in done.stderr
    assert [run.outcome for run in database.ledger.runs()] == ["failed"]


def test_a_job_that_fails_is_one_line_on_stderr_and_exit_code_1(
    place: Place, database: Database, tmp_path: Path
) -> None:
    place()
    facts: dict[str, Any] = {"config": {}, "metrics": {}, "train_from": None, "train_to": None, "seed": 0, "code": ""}
    version = database.registry.register(name="former", artifact=b"x", now=now(), **facts)
    assert database.registry.promote(version, expected=None, reason="test", now=now())
    code, output, errors = ran(tmp_path, "job", "run", "retrain")
    assert (code, output) == (1, "")
    assert errors.splitlines()[-1].startswith("tidecast: retrain failed: there are no observations to train on yet")
    assert "Traceback" not in errors
    assert database.ledger.runs()[0].outcome == "failed"


def test_sigterm_in_the_foreground_is_in_the_history(place: Place, database: Database, tmp_path: Path) -> None:
    place(steps=1_000_000)
    observe(database)
    with tidecast(tmp_path, "job", "run", "retrain") as process:
        wait_until(database.ledger.runs)
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE)
    # Python ends by SIGINT itself, which a shell shows as 130 too, when the interrupt came inside an exec of an import.
    assert process.returncode in (130, -signal.SIGINT), errors
    row = database.ledger.runs()[0]
    assert (row.outcome, row.reason) == ("failed", "stopped: interrupted")


@pytest.mark.usefixtures("forked_jobs")
def test_a_child_process_retrains_with_the_settings_that_it_is_given(place: Place, database: Database) -> None:
    settings = place()
    observe(database)
    runner = Runner(database.ledger, now, "test", PATIENCE)
    outcome = runner.run_child(
        "retrain", START, lambda: Child(job_command("retrain"), write_settings(settings)), threading.Event()
    )
    assert outcome is not None
    assert (outcome.ending, outcome.facts["promoted"]) == ("ok", True), outcome.reason
    row = database.ledger.runs()[0]
    assert (row.outcome, row.reason, row.finished_at is not None) == ("ok", outcome.reason, True)
    again = runner.run_child("retrain", START, lambda: pytest.fail("started"), threading.Event())
    assert again is None


@pytest.mark.usefixtures("forked_jobs")
def test_a_child_without_its_database_fails_in_words(tmp_path: Path, database: Database) -> None:
    settings = Settings(database={"url": f"sqlite:///{tmp_path / 'missing.db'}"})
    outcome = Runner(database.ledger, now, "test", PATIENCE).run_child(
        "retrain", START, lambda: Child(job_command("retrain"), write_settings(settings)), threading.Event()
    )
    assert outcome is not None
    assert outcome.ending == "failed"
    assert "missing.db" in outcome.reason


def test_job_run_monitor_evaluates_what_has_matured_in_a_process_of_its_own(
    place: Place, database: Database, tmp_path: Path
) -> None:
    place()
    observe(database)
    code, output, errors = ran(tmp_path, "job", "run", "monitor", "--json")
    assert code == 0, errors
    outcome = json.loads(output)
    assert outcome["reason"] == "0 cells of accuracy worked out; drift: no champion yet"
    (run,) = json.loads(ran(tmp_path, "job", "history", "--json")[1])
    assert (run["job"], run["outcome"]) == ("monitor", "ok")
    assert ran(tmp_path, "job", "history", "--failed")[1] == "nothing went wrong\n"
    database.ledger.finish(database.ledger.begin("retrain", 1, "me", 2), "timeout", "too slow", 3)
    (run,) = json.loads(ran(tmp_path, "job", "history", "--failed", "--json")[1])
    assert (run["job"], run["outcome"], run["reason"]) == ("retrain", "timeout", "too slow")


def test_the_scheduler_runs_what_was_missed_survives_its_childs_death_and_ends_on_sigterm(
    place: Place, database: Database, tmp_path: Path
) -> None:
    place(steps=1_000_000)
    observe(database)
    with tidecast(tmp_path, "schedule") as process:
        wait_until(database.ledger.runs)
        wait_until(lambda: children(process.pid))
        (child,) = children(process.pid)
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: database.ledger.runs()[0].outcome == "failed")
        assert database.ledger.runs()[0].reason.startswith("killed by SIGKILL")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert len(database.ledger.runs()) == 1
    assert database.ledger.acquire("scheduler", "next", now(), 1) is not None  # it gave the lease back


def test_sigterm_during_a_job_ends_its_child_and_says_so(place: Place, database: Database, tmp_path: Path) -> None:
    place(steps=1_000_000)
    observe(database)
    with tidecast(tmp_path, "schedule") as process:
        wait_until(database.ledger.runs)
        wait_until(lambda: children(process.pid))
        (child,) = children(process.pid)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    row = database.ledger.runs()[0]
    assert (row.outcome, row.reason) == ("failed", "stopped: the scheduler ended or lost its lease")
    wait_until(lambda: not Path(f"/proc/{child}").exists())


def test_a_child_does_not_outlive_a_scheduler_that_is_killed(place: Place, database: Database, tmp_path: Path) -> None:
    place(steps=1_000_000)
    observe(database)
    with tidecast(tmp_path, "schedule") as process:
        found: list[int] = []
        wait_until(lambda: found.extend(lasting_children(process.pid)) or found)
        child = found[0]
        process.kill()
        wait_until(lambda: not Path(f"/proc/{child}").exists() or zombie(child))


def lasting_children(pid: int) -> list[int]:
    """List the children that are still there a moment later: starting a process may take one that ends at once."""
    before = children(pid)
    time.sleep(0.3)
    return [child for child in before if child in children(pid)]


def children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children() if child.name() != processes.NAME]


def zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_job_run_retention_says_what_it_deleted_and_is_in_the_history(
    place: Place, database: Database, tmp_path: Path
) -> None:
    place()
    observe(database)  # the first week of 2026
    code, output, errors = ran(tmp_path, "--set", "retention.observations=1 day", "job", "run", "retention", "--json")
    assert code == 0, errors
    outcome = json.loads(output)
    assert outcome["reason"] == "deleted 432 observations"  # of 160 in each of 3 series, context 12 and horizon 4 stay
    assert database.reader.counts()["observations"] == 3 * 16
    (run,) = json.loads(ran(tmp_path, "job", "history", "--json")[1])
    assert (run["job"], run["outcome"], run["reason"]) == ("retention", "ok", outcome["reason"])
