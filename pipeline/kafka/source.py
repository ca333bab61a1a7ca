"""The consuming side: one consumer, in one group, on one thread."""

import logging
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from typing import Any

import numpy as np
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import UnknownTopicOrPartitionError, for_code
from kafka.protocol.metadata import MetadataRequest
from kafka.structs import MemberState

from pipeline.errors import Fenced, Unavailable
from pipeline.health.watchdog import Watchdog
from pipeline.kafka.batches import BATCH_BYTES, Bounds, RecordColumns, Unread, install
from pipeline.kafka.connection import arguments, explained, require_codecs
from pipeline.kafka.ends import find_led, read_ends
from pipeline.kafka.envelopes import has_requeued, written_at
from pipeline.kafka.marks import read_mark
from pipeline.kafka.orphans import find_orphans
from pipeline.records import Committed, Envelope, Messages
from pipeline.settings import KafkaSettings
from pipeline.settings.kafka import POLL

log = logging.getLogger(__name__)
LOOK = 2.0
METADATA_SECONDS = 30
"""Within so many, partitions that were added to the topic are found; the library would take five minutes."""


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs on the library's I/O thread, so it only pauses, seeks and queues."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self.changes: deque[tuple[int, bool]] = deque()

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Keep new partitions from being fetched until they are claimed."""
        for partition in assigned:
            self._consumer.pause(partition)
            self._consumer.seek(partition, 0)
            self.changes.append((partition.partition, True))

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Note that they are gone."""
        self.changes.extend((partition.partition, False) for partition in revoked)


