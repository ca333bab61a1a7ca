"""The servers that other tests rely on keep their promises: fresh databases, and data that survives a crash."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from confluent_kafka import Consumer, Producer

from pipeline.database.schema.migrate import current, head
from tests import servers
from tests.integration.conftest import PostgreSQLAddress, require


def test_each_fresh_database_is_empty_and_its_own(postgresql: PostgreSQLAddress) -> None:
    first, second = postgresql.fresh_database(), postgresql.fresh_database()
    assert first != second
    engine = sa.create_engine(first)
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == []
    engine.dispose()


def test_an_upgraded_database_is_empty_its_own_and_of_the_newest_revision(
    postgresql: PostgreSQLAddress, tmp_path: Path
) -> None:
    file = tmp_path / "tidecast.db"
    file.write_bytes(servers.upgraded_file())
    urls = [postgresql.upgraded_database(), postgresql.upgraded_database(), f"sqlite:///{file}"]
    assert len(set(urls)) == 3
    for url in urls:
        assert current(url) == head()
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT count(*) FROM observations")).scalar_one() == 0
        engine.dispose()


def test_postgresql_keeps_committed_rows_over_a_crash() -> None:
    require(servers.PostgreSQL.missing())
    with servers.PostgreSQL() as server:
        engine = sa.create_engine(server.fresh_database(), poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE kept AS SELECT 1 AS x"))
        server.restart()
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT x FROM kept")).scalar_one() == 1


def test_postgresql_starts_again_after_kill_9_while_sessions_of_before_are_still_there() -> None:
    require(servers.PostgreSQL.missing())
    with servers.PostgreSQL() as server:
        engine = sa.create_engine(server.fresh_database())
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE kept AS SELECT 1 AS x"))
        before = engine.connect()
        before.execute(sa.text("SELECT pg_backend_pid()"))
        server.crash()
        server.recover()
        before.invalidate()
        before.close()
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT x FROM kept")).scalar_one() == 1
        engine.dispose()


@pytest.mark.apache
@pytest.mark.slow
def test_apache_kafka_keeps_acknowledged_records_over_a_kill_and_a_freeze() -> None:
    require(servers.ApacheKafka.missing())
    with servers.ApacheKafka() as server:
        servers.create_topic(server.bootstrap_servers, "kept")
        producer = Producer({"bootstrap.servers": server.bootstrap_servers, "log_level": 0, "acks": "all"})
        producer.produce("kept", b"value", partition=0)
        assert producer.flush(20) == 0
        server.restart()
        server.pause()
        server.resume()
        settings = {"bootstrap.servers": server.bootstrap_servers, "group.id": "g", "auto.offset.reset": "earliest"}
        consumer = Consumer(settings | {"log_level": 0})
        try:
            consumer.subscribe(["kept"])
            message = consumer.poll(30)
            assert message is not None
            assert message.value() == b"value"
        finally:
            consumer.close()
