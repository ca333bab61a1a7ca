"""What a run has left behind, read with a client of its own: rows of SQL, messages of the topics."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from sqlalchemy import text

from tests.faults.deployment import Deployment
from tests.faults.fleet import until
from tests.faults.oracle import Arrived
from tests.faults.panel import START, STEP, microseconds
from tests.faults.verify import QUANTILES, READ_SECONDS


@dataclass(frozen=True)
class Row:
    """A row of observations."""

    series: str
    t: int
    value: float | None
    events: int


@dataclass(frozen=True)
class Issued:
    """A forecast of SQL with its whole horizon; `topic` is the name that SQL gives its source."""

    series: str
    origin: int
    version: int
    steps: tuple[int, ...]
    targets: tuple[int, ...]
    quantiles: tuple[tuple[float, ...], ...]
    quality: str
    calibration: int
    issued_at: int
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Letter:
    """A row of dead_letters."""

    topic: str
    partition: int
    offset: int
    reason: str
    key: bytes | None
    value: bytes | None
    requeued: bool


@dataclass(frozen=True)
class Left:
    """Everything that a run left behind."""

    observations: Sequence[Row]
    forecasts: Sequence[Issued]
    letters: Sequence[Letter]
    output: Sequence[Arrived]
    dead: Sequence[Arrived]


def read_left(deployment: Deployment) -> Left:
    """Read SQL and the topics of a deployment whose workers are idle or have ended."""
    engine = deployment.engine()
    with engine.connect() as connection:
        query = "SELECT s.name, o.observed_at, o.value, o.events FROM observations o JOIN series s USING (series_id)"
        observations = [
            Row(row.name, _step(row.observed_at), row.value, row.events) for row in connection.execute(text(query))
        ]
        query = (
            f"SELECT s.name, f.origin, f.model_version, f.step, f.target_time, {', '.join(QUANTILES)}, f.quality,"
            " f.calibration, f.issued_at, t.topic, f.source_partition, f.source_offset FROM forecasts f"
            " JOIN series s USING (series_id) JOIN topics t ON t.topic_id = f.source_topic ORDER BY 1, 2, 3, 4"
        )
        forecasts = list(_forecasts(connection.execute(text(query))))
        query = "SELECT topic, source_partition, source_offset, reason, key, value, requeued_at FROM dead_letters"
        letters = [
            Letter(row[0], row[1], row[2], row[3], _bytes(row[4]), _bytes(row[5]), row[6] is not None)
            for row in connection.execute(text(query))
        ]
    engine.dispose()
    output, dead = (read_topic(deployment, topic) for topic in (deployment.output, deployment.dead_letters))
    return Left(observations, forecasts, letters, output, dead)


def read_topic(deployment: Deployment, topic: str, life: int = 0) -> list[Arrived]:
    """Read a topic's committed messages from its beginning to its end."""
    consumer = Consumer(
        {
            "bootstrap.servers": deployment.bootstrap_servers,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.message.max.bytes": 1 << 24,
            "log_level": 0,
        }
    )
    arrived: list[Arrived] = []
    ended: set[int] = set()
    try:
        partitions = consumer.list_topics(topic, timeout=READ_SECONDS).topics[topic].partitions

        def read() -> bool:
            for message in consumer.consume(5_000, timeout=0.5):
                error, partition = message.error(), message.partition()
                assert partition is not None
                if error is None:
                    headers = tuple((name, bytes(value or b"")) for name, value in message.headers() or ())
                    at = message.timestamp()[1] * 1000
                    offset = message.offset() or 0
                    arrived.append(Arrived(life, partition, offset, at, message.key(), message.value(), headers))
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(partition)
                else:
                    raise AssertionError(f"reading {topic}: {error}")
            return len(ended) == len(partitions)

        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        until(read, READ_SECONDS, f"reading {topic}", pause=0)
    finally:
        consumer.close()
    return sorted(arrived, key=lambda each: each.place)


def _forecasts(rows: Any) -> Iterator[Issued]:
    """Join the rows of each forecast; they come in the order of its key."""
    for key, group in groupby(rows, key=lambda row: (row.name, row.origin, row.model_version)):
        steps = list(group)
        first = steps[0]
        yield Issued(
            series=key[0],
            origin=_step(key[1]),
            version=key[2],
            steps=tuple(row.step for row in steps),
            targets=tuple(_step(row.target_time) for row in steps),
            quantiles=tuple(tuple(getattr(row, name) for name in QUANTILES) for row in steps),
            quality=first.quality,
            calibration=first.calibration,
            issued_at=microseconds(_moment(first.issued_at)),
            topic=first.topic,
            partition=first.source_partition,
            offset=first.source_offset,
        )


def _moment(value: str | datetime) -> datetime:
    return datetime.fromisoformat(value).replace(tzinfo=UTC) if isinstance(value, str) else value


def _step(value: str | datetime) -> int:
    steps, rest = divmod(_moment(value) - START, STEP)
    assert not rest, f"{value} is not on the grid"
    return steps


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)
