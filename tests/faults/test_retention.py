"""The input topic's retention passes S: the worker goes on from the oldest message left, and says what it missed."""

import time
from collections import Counter
from dataclasses import replace

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from sqlalchemy import text

from tests.faults.conftest import Place
from tests.faults.deployment import Deployment, Sender
from tests.faults.fleet import until
from tests.faults.panel import Panel
from tests.faults.summary import report
from tests.faults.telemetry import ANY_PORT, telemetry_of
from tests.faults.verify import gather, judge, read_confluent, wait_for_lag_0

BEFORE, AFTER = 60, 100  # the steps between are deleted: more than a window
PANEL = Panel(series=12, steps=160, resumes=AFTER)
REASON = "retention deleted what was not yet read"


def delete_records(deployment: Deployment, offset: int) -> None:
    """Delete what is below an offset in every partition of the input, as retention does."""
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers, "log_level": 0})
    at = [TopicPartition(deployment.topic, partition, offset) for partition in range(deployment.partitions)]
    for deleted in admin.delete_records(at, request_timeout=30).values():
        assert deleted.result(30).low_watermark == offset


def jumps(deployment: Deployment) -> list[tuple[int, int, int, str]]:
    engine = deployment.engine()
    with engine.connect() as connection:
        query = "SELECT partition, from_offset, to_offset, reason FROM ingest_jumps ORDER BY 1"
        rows = [tuple(row) for row in connection.execute(text(query))]
    engine.dispose()
    return rows


@pytest.mark.fault("retention")
@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [
        pytest.param("Apache Kafka, PostgreSQL", marks=pytest.mark.apache),
        pytest.param("Apache Kafka, SQLite", marks=[pytest.mark.apache, pytest.mark.heavy]),
    ],
    indirect=True,
)
def test_exactly_what_retention_deleted_is_missing_and_the_jump_is_recorded(place: Place) -> None:
    """Two series are in every partition, so that a step ends at the same offset in each."""
    deployment = place.deploy(*PANEL.settings, "kafka.max_messages=100", ANY_PORT)
    sender = Sender(deployment)
    messages = list(PANEL.messages())
    at_step = PANEL.series // PANEL.partitions  # messages of a partition
    start, stop = BEFORE * at_step, AFTER * at_step
    with place.fleet(deployment) as fleet:
        fleet.start("one")
        sender.send(messages[: BEFORE * PANEL.series])
        wait_for_lag_0(deployment)
        assert fleet.stop("one") == 0
        sender.send(messages[BEFORE * PANEL.series :])
        sent = read_confluent(deployment, deployment.topic)
        delete_records(deployment, stop)

        began = time.monotonic()
        fleet.start("one")
        wait_for_lag_0(deployment)
        seconds = time.monotonic() - began
        skipped = telemetry_of(fleet, "one").samples()["skipped_offsets_total",]
        said = fleet.events("one", "offsets skipped")
        assert fleet.stop("one") == 0

        fleet.start("one")  # a jump is made once
        until(lambda: len(fleet.events("one", "claimed")) == PANEL.partitions, 120.0, "every partition is claimed")
        assert fleet.events("one", "offsets skipped") == []
        assert fleet.stop("one") == 0
    deleted = [record for record in sent if start <= record.offset < stop]
    sender.sent.subtract(Counter((record.key, record.value) for record in deleted))
    evidence = gather(deployment, sender)
    assert {record.offset for record in evidence.input} == set(range(stop, PANEL.steps * at_step))
    read = [record for record in sent if record.offset < start]
    findings = judge(replace(evidence, input=[*read, *evidence.input]), deployment, PANEL)
    report(
        "topic: retention passes S",
        place.name,
        events=len(messages) - len(deleted),
        faults=1,
        findings=findings,
        seconds=seconds,
        more={"deleted": len(deleted), "skipped": skipped},
    )
    assert not findings, str(findings)
    assert jumps(deployment) == [(partition, start, stop, REASON) for partition in range(PANEL.partitions)]
    assert skipped == len(deleted) == (AFTER - BEFORE) * PANEL.series
    assert [(each["level"], each["reason"]) for each in said] == [("error", REASON)] * PANEL.partitions
