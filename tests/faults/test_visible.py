"""A worker that suffers says so, while it suffers, and says when it is well again; nobody does anything to it."""

from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests import servers
from tests.faults.conftest import QUICK
from tests.faults.deployment import Deployment, Sender, deploy
from tests.faults.fleet import Fleet, until
from tests.faults.panel import Message, Panel, split
from tests.faults.summary import report
from tests.faults.telemetry import ANY_PORT, Telemetry, telemetry_of
from tests.faults.verify import verify, wait_for_lag_0
from tests.integration.conftest import KafkaAddress, broker, require

__all__ = ["broker"]

PANEL = Panel(series=12, steps=60)
LONG = 120.0


def is_well(telemetry: Telemetry) -> bool:
    found = telemetry.samples()
    return (
        telemetry.status("/readyz") == telemetry.status("/healthz") == 200
        and found["uncommitted_seconds",] == 0.0
        and telemetry.sum("partition_lag_messages") == 0.0
    )


@pytest.mark.slow
@pytest.mark.fault("readiness")
def test_readiness_follows_the_database_and_time_without_a_commit_is_counted(
    broker: KafkaAddress, tmp_path: Path
) -> None:
    require(servers.PostgreSQL.missing())
    with servers.PostgreSQL() as database:
        deployment = deploy(
            broker.bootstrap_servers,
            database.fresh_database(),
            (*QUICK, *PANEL.settings, "database.timeout=60", ANY_PORT),
        )
        sender = Sender(deployment)
        parts = iter(split(list(PANEL.messages(twice=0.02, poison=12, seed=7)), 4))
        with Fleet(deployment.sets, tmp_path) as fleet:
            database.pause()  # it takes connections and does not answer
            fleet.start("one")
            one = telemetry_of(fleet, "one")
            assert (one.status("/healthz"), one.status("/readyz")) == (200, 503)
            assert one.reasons() == "it is starting"
            database.resume()
            until(lambda: one.status("/readyz") == 200, LONG, one.reasons)
            sender.send(next(parts))
            wait_for_lag_0(deployment)
            until(lambda: is_well(one), LONG, one.reasons)
            assert one.samples()["messages_total",] == sum(sender.sent.values())

            database.kill()
            sender.send(next(parts))
            until(lambda: one.status("/readyz") == 503, LONG, "the worker says that it is not ready")
            assert "claiming again: database" in one.reasons()
            before = one.samples()["uncommitted_seconds",]
            until(lambda: one.samples()["uncommitted_seconds",] > before + 3.0, LONG, "the seconds grow")
            until(lambda: one.sum("partition_lag_messages") > 0.0, LONG, "the lag grows, though nothing is fetched")
            assert one.status("/healthz") == 200, "a restart would not help"
            assert one.samples()["claims_dropped_total", "database"] >= 1.0

            database.start()
            wait_for_lag_0(deployment, LONG)
            until(lambda: is_well(one), LONG, one.reasons)

            block(deployment, sender, next(parts), one)
            sender.send(next(parts))
            wait_for_lag_0(deployment, LONG)
            until(lambda: is_well(one), LONG, one.reasons)
            found = one.samples()
            assert fleet.stop("one") == 0
            assert one.status("/healthz") == 0, "the port is free again"
        assert found["observations_total",] >= PANEL.series * PANEL.steps
        assert sum(found["dead_letters_total", name] for name in ("event", "time", "null", "empty", "number")) > 0
        findings = verify(deployment, PANEL, sender)
        report(
            "database silent, killed, locked",
            broker.kind,
            events=sum(sender.sent.values()),
            faults=3,
            findings=findings,
        )
        assert not findings, str(findings)


def block(deployment: Deployment, sender: Sender, part: Sequence[Message], one: Telemetry) -> None:
    """Hold the worker's own thread in a turn by a lock on a table: its telemetry answers all the same."""
    address = make_url(deployment.database)
    with psycopg.connect(host=address.host, port=address.port, user=address.username, dbname=address.database) as other:
        other.execute("LOCK TABLE observations IN ACCESS EXCLUSIVE MODE")
        turns = one.samples()["turn_duration_seconds_count",]
        sender.send(part)
        until(lambda: "the loop has not turned" in one.reasons(), LONG, one.reasons)
        found = one.samples()
        assert found["turn_duration_seconds_count",] == turns
        assert found["uncommitted_seconds",] > 20.0
        assert one.status("/healthz") == 200, "it waits, and its watchdog would end it"
        other.rollback()
