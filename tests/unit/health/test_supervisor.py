"""Children are started again when they end, and end together."""

import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.errors import ConfigError
from pipeline.health.supervisor import Role, Supervisor


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def until(true: object, seconds: float = 40) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def test_a_child_that_is_killed_is_started_again_and_all_end_together(tmp_path: Path) -> None:
    marks = tmp_path / "starts"
    code = f"import os, time\nopen({str(marks)!r}, 'a').write(f'{{os.getpid()}}\\n')\ntime.sleep(600)"
    supervisor = Supervisor([Role("sleeper", python(code))])

    def starts() -> list[int]:
        return [int(line) for line in marks.read_text().split()] if marks.exists() else []

    killed: list[int] = []

    def stopping() -> bool:
        if len(starts()) == 1 and not killed:
            killed.append(starts()[0])
            psutil.Process(killed[0]).kill()
        return len(starts()) >= 2

    supervisor.run(stopping)
    assert len(starts()) == 2
    assert until(lambda: not any(psutil.pid_exists(pid) for pid in starts()))


def test_wrong_settings_are_not_tried_again() -> None:
    roles = [Role("wrong", python("import sys; sys.exit(2)")), Role("other", python("import time; time.sleep(600)"))]
    with pytest.raises(ConfigError, match="wrong cannot run with these settings"):
        Supervisor(roles).run(lambda: False)


def test_a_child_that_ignores_the_request_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pipeline.health.supervisor.GRACE", 0.5)
    ready = tmp_path / "ready"
    code = (
        f"import signal, time\nsignal.signal(15, lambda *_: None)\nopen({str(ready)!r}, 'w')\nwhile True: time.sleep(1)"
    )
    supervisor = Supervisor([Role("stubborn", python(code))])
    supervisor.run(ready.exists)
    assert supervisor._running == {}


def test_a_child_that_keeps_ending_is_tried_for_ever_with_bounded_pauses() -> None:
    role = Role("failing", python("import sys; sys.exit(1)"))
    supervisor = Supervisor([role])
    supervisor._failures["failing"] = 5_000
    begun = time.monotonic()
    assert until(lambda: supervisor._keep(role) or supervisor._start_at["failing"] > begun)
    assert supervisor._start_at["failing"] <= time.monotonic() + 30
