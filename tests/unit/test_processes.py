"""The processes that tests start are real ones, although they are forked from one that has imported what they need."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests import processes

FACTS = """
import json, os, sys
print(json.dumps({"pid": os.getpid(), "parent": os.getppid(), "folder": os.getcwd(), "argv": sys.argv,
    "environment": dict(os.environ), "path": sys.path[:2], "name": __name__, "torch": "torch" in sys.modules,
    "descriptors": len(os.listdir("/proc/self/fd")), "input": sys.stdin.read()}))
"""


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-c", code, *words]


def test_it_is_a_child_with_a_folder_an_environment_and_descriptors_of_its_own(tmp_path: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = {"A": "b", "PYTHONPATH": "/somewhere"}
    with processes.Popen(python(FACTS, "x", "y"), cwd=tmp_path, env=environment, text=True, **pipes) as process:
        output, _ = process.communicate("what it reads")
    facts = json.loads(output)
    assert (facts["pid"], facts["parent"]) == (process.pid, os.getpid())
    assert (facts["folder"], facts["environment"]) == (str(tmp_path), environment)
    assert (facts["argv"], facts["name"], facts["input"]) == (["-c", "x", "y"], "__main__", "what it reads")
    assert facts["path"] == [str(tmp_path), "/somewhere"]
    assert facts["descriptors"] == 4, "the fourth is the folder that is listed"
    assert facts["torch"], "it was forked"


@pytest.mark.parametrize(
    ("code", "expected", "words"),
    [
        ("pass", 0, ""),
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit('in words')", 1, "in words\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt\n"),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("import atexit, sys; atexit.register(sys.stderr.write, 'the last word')", 0, "the last word"),
        ("import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('done'))).start()", 0, ""),
    ],
)
def test_it_ends_as_an_interpreter_does(code: str, expected: int, words: str) -> None:
    for run in (processes.run, subprocess.run):
        done = run(python(code), capture_output=True, text=True)
        assert done.returncode == expected
        assert done.stderr.endswith(words)
        assert bool(done.stderr) == bool(words)
        assert done.stdout == ("done\n" if "done" in code else "")


def test_a_module_is_run_as_by_the_interpreter() -> None:
    line = [sys.executable, "-m", "pipeline.cli", "--version"]
    done, expected = (run(line, capture_output=True, text=True) for run in (processes.run, subprocess.run))
    assert (done.returncode, done.stdout, done.stderr) == (0, expected.stdout, expected.stderr)


def test_it_is_frozen_woken_and_killed_by_its_pid() -> None:
    with processes.Popen(python("import time\nwhile True: time.sleep(0.01)")) as process:
        own = psutil.Process(process.pid)
        process.send_signal(signal.SIGSTOP)
        while own.status() != psutil.STATUS_STOPPED:
            assert process.poll() is None
        process.send_signal(signal.SIGCONT)
        while own.status() == psutil.STATUS_STOPPED:
            assert process.poll() is None
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
    assert not psutil.pid_exists(process.pid), "it was waited for"


def test_it_leads_a_session_of_its_own_from_the_start_if_it_is_to() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    for own in (False, True):
        with processes.Popen(python("import sys; sys.stdin.read()"), start_new_session=own, **pipes) as process:
            assert os.getsid(process.pid) == (process.pid if own else os.getsid(0))
            assert os.getpgid(process.pid) == (process.pid if own else os.getpgid(0))
            process.communicate()


def test_a_descriptor_that_is_passed_on_has_its_number() -> None:
    reading, writing = os.pipe()
    processes.run(python("import os, sys; os.write(int(sys.argv[1]), b'x')", str(writing)), pass_fds=[writing])
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    os.close(writing)


FLAGGED = """
import sys
sys.stdout.write("early"), sys.stderr.write("too")
print(sys.dont_write_bytecode, sys.stdin.read())
"""


@pytest.mark.parametrize(("flags", "expected"), [(["-u", "-B"], b"True"), (["-u", "-P"], b"False")])
def test_it_heeds_the_flags_of_the_interpreter(
    flags: list[str], expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    for start in (processes.Popen, subprocess.Popen):
        with start([sys.executable, *flags, "-c", FLAGGED], **pipes) as process:
            assert os.read(process.stdout.fileno(), 99) == b"early", "it does not wait for the end of a line"
            assert os.read(process.stderr.fileno(), 99) == b"too"
            output, _ = process.communicate(b"x")
        assert output == expected + b" x\n"


TEST_PROCESS = """
import subprocess, sys
from tests import processes
told = [sys.executable, "-c", "import os, sys; print('torch' in sys.modules, os.getppid())"]
for run in (processes.run, subprocess.run):
    print(run(told, capture_output=True, text=True).stdout, end="")
"""


def test_a_forked_test_process_has_a_server_and_starts_with_subprocess_what_it_wants_to_start_cold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes.SERVER, "for_tests", True)
    with processes.Popen(python(TEST_PROCESS), text=True, stdout=subprocess.PIPE) as process:
        output, _ = process.communicate()
    assert output.splitlines() == [f"True {process.pid}", f"False {process.pid}"]
    assert process.returncode == 0, "it waited for its server"


NESTED = """
import os, subprocess, sys
told = "import os, sys; print('torch' in sys.modules, os.getppid(), sys.argv[1])"
started = subprocess.run([sys.executable, "-c", told, "x"], capture_output=True, text=True)
print(os.getpid(), started.stdout, started.stderr, flush=True)
sys.stdin.read()
"""


def test_what_it_starts_is_its_child_and_is_forked_too_and_its_server_ends_with_it() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with processes.Popen(python(NESTED), text=True, forking=True, **pipes) as process:
        assert process.stdout.readline().split() == [str(process.pid), "True", str(process.pid), "x"]
        (server,) = psutil.Process(process.pid).children()
        assert server.name() == processes.NAME
        os.kill(server.pid, signal.SIGTERM)  # as its whole group may be told
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        continue


def test_what_is_about_the_start_is_started_by_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    told = python("import sys; print('torch' in sys.modules)")
    preloaded = {**os.environ, "LD_PRELOAD": ""}
    assert processes.run(told, capture_output=True, text=True, env=preloaded).stdout == "False\n"
    assert processes.run(told, capture_output=True, text=True).stdout == "True\n"
    monkeypatch.setenv(processes.FORK, "off")
    assert processes.run(told, capture_output=True, text=True).stdout == "False\n"
    assert processes.run(["echo", "x"], capture_output=True, text=True).stdout == "x\n"
