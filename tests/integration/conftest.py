"""Servers for the integration tests, one of each for a whole run, also when pytest-xdist runs several processes."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from pipeline.quickstart.broker import DevelopmentBroker
from tests import processes, servers


@dataclass(frozen=True)
class KafkaAddress:
    """A running Kafka broker; `kind` is `development` or `apache`."""

    kind: str
    bootstrap_servers: str


@dataclass(frozen=True)
class PostgreSQLAddress:
    """A running PostgreSQL server."""

    port: int

    def url(self, database: str) -> str:
        return servers.postgresql_url(self.port, database)

    def fresh_database(self) -> str:
        """Create an empty database and return its SQLAlchemy address."""
        return servers.fresh_database(self.port)

    def upgraded_database(self) -> str:
        """Create an upgraded database and return its SQLAlchemy address."""
        return servers.upgraded_database(self.port)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all test processes of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def require(reason: str | None) -> None:
    """Skip with the reason, or fail where servers are required (CI=true or TIDECAST_REQUIRE_SERVERS=1)."""
    if reason and servers.required():
        pytest.fail(f"{reason}, and servers are required here")
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def development_broker() -> Iterator[KafkaAddress]:
    with DevelopmentBroker() as broker:
        yield KafkaAddress("development", broker.bootstrap_servers)


@pytest.fixture(scope="session")
def apache_kafka(run_folder: Path) -> Iterator[KafkaAddress]:
    require(servers.ApacheKafka.missing())
    with servers.shared(servers.ApacheKafka, run_folder) as port:
        yield KafkaAddress("apache", f"127.0.0.1:{port}")


@pytest.fixture(scope="session", params=["development", pytest.param("apache", marks=pytest.mark.apache)])
def broker(request: pytest.FixtureRequest) -> KafkaAddress:
    """Each Kafka broker in turn."""
    name = "development_broker" if request.param == "development" else "apache_kafka"
    address: KafkaAddress = request.getfixturevalue(name)
    return address


@pytest.fixture(scope="session")
def postgresql(run_folder: Path) -> Iterator[PostgreSQLAddress]:
    require(servers.PostgreSQL.missing())
    with servers.shared(servers.PostgreSQL, run_folder) as port:
        yield PostgreSQLAddress(port)


@pytest.fixture
def topic(broker: KafkaAddress) -> Callable[..., str]:
    """Create a topic with a new name: `topic(partitions=2, retention_ms="-1")`."""

    def create(partitions: int = 1, **config: str) -> str:
        return servers.create_topic(broker.bootstrap_servers, f"topic-{uuid4().hex[:12]}", partitions, **config)

    return create


@pytest.fixture
def forked_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fork server start the jobs of a schedule or a runner that is part of the test process."""
    monkeypatch.setattr(subprocess, "Popen", processes.Popen)
