"""The consuming side on a real broker: what is held and started again comes back from where it is told."""

import socket
import threading
import time
from contextlib import suppress

import pytest
from confluent_kafka import Producer

from pipeline.errors import Unavailable
from pipeline.health.watchdog import Watchdog
from pipeline.kafka import topics
from pipeline.kafka.source import LOOK, KafkaSource
from pipeline.quickstart.broker import DevelopmentBroker
from pipeline.settings import KafkaSettings
from tests.faults.fleet import holds_within
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
        while not (len(mine) == 4 and source.joined()) and time.monotonic() < deadline:
            source.poll(10)  # on a busy machine the group may be joined twice: before and after the topic is known
            for partition, ours in source.changes():
                mine = mine | {partition} if ours else mine - {partition}
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


def test_the_ends_say_what_is_left_to_read_and_markers_of_transactions_are_nothing(broker: KafkaAddress) -> None:
    name = f"ends-{broker.kind}-{time.time_ns()}"
    settings = KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers,
        input_topic=name,
        output_topic=f"{name}-out",
        dead_letter_topic=f"{name}-dead",
        group=name,
        partitions=1,
    )
    topics.check_topics(settings)
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "transactional.id": name, "linger.ms": 0, "log_level": 0}
    )
    producer.init_transactions(30)

    def send(count: int) -> None:
        producer.begin_transaction()
        for i in range(count):
            producer.produce(name, b"x", b"%d" % i, 0)
        producer.commit_transaction(30)

    send(5)
    send(5)
    source = KafkaSource(settings, Watchdog(120))
    try:
        deadline = time.monotonic() + 60
        while not any(ours for _, ours in source.changes()) and time.monotonic() < deadline:
            assert source.ends() == {}
            source.poll(10)
        assert holds_within(lambda: source.look([0]) == {0: 12}, 60.0), "ten messages and two markers"
        began = time.monotonic()
        assert source.look([0, 9]) == {0: 12}, "a partition that is so new that the client knows no leader of it"
        assert source.look([9]) == {}
        assert time.monotonic() - began < LOOK, "nobody waits for a leader"
        source.start(0, 0)
        assert read(source, 10) == 11, "the first marker is between the messages"
        assert holds_within(lambda: not source.poll(10) and source.ends() == {0: 11}, 60.0)
        source.hold([0])
        send(3)
        assert source.ends() == {}
        assert holds_within(lambda: source.look([0]) == {0: 16}, 60.0), "a broker writes a marker when it comes to it"
        source.start(0, 11)
        assert read(source, 3) == 15
        assert source.ends()[0] in (15, 16), "the last marker may not have been read yet"
        assert holds_within(lambda: not source.poll(10) and source.ends() == {0: 15}, 60.0)
        assert holds_within(lambda: not source.poll(10) and source.answered_at() is not None, 60.0)
    finally:
        source.close()


def read(source: KafkaSource, count: int) -> int:
    """Poll until so many messages have come and return the offset after the last."""
    deadline, end = time.monotonic() + 60, 0
    while count > 0 and time.monotonic() < deadline:
        for run in source.poll(100):
            count -= len(run.offsets)
            end = run.next_offset
    assert count == 0
    return end


def test_a_poll_that_fails_takes_as_long_as_one_that_finds_nothing() -> None:
    """What listens on the port then closes every connection at once, as a load balancer without a broker does."""
    with DevelopmentBroker() as broker:
        settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, group="away")
        topics.check_topics(settings)
        source = KafkaSource(settings, Watchdog(120))
        deadline = time.monotonic() + 60
        while not source.joined() and time.monotonic() < deadline:
            source.poll(10)
    host, _, port = settings.bootstrap_servers.rpartition(":")
    with socket.create_server((host, int(port))) as listener:
        threading.Thread(target=close_all, args=(listener,), daemon=True).start()
        failures: list[float] = []
        while len(failures) < 12 and time.monotonic() < deadline + 120:
            try:
                source.poll(10)
            except Unavailable:
                failures.append(time.monotonic())
        with suppress(Unavailable):
            source.close()
    assert len(failures) == 12
    assert failures[-1] - failures[0] >= 11 * 0.5


def close_all(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            listener.accept()[0].close()
