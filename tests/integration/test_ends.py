"""Where a topic ends, on real brokers, and how little a broker that is away may cost."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import TopicPartition
from kafka.cluster import ClusterMetadata

from pipeline.database import upgrade
from pipeline.kafka.ends import end_offsets
from pipeline.kafka.topics import send
from pipeline.settings import KafkaSettings
from tests import processes
from tests.integration.conftest import KafkaAddress
from tests.servers import free_port


def test_each_partition_has_the_offset_after_its_last_message(broker: KafkaAddress, topic: Callable[..., str]) -> None:
    name = topic(partitions=3)
    settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, input_topic=name)
    assert end_offsets(settings, name, 30.0) == {0: 0, 1: 0, 2: 0}
    send(settings, name, [(b"one key", b"x", []) for _ in range(5)])
    assert sorted(end_offsets(settings, name, 30.0).values()) == [0, 0, 5]


def test_a_partition_whose_leader_is_not_known_yet_is_waited_for(
    broker: KafkaAddress, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic(partitions=3)
    settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, input_topic=name)
    leader, asked = ClusterMetadata.leader_for_partition, []

    def forgetful(cluster: ClusterMetadata, at: TopicPartition) -> int | None:
        asked.append(at.partition)
        return None if at.partition == 2 and asked.count(2) < 4 else leader(cluster, at)

    monkeypatch.setattr(ClusterMetadata, "leader_for_partition", forgetful)
    assert end_offsets(settings, name, 30.0) == {0: 0, 1: 0, 2: 0}
    assert asked.count(2) >= 4


def test_a_partition_without_a_leader_is_left_out_and_costs_the_others_no_time(
    broker: KafkaAddress, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic(partitions=3)
    settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, input_topic=name)
    leader = ClusterMetadata.leader_for_partition
    send(settings, name, [(b"one key", b"x", []) for _ in range(5)])
    (filled,) = (at for at, end in end_offsets(settings, name, 30.0).items() if end)

    def without(*unled: int) -> Callable[[ClusterMetadata, TopicPartition], int | None]:
        return lambda cluster, at: -1 if at.partition in unled else leader(cluster, at)

    empty = sorted({0, 1, 2} - {filled})
    monkeypatch.setattr(ClusterMetadata, "leader_for_partition", without(empty[0]))
    assert end_offsets(settings, name, 9.0) == {filled: 5, empty[1]: 0}
    monkeypatch.setattr(ClusterMetadata, "leader_for_partition", without(0, 1, 2))
    assert end_offsets(settings, name, 3.0) == {}


ASKING = """
import sys, threading
from pipeline.errors import Unavailable
from pipeline.database import upgrade
from pipeline.kafka.ends import end_offsets
from pipeline.settings import KafkaSettings
before = threading.active_count()
for _ in range(3):
    try:
        end_offsets(KafkaSettings(bootstrap_servers=sys.argv[1]), "observations", 1.0)
    except Unavailable as told:
        print(told)
print(threading.active_count() - before)
"""


def test_a_broker_that_is_away_is_told_in_a_line_and_leaves_no_thread_behind() -> None:
    address = f"127.0.0.1:{free_port()}"
    # In a process of its own: the library leaves a socket to the garbage collector, which would warn in another test.
    done = processes.run(
        [sys.executable, "-c", ASKING, address], capture_output=True, text=True, check=True, timeout=120
    )
    *told, threads = done.stdout.splitlines()
    assert len(told) == 3
    assert all(line.startswith(f"asking for the ends of observations: Kafka at {address}") for line in told)
    assert threads == "0"


@pytest.mark.parametrize("role", ["stream", "run"])
def test_a_role_that_is_told_to_end_while_it_waits_for_a_silent_broker_ends_well(role: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tidecast.db"
    upgrade(url)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(120)
        broker = f"kafka.bootstrap_servers=127.0.0.1:{silent.getsockname()[1]}"
        waits = [broker, f"database.url={url}", "kafka.call_timeout=3", "metrics.listen=off"]
        words = [word for each in waits for word in ("--set", each)]
        with processes.Popen(
            [sys.executable, "-P", "-m", "pipeline.cli", *words, role],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                silent.accept()[0].close()
                process.send_signal(signal.SIGTERM)
                _, errors = process.communicate(timeout=120)
            finally:
                process.kill()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
