"""Places to run the fault tests in: a broker and a database of each kind, and a fleet of workers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.deployment import Deployment, deploy
from tests.faults.fleet import Fleet
from tests.integration.conftest import apache_kafka, development_broker, postgresql, run_folder

__all__ = ["apache_kafka", "development_broker", "place", "postgresql", "run_folder"]

QUICK = ("kafka.session_timeout=6", "kafka.call_timeout=10", "database.timeout=10")


@dataclass(frozen=True)
class Place:
    """A broker and an empty database; `name` says of which kinds."""

    name: str
    bootstrap_servers: str
    database: str
    folder: Path

    def deploy(self, *settings: str, partitions: int = 6) -> Deployment:
        """Set up a deployment with short timeouts."""
        return deploy(self.bootstrap_servers, self.database, (*QUICK, *settings), partitions)

    def fleet(self, deployment: Deployment) -> Fleet:
        return Fleet(deployment.sets, self.folder)


@pytest.fixture(
    params=["development broker, SQLite", pytest.param("Apache Kafka, PostgreSQL", marks=pytest.mark.apache)]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each pair of broker and database in turn."""
    name: str = request.param
    if name.startswith("Apache"):
        bootstrap_servers = request.getfixturevalue("apache_kafka").bootstrap_servers
        database = request.getfixturevalue("postgresql").fresh_database()
    else:
        bootstrap_servers = request.getfixturevalue("development_broker").bootstrap_servers
        database = f"sqlite:///{tmp_path}/tidecast.db"
    yield Place(name, bootstrap_servers, database, tmp_path)
