"""Partitions that no member of a settled group has.

Cooperative rebalancing moves a partition in two rounds: its owner gives it back, then joins again so that another one
gets it. A static member that dies in between rejoins with what it had, without a round, and nobody begins the second
one: the partition stays without a reader for as long as the group is settled (KAFKA-13435 is of the same kind).
"""

import struct
from typing import Any

from kafka import KafkaConsumer
from kafka.protocol.admin import DescribeGroupsRequest
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment

SETTLED = "Stable"


def find_orphans(consumer: KafkaConsumer, topic: str, group: str, timeout_ms: int) -> set[int]:
    """Return the partitions of a topic that no member of the group has; empty while it is not settled or not known."""
    coordinator, manager = consumer._coordinator.coordinator_id, consumer._manager
    partitions = consumer.partitions_for_topic(topic)
    if coordinator is None or not partitions:
        return set()
    request = DescribeGroupsRequest(groups=[group], include_authorized_operations=False)
    asked = manager.call_soon(manager.send, request, coordinator)
    answer = manager.run(manager.wait_for, asked, timeout_ms)
    described = next((each for each in answer.groups if each.group_id == group), None)
    if described is None or described.group_state != SETTLED:
        return set()
    taken = [_assigned(member, topic) for member in described.members]
    return set() if None in taken else set(partitions) - {at for own in taken for at in own or ()}


def _assigned(member: Any, topic: str) -> set[int] | None:
    """Decode what a member has of a topic; None if that cannot be read."""
    if not member.member_assignment:
        return set()
    try:
        assignment = ConsumerProtocolAssignment.decode(member.member_assignment)
    except (struct.error, ValueError):
        return None
    return {at for each in assignment.assigned_partitions if each.topic == topic for at in each.partitions}
