"""A member dies between the two rounds of a rebalance: no partition is left without a reader."""

import threading
from typing import Any

from kafka import KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from tests.faults.conftest import Place
from tests.faults.deployment import Deployment, Sender
from tests.faults.fleet import until
from tests.faults.panel import Panel
from tests.faults.verify import verify, wait_for_lag_0

PANEL = Panel(series=12, steps=30)


class Member(threading.Thread):
    """A consumer of the group under an instance's name, which can die without a word."""

    def __init__(self, deployment: Deployment, instance: str) -> None:
        super().__init__(daemon=True)
        self._dying = threading.Event()
        self.consumer: Any = KafkaConsumer(
            bootstrap_servers=deployment.bootstrap_servers,
            group_id=deployment.group,
            group_instance_id=instance,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=[CooperativeStickyAssignor],
            session_timeout_ms=30_000,
            heartbeat_interval_ms=1_000,
            metrics_enabled=False,
        )
        self.consumer.subscribe([deployment.topic])
        self.start()

    def run(self) -> None:
        try:
            while not self._dying.is_set():
                self.consumer.poll(timeout_ms=500, max_records=1)
        except Exception:  # noqa: BLE001 - the event loop is stopped under it
            assert self._dying.is_set()

    def die(self) -> None:
        self._dying.set()
        self.consumer._net.stop()
        self.join(30)
        self.consumer._client.close()


def test_partitions_that_nobody_has_after_a_death_in_a_rebalance_are_read(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings)
    sender = Sender(deployment)
    sender.send(list(PANEL.messages(seed=8)))
    one = Member(deployment, "one")
    until(lambda: len(one.consumer.assignment()) == PANEL.partitions, 60.0, "one member has everything", pause=0.01)
    two = Member(deployment, "two")
    until(lambda: len(one.consumer.assignment()) < PANEL.partitions, 60.0, "it gives some back", pause=0.001)
    one.die()
    two.die()
    with place.fleet(deployment) as fleet:
        fleet.start("one")
        fleet.start("two")
        wait_for_lag_0(deployment)
    findings = verify(deployment, PANEL, sender)
    assert not findings, str(findings)
