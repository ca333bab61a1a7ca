"""The wall clock is set an hour ahead, an hour back and right again while workers run: nothing is lost or doubled."""

import time
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.faults.conftest import Place
from tests.faults.deployment import Deployment, Sender
from tests.faults.panel import Panel, split
from tests.faults.summary import report
from tests.faults.telemetry import ANY_PORT, telemetry_of
from tests.faults.verify import gather, judge, wait_for_lag_0
from tests.moved_clock import MovedClock

HOUR = 3600
SHIFTS = (HOUR, -HOUR, 0)
PANEL = Panel(series=12, steps=120)


def hours_between_issues(deployment: Deployment) -> float:
    """How far the first and the last forecast are apart by the clocks of the workers that issued them."""
    engine = deployment.engine()
    with engine.connect() as connection:
        first, last = connection.execute(text("SELECT min(issued_at), max(issued_at) FROM forecasts")).one()
    engine.dispose()
    moments = [each if isinstance(each, datetime) else datetime.fromisoformat(each) for each in (first, last)]
    return (moments[1] - moments[0]).total_seconds() / HOUR


@pytest.mark.fault("clock")
@pytest.mark.slow
def test_a_clock_that_is_set_by_an_hour_changes_no_count_and_stops_nobody(place: Place, tmp_path: Path) -> None:
    deployment = place.deploy(*PANEL.settings, "kafka.max_messages=50", ANY_PORT)
    sender, clock = Sender(deployment), MovedClock(tmp_path)
    messages = list(PANEL.messages())
    first, *later = split(messages, len(SHIFTS) + 1)
    with place.fleet(deployment) as fleet:
        fleet.environment = clock.environment
        for name in ("one", "two"):
            fleet.start(name)
        sender.send(first)
        wait_for_lag_0(deployment)
        seconds = 0.0
        for part, shift in zip(later, SHIFTS, strict=True):
            began = time.monotonic()
            sender.send(part)
            clock.move(shift)  # while they work
            wait_for_lag_0(deployment)
            seconds = max(seconds, time.monotonic() - began)
            for name in ("one", "two"):
                assert telemetry_of(fleet, name).status("/healthz") == 200
        assert [fleet.stop(name) for name in ("one", "two")] == [0, 0]
    findings = judge(gather(deployment, sender), deployment, PANEL)
    report(
        "clock set by an hour", place.name, events=len(messages), faults=len(SHIFTS), findings=findings, seconds=seconds
    )
    assert not findings, str(findings)
    assert hours_between_issues(deployment) > 1.9, "the clock of the workers did move"
