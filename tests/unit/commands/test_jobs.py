"""The commands of `tidecast job` that read and write the ledger, over an SQLite file."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.database import Database, open_database, upgrade
from tests.unit.jobs.fakes import START

Job = Callable[..., tuple[int, str, str]]


@pytest.fixture
def url(tmp_path: Path) -> str:
    address = f"sqlite:///{tmp_path / 'jobs.db'}"
    upgrade(address)
    return address


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = open_database(url, timeout=5)
    yield opened
    opened.close()


@pytest.fixture
def job(url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Run `tidecast job ...` here: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, timing: str = "every 6h") -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["--set", f"database.url={url}", "--set", f"jobs.retrain={timing}", "job", *arguments])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def test_a_paused_job_is_listed_with_who_and_why_and_without_a_next_time(job: Job) -> None:
    listed, *_ = json.loads(job("list", "--json")[1])
    assert (listed["timetable"], listed["paused"], listed["next"] is not None) == ("every 6h", None, True)
    assert job("pause", "retrain", "--reason", "holidays") == (0, "retrain is paused\n", "")
    listed, *_ = json.loads(job("list", "--json")[1])
    assert (listed["why"], listed["next"], listed["paused"] is not None) == ("holidays", None, True)
    assert "@" in listed["paused_by"]
    code, _, errors = job("pause", "retrain", "--reason", "another")
    assert (code, errors.count("\n")) == (1, 1)
    assert "retrain is paused already, by " in errors
    assert errors.endswith(": holidays\n")


def test_a_job_is_resumed_once(job: Job) -> None:
    job("pause", "retrain")
    assert job("resume", "retrain") == (0, "retrain runs on its timetable again\n", "")
    assert job("resume", "retrain")[::2] == (1, "tidecast: retrain is not paused\n")
    listed, *_ = json.loads(job("list", "--json")[1])
    assert (listed["paused"], listed["paused_by"], listed["next"] is not None) == (None, None, True)


def test_a_job_that_is_off_and_asked_for_is_listed_so(job: Job, database: Database) -> None:
    database.ledger.request("retrain", "drift of meter-7", START)
    listed, *_ = json.loads(job("list", "--json", timing="off")[1])
    assert (listed["timetable"], listed["next"], listed["requested"]) == ("off", None, True)


def test_the_history_is_of_one_job_or_of_all_and_the_log_of_one_run(job: Job, database: Database) -> None:
    ledger = database.ledger
    ledger.request("retrain", "drift of meter-7", START)
    asked, due = ledger.begin_requested("retrain", "me", START), ledger.begin("calibrate", START + 1, "me", START)
    assert asked is not None
    assert due is not None
    ledger.finish(asked, "failed", "killed by SIGKILL", START + 5_000_000, exit_code=-9, log="allocating\n")
    (run,) = json.loads(job("history", "--job", "retrain", "--json")[1])
    assert (run["run"], run["cause"], run["exit_code"], run["seconds"]) == (asked, "drift of meter-7", -9, 5.0)
    assert [row["cause"] for row in json.loads(job("history", "--json")[1])] == ["timetable", "drift of meter-7"]
    assert job("log", str(asked)) == (0, "allocating\n", "")
    for number in (due, 999):
        code, output, errors = job("log", str(number))
        assert (code, output, errors.count("\n")) == (1, "", 1)
        assert f"run {number} has no log" in errors
