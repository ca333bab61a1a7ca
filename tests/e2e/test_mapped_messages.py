"""Readings whose parts are in the key, the headers and the record's time, over real brokers and back again."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime

from click.testing import CliRunner
from confluent_kafka import Producer

from pipeline.cli import root
from tests import servers
from tests.e2e.test_topic_to_sql import catch_up, rows, working
from tests.faults.conftest import Place
from tests.faults.deployment import Deployment
from tests.faults.fleet import until

HOUR = 3_600_000
START = int(time.time() * 1000) // HOUR * HOUR - 40 * HOUR
KEPT = 48 * HOUR
"""Milliseconds; a requeue sends what is older than half of it with the present time."""
SMALL = ("series.frequency=1h", "series.context=16", "series.horizon=3", "series.season=4", "series.duplicates=sum")
MAPPING = (
    "input.series_id={$header.site}/{$key.meter}/{$field}",
    "input.timestamp=$timestamp",
    'input.values=["kwh", "v"]',
)


def produce(deployment: Deployment, value: object, hour: int) -> None:
    """Send one message of the record's time `hour`."""
    producer = Producer({"bootstrap.servers": deployment.bootstrap_servers, "log_level": 0})
    producer.produce(
        deployment.topic,
        json.dumps(value).encode(),
        b'{"meter": 7}',
        0,
        timestamp=START + hour * HOUR,
        headers=[("site", b"old"), ("site", "süd".encode())],
    )
    assert producer.flush(30) == 0


def stored(deployment: Deployment) -> dict[tuple[str, int], tuple[float, int]]:
    """The value and the number of events of each series and hour."""
    found = rows(
        deployment,
        "SELECT s.name, o.observed_at, o.value, o.events FROM observations o JOIN series s USING (series_id)",
    )
    return {(row.name, hour_of(row.observed_at)): (row.value, row.events) for row in found}


def hour_of(moment: datetime | str) -> int:
    read = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    at = read if read.tzinfo else read.replace(tzinfo=UTC)
    return (int(at.timestamp() * 1000) - START) // HOUR


def test_parts_are_read_from_the_record_and_a_requeue_keeps_its_time(place: Place) -> None:
    deployment = place.deploy(*SMALL, *MAPPING, partitions=1)
    deployment = replace(deployment, topic=f"{deployment.topic}.kept")
    for topic in (deployment.topic, deployment.output, deployment.dead_letters):
        servers.create_topic(deployment.bootstrap_servers, topic, 1, retention_ms=str(KEPT))
    for hour in range(3):
        produce(deployment, {"kwh": hour, "v": 230}, hour)
    produce(deployment, {"kwh": 5, "v": "?"}, 1)  # refused whole
    with working(deployment) as worker:
        catch_up(worker, deployment)
    expected = {("süd/7/kwh", hour): (float(hour), 1) for hour in range(3)}
    expected |= {("süd/7/v", hour): (230.0, 1) for hour in range(3)}
    assert stored(deployment) == expected
    (letter,) = rows(deployment, "SELECT reason FROM dead_letters")
    assert 'v is the text "?", not a number' in letter.reason

    lenient = [*deployment.sets, "kafka.instance=worker", 'input.missing=["?"]']  # the mapping is mended
    options = [part for each in lenient for part in ("--set", each)]
    sent = CliRunner().invoke(root, [*options, "dead-letters", "requeue", "--all"])
    assert sent.exit_code == 0, sent.output
    mended = replace(deployment, settings=(*deployment.settings, 'input.missing=["?"]'))
    with working(mended) as worker:

        def read_again() -> bool:
            worker.step()
            return mended.stored()[0] > 4

        until(read_again, 60.0, "the message that was sent again is stored", pause=0)
    assert stored(deployment) == expected | {("süd/7/kwh", 1): (6.0, 2), ("süd/7/v", 1): (230.0, 1)}
