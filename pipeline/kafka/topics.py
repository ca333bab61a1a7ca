"""Topics: check or create them, send to them plainly, read them to their end."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import TopicAlreadyExistsError

from pipeline.errors import ConfigError
from pipeline.kafka.connection import ACLS, arguments, explained
from pipeline.kafka.encryption import check_security
from pipeline.kafka.ends import read_ends
from pipeline.settings import KafkaSettings

Message = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


def check_topics(settings: KafkaSettings, known: Collection[str] = ()) -> dict[str, int]:
    """Return the partition count of the input, output and dead-letter topics.

    A missing one is created when kafka.create_topics is on, otherwise it is a ConfigError, and so is one that is
    `known` to the database: it was deleted. The output topics are made with as many partitions as the input topic, and
    without a time limit, because replayed records are old.
    """
    names = (settings.input_topic, settings.output_topic, settings.dead_letter_topic)
    if len(set(names)) < len(names):
        raise ConfigError("kafka.input_topic, output_topic and dead_letter_topic must be three different topics")
    check_security(settings)
    with explained("checking the topics", settings):
        admin = KafkaAdminClient(**arguments(settings))
        try:
            counts = _partitions(admin)
            _refuse_deleted(sorted((set(names) & set(known)) - counts.keys()))
            if settings.input_topic not in counts:
                _create(admin, settings, settings.input_topic, settings.partitions)
            count = counts.get(settings.input_topic, settings.partitions)
            for name in names[1:]:
                if name not in counts:
                    _create(admin, settings, name, count)
            return {name: counts.get(name, count) for name in names}
        finally:
            admin.close()


def _refuse_deleted(names: list[str]) -> None:
    if names:
        raise ConfigError(
            f"topic {names[0]} does not exist any more, but the database holds what was on it: restore it, or start "
            "once with --accept-new-topic to have it made anew, empty"
        )


def _partitions(admin: KafkaAdminClient) -> dict[str, int]:
    return {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics() if topic["partitions"]}


def _create(admin: KafkaAdminClient, settings: KafkaSettings, name: str, partitions: int) -> None:
    if not settings.create_topics:
        hidden = (
            "" if settings.security_protocol == "PLAINTEXT" else f"; if it does exist, this user may not see it: {ACLS}"
        )
        raise ConfigError(f"topic {name} does not exist; create it, or set kafka.create_topics = true{hidden}")
    topic = {
        "num_partitions": partitions,
        "replication_factor": settings.replication,
        "configs": {"retention.ms": "-1"},
    }
    try:
        admin.create_topics({name: topic}, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        return


def send(settings: KafkaSettings, topic: str, messages: Iterable[Message]) -> int:
    """Send (key, value, headers) messages and return how many, once the broker has acknowledged all of them."""
    count = 0
    check_security(settings)
    with explained(f"sending to {topic}", settings):
        producer = KafkaProducer(
            **arguments(settings),
            linger_ms=20,
            batch_size=1 << 17,
            max_block_ms=int(settings.call_timeout * 1000),
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        try:
            last = []
            for key, value, headers in messages:
                last.append(producer.send(topic, value, key, headers))
                count += 1
                if len(last) >= 10_000:
                    _settle(last)
            _settle(last)
        finally:
            producer.close(timeout=5)
    return count


def _settle(sent: list[Any]) -> None:
    """Wait for the acknowledgements, so that what is in flight stays bounded."""
    for future in sent:
        future.get(timeout=30)
    sent.clear()


def read_topic(settings: KafkaSettings, topic: str, newest: int | None = None) -> Iterator[Any]:
    """Read the committed records of a topic from its beginning to its present end, as kafka-python's records.

    Of `newest` about so many, the last ones of each partition.
    """
    check_security(settings)
    with explained(f"reading {topic}", settings):
        consumer = KafkaConsumer(
            **arguments(settings),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        try:
            found = consumer.partitions_for_topic(topic)
            if not found:
                raise ConfigError(f"topic {topic} does not exist")
            at = [TopicPartition(topic, partition) for partition in sorted(found)]
            consumer.assign(at)
            consumer.seek_to_beginning(*at)
            ends = read_ends(consumer, at, settings.call_timeout)
            if newest is not None:
                share = -(-newest // len(at))
                for each, beginning in consumer.beginning_offsets(at).items():
                    consumer.seek(each, max(beginning, ends[each.partition] - share))
            while any(consumer.position(each) < ends[each.partition] for each in at):
                for records in consumer.poll(timeout_ms=500, max_records=5_000).values():
                    yield from records
        finally:
            consumer.close(autocommit=False)
