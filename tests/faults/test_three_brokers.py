"""Three brokers: the leader of a partition is killed, then the group's coordinator, and each comes back."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from tests.faults.conftest import QUICK, Place
from tests.faults.deployment import Deployment, deploy
from tests.faults.fleet import Fleet, until
from tests.faults.ordeal import Ordeal
from tests.faults.panel import Panel
from tests.faults.scale import scaled
from tests.integration.conftest import require
from tests.servers import ApacheKafka, PostgreSQL, create_topic

PANEL = Panel(series=24, steps=scaled(300))
NODES = 3
CLUSTER = "tidecastThreeBrokers00"
PROPERTIES = """node.id={node}
controller.quorum.voters={voters}
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2"""


class Node(ApacheKafka):
    """One of three; `voters` is every node by its controller's port, filled before the first one starts."""

    def __init__(self, number: int, voters: dict[int, int]) -> None:
        super().__init__()
        self.number = number
        self._voters = voters
        voters[number] = self._controller_port

    def options(self) -> dict[str, Any]:
        voters = ",".join(f"{number}@127.0.0.1:{port}" for number, port in self._voters.items())
        own = {
            "TIDECAST_KAFKA_CONTROLLER_PORT": str(self._controller_port),
            "TIDECAST_KAFKA_FORMAT": "",
            "TIDECAST_KAFKA_CLUSTER": CLUSTER,
            "TIDECAST_KAFKA_PROPERTIES": PROPERTIES.format(node=self.number, voters=voters),
            "KAFKA_JAVA_OPTIONS": "-Xmx384m -XX:TieredStopAtLevel=1",
        }
        return {"env": os.environ | own}

    def answers(self) -> bool:
        return True


@dataclass(frozen=True)
class Cluster:
    """Three running nodes, by number."""

    nodes: dict[int, Node]

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(node.bootstrap_servers for node in self.nodes.values())

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

    def leader(self, topic: str, partition: int) -> Node:
        return self.nodes[self.admin().list_topics(topic, timeout=30).topics[topic].partitions[partition].leader]

    def coordinator(self, group: str) -> Node:
        admin = self.admin()  # held until the answer is there: without it there is none
        described = admin.describe_consumer_groups([group], request_timeout=30)[group].result(60)
        return self.nodes[described.coordinator.id]

    def in_sync(self, deployment: Deployment) -> bool:
        topics = self.admin().list_topics(timeout=30).topics
        names = (deployment.topic, deployment.output, "__consumer_offsets", "__transaction_state")
        return all(len(each.isrs) == NODES for name in names for each in topics[name].partitions.values())


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    require(ApacheKafka.missing())
    voters: dict[int, int] = {}
    nodes = [Node(number, voters) for number in range(1, NODES + 1)]
    with ExitStack() as stack, ThreadPoolExecutor(NODES) as pool:
        for node in nodes:
            stack.callback(node.stop)
        for started in [pool.submit(node.start) for node in nodes]:
            started.result()
        made = Cluster({node.number: node for node in nodes})
        until(lambda: len(made.admin().list_topics(timeout=30).brokers) == NODES, 60.0, "three brokers have joined")
        create_topic(made.bootstrap_servers, "ready", 1, NODES)
        yield made


@pytest.fixture(params=["three brokers, PostgreSQL", "three brokers, SQLite"])
def wide_place(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> Iterator[Place]:
    if request.param.endswith("SQLite"):
        yield Place(request.param, cluster.bootstrap_servers, f"sqlite:///{tmp_path}/tidecast.db", tmp_path)
        return
    require(PostgreSQL.missing())
    with PostgreSQL() as server:
        yield Place(request.param, cluster.bootstrap_servers, server.fresh_database(), tmp_path)


@pytest.mark.fault("three-brokers")
@pytest.mark.heavy
def test_nothing_is_lost_or_doubled_when_leaders_and_coordinators_are_killed(
    wide_place: Place, cluster: Cluster
) -> None:
    settings = (*QUICK, *PANEL.settings, "kafka.max_messages=100")
    deployment = deploy(wide_place.bootstrap_servers, wide_place.database, settings, replication=NODES)
    messages = list(PANEL.messages(twice=0.02, poison=40, seed=61))
    kills = 2 * scaled(1, by=10)

    def strike(_: Fleet) -> int:
        for number in range(kills):
            time.sleep(4.0)
            leads = number % 2 == 0
            struck = cluster.leader(deployment.topic, 0) if leads else cluster.coordinator(deployment.group)
            struck.kill()
            time.sleep(6.0)
            struck.start()
            until(lambda: cluster.in_sync(deployment), 120.0, "the three brokers are in sync again")
        return kills

    Ordeal("three brokers: kill -9", wide_place, deployment, PANEL, messages, 20.0 * kills).endure(strike)
