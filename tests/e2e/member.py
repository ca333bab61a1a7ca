"""A member of a group that stops where it is told to give partitions back, to be killed there.

`python -m tests.e2e.member BOOTSTRAP_SERVERS GROUP INSTANCE TOPIC` prints `has N` after each assignment, where N is how
many partitions the member has, and `gives N` when the group takes N from it. Then it waits for its death.
"""

import sys
import time

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Reports(ConsumerRebalanceListener):
    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        tell(f"has {len(self._consumer.assignment())}")

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        if revoked:
            tell(f"gives {len(revoked)}")
            time.sleep(3600)


def main(bootstrap_servers: str, group: str, instance: str, topic: str) -> None:
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        group_id=group,
        group_instance_id=instance,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        partition_assignment_strategy=[CooperativeStickyAssignor],
        session_timeout_ms=30_000,
        heartbeat_interval_ms=1_000,
        metrics_enabled=False,
    )
    consumer.subscribe([topic], listener=Reports(consumer))
    while True:
        consumer.poll(timeout_ms=500, max_records=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
