"""Partitions are added to the input topic while workers run: they are found, claimed, and nobody's history is lost."""

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests import servers
from tests.faults.conftest import Place
from tests.faults.deployment import Sender
from tests.faults.fleet import until
from tests.faults.panel import Message, Panel, split
from tests.faults.summary import report
from tests.faults.verify import verify, wait_for_lag_0

PANEL = Panel(series=24, steps=120)
FEW = 3


def before_and_after() -> tuple[list[Message], list[Message]]:
    """The first half by three partitions, the second by six: every other series goes on in another partition.

    The first half has poison, and events a second time; an event whose copy is in another partition has no first one.
    """
    early = replace(PANEL, steps=PANEL.steps // 2, partitions=FEW)
    return list(early.messages(twice=0.02, poison=20, seed=14)), list(late())


def late() -> Iterator[Message]:
    for t in range(PANEL.steps // 2, PANEL.steps):
        for name in PANEL.names:
            yield PANEL.event(name, t)


@pytest.mark.fault("partitions-added")
@pytest.mark.heavy
def test_partitions_added_while_workers_run_are_found_and_series_go_on_in_them(place: Place) -> None:
    deployment = place.deploy(
        *PANEL.settings, "kafka.max_messages=50", partitions=PANEL.partitions, input_partitions=FEW
    )
    small = replace(deployment, partitions=FEW)
    sender = Sender(deployment)
    first, second = before_and_after()
    with place.fleet(deployment) as fleet:
        for worker in ("one", "two"):
            fleet.start(worker)
        for part in split(first, 10):
            sender.send(part)
        wait_for_lag_0(small)
        servers.add_partitions(deployment.bootstrap_servers, deployment.topic, PANEL.partitions)
        later = Sender(deployment, sent=sender.sent)  # a producer that knows of the new ones
        for part in split(second, 10):
            later.send(part)
        until(lambda: len(deployment.owners()) == PANEL.partitions, 180.0, "the workers found the new partitions")
        began = time.monotonic()
        wait_for_lag_0(deployment)
        seconds = time.monotonic() - began
        codes = [fleet.stop(worker) for worker in ("one", "two")]
    findings = verify(deployment, PANEL, sender)
    events = sum(sender.sent.values())
    report("partitions 3 -> 6", place.name, events=events, faults=1, findings=findings, seconds=seconds)
    assert not findings, str(findings)
    assert codes == [0, 0]
