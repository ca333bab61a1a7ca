"""Places to run the fault tests in: a broker and a database of each kind, and a fleet of workers.

How to add a fault test:

    @pytest.mark.fault("broker-killed")   # its name: `make faults ONLY=broker-killed`, or ONLY=broker for all broker-*
    @pytest.mark.heavy                    # only in `make faults`; without it `make test` runs it, too (keep that short)
    def test_a_sentence_on_what_must_hold(place: Place) -> None:
        ...
        findings = verify(deployment, panel, sender)
        report("kill -9 of the broker", place.name, events=..., faults=5, findings=findings, seconds=...)
        assert not findings, str(findings)

- It lives in tests/faults. `report` adds its line to the table, once for each fault and place, before the assertion.
- `scaled(n)` of tests.faults.scale is n, or n x SCALE. A test ends in two minutes at SCALE=1 and has no timeout mark:
  `python -m tests.faults` gives every test 15 minutes x SCALE.
- `fault(name, on_demand=True)` runs only when ONLY names it.
- A test with the fixture `place` runs on Apache Kafka with PostgreSQL and with SQLite, and in `make test` on the
  development broker, too, which `make faults` leaves out. One that kills its servers, or needs a bad network, uses
  `own_place`; `fleet.supervised()` starts workers again that end by themselves.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.faults.deployment import Deployment, deploy
from tests.faults.fleet import Fleet
from tests.faults.proxy import Proxy
from tests.integration.conftest import apache_kafka, development_broker, postgresql, require, run_folder
from tests.servers import ApacheKafka, PostgreSQL, free_port, upgraded_file

__all__ = ["apache_kafka", "development_broker", "place", "postgresql", "run_folder"]

QUICK = ("kafka.session_timeout=6", "kafka.call_timeout=10", "database.timeout=10", "model.pretrained=false")


@dataclass(frozen=True)
class Place:
    """A broker and a database without rows; `name` says of which kinds."""

    name: str
    bootstrap_servers: str
    database: str
    folder: Path

    def deploy(self, *settings: str, partitions: int = 6, input_partitions: int | None = None) -> Deployment:
        """Set up a deployment with short timeouts."""
        chosen = (*QUICK, *settings)
        return deploy(self.bootstrap_servers, self.database, chosen, partitions, input_partitions=input_partitions)

    def fleet(self, deployment: Deployment) -> Fleet:
        return Fleet(deployment.sets, self.folder)


@pytest.fixture(
    params=[
        "development broker, SQLite",
        pytest.param("Apache Kafka, PostgreSQL", marks=pytest.mark.apache),
        pytest.param("Apache Kafka, SQLite", marks=[pytest.mark.apache, pytest.mark.heavy]),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each pair of broker and database in turn."""
    name: str = request.param
    if name.startswith("Apache"):
        bootstrap_servers = request.getfixturevalue("apache_kafka").bootstrap_servers
    else:
        bootstrap_servers = request.getfixturevalue("development_broker").bootstrap_servers
    if name.endswith("PostgreSQL"):
        database = request.getfixturevalue("postgresql").upgraded_database()
    else:
        (tmp_path / "tidecast.db").write_bytes(upgraded_file())
        database = f"sqlite:///{tmp_path}/tidecast.db"
    yield Place(name, bootstrap_servers, database, tmp_path)


@dataclass(frozen=True)
class OwnPlace(Place):
    """A place with servers of the test's own, which it may kill, and with a network between them and the workers.

    `postgresql` and `database_network` are None on SQLite.
    """

    kafka: ApacheKafka
    kafka_network: Proxy
    postgresql: PostgreSQL | None
    database_network: Proxy | None

    def deploy_far(self, *settings: str, partitions: int = 6) -> Deployment:
        """Set up a deployment whose workers, and they alone, reach their servers over the networks."""
        far = [f"kafka.bootstrap_servers=127.0.0.1:{self.kafka_network.port}"]
        if self.database_network is not None:
            address = make_url(self.database).set(port=self.database_network.port)
            url = address.update_query_dict({"sslmode": "disable", "gssencmode": "disable"})
            far.append(f"database.url={url.render_as_string(hide_password=False)}")
        return self.deploy(*far, *settings, partitions=partitions)


@pytest.fixture(params=["Apache Kafka, PostgreSQL", "Apache Kafka, SQLite"])
def own_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OwnPlace]:
    """Apache Kafka and each database in turn, started for this test alone (about 10 s)."""
    name: str = request.param
    require(ApacheKafka.missing())
    with ExitStack() as stack:
        kafka_network = stack.enter_context(Proxy(free_port()))
        kafka = stack.enter_context(ApacheKafka(kafka_network.port, kafka_network.target))
        postgresql = database_network = None
        database = f"sqlite:///{tmp_path}/tidecast.db"
        if name.endswith("PostgreSQL"):
            require(PostgreSQL.missing())
            postgresql = stack.enter_context(PostgreSQL())
            database_network = stack.enter_context(Proxy(postgresql.port))
            database = postgresql.fresh_database()
        servers = (kafka, kafka_network, postgresql, database_network)
        yield OwnPlace(name, kafka.bootstrap_servers, database, tmp_path, *servers)
