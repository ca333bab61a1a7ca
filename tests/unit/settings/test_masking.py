"""Secrets are masked in whatever is logged."""

import json
import logging
import sys
from pathlib import Path

import pytest
import structlog

from pipeline.settings.secrets import Masking, mask
from tests import processes

ROOT = Path(__file__).parents[3]
LOGS = """
import logging, structlog, sys
from pipeline.health.logs import start_logging
start_logging(["hunter2", "p%40ss", "p@ss"])
log = structlog.get_logger()
log.info("hunter2 was used", url="postgresql://me:hunter2@db", deep={"a": ["p@ss", 7]}, error=ValueError("x p%40ss"))
logging.getLogger("some.library").warning("cannot reach me:%s@db", "hunter2")
try:
    raise RuntimeError("me:hunter2@db")
except RuntimeError:
    log.exception("failed")
raise SystemError("me:hunter2@db")
"""


def test_no_event_no_library_and_no_traceback_shows_a_secret() -> None:
    done = processes.run(
        [sys.executable, "-c", LOGS], capture_output=True, text=True, cwd=ROOT, check=False, timeout=120
    )
    assert "hunter2" not in done.stderr
    assert "p%40ss" not in done.stderr
    assert "p@ss" not in done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines()[:3]]
    assert events[0]["event"] == "*** was used"
    assert (events[0]["url"], events[0]["deep"]) == ("postgresql://me:***@db", {"a": ["***", 7]})
    assert events[0]["error"] == "ValueError('x ***')"
    assert (events[1]["event"], events[1]["logger"]) == ("cannot reach me:***@db", "some.library")
    assert events[1]["level"] == "warning"
    assert "RuntimeError: me:***@db" in events[2]["exception"]
    assert done.stderr.splitlines()[-1] == "SystemError: me:***@db"
    assert done.returncode == 1


def test_a_longer_secret_is_masked_before_one_that_is_a_part_of_it() -> None:
    assert mask("a secret, secrets", ["secret", "secrets", ""]) == "a ***, ***"


@pytest.mark.parametrize("value", [1, 1.5, True, None])
def test_numbers_are_left_alone(value: object) -> None:
    event = Masking(["1"])(structlog.get_logger(), "info", {"event": "x", "value": value})
    assert event == {"event": "x", "value": value}


def test_without_secrets_an_event_is_not_touched() -> None:
    event = {"event": "x", "value": logging.INFO}
    assert Masking([])(structlog.get_logger(), "info", event) is event
