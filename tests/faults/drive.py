"""Carry out a plan on real servers, step by step: the hands of the randomised driver."""

import sqlite3
import subprocess
import threading
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from uuid import UUID

import psycopg
from confluent_kafka import Producer, TopicCollection
from confluent_kafka.admin import AdminClient
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from tests import servers
from tests.faults.conftest import OwnPlace, Place
from tests.faults.fleet import Fleet, until
from tests.faults.left import read_topic
from tests.faults.oracle import Arrived, Barrier, Known
from tests.faults.ordeal import REASONS
from tests.faults.outside import begin, behind, command, register_models
from tests.faults.plan import Outline, Plan, Sent, Step
from tests.faults.shapes import SMALL_LIMIT
from tests.faults.verify import ends

SETTLE_SECONDS = 180.0
MOST_ENDS = 6
"""Of workers, by themselves, while everything is to be stored, until a round has failed."""
OUTPUT_PARTITIONS = 6
MASK = (1 << 64) - 1
LIMIT = "TIDECAST_INPUT__MAX_MESSAGE_BYTES"


@dataclass
class Drive:
    """One round under way."""

    place: Place
    plan: Plan
    done: list[Step] = field(default_factory=list)
    messages: int = 0
    faults: int = 0
    forecasts: int = 0
    degraded: int = 0
    last_settled: float = 0.0
    life: int = 0
    limit: int = SMALL_LIMIT
    barriers: list[Barrier] = field(default_factory=lambda: [Barrier(0, {}, SMALL_LIMIT)])
    known: list[Known] = field(default_factory=list)
    former: list[Arrived] = field(default_factory=list)  # of topics that are gone
    ids: list[tuple[str, str]] = field(default_factory=list)  # Kafka's, of those topics, in both of their spellings
    sent: Counter[tuple[int, int, bytes | None, bytes | None]] = field(default_factory=Counter)
    champion: int | None = None
    champions: set[int] = field(default_factory=set)
    ends: list[str] = field(default_factory=list)  # of workers that ended by themselves
    complaints: list[str] = field(default_factory=list)  # those without a reason that lies outside
    wanted: set[str] = field(default_factory=set)  # workers that are to run

    def __post_init__(self) -> None:
        settings = self.outline.settings
        many = self.outline.partitions
        self.deployment = self.place.deploy(*settings, partitions=OUTPUT_PARTITIONS, input_partitions=many)
        self.deployment = replace(self.deployment, partitions=many)
        self.fleet = Fleet(self.deployment.sets, self.place.folder)
        self._producers: dict[str, Producer] = {}

    @property
    def outline(self) -> Outline:
        return self.plan.outline

    def go(self) -> None:
        """Carry out every step, then let the workers end."""
        register_models(self.deployment)
        with self.fleet as fleet, self._sampling():
            fleet.environment[LIMIT] = str(self.limit)
            for worker in ("one", "two"):
                self._start(worker)
            for step in self.plan:
                self.done.append(step)
                ACTIONS[step.what](self, step)
                self._look_after()
            codes = {worker: fleet.stop(worker) for worker in sorted(self.wanted)}
        assert not any(codes.values()), f"workers ended with {codes}"
        assert not self.complaints, "\n".join(self.complaints)

    @contextmanager
    def _sampling(self) -> Iterator[None]:
        """Note S again and again: what a forecast of later must know of."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.2):
                life = self.life
                with suppress(SQLAlchemyError):
                    stored = self.deployment.stored()
                    if life == self.life:
                        self.known.append(Known(time.time_ns() // 1000, life, stored))

        thread = threading.Thread(target=look, name="samples of S", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _start(self, worker: str, *options: str) -> None:
        self.fleet.start(worker, *options)
        self.wanted.add(worker)

    def _look_after(self) -> None:
        """Start workers that ended by themselves again, as an init system would, and note who had no reason."""
        for worker in sorted(self.wanted):
            if self.fleet.runs(worker):
                continue
            code, lines = self.fleet.ended(worker), self.fleet.text(worker).splitlines()
            said = lines[-1] if lines else ""
            assert code != 2, f"{worker} ended with 2: {said}"
            self.ends.append(f"{worker} ended with {code} after step {len(self.done)}: {said}")
            if code != 1 or not any(words in said for words in REASONS):
                self.complaints.append(self.ends[-1])
            self.fleet.start(worker)

    def producer(self, codec: str) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self.deployment.bootstrap_servers,
                "enable.idempotence": True,
                "compression.type": codec,
                "batch.num.messages": 1_000,
                "batch.size": 16_000_000,
                "message.max.bytes": 16_000_000,
                "linger.ms": 20,
                "log_level": 0,
            }
        )

    def _send(self, step: Step) -> None:
        producer = self._producers.setdefault(step.target, self.producer(step.target))
        failures: list[str] = []
        for sent in step.messages:
            self._produce(producer, sent, failures)
            if sent.value is not None and len(sent.value) > 100_000:
                producer.flush(60)  # a batch of several would be more than the broker takes, uncompressed
        assert not producer.flush(60), "messages are not acknowledged"
        assert not failures, f"not acknowledged: {failures[:3]}"

    def _produce(self, producer: Producer, sent: Sent, failures: list[str]) -> None:
        producer.produce(
            self.deployment.topic,
            sent.value,
            sent.key,
            sent.partition,
            headers=list(sent.headers),
            on_delivery=lambda error, _: failures.append(str(error)) if error else None,
        )
        self.sent[self.life, sent.partition, sent.key, sent.value] += 1
        self.messages += 1

    def _settle(self, step: Step) -> None:
        began = time.monotonic()
        deadline, ends_before = began + SETTLE_SECONDS, len(self.ends)
        while left := behind(self.deployment):
            self._look_after()
            stuck = time.monotonic() > deadline or len(self.ends) > ends_before + MOST_ENDS
            assert not stuck, "\n".join([f"not stored and published: {left}", *self.ends[-3:]])
            time.sleep(0.2)
        self.last_settled = time.monotonic() - began
        self.barriers.append(Barrier(self.life, ends(self.deployment), self.limit))

    def _kill(self, step: Step) -> None:
        self.faults += 1
        self.fleet.kill(step.target)
        self.fleet.start(step.target)

    def _freeze(self, step: Step) -> None:
        self.faults += 1
        self._look_after()
        self.fleet.freeze(step.target)
        time.sleep(step.number)

    def _thaw(self, step: Step) -> None:
        self.fleet.thaw(step.target)

    def _join(self, step: Step) -> None:
        self.faults += 1
        self._start(step.target)

    def _leave(self, step: Step) -> None:
        self.faults += 1
        self._look_after()
        self.wanted.discard(step.target)
        code = self.fleet.stop(step.target)
        if code:
            self.complaints.append(f"{step.target} left with {code}")

    def _kill_broker(self, step: Step) -> None:
        if isinstance(self.place, OwnPlace):
            self.faults += 1
            self.place.kafka.kill()
            time.sleep(step.number)
            self.place.kafka.start()
            self._producers.clear()

    def _end_sessions(self, step: Step) -> None:
        if self.deployment.database.startswith("sqlite"):
            self._lock_database(step)
            return
        self.faults += 1
        with psycopg.connect(self._address(), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    def _lock_database(self, step: Step) -> None:
        """Hold what every writer needs for some seconds."""
        self.faults += 1
        url = make_url(self.deployment.database)
        if url.database and self.deployment.database.startswith("sqlite"):
            with closing(sqlite3.connect(url.database, timeout=30, isolation_level=None)) as held:
                held.execute("BEGIN IMMEDIATE")
                time.sleep(step.number)
                held.execute("ROLLBACK")
        else:
            with psycopg.connect(self._address()) as connection:
                connection.execute("LOCK TABLE observations IN ACCESS EXCLUSIVE MODE")
                time.sleep(step.number)

    def _crash_database(self, step: Step) -> None:
        if isinstance(self.place, OwnPlace) and self.place.postgresql is not None:
            self.faults += 1
            self.place.postgresql.crash()
            time.sleep(step.number)
            self.place.postgresql.recover()
        else:
            self._end_sessions(step)

    def _address(self) -> str:
        url = make_url(self.deployment.database)
        return url.set(drivername="postgresql").render_as_string(hide_password=False)

    def _add_partitions(self, step: Step) -> None:
        self.faults += 1
        many = int(step.number)
        servers.add_partitions(self.deployment.bootstrap_servers, self.deployment.topic, many)
        self.deployment = replace(self.deployment, partitions=many)
        self._producers.clear()  # new ones know of the new partitions

    def _renew(self, step: Step) -> None:
        """Delete the topic and make it anew: a worker refuses it in words, and takes it once it is told to."""
        self.faults += 1
        for worker in sorted(self.wanted):
            assert self.fleet.stop(worker) == 0
        topic, admin = self.deployment.topic, AdminClient({"bootstrap.servers": self.deployment.bootstrap_servers})
        self.former += read_topic(self.deployment, topic, self.life)
        described = admin.describe_topics(TopicCollection([topic]))[topic].result(30)
        high, low = described.topic_id.get_most_significant_bits(), described.topic_id.get_least_significant_bits()
        number = UUID(int=(high & MASK) << 64 | low & MASK)
        self.ids.append((str(number), urlsafe_b64encode(number.bytes).decode().rstrip("=")))
        admin.delete_topics([topic], operation_timeout=30)[topic].result(30)
        until(lambda: topic not in admin.list_topics(timeout=10).topics, 60.0, "the topic is gone")
        servers.create_topic(self.deployment.bootstrap_servers, topic, int(step.number), retention_ms="-1")
        self.life += 1
        self.deployment = replace(self.deployment, partitions=int(step.number))
        self.barriers.append(Barrier(self.life, {}, self.limit))
        self._producers.clear()
        first, *others = sorted(self.wanted)
        self.fleet.start(first)
        code, text = self.fleet.ended(first), self.fleet.text(first)
        assert code == 2, f"a topic made anew is taken for the old one: {first} ended with {code}"
        assert "--accept-new-topic" in text, f"the refusal of a topic made anew does not say what to do: {text[-500:]}"
        self.fleet.start(first, "--accept-new-topic")
        taken = lambda: {event["partition"] for event in self.fleet.events(first, "claimed")}  # noqa: E731
        ready = lambda: len(taken()) == int(step.number) or not self.fleet.runs(first)  # noqa: E731
        until(ready, 60.0, "the worker has taken the topic that was made anew")
        for worker in others:
            self.fleet.start(worker)

    def _mend(self, step: Step) -> None:
        """Start the workers again with the limit that the messages need."""
        for worker in sorted(self.wanted):
            assert self.fleet.stop(worker) == 0
        self.limit = int(step.number)
        self.barriers.append(Barrier(self.life, ends(self.deployment), self.limit))
        self.fleet.environment[LIMIT] = str(self.limit)
        for worker in sorted(self.wanted):
            self.fleet.start(worker)

    def _requeue(self, step: Step) -> None:
        command(self.deployment, "dead-letters", "requeue", "--all")

    def _requeue_killed(self, step: Step) -> None:
        self.faults += 1
        process = begin(self.deployment, "dead-letters", "requeue", "--all")
        with suppress(subprocess.TimeoutExpired):
            process.wait(step.number)
        process.kill()
        process.wait(30)

    def _promote(self, step: Step) -> None:
        self.faults += 1
        self.champion = int(step.number)
        self.champions.add(self.champion)
        command(self.deployment, "models", "promote", str(self.champion))

    def _wait(self, step: Step) -> None:
        time.sleep(step.number)


ACTIONS: dict[str, Callable[[Drive, Step], None]] = {
    "send": Drive._send,
    "settle": Drive._settle,
    "wait": Drive._wait,
    "kill -9": Drive._kill,
    "freeze": Drive._freeze,
    "thaw": Drive._thaw,
    "join": Drive._join,
    "leave": Drive._leave,
    "kill broker": Drive._kill_broker,
    "end sessions": Drive._end_sessions,
    "lock database": Drive._lock_database,
    "crash database": Drive._crash_database,
    "add partitions": Drive._add_partitions,
    "renew topic": Drive._renew,
    "mend": Drive._mend,
    "requeue": Drive._requeue,
    "requeue, killed": Drive._requeue_killed,
    "promote": Drive._promote,
}
