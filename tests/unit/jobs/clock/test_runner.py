import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence

import pytest
from structlog.testing import capture_logs

from jobs.clock.child import LENGTH, Child, job_command, read_settings, write_settings
from jobs.clock.outcome import OnStage, Outcome, Stage, read_line, write_line
from jobs.clock.runner import Runner
from pipeline.errors import ConfigError, Unavailable
from pipeline.settings import Settings
from pipeline.settings.secrets import list_secrets
from tests.unit.jobs.fakes import START, Clock, FakeLedger

SAY = """
import os, signal, subprocess, sys, time
from jobs.clock.outcome import *
say = lambda what: print(write_line(what), flush=True)
"""
PATIENCE = 60.0


def script(text: str, given: str = "{}", secrets: Sequence[str] = ()) -> Callable[[], Child]:
    return lambda: Child([sys.executable, "-P", "-c", SAY + text], given, secrets)


def make_runner(ledger: FakeLedger, timeout: float = PATIENCE, beat: float = 0.01) -> Runner:
    return Runner(ledger, Clock(), "tester", timeout, beat)


def run(text: str, ledger: FakeLedger, timeout: float = PATIENCE) -> Outcome | None:
    return make_runner(ledger, timeout).run_child("retrain", START, script(text), threading.Event())


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_child_that_ends_well_is_recorded_in_its_own_words() -> None:
    ledger = FakeLedger()
    outcome = run("say(Outcome('ok', 'version 1 promoted', {'version': 1}))", ledger)
    assert outcome == Outcome("ok", "version 1 promoted", {"version": 1})
    row = ledger.rows[0]
    assert (row.job, row.scheduled_for, row.owner) == ("retrain", START, "tester")
    assert (row.outcome, row.reason) == ("ok", "version 1 promoted")


def test_a_run_is_one_event_when_it_ends_with_its_outcome_and_the_facts_that_are_short() -> None:
    with capture_logs() as logs:
        run(
            "say(Outcome('ok', 'kept', {'version': 2, 'deleted': {'runs': 3}, 'steps': [1, 2], 'by': {'x': [1]}}))",
            FakeLedger(),
        )
        run("sys.exit(3)", FakeLedger())
        failing = make_runner(FakeLedger()).run_child("retrain", START, _no_process, threading.Event())
    assert failing is not None
    ended = [each for each in logs if each["event"] == "job ended"]
    assert [(each["log_level"], each["job"], each["outcome"], each["exit_code"]) for each in ended] == [
        ("info", "retrain", "ok", 0),
        ("warning", "retrain", "failed", 3),
        ("warning", "retrain", "failed", None),
    ]
    assert ended[0]["facts"] == {"version": 2, "deleted": {"runs": 3}}
    assert ended[2]["reason"] == failing.reason == "could not start a process: no room"
    assert 0 <= ended[0]["seconds"] < PATIENCE


def _no_process() -> Child:
    raise OSError("no room")


def test_a_child_that_is_killed_is_a_failure_with_a_reason() -> None:
    ledger = FakeLedger()
    run("print('allocating', file=sys.stderr, flush=True); os.kill(os.getpid(), signal.SIGKILL)", ledger)
    assert ledger.rows[0].outcome == "failed"
    assert ledger.rows[0].reason == "killed by SIGKILL (often the system, out of memory); last words: allocating"
    assert (ledger.rows[0].exit_code, ledger.log(1)) == (-9, "allocating\n")


def test_a_child_without_memory_is_a_failure_with_its_traceback_in_the_log() -> None:
    ledger = FakeLedger()
    limit = 1 << 30
    run(f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit})); bytearray({2 * limit})", ledger)
    assert ledger.rows[0].reason == "ended with exit code 1 and no outcome; last words: MemoryError"
    assert ledger.rows[0].exit_code == 1
    assert ledger.log(1).startswith("Traceback (most recent call last):")
    assert run("say(Outcome('ok', 'next'))", FakeLedger()) == Outcome("ok", "next")


def test_a_job_is_what_the_system_ends_first_when_memory_runs_out() -> None:
    text = "from jobs.__main__ import _die_first; from pathlib import Path; _die_first();"
    outcome = run(text + "say(Outcome('ok', Path('/proc/self/oom_score_adj').read_text().strip()))", FakeLedger())
    assert outcome == Outcome("ok", "1000")


