"""One deployment under test: its topics, its group, its database, and a producer that fills its input."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from confluent_kafka import Producer
from sqlalchemy import Engine, create_engine, text

from pipeline.database import upgrade
from pipeline.settings import Settings
from pipeline.settings.sources import load
from tests import servers
from tests.faults.panel import Message, split


@dataclass(frozen=True)
class Deployment:
    """Where everything is. `settings` are further 'section.key=value' of every worker."""

    bootstrap_servers: str
    database: str
    topic: str
    partitions: int
    settings: tuple[str, ...] = ()

    @property
    def output(self) -> str:
        return f"{self.topic}.forecasts"

    @property
    def dead_letters(self) -> str:
        return f"{self.topic}.dead-letters"

    @property
    def group(self) -> str:
        return f"{self.topic}.group"

    @property
    def sets(self) -> list[str]:
        """The settings as --set takes them, without the instance."""
        return [
            f"kafka.bootstrap_servers={self.bootstrap_servers}",
            f"kafka.input_topic={self.topic}",
            f"kafka.output_topic={self.output}",
            f"kafka.dead_letter_topic={self.dead_letters}",
            f"kafka.group={self.group}",
            f"database.url={self.database}",
            *self.settings,
        ]

    def loaded(self, *more: str) -> Settings:
        return load(None, [*self.sets, *more])

    def engine(self) -> Engine:
        return create_engine(self.database)

    def stored(self) -> dict[int, int]:
        """S: the next offset to store of every partition that was ever claimed."""
        return {row.partition: row.next_offset for row in self._state()}

    def owners(self) -> dict[int, str]:
        """The instance that last claimed each partition."""
        return {row.partition: row.owner.partition(":")[0] for row in self._state()}

    def _state(self) -> list[Any]:
        engine = self.engine()
        try:
            with engine.connect() as connection:
                query = text("SELECT partition, next_offset, owner FROM ingest_state WHERE topic = :topic")
                return list(connection.execute(query, {"topic": self.topic}))
        finally:
            engine.dispose()


def deploy(
    bootstrap_servers: str,
    database: str,
    settings: Iterable[str] = (),
    partitions: int = 6,
    *,
    input_partitions: int | None = None,
    replication: int = 1,
) -> Deployment:
    """Create the topics and the schema of a deployment with new names; the input may begin with fewer partitions.

    The seasonal naive has a calibration, number 1, that changes no number, so that every forecast must name it.
    """
    made = Deployment(bootstrap_servers, database, f"input-{uuid4().hex[:12]}", partitions, tuple(settings))
    for topic in (made.topic, made.output, made.dead_letters):
        count = input_partitions or partitions if topic == made.topic else partitions
        servers.create_topic(bootstrap_servers, topic, count, replication, retention_ms="-1")
    upgrade(database)
    factors = [[1.0] * 13] * made.loaded().series.horizon
    calibrated = text(
        'INSERT INTO calibrations (version, model_version, created_at, "from", "to", n, factors, metrics)'
        " VALUES (1, 0, '2024-01-01 00:00:00', '2024-01-01 00:00:00', '2024-01-01 00:00:00', 1, :factors, '{}')"
    )
    engine = made.engine()
    with engine.begin() as connection:
        connection.execute(calibrated, {"factors": json.dumps(factors)})
    engine.dispose()
    return made


@dataclass
class Sender:
    """Produces to the input topic in small batches, each message once, and counts what it sent."""

    deployment: Deployment
    batch: int = 20
    seconds: float = 120.0  # how long the broker may be away
    sent: Counter[tuple[bytes | None, bytes | None]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": self.deployment.bootstrap_servers,
                "enable.idempotence": True,
                "batch.num.messages": self.batch,
                "linger.ms": 5,
                "log_level": 0,
            }
        )

    def send(self, messages: Iterable[Message]) -> int:
        """Send messages and return how many, once all of them are acknowledged."""
        failures: list[str] = []
        count = 0
        for message in messages:
            self._producer.produce(
                self.deployment.topic,
                message.value,
                message.key,
                message.partition,
                on_delivery=lambda error, _: failures.append(str(error)) if error else None,
            )
            self.sent[message.key, message.value] += 1
            count += 1
            if count % 5_000 == 0:
                self._producer.flush(self.seconds)
        left = self._producer.flush(self.seconds)
        assert not left and not failures, f"{left} messages not acknowledged: {failures[:3]}"
        return count

    def send_over(self, messages: Sequence[Message], seconds: float) -> int:
        """Send messages spread evenly over about `seconds`, in at least a hundred parts."""
        parts = split(messages, max(100, round(seconds * 4)))
        began = time.monotonic()
        for number, part in enumerate(parts, start=1):
            self.send(part)
            time.sleep(max(0.0, began + seconds * number / len(parts) - time.monotonic()))
        return len(messages)
