"""Little on the wire and much in memory: each such batch is one dead letter, and what a worker holds is bounded."""

import json
from collections.abc import Sequence

import pytest
from kafka import KafkaProducer
from sqlalchemy import text

from tests.faults.conftest import Place
from tests.faults.deployment import Deployment, Sender
from tests.faults.panel import Panel
from tests.faults.summary import report
from tests.faults.verify import Findings, wait_for_lag_0
from tests.faults.vitals import MEGABYTE, Vitals

PANEL = Panel(series=6, steps=20)
LIMIT = 16 * MEGABYTE
HEADROOM = 500.0  # MB that a worker may need beyond what it needs at rest: the limits, some copies, a turn
BOMBS: dict[str, list[int]] = {  # codec -> sizes of the messages of one batch, all of which are beyond the limit
    "zstd": [256 * MEGABYTE],
    "gzip": [200 * MEGABYTE],
    "lz4": [200 * MEGABYTE],
    "snappy": [LIMIT + 1],
}
MANY: dict[str, list[int]] = {
    "zstd": [MEGABYTE] * 150,
    "gzip": [MEGABYTE] * 100,
    "lz4": [200_000] * 500,
    "snappy": [100_000] * 180,
}
VALID = 200  # messages of nearly 900 kB, each in a batch of its own


def send_batch(deployment: Deployment, codec: str, partition: int, values: Sequence[bytes]) -> None:
    """Send values as one record batch, as a Java client does that estimates how well they are packed."""
    producer = KafkaProducer(
        bootstrap_servers=deployment.bootstrap_servers,
        compression_type=codec,
        batch_size=1 << 30,
        max_request_size=1 << 30,
        linger_ms=60_000,
        metrics_enabled=False,
    )
    sent = [producer.send(deployment.topic, value, b"key", partition=partition) for value in values]
    producer.flush(60)
    offsets = {one.get(timeout=60).offset for one in sent}
    assert len(offsets) == len(values)
    producer.close(timeout=5)


def valid(i: int) -> bytes:
    event = {"series_id": "large", "timestamp": 1_704_067_200 + 3_600 * i, "value": float(i)}
    return json.dumps(event | {"note": "x" * 880_000}).encode()


@pytest.mark.parametrize("hook", ["true", pytest.param("false", marks=pytest.mark.heavy)])
@pytest.mark.fault("unpacked")
def test_what_unpacks_to_more_than_the_limit_is_a_dead_letter_and_memory_stays_bounded(place: Place, hook: str) -> None:
    deployment = place.deploy(
        *PANEL.settings, f"input.max_batch_bytes={LIMIT}", "input.most_bad=off", f"kafka.batch_hook={hook}"
    )
    sender = Sender(deployment)
    good = list(PANEL.messages())
    with place.fleet(deployment) as fleet:
        fleet.start("one")
        sender.send(good[: len(good) // 2])
        wait_for_lag_0(deployment)
        with Vitals(lambda: fleet.pid("one"), pause=0.02) as vitals:
            for partition, (codec, sizes) in enumerate([*BOMBS.items(), *MANY.items()]):
                send_batch(deployment, codec, partition % PANEL.partitions, [bytes(size) for size in sizes])
            producer = KafkaProducer(
                bootstrap_servers=deployment.bootstrap_servers, compression_type="zstd", batch_size=1, linger_ms=0
            )
            for i in range(VALID):
                producer.send(deployment.topic, valid(i), b"large", partition=0)
            producer.close(timeout=60)
            sender.send(good[len(good) // 2 :])
            wait_for_lag_0(deployment)
        turns = fleet.events("one", "turn")
        assert fleet.stop("one") == 0
    engine = deployment.engine()
    with engine.connect() as connection:
        letters = connection.execute(text("SELECT reason, LENGTH(value) FROM dead_letters")).all()
        events = connection.execute(text("SELECT SUM(events) FROM observations")).scalar_one()
    engine.dispose()
    at_rest = vitals.samples[0].memory / MEGABYTE
    findings = Findings()
    findings.count("events", int(events), len(good) + VALID)
    findings.count("dead letters", len(letters), len(BOMBS) + len(MANY))
    report("unpacked", f"{place.name}, hook {hook}", events=len(good) + VALID, faults=len(letters), findings=findings)
    assert not findings, str(findings)
    assert all("unpacks to more than 16,777,216 bytes" in reason for reason, _ in letters), letters
    assert all(size < 2 * MEGABYTE for _, size in letters), "the value is the packed batch"
    assert sum(turn["observations"] for turn in turns) == len(good) + VALID
    most = max(turn["messages"] for turn in turns if turn["messages"] > 0)
    assert most <= 64 * MEGABYTE // 880_000 + len(good), "a turn ends when its bytes are used up"
    assert vitals.highest_memory() < at_rest + HEADROOM, f"{vitals.highest_memory():.0f} MB, {at_rest:.0f} at rest"
