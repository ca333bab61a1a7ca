"""A worker is killed at every named point of the protocol; each life begins where the last one ended."""

import time

import pytest

from tests.faults.conftest import Place
from tests.faults.deployment import Sender
from tests.faults.panel import Panel, split
from tests.faults.summary import report
from tests.faults.verify import verify, wait_for_lag_0

PANEL = Panel(series=12, steps=100, partitions=3)
KILLS = (
    "KILL@after_poll:2",
    "KILL@before_sql:2",
    "KILL@after_sql:2",  # leaves K < S, and the next lives die on the way to publishing it
    "KILL@in_claim_after_sql:1",
    "KILL@in_claim_before_publish:1",
    "KILL@in_publish:1",
    "KILL@in_publish:1",
    "KILL@in_claim_after_publish:3",
    "KILL@in_publish:3",
    "KILL@after_publish:2",
)


@pytest.mark.fault("points")
@pytest.mark.slow
def test_nothing_is_lost_or_doubled_when_a_worker_is_killed_at_any_point(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings, "kafka.max_messages=10", "kafka.session_timeout=30", partitions=3)
    sender = Sender(deployment, batch=5)
    parts = split(list(PANEL.messages(twice=0.02, poison=20, seed=5)), len(KILLS) + 1)
    with place.fleet(deployment) as fleet:
        for kill, part in zip(KILLS, parts, strict=False):
            sender.send(part)
            fleet.start("worker", faults=kill)
            assert fleet.ended("worker", 60.0) == -9, f"{kill} was not reached"
        sender.send(parts[-1])
        fleet.start("worker")
        began = time.monotonic()
        wait_for_lag_0(deployment)
        seconds = time.monotonic() - began
        assert fleet.stop("worker") == 0
        findings = verify(deployment, PANEL, sender)
        events = sum(sender.sent.values())
        report("kill -9 at points", place.name, events=events, faults=len(KILLS), findings=findings, seconds=seconds)
        assert not findings, str(findings)
