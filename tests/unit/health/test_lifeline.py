"""Children end when their parent is killed, as by SIGTERM if they can."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from pipeline.health.lifeline import VARIABLE, Lifeline, hold
from tests.unit.health.test_supervisor import until
from tests.unit.test_imports import ROOT

PARENT = """
import sys
from pipeline.health.supervisor import Role, Supervisor
Supervisor([Role("child", [sys.executable, {child!r}]), Role("other", [sys.executable, {child!r}])]).run(lambda: False)
"""
CHILD = """
import os, pathlib, signal, subprocess, sys, time
from pipeline.health import lifeline
lifeline.GRACE = 1.0
{before}
lifeline.hold()
assert "TIDECAST_LIFELINE" not in os.environ
mark = pathlib.Path({folder!r}) / str(os.getpid())
mark.write_text("runs")
while True:
    time.sleep(60)
"""
ENDS_WELL = """
def end(*_):
    mark.write_text("ended well")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
"""
IS_DEAF = "signal.signal(signal.SIGTERM, lambda *_: None)"
STARTS_ANOTHER = "subprocess.Popen([sys.executable, '-c', 'import sys, time; sys.stdin.read()'], stdin=subprocess.PIPE)"


@pytest.mark.parametrize(
    ("before", "last"),
    [(ENDS_WELL, "ended well"), (IS_DEAF, "runs"), ("", "runs"), (STARTS_ANOTHER, "runs")],
    ids=["ends as by SIGTERM", "is deaf to it", "has not caught it yet", "has a child of its own"],
)
def test_no_child_outlives_a_supervisor_that_is_killed(before: str, last: str, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    child = tmp_path / "child.py"
    child.write_text(CHILD.format(before=before, folder=str(marks)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", PARENT.format(child=str(child))], env=environment) as parent:
        assert until(lambda: len(list(marks.iterdir())) == 2)
        descendants = psutil.Process(parent.pid).children(recursive=True)
        assert len(descendants) >= 2
        parent.kill()
    assert not psutil.wait_procs(descendants, 60)[1]
    assert {mark.read_text() for mark in marks.iterdir()} == {last}


def test_a_lifeline_that_is_cut_before_the_child_looks_ends_it(tmp_path: Path) -> None:
    line = Lifeline()
    code = "import sys, time; sys.stdin.read(1); from pipeline.health.lifeline import hold; hold(); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, cwd=ROOT, **line.options()) as child:
        line.close()
        assert child.stdin is not None
        child.stdin.write(b"x")
        child.stdin.flush()
        assert child.wait(60) == -signal.SIGTERM


@pytest.mark.parametrize("number", ["0x", "", "-1", "99999999999999999999", "1000000", "2"])
def test_what_is_no_lifeline_is_ignored(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, number)
    before = threading.active_count()
    with open(os.devnull, "rb") as regular:  # noqa: PTH123  its number is what counts
        monkeypatch.setenv(VARIABLE, number if number != "2" else str(regular.fileno()))
        hold()
    assert threading.active_count() == before
    assert VARIABLE not in os.environ