def test_the_log_in_the_ledger_is_bounded_and_without_secrets() -> None:
    ledger = FakeLedger()
    text = (
        "print('begin', file=sys.stderr);"
        "[print('line', n, 'x' * 100, file=sys.stderr) for n in range(2_000)];"
        "print('nul', chr(0), 'cannot reach postgresql://me:hunter2@db/x', file=sys.stderr); sys.exit(3)"
    )
    start = script(text, secrets=["hunter2"])
    make_runner(ledger).run_child("retrain", START, start, threading.Event())
    said = ledger.log(1)
    assert said is not None
    assert LENGTH - 200 < len(said) <= LENGTH
    assert said.startswith("line ")
    assert said.endswith("nul \N{REPLACEMENT CHARACTER} cannot reach postgresql://me:***@db/x\n")
    assert "hunter2" not in str(ledger.rows[0].reason)
    assert ledger.rows[0].exit_code == 3


def test_the_secrets_of_the_settings_are_those_that_a_log_must_not_show() -> None:
    settings = Settings(
        database={"url": "postgresql://me:p%40ss@host/db?sslpassword=other"}, kafka={"sasl_password": "hidden"}
    )
    assert sorted(list_secrets(settings)) == ["hidden", "hidden", "other", "other", "p%40ss", "p@ss"]
    assert list_secrets(Settings()) == []
    token = "a token of the page, long enough"
    assert set(list_secrets(Settings(serve={"token": token}))) == {token}


def test_a_child_that_crashes_leaves_the_last_line_of_its_traceback() -> None:
    ledger = FakeLedger()
    run("raise ValueError('boom')", ledger)
    assert ledger.rows[0].reason == "ended with exit code 1 and no outcome; last words: ValueError: boom"


def test_a_child_that_says_nothing_is_a_failure_even_with_exit_code_0() -> None:
    ledger = FakeLedger()
    run("print('{}'); print('not json'); print('[1]')", ledger)
    assert ledger.rows[0].reason == "ended with exit code 0 and no outcome; last words: it said nothing"


def test_a_child_that_cannot_start_is_a_failure() -> None:
    ledger = FakeLedger()
    runner = make_runner(ledger)
    runner.run_child("retrain", START, lambda: Child(["/does/not/exist"], "{}"), threading.Event())
    assert ledger.rows[0].reason.startswith("could not start a process: ")


def test_the_time_limit_ends_the_whole_process_group() -> None:
    ledger = FakeLedger()
    text = (
        "grand = subprocess.Popen(['sleep', '600']); say(Stage('fit', 1, 2, f'{os.getpid()} {grand.pid}'));"
        "time.sleep(600)"
    )
    started: list[Child] = []

    def start() -> Child:
        child = script(text)()
        wait_until(lambda: child.stage is not None)
        started.append(child)
        return child

    outcome = make_runner(ledger, timeout=0.01).run_child("retrain", START, start, threading.Event())
    assert outcome is not None
    assert (outcome.ending, ledger.rows[0].outcome) == ("timeout", "timeout")
    assert "stopped after 0 s, the most that jobs.timeouts allows" in outcome.reason
    stage = started[0].stage
    assert stage is not None
    for pid in map(int, stage.words.split()):
        wait_until(lambda pid=pid: not is_alive(pid) or is_zombie(pid))