class KafkaSource:
    """`pipeline.stream.ports.Source` on kafka-python.

    Every call that can wait is under the watchdog, because some of the library's never return.
    """

    def __init__(self, settings: KafkaSettings, watchdog: Watchdog, *, max_batch_bytes: int = BATCH_BYTES) -> None:
        require_codecs()
        self._settings = settings
        self._watchdog = watchdog
        self._topic = settings.input_topic
        with explained("joining the group", settings):
            self._consumer = KafkaConsumer(
                **arguments(settings),
                group_id=settings.group,
                group_instance_id=settings.instance,
                client_id=f"tidecast-{settings.instance}",
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                partition_assignment_strategy=[CooperativeStickyAssignor],
                session_timeout_ms=int(settings.session_timeout * 1000),
                heartbeat_interval_ms=int(settings.session_timeout * 1000 / 10),
                metadata_max_age_ms=METADATA_SECONDS * 1000,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        self._bounds = Bounds(max_batch_bytes)
        self._batched, reason = install(self._consumer, self._bounds, hook=settings.batch_hook)
        if reason:
            log.warning("reading record by record, which is slower: %s", reason)
        if not self._batched:
            log.error("a batch that cannot be read will stop its partition: install kafka-python of constraints.txt")
        self._listener = Listener(self._consumer)
        self._asked: Any = None
        self._returned: dict[int, int] = {}  # the offset after the last message that poll returned
        self._consumer.subscribe([self._topic], listener=self._listener)

    def poll(self, most: int) -> list[Messages]:
        """See pipeline.stream.ports.Source."""
        self._bounds.begin_poll()
        with self._watchdog.guard("poll"), self._paced(), explained("polling", self._settings):
            polled = self._consumer.poll(timeout_ms=int(POLL * 1000), max_records=most)
        runs = []
        for partition, records in polled.items():
            runs.extend(
                _runs(partition.partition, records) if self._batched else [of_records(partition.partition, records)]
            )
        self._returned.update((run.partition, run.next_offset) for run in runs)
        return runs

    def changes(self) -> list[tuple[int, bool]]:
        """See pipeline.stream.ports.Source."""
        waiting = self._listener.changes  # the I/O thread appends, so take one at a time
        return [waiting.popleft() for _ in range(len(waiting))]

    def joined(self) -> bool:
        """See pipeline.stream.ports.Source."""
        return bool(self._consumer.group_metadata().state == MemberState.STABLE)

    def published(self, partition: int) -> Committed | None:
        """See pipeline.stream.ports.Source."""
        with (
            self._watchdog.guard("reading the group's offset"),
            explained("reading the group's offset", self._settings),
        ):
            found = self._consumer.committed(self._at(partition), metadata=True, timeout_ms=self._timeout())
        return None if found is None else read_mark(int(found.offset), found.metadata)

    def bounds(self, partition: int) -> tuple[int, int]:
        """See pipeline.stream.ports.Source."""
        at = self._at(partition)
        with self._watchdog.guard("reading the topic's ends"), explained("reading the topic's ends", self._settings):
            return int(self._consumer.beginning_offsets([at])[at]), int(self._consumer.end_offsets([at])[at])

    def ends(self) -> dict[int, int]:
        """See pipeline.stream.ports.Source."""
        ends = {}
        for at in self._consumer.assignment():
            returned, state = self._returned.get(at.partition), self._consumer._subscription.assignment.get(at)
            if returned is None or state is None:  # not started, or the I/O thread has just revoked it
                continue
            highwater, position = state.highwater, state.position
            if highwater is not None and position is not None:
                ends[at.partition] = highwater - max(0, position.offset - returned)
        return ends

    def look(self, partitions: Sequence[int]) -> dict[int, int]:
        """See pipeline.stream.ports.Source."""
        held = [self._at(partition) for partition in partitions]
        with self._watchdog.guard("reading the topic's ends"), explained("reading the topic's ends", self._settings):
            return read_ends(self._consumer, find_led(self._consumer, held, 0.0), LOOK)

    def answered_at(self) -> float | None:
        """See pipeline.stream.ports.Source."""
        received = float(self._consumer._coordinator.heartbeat.last_receive)
        return None if received == -float("inf") else received

    def ask(self) -> None:
        """See pipeline.stream.ports.Source."""
        settings = self._settings
        names = (settings.input_topic, settings.output_topic, settings.dead_letter_topic)
        request = MetadataRequest(
            topics=[MetadataRequest.MetadataRequestTopic(name=name) for name in names],
            allow_auto_topic_creation=False,
            include_cluster_authorized_operations=False,
            include_topic_authorized_operations=False,
        )
        manager = self._consumer._manager
        self._asked = manager.call_soon(manager.send, request)

    def incarnations(self) -> dict[str, str]:
        """See pipeline.stream.ports.Source."""
        asked, self._asked = self._asked, None
        assert asked is not None, "nobody asked"
        manager = self._consumer._manager
        with self._watchdog.guard("asking for the topics"), explained("asking for the topics", self._settings):
            answer = manager.run(manager.wait_for, asked, self._timeout())
        there = [topic for topic in answer.topics if for_code(topic.error_code) is not UnknownTopicOrPartitionError]
        return {topic.name: str(topic.topic_id) if topic.topic_id else "" for topic in there}

    def orphans(self) -> set[int]:
        """See pipeline.stream.ports.Source."""
        with self._watchdog.guard("describing the group"), explained("describing the group", self._settings):
            return find_orphans(self._consumer, self._topic, self._settings.group, self._timeout())

    def rejoin(self) -> None:
        """See pipeline.stream.ports.Source."""
        self._consumer._coordinator.request_rejoin()

    def start(self, partition: int, offset: int) -> None:
        """See pipeline.stream.ports.Source."""
        at = self._at(partition)
        self._forget_parked(at)
        try:
            self._consumer.seek(at, offset)
            self._consumer.resume(at)
        except (ValueError, KeyError) as error:  # not assigned: the I/O thread has revoked it
            raise Fenced(f"partition {partition} was revoked while it was being claimed") from error
        self._returned[partition] = offset

    def hold(self, partitions: Sequence[int]) -> None:
        """See pipeline.stream.ports.Source."""
        for partition in partitions:
            self._returned.pop(partition, None)
            with suppress(KeyError):  # not assigned: the I/O thread has revoked it
                self._consumer.pause(self._at(partition))

    def group_metadata(self) -> Any:
        """Return what a transaction needs to be fenced by the group's generation (KIP-447).

        Raises Fenced unless this worker is a settled member. One that the group has forgotten has generation -1, which
        an empty group accepts; one that is joining may have the generation in which its partitions are another's.
        """
        membership = self._consumer.group_metadata()
        if membership.state != MemberState.STABLE:
            raise Fenced("this worker is no settled member of the group now")
        return membership

    def close(self) -> None:
        """Stop consuming; a static member keeps its partitions until its session ends."""
        with self._watchdog.guard("closing the consumer"), explained("closing the consumer", self._settings):
            self._consumer.close(autocommit=False, timeout_ms=5_000)

    @contextmanager
    def _paced(self) -> Iterator[None]:
        """Let what fails take as long as a poll that finds nothing: refused connections fail at once."""
        began = time.monotonic()
        try:
            yield
        except Unavailable:
            time.sleep(max(0.0, began + POLL - time.monotonic()))
            raise

    def _forget_parked(self, at: TopicPartition) -> None:
        """Drop what was fetched before a pause: of several parked partitions kafka-python 3.0.12 takes up only one."""
        fetcher = self._consumer._fetcher
        getattr(fetcher, "_paused_completed_fetches", {}).pop(at, None)
        parked = getattr(fetcher, "_paused_partition_records", {}).pop(at, None)
        if parked is not None:
            parked.drain()

    def _at(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)

    def _timeout(self) -> int:
        return int(self._settings.call_timeout * 1000)


def _runs(partition: int, batches: Sequence[RecordColumns | Unread]) -> list[Messages]:
    """Join the batches of a partition; an unread one stays by itself, in its place."""
    runs: list[Messages] = []
    joined: list[RecordColumns] = []
    for batch in [*batches, None]:
        if isinstance(batch, RecordColumns):
            joined.append(batch)
            continue
        if joined:
            runs.append(_joined(partition, joined))
            joined = []
        if batch is not None:
            runs.append(
                Messages(partition, np.array([batch.offset]), [None], [batch.raw], batch.last_offset + 1, batch.reason)
            )
    return runs


def _joined(partition: int, batches: Sequence[RecordColumns]) -> Messages:
    offsets = np.array([offset for batch in batches for offset in batch.offsets], np.int64)
    ends = list(accumulate(map(len, batches)))

    def envelope(i: int) -> Envelope:
        batch = bisect_right(ends, i)
        return batches[batch].envelope(i - (ends[batch - 1] if batch else 0))

    return Messages(
        partition,
        offsets,
        [key for batch in batches for key in batch.keys],
        [value for batch in batches for value in batch.values],
        int(offsets[-1]) + 1,
        requeued=frozenset().union(*(batch.requeued for batch in batches)),
        envelope=envelope,
    )


def of_records(partition: int, records: Sequence[Any]) -> Messages:
    """Make a run of kafka-python's records of a partition, of which there are some."""
    return Messages(
        partition,
        np.array([record.offset for record in records], np.int64),
        [record.key for record in records],
        [record.value for record in records],
        records[-1].offset + 1,
        requeued=frozenset(record.offset for record in records if has_requeued(record.headers)),
        envelope=lambda i: Envelope(written_at(records[i].timestamp), tuple(records[i].headers)),
    )
