"""A tool resets the group's offsets while nobody runs: nothing is published twice, and nothing is left out."""

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.faults.conftest import Place
from tests.faults.deployment import Deployment, Sender
from tests.faults.fleet import until
from tests.faults.panel import Panel, split
from tests.faults.verify import verify, wait_for_lag_0

PANEL = Panel(series=4, steps=40, partitions=2)


def reset(deployment: Deployment, offset: int) -> None:
    """Set the group's offsets as kafka-consumer-groups --reset-offsets does, once the group is empty."""
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers, "log_level": 0})
    wanted = [TopicPartition(deployment.topic, at, offset) for at in range(deployment.partitions)]

    def done() -> bool:
        asked = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(deployment.group, wanted)])
        try:
            return all(part.error is None for part in asked[deployment.group].result(20).topic_partitions)
        except Exception:  # noqa: BLE001 - the group is not empty yet
            return False

    until(done, 90.0, "the offsets are reset", pause=1.0)


@pytest.mark.parametrize("offset", [0, 10_000])
def test_offsets_that_a_tool_resets_double_and_lose_nothing(place: Place, offset: int) -> None:
    deployment = place.deploy(*PANEL.settings, "kafka.session_timeout=6", partitions=2)
    sender = Sender(deployment)
    first, second = split(list(PANEL.messages(seed=6)), 2)
    with place.fleet(deployment) as fleet:
        fleet.start("one")
        sender.send(first)
        wait_for_lag_0(deployment)
        assert fleet.stop("one") == 0
        reset(deployment, offset)
        sender.send(second)
        fleet.start("one")
        assert fleet.ended("one", 90.0) == 2
        assert "no worker committed it" in fleet.text("one")
        fleet.start("one", "--accept-offsets-lost")
        wait_for_lag_0(deployment)
        assert fleet.stop("one") == 0
    findings = verify(deployment, PANEL, sender)
    assert not findings, str(findings)
