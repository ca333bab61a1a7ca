"""Producers rename a field: the worker pauses instead of writing dead letters, and a repaired one goes on there."""

import json
import time
from dataclasses import replace

import pytest

from tests.faults.conftest import Place
from tests.faults.deployment import Sender
from tests.faults.fleet import until
from tests.faults.panel import Message, Panel, split
from tests.faults.summary import report
from tests.faults.verify import verify, wait_for_lag_0

PANEL = Panel(series=12, steps=100, partitions=3)
BREAKER = "input.most_bad=0.0005"  # one bad message of a thousand is too many
ALARM = "too many messages cannot be read"


def renamed(message: Message) -> Message:
    """The same event as the producers' new release writes it."""
    fields = json.loads(message.value or b"")
    fields["reading"] = fields.pop("value")
    return Message(message.partition, message.key, json.dumps(fields).encode())


@pytest.mark.slow
@pytest.mark.fault("schema-change")
def test_a_renamed_field_pauses_a_worker_until_one_comes_that_can_read_it(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings, BREAKER, "kafka.max_messages=100", partitions=3)
    sender = Sender(deployment, batch=10)
    old, new = split(list(PANEL.messages(seed=11)), 2)
    with place.fleet(deployment) as fleet:
        fleet.start("worker")
        sender.send(old)
        wait_for_lag_0(deployment)
        stored = deployment.stored()
        sender.send(map(renamed, new))
        until(lambda: len(fleet.events("worker", ALARM)) >= 3, 60.0, "the worker pauses each partition")
        example = fleet.events("worker", ALARM)[0]["example"]
        assert '"reading"' in example["value"]
        assert example["offset"] == stored[example["partition"]]
        assert deployment.stored() == stored, "nothing of it is stored"
        assert fleet.stop("worker") == 0, "SIGTERM ends a worker that pauses"
    repaired = replace(deployment, settings=(*deployment.settings, "input.value=reading"))
    with place.fleet(repaired) as fleet:
        fleet.start("worker")
        began = time.monotonic()
        wait_for_lag_0(repaired)
        seconds = time.monotonic() - began
        assert fleet.stop("worker") == 0
        findings = verify(repaired, PANEL, sender)
        report(
            "schema change", place.name, events=sum(sender.sent.values()), faults=1, findings=findings, seconds=seconds
        )
        assert not findings, str(findings)
