"""Workers are killed with kill -9 at random moments; every event and every forecast is there exactly once."""

import time
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import pytest

from tests.faults.conftest import Place
from tests.faults.deployment import Deployment, Sender
from tests.faults.fleet import Fleet, holds_within, until
from tests.faults.panel import Message, Panel, split
from tests.faults.scale import scaled
from tests.faults.summary import report
from tests.faults.verify import verify, wait_for_lag_0

KILLS = scaled(10, by=10, quick=6)  # 50 of them at SCALE=50
PANEL = Panel(series=40, steps=scaled(500, quick=120))  # 20,000 events; a million at SCALE=50; 4,800 in `make test`


class Kills(NamedTuple):
    """How often, where the summary calls it so."""

    title: str
    count: int
    seed: int


def kill_at_random(fleet: Fleet, victim: str, part: Sequence[Message], sender: Sender, random: Random) -> None:
    """Send a part of the input and kill a worker in the middle of it, while it claims or while it takes turns."""
    until(lambda: bool(fleet.events(victim, "worker ready")), 60.0, f"{victim} is ready")
    if random.random() < 0.7:
        holds_within(lambda: bool(fleet.events(victim, "claimed")), 15.0, pause=0.02)
    sender.send(part)
    time.sleep(random.uniform(0.0, 0.8))
    fleet.kill(victim)
    fleet.start(victim)


def survive(place: Place, deployment: Deployment, panel: Panel, messages: Sequence[Message], kills: Kills) -> None:
    """Kill two workers in turn all along the input, and find every event and forecast once."""
    workers, random = ["one", "two"], Random(kills.seed)
    sender = Sender(deployment, batch=10)
    with place.fleet(deployment) as fleet:
        for worker in workers:
            fleet.start(worker)
        for kill, part in enumerate(split(messages, kills.count)):
            kill_at_random(fleet, workers[kill % 2], part, sender, random)
        began = time.monotonic()
        wait_for_lag_0(deployment)
        seconds = time.monotonic() - began
        codes = [fleet.stop(worker) for worker in workers]
        findings = verify(deployment, panel, sender)
        report(kills.title, place.name, events=len(messages), faults=kills.count, findings=findings, seconds=seconds)
        assert not findings, str(findings)
        assert codes == [0, 0]


@pytest.mark.fault("kill9")
@pytest.mark.slow
def test_nothing_is_lost_or_doubled_when_workers_are_killed_at_random(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings, f"kafka.max_messages={scaled(50, by=5)}", "kafka.session_timeout=20")
    messages = list(PANEL.messages(twice=0.02, poison=60, seed=9))
    survive(place, deployment, PANEL, messages, Kills("kill -9", KILLS, seed=9))
