"""What a measurement stands on: the servers, databases that already hold history, topics, and the child processes."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from models.artifact import pack
from models.network.forecasters import build
from pipeline import database as databases
from pipeline.forecasting.windows import model_config
from pipeline.grid.frequency import Frequency
from pipeline.records import Observations, Turn, no_forecasts
from pipeline.settings import Settings
from pipeline.start import clock, open_database
from tests.bench import feed as feeds
from tests.bench.feed import Feed
from tests.bench.results import say
from tests.servers import ApacheKafka, PostgreSQL, fresh_database, postgresql_url

ROOT = Path(__file__).parents[2]
SEED_STEPS = 24  # steps of history in one transaction


class DurablePostgreSQL(PostgreSQL):
    """PostgreSQL as it is run in earnest: fsync on, everything else default but for 256 MB of shared buffers."""

    def command(self) -> list[str]:
        options = ["-c", "shared_buffers=256MB", "-c", "max_wal_size=2GB", "-c", "listen_addresses=127.0.0.1"]
        data = str(self.folder / "data")
        return [str(self._binaries_folder / "postgres"), "-D", data, "-p", str(self.port), "-k", "", *options]


@dataclass(slots=True)
class Stage:
    """Running servers and a scratch folder; `postgresql_port` is None where it is not wanted."""

    folder: Path
    bootstrap_servers: str
    postgresql_port: int | None
    filled: dict[Feed, str] = field(default_factory=dict)
    seeds: dict[tuple[str, int, int], str] = field(default_factory=dict)

    def topic(self, feed: Feed) -> str:
        """Return the input topic of a feed, filled on first use."""
        if feed not in self.filled:
            topic = f"{feed.kind}-{uuid4().hex[:8]}"
            say(f"sending {feed.events:,} messages to {topic}")
            feeds.fill(self.bootstrap_servers, topic, feed)
            self.filled[feed] = topic
        return self.filled[feed]

    @contextmanager
    def database(self, kind: str, feed: Feed) -> Iterator[str]:
        """Yield the address of a new database that holds the feed's history; it is dropped afterwards."""
        seed = self._seed(kind, feed)
        if kind == "sqlite":
            path = self.folder / f"{uuid4().hex[:8]}.db"
            shutil.copyfile(seed, path)
            yield f"sqlite:///{path}"
            for left in self.folder.glob(f"{path.name}*"):
                left.unlink()
        else:
            name = f"run_{uuid4().hex[:8]}"
            self._sql(f"CREATE DATABASE {name} TEMPLATE {seed} STRATEGY FILE_COPY", "CHECKPOINT")
            yield postgresql_url(self._port(), name)
            self._sql(f"DROP DATABASE {name} WITH (FORCE)")

    def forget(self) -> None:
        """Delete the topics and the histories that were made so far, which no later load needs."""
        delete_topics(self, *self.filled.values())
        for (kind, *_), made in self.seeds.items():
            if kind == "sqlite":
                for left in self.folder.glob(f"{Path(made).name}*"):
                    left.unlink()
            else:
                self._sql(f"DROP DATABASE {made} WITH (FORCE)")
        self.filled.clear()
        self.seeds.clear()

    @contextmanager
    def empty_postgresql(self) -> Iterator[dict[str, Any]]:
        """Yield host, port and dbname of a new, empty database."""
        name = fresh_database(self._port()).rpartition("/")[2]
        yield {"host": "127.0.0.1", "port": self._port(), "dbname": name}
        self._sql(f"DROP DATABASE {name} WITH (FORCE)")

    def settings(self, feed: Feed, url: str | None = None) -> dict[str, Any]:
        """Build the settings of one run: everything is default but the names, and what the feed needs."""
        run = uuid4().hex[:8]
        kafka = {
            "bootstrap_servers": self.bootstrap_servers,
            "input_topic": self.topic(feed),
            "output_topic": f"forecasts-{run}",
            "dead_letter_topic": f"dead-letters-{run}",
            "group": f"group-{run}",
            "instance": run,
            "partitions": feed.partitions,
        }
        settings: dict[str, Any] = {"kafka": kafka, "series": {"duplicates": feed.policy, "on": feed.on}}
        settings["model"] = {"pretrained": False}  # loads are named after what serves, and say when it is a network
        return settings | ({"database": {"url": url}} if url else {})

    def _seed(self, kind: str, feed: Feed) -> str:
        wanted = (kind, feed.series if feed.history else 0, feed.history)
        if wanted not in self.seeds:
            if kind == "sqlite":
                self.seeds[wanted] = str(self.folder / f"seed-{uuid4().hex[:8]}.db")
                url = f"sqlite:///{self.seeds[wanted]}"
            else:
                url = fresh_database(self._port())
                self.seeds[wanted] = url.rpartition("/")[2]
            databases.upgrade(url)
            if feed.history:
                say(f"storing {feed.series * feed.history:,} observations of history in {kind}")
                seed(url, feed)
        return self.seeds[wanted]

    def _sql(self, *statements: str) -> None:
        with psycopg.connect(
            host="127.0.0.1", port=self._port(), user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            for statement in statements:
                connection.execute(statement)

    def _port(self) -> int:
        assert self.postgresql_port is not None
        return self.postgresql_port


@contextmanager
def staged(*, postgresql: bool) -> Iterator[Stage]:
    """Start Apache Kafka, and PostgreSQL if wanted, for one run of a benchmark."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="tidecast-bench-")))
        say("starting Apache Kafka" + (" and PostgreSQL" if postgresql else ""))
        for server in [ApacheKafka] + [DurablePostgreSQL] * postgresql:
            reason = server.missing()
            if reason:
                raise SystemExit(f"bench: {reason}")
        kafka = stack.enter_context(ApacheKafka(lasting=True))
        port = stack.enter_context(DurablePostgreSQL()).port if postgresql else None
        yield Stage(folder, kafka.bootstrap_servers, port)


def seed(url: str, feed: Feed) -> None:
    """Store `history` steps of every series before START, in the order of time, as a worker would have."""
    database = databases.open_database(url, timeout=60)
    store = database.store("history", "last", clock)
    ids = store.recent([feeds.name(i) for i in range(feed.series)], 1).series_id
    for first in range(-feed.history, 0, SEED_STEPS):
        steps = np.arange(first, min(0, first + SEED_STEPS))
        count = len(steps) * feed.series
        noise = np.random.default_rng([8, first + feed.history]).normal(size=(len(steps), feed.series))
        curve = 20 + 5 * np.sin(2 * np.pi * (steps[:, None] / 24 + np.arange(feed.series) / feed.series))
        rows = Observations(
            series_id=np.tile(ids, len(steps)),
            observed_at=np.repeat((feeds.START + steps * feeds.HOUR) * 1_000_000, feed.series),
            value=np.round(curve + noise, 4).ravel(),
            observed=np.ones(count, np.bool_),
            events=np.ones(count, np.int64),
            partition=np.tile(np.arange(feed.series) % feed.partitions, len(steps)),
            offset=np.arange(count),
            fresh=np.ones(count, np.bool_),
            covariates=np.empty((count, 0)),
            covariate_events=np.empty((count, 0), np.int64),
        )
        store.commit(Turn((), rows, no_forecasts(1), ()))
    if url.startswith("postgresql"):
        with database.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM ANALYZE")
    database.close()


def promote_untrained(settings: Settings, feed: Feed) -> None:
    """Make the default attention network champion, with the weights it starts from: the compute is the same."""
    names = [feeds.name(i) for i in range(feed.series)]
    config = model_config(settings, Frequency(settings.series.frequency), len(names))
    artifact = pack(build(config), series=names, provenance={})
    database = open_database(settings)
    version = database.registry.register(
        name="untrained",
        config=config.to_dict(),
        metrics={},
        train_from=None,
        train_to=None,
        seed=0,
        code="bench",
        artifact=artifact,
        now=clock(),
    )
    assert database.registry.promote(version, expected=None, reason="benchmark", now=clock())
    database.close()


def measure(stage: Stage, command: list[str], job: Mapping[str, Any]) -> dict[str, Any]:
    """Run a measured child process with its job as one JSON argument and return the JSON object that it prints."""
    with (stage.folder / f"child-{uuid4().hex[:8]}.log").open("w+b") as log:
        done = subprocess.run(
            [*command, json.dumps(job)], stdout=subprocess.PIPE, stderr=log, cwd=ROOT, check=False, timeout=900
        )
        log.seek(0)
        said = log.read().decode(errors="replace")
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{said[-4000:]}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure_worker(stage: Stage, settings: Mapping[str, Any], feed: Feed, **job: Any) -> dict[str, Any]:
    """Run one of our workers over a feed in a process of its own."""
    shape = {"partitions": feed.partitions, "warm_offset": feed.warm_offset, "events": feed.events}
    command = [sys.executable, "-m", "tests.bench.measured"]
    return measure(stage, command, {"measure": "worker", "settings": settings, **shape, **job})


def committed(stage: Stage, group: str, topic: str, partitions: int) -> tuple[list[int], list[int]]:
    """Return the group's next offsets and the topic's end offsets, by partition."""
    consumer = Consumer({"bootstrap.servers": stage.bootstrap_servers, "group.id": group, "log_level": 0})
    at = [TopicPartition(topic, partition) for partition in range(partitions)]
    offsets = [found.offset for found in consumer.committed(at, timeout=30)]
    ends = [consumer.get_watermark_offsets(place, timeout=30)[1] for place in at]
    consumer.close()
    return offsets, ends


def read_messages(stage: Stage, topic: str) -> list[tuple[bytes, bytes]]:
    """Read (key, forecast id or b"") of every committed message, with a client that is not ours."""
    consumer = Consumer(
        {
            "bootstrap.servers": stage.bootstrap_servers,
            "group.id": uuid4().hex,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    found, open_partitions = [], set(partitions)
    while open_partitions:
        for message in consumer.consume(5000, timeout=20):
            if message.error():
                open_partitions.discard(message.partition())
            else:
                found.append((message.key(), dict(message.headers() or []).get("forecast_id", b"")))
    consumer.close()
    return found


def delete_topics(stage: Stage, *topics: str) -> None:
    """Give the disk back."""
    admin = AdminClient({"bootstrap.servers": stage.bootstrap_servers, "log_level": 0})
    for done in admin.delete_topics(list(topics)).values():
        done.result(30)
