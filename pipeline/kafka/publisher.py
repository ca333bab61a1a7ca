"""The producing side: one Kafka transaction per publish, fenced by the group's generation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from pipeline.errors import Refused, TidecastError
from pipeline.grid.frequency import Frequency
from pipeline.health.watchdog import Watchdog
from pipeline.kafka.connection import explained
from pipeline.kafka.limits import Limits, read_limits
from pipeline.kafka.marks import write_mark
from pipeline.kafka.refusals import ARGUMENTS, Outgoing, find_refused, is_refusal
from pipeline.kafka.transactional import ALONE, start_producer
from pipeline.messages import codec
from pipeline.records import DEAD_LETTER, Committed, DeadLetter, Forecasts, Left
from pipeline.settings import KafkaSettings


def name_transactions(group: str, instance: str) -> str:
    """Name a worker's transactions; no other pair of group and instance gives the same name, or they fenced each other.

    The name begins with the group, so that one prefix in an access list covers all workers of a deployment.
    """
    return f"{group}-{instance}-{len(group)}"


class KafkaPublisher:
    """`pipeline.stream.ports.Publisher` on kafka-python.

    After any error the producer is dropped: a delayed request of its transaction could land in the next one. The new
    one's init_transactions ends whatever the old one left open. `partitions` is the output topics' partition count,
    `limits` what each of them takes.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        watchdog: Watchdog,
        *,
        group_metadata: Callable[[], Any],
        frequency: Frequency,
        partitions: tuple[int, int],
        limits: tuple[Limits, Limits] = (Limits(), Limits()),
    ) -> None:
        self._settings = settings
        self._watchdog = watchdog
        self._group_metadata = group_metadata
        self._frequency = frequency
        self._output_partitions, self._dead_letter_partitions = partitions
        self._limits, self._batch_bytes = Limits(), ALONE
        self._learn(*limits)
        self._producer: KafkaProducer | None = None

    def prepare(self) -> None:
        """See pipeline.stream.ports.Publisher."""
        with self._watchdog.guard("starting the producer"), explained("starting the producer", self._settings):
            self._ready()

    def publish(
        self, forecasts: Forecasts, dead_letters: Sequence[DeadLetter], commits: Mapping[int, Committed]
    ) -> None:
        """See pipeline.stream.ports.Publisher."""
        topic = self._settings.input_topic
        messages = self._write(forecasts, dead_letters)
        offsets = {
            TopicPartition(topic, partition): OffsetAndMetadata(committed.offset, write_mark(committed), -1)
            for partition, committed in commits.items()
        }
        sent: list[Any] = []
        try:
            with self._watchdog.guard("a Kafka transaction"), explained("publishing", self._settings):
                producer = self._ready()
                membership = self._group_metadata()
                producer.begin_transaction()
                for message in messages:
                    sent.append(message.send(producer))
                producer.send_offsets_to_transaction(offsets, membership)
                producer.commit_transaction()
        except (TidecastError, *ARGUMENTS) as error:
            suspected = is_refusal(error, sent, self._producer)
            self._drop()
            if suspected and (left := self._find_refused(messages)):
                raise Refused(left) from error
            if suspected and self._batch_bytes > ALONE:  # it takes each, but not all in one batch
                self._batch_bytes = ALONE
                return self.publish(forecasts, dead_letters, commits)
            raise

    def _write(self, forecasts: Forecasts, letters: Sequence[DeadLetter]) -> list[Outgoing]:
        settings, messages = self._settings, []
        written = codec.write_forecasts(forecasts, settings.input_topic, self._frequency.text, self._frequency.timezone)
        for i, (partition, key, value, headers) in enumerate(written):
            left = Left(partition, int(forecasts.offset[i]), headers[0][1].decode(), settings.output_topic, i)
            at = partition % self._output_partitions
            messages.append(Outgoing(settings.output_topic, at, key, value, headers, left))
        for i, letter in enumerate(letters):
            partition, letter_key, letter_value, headers = codec.write_dead_letter(
                letter, settings.input_topic, self._limits.fits, keyed=self._limits.compacted
            )
            stub = letter.left_because is not None
            left = Left(partition, letter.offset, DEAD_LETTER, settings.dead_letter_topic, i, stub=stub)
            at = partition % self._dead_letter_partitions
            messages.append(Outgoing(settings.dead_letter_topic, at, letter_key, letter_value, headers, left))
        return messages

    def _find_refused(self, messages: Sequence[Outgoing]) -> list[Left]:
        """Find out which messages are refused, and what the topics take by now."""
        doing, settings = "finding out what was refused", self._settings
        with self._watchdog.guard(doing):
            limits = read_limits(settings, (settings.output_topic, settings.dead_letter_topic))
        self._learn(limits[settings.output_topic], limits[settings.dead_letter_topic])
        with explained(doing, settings):
            return find_refused(
                messages,
                lambda: self._start(batch_size=ALONE, linger_ms=0),
                lambda: self._watchdog.guard(doing),
                settings.call_timeout,
            )

    def _learn(self, output: Limits, dead_letters: Limits) -> None:
        self._limits = dead_letters
        # a hundred messages; a queued second batch makes each send wake the sender
        self._batch_bytes = min(900_000, output.batch_bytes, dead_letters.batch_bytes)

    def close(self) -> None:
        """End the producer; a transaction that is open is aborted by the next claim."""
        self._drop()

    def _ready(self) -> KafkaProducer:
        if self._producer is None:
            self._producer = self._start(batch_size=self._batch_bytes, linger_ms=5)
        return self._producer

    def _start(self, *, batch_size: int, linger_ms: int) -> KafkaProducer:
        name = name_transactions(self._settings.group, self._settings.instance)
        return start_producer(self._settings, name, batch_size=batch_size, linger_ms=linger_ms)

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with self._watchdog.guard("closing the producer"), explained("closing the producer", self._settings):
                producer.close(timeout=0.5)
