"""The consuming side on a real broker: what is held and started again comes back from where it is told."""

import time

import pytest

from pipeline.kafka import topics
from pipeline.kafka.source import KafkaSource
from pipeline.settings import KafkaSettings
from pipeline.watchdog import Watchdog
from tests.integration.conftest import KafkaAddress


@pytest.mark.parametrize("batched", [True, False])
def test_partitions_held_one_after_another_are_all_delivered_again(broker: KafkaAddress, batched: bool) -> None:
    name = f"held-{broker.kind}-{batched}-{time.time_ns()}"
    settings = KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers,
        input_topic=name,
        output_topic=f"{name}-out",
        dead_letter_topic=f"{name}-dead",
        group=name,
        partitions=4,
        batch_hook=batched,
    )
    topics.check_topics(settings)
    topics.send(settings, name, [(b"%d" % i, b"x" * 100, []) for i in range(4_000)])
    source = KafkaSource(settings, Watchdog(120))
    try:
        mine: set[int] = set()
        deadline = time.monotonic() + 60
        while len(mine) < 4 and time.monotonic() < deadline:
            source.poll(10)
            mine.update(partition for partition, ours in source.changes() if ours)
        for partition in range(4):
            source.start(partition, 0)
        for partition in range(4):  # each is parked with records that were fetched and not yet handed out
            for _ in range(3):
                source.poll(10)
            source.hold([partition])
        for partition in range(4):
            source.start(partition, 0)
        seen: dict[int, list[int]] = {partition: [] for partition in range(4)}
        while sum(map(len, seen.values())) < 4_000 and time.monotonic() < deadline + 60:
            for run in source.poll(500):
                seen[run.partition] += run.offsets.tolist()
        assert {partition: sorted(set(offsets)) == offsets for partition, offsets in seen.items()} == dict.fromkeys(
            range(4), True
        )
        assert sum(map(len, seen.values())) == 4_000
    finally:
        source.close()
