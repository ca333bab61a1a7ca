"""Where a topic ends, for whoever wants to know how far behind it is."""

import time
from collections.abc import Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import LeaderNotAvailableError

from pipeline.kafka.connection import arguments, explained
from pipeline.settings import KafkaSettings


class EndedConsumer(KafkaConsumer):  # type: ignore[misc]  # the library has no types
    """A consumer that ends its thread and its sockets when it cannot be made, which the library leaves running.

    A server that asks every few seconds, while a broker is away, would have a thread more each time.
    """

    def __init__(self, **chosen: Any) -> None:
        try:
            super().__init__(**chosen)
        except BaseException:
            if hasattr(self, "_client"):  # a private name of the releases that pyproject.toml admits
                self._client.close()
            raise


def read_ends(consumer: KafkaConsumer, partitions: Sequence[TopicPartition], seconds: float) -> dict[int, int]:
    """Return the offset after the last message of each partition; LeaderNotAvailableError or KafkaTimeoutError.

    Of several partitions kafka-python 3.0.12 leaves out those whose leader it does not know yet, such as one that was
    just added, and then misses them.
    """
    late = time.monotonic() + seconds
    while True:
        left = max(0.1, late - time.monotonic())
        try:
            return {at.partition: int(end) for at, end in consumer.end_offsets(partitions, left * 1000).items()}
        except KeyError as error:
            if time.monotonic() > late:
                raise LeaderNotAvailableError(f"no broker says that it leads {error}") from error
            time.sleep(0.05)


def find_led(consumer: KafkaConsumer, partitions: Sequence[TopicPartition], seconds: float) -> list[TopicPartition]:
    """Return the partitions that a broker leads; the leaders of the others are waited for no longer than `seconds`."""
    late = time.monotonic() + seconds
    cluster = consumer._cluster  # a private name of the releases that pyproject.toml admits
    while True:
        leaders = {at: cluster.leader_for_partition(at) for at in partitions}  # -1: none; None: unknown
        led = [at for at, leader in leaders.items() if leader not in (None, -1)]
        if len(led) == len(partitions):
            return led
        for at in partitions:
            if leaders[at] is None:
                cluster.add_topic(at.topic)
        cluster.request_update()  # or they would stay without a leader until the metadata are five minutes old
        if time.monotonic() >= late:
            return led
        time.sleep(0.05)


def end_offsets(settings: KafkaSettings, topic: str, seconds: float) -> dict[int, int]:
    """Return the offset after the last committed message of each partition; Unavailable after about `seconds`.

    Partitions that no broker leads are left out, after a third of that time.
    """
    hurried = settings.model_copy(update={"call_timeout": seconds})
    with explained(f"asking for the ends of {topic}", hurried):
        consumer = EndedConsumer(
            **arguments(hurried),
            isolation_level="read_committed",
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        try:
            found = [TopicPartition(topic, each) for each in sorted(consumer.partitions_for_topic(topic) or ())]
            begun = time.monotonic()
            led = find_led(consumer, found, seconds / 3)
            return read_ends(consumer, led, seconds - (time.monotonic() - begun))
        finally:
            consumer.close(autocommit=False)
