"""The producing side: one Kafka transaction per publish, fenced by the group's generation."""

from collections.abc import Callable, Sequence
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from pipeline import codec
from pipeline.errors import TidecastError
from pipeline.kafka.connection import arguments, explained
from pipeline.records import DeadLetter, Forecasts
from pipeline.settings import KafkaSettings
from pipeline.watchdog import Watchdog


def name_transactions(group: str, instance: str) -> str:
    """Name a worker's transactions; no other pair of group and instance gives the same name, or they fenced each other.

    The name begins with the group, so that one prefix in an access list covers all workers of a deployment.
    """
    return f"{group}-{instance}-{len(group)}"


class KafkaPublisher:
    """`pipeline.ports.Publisher` on kafka-python.

    After any error the producer is dropped: a delayed request of its transaction could land in the next one. The new
    one's init_transactions ends whatever the old one left open. `partitions` is the output topics' partition count.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        watchdog: Watchdog,
        *,
        group_metadata: Callable[[], Any],
        frequency: str,
        partitions: tuple[int, int],
    ) -> None:
        self._settings = settings
        self._watchdog = watchdog
        self._group_metadata = group_metadata
        self._frequency = frequency
        self._output_partitions, self._dead_letter_partitions = partitions
        self._producer: KafkaProducer | None = None

    def prepare(self) -> None:
        """See pipeline.ports.Publisher."""
        with self._watchdog.guard("starting the producer"), explained("starting the producer", self._settings):
            self._ready()

    def publish(self, forecasts: Forecasts, dead_letters: Sequence[DeadLetter], next_offsets: dict[int, int]) -> None:
        """See pipeline.ports.Publisher."""
        settings = self._settings
        messages = codec.write_forecasts(forecasts, settings.input_topic, self._frequency)
        letters = [codec.write_dead_letter(letter, settings.input_topic) for letter in dead_letters]
        offsets = {
            TopicPartition(settings.input_topic, partition): OffsetAndMetadata(offset, "", -1)
            for partition, offset in next_offsets.items()
        }
        try:
            with self._watchdog.guard("a Kafka transaction"), explained("publishing", settings):
                producer = self._ready()
                membership = self._group_metadata()
                producer.begin_transaction()
                for partition, key, value, headers in messages:
                    at = partition % self._output_partitions
                    producer.send(settings.output_topic, value, key, headers, partition=at)
                for partition, letter_key, letter_value, headers in letters:
                    at = partition % self._dead_letter_partitions
                    producer.send(settings.dead_letter_topic, letter_value, letter_key, headers, partition=at)
                producer.send_offsets_to_transaction(offsets, membership)
                producer.commit_transaction()
        except TidecastError:
            self._drop()
            raise

    def close(self) -> None:
        """End the producer; a transaction that is open is aborted by the next claim."""
        self._drop()

    def _ready(self) -> KafkaProducer:
        if self._producer is None:
            settings = self._settings
            compression = None if settings.compression == "none" else settings.compression
            producer = KafkaProducer(
                **arguments(settings),
                client_id=f"tidecast-{settings.instance}",
                transactional_id=name_transactions(settings.group, settings.instance),
                transaction_timeout_ms=int(settings.call_timeout * 1000),
                max_block_ms=int(settings.call_timeout * 1000),
                compression_type=compression,
                batch_size=900_000,  # a hundred messages; a queued second batch makes each send wake the sender
                linger_ms=5,
                max_request_size=1 << 23,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
            producer.init_transactions()
            self._producer = producer
        return self._producer

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with self._watchdog.guard("closing the producer"), explained("closing the producer", self._settings):
                producer.close(timeout=0.5)