def is_zombie(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_a_child_deaf_to_sigterm_is_killed() -> None:
    child = script("signal.signal(signal.SIGTERM, signal.SIG_IGN); say(Stage('deaf')); time.sleep(600)")()
    wait_until(lambda: child.stage is not None)
    child.end(grace=0.1)
    assert child.outcome().reason.startswith("killed by SIGKILL")


def test_a_stop_ends_the_child_and_says_so() -> None:
    ledger, stop = FakeLedger(), threading.Event()
    stop.set()
    outcome = make_runner(ledger).run_child("retrain", START, script("time.sleep(600)"), stop)
    assert outcome == Outcome("failed", "stopped: the scheduler ended or lost its lease")
    assert ledger.rows[0].reason == outcome.reason


def test_a_run_that_somebody_has_is_not_started() -> None:
    ledger = FakeLedger()
    ledger.begin("retrain", START, "somebody", START)

    def start() -> Child:
        raise AssertionError("started")

    assert make_runner(ledger).run_child("retrain", START, start, threading.Event()) is None
    assert make_runner(ledger).run_here("retrain", START, lambda _: start().outcome(), lambda _: None) is None


def test_a_running_child_sends_heartbeats_with_its_stage() -> None:
    ledger = FakeLedger()
    text = (
        "say(Stage('fit', 50, 100, 'loss 1')); sys.stdin.readline(); sys.stdin.readline(); say(Outcome('ok', 'done'))"
    )
    children: list[Child] = []

    def start() -> Child:
        children.append(script(text)())
        return children[0]

    thread = threading.Thread(target=make_runner(ledger).run_child, args=("retrain", START, start, threading.Event()))
    thread.start()
    wait_until(lambda: bool(ledger.rows) and (ledger.rows[0].progress or {}).get("name") == "fit")
    children[0]._process.stdin.write("go on\n")
    children[0]._process.stdin.flush()
    thread.join(PATIENCE)
    assert ledger.rows[0].progress == {"name": "fit", "done": 50, "total": 100, "words": "loss 1"}
    assert ledger.rows[0].outcome == "ok"


def test_a_database_that_is_away_for_a_while_does_not_end_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.clock.runner.RETRIES", (0.0, 0.0))
    ledger = FakeLedger()
    runner = make_runner(ledger)

    def start() -> Child:
        ledger.away = True
        return script("time.sleep(0.5); say(Outcome('ok', 'done'))")()

    outcome = runner.run_child("retrain", START, start, threading.Event())
    assert outcome == Outcome("ok", "done")
    assert ledger.rows[0].outcome == "running"  # a scheduler will call it lost


def test_a_child_ends_when_its_parent_is_gone() -> None:
    text = (
        "from threading import Thread; from jobs.__main__ import _end_with_parent; sys.stdin.readline();"
        "Thread(target=_end_with_parent, daemon=True).start(); say(Stage('started')); time.sleep(600)"
    )
    child = script(text)()
    wait_until(lambda: child.stage is not None)
    child._process.stdin.close()  # as the system does when the parent dies
    assert child.wait(PATIENCE)
    child.end()


def test_a_job_here_is_recorded_and_its_errors_go_on() -> None:
    ledger = FakeLedger()
    runner = make_runner(ledger)
    stages: list[Stage] = []

    def work(on_stage: OnStage) -> Outcome:
        on_stage(Stage("fit", 1, 2))
        wait_until(lambda: ledger.rows[0].progress is not None)
        return Outcome("ok", "done")

    assert runner.run_here("retrain", START, work, stages.append) == Outcome("ok", "done")
    assert stages == [Stage("fit", 1, 2)]
    assert (ledger.rows[0].outcome, ledger.rows[0].progress["name"]) == ("ok", "fit")
    assert ledger.rows[0].cause == "by hand"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConfigError("device cuda is not available"), "device cuda is not available"),
        (KeyboardInterrupt(), "stopped: interrupted"),
        (ZeroDivisionError(), "it crashed; its traceback is on the terminal that ran it"),
    ],
)
def test_a_job_here_that_fails_is_recorded_as_failed(error: BaseException, reason: str) -> None:
    ledger = FakeLedger()

    def work(_: OnStage) -> Outcome:
        raise error

    with pytest.raises(type(error)):
        make_runner(ledger).run_here("retrain", START, work, lambda _: None)
    assert (ledger.rows[0].outcome, ledger.rows[0].reason) == ("failed", reason)


def test_a_ledger_that_is_away_at_the_start_is_the_callers_business() -> None:
    with pytest.raises(Unavailable):
        run("", FakeLedger(away=True))


def test_settings_travel_with_their_secrets_but_not_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDECAST_SERIES__SEASON", "12")
    settings = Settings(
        database={"url": "postgresql://me:secret@host/db"}, kafka={"sasl_password": "hidden"}, series={"season": None}
    )
    line = write_settings(settings)
    assert "\n" not in line
    assert read_settings(line) == settings
    assert read_settings(line).database.url.get_secret_value().endswith("secret@host/db")
    assert read_settings(line).series.season is None
    assert "secret" not in " ".join(job_command("retrain"))


def test_reports_survive_the_journey() -> None:
    for what in (Stage("fit", 1, 2, "words"), Outcome("failed", "because", {"version": 1})):
        assert read_line(write_line(what)) == what
    for nonsense in ("", "null", "[]", '{"stage": 1}', '{"other": {}}', "{"):
        assert read_line(nonsense) is None
    assert json.loads(write_line(Stage("a")))["stage"]["name"] == "a"


def test_killing_the_runners_child_leaves_the_runner_alone() -> None:
    ledger = FakeLedger()
    children: list[Child] = []

    def start() -> Child:
        child = script("say(Stage('fit')); time.sleep(600)")()
        wait_until(lambda: child.stage is not None)
        children.append(child)
        threading.Thread(target=os.kill, args=(child.pid, signal.SIGKILL)).start()
        return child

    outcome = make_runner(ledger).run_child("retrain", START, start, threading.Event())
    assert outcome is not None
    assert outcome.reason.startswith("killed by SIGKILL")
    assert run("say(Outcome('ok', 'next'))", FakeLedger()) == Outcome("ok", "next")
