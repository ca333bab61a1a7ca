"""Where a topic ends, on real brokers, and how little a broker that is away may cost."""

import threading
from collections.abc import Callable

import pytest

from pipeline.errors import Unavailable
from pipeline.kafka.ends import end_offsets
from pipeline.kafka.topics import send
from pipeline.settings import KafkaSettings
from tests.integration.conftest import KafkaAddress
from tests.servers import free_port


def test_each_partition_has_the_offset_after_its_last_message(broker: KafkaAddress, topic: Callable[..., str]) -> None:
    name = topic(partitions=3)
    settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, input_topic=name)
    assert end_offsets(settings, name, 30.0) == {0: 0, 1: 0, 2: 0}
    send(settings, name, [(b"one key", b"x", []) for _ in range(5)])
    assert sorted(end_offsets(settings, name, 30.0).values()) == [0, 0, 5]


def test_a_broker_that_is_away_is_told_in_a_line_and_leaves_no_thread_behind() -> None:
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}", call_timeout=600.0)
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(Unavailable, match="asking for the ends of observations: Kafka at 127") as told:
            end_offsets(settings, "observations", 1.0)
        assert "\n" not in str(told.value)
    assert threading.active_count() <= before
