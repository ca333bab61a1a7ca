"""Sending dead letters to the input topic again; the contract is `pipeline.stream.requeue.Sender`."""

from collections.abc import Callable, Sequence
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from pipeline.errors import Refused, TidecastError
from pipeline.health.watchdog import Watchdog
from pipeline.kafka.connection import arguments, explained
from pipeline.kafka.limits import Limits
from pipeline.kafka.refusals import ARGUMENTS, Outgoing, find_refused, is_refusal
from pipeline.kafka.transactional import ALONE, start_producer
from pipeline.records import DEAD_LETTER, DeadLetter, Left
from pipeline.settings import KafkaSettings
from pipeline.stream.requeue import Place

BATCH_BYTES = 900_000


class RequeueSender:
    """`pipeline.stream.requeue.Sender` on kafka-python.

    The group `GROUP.requeue` has no members; the offset of partition 0 of the dead-letter topic is its number. The
    transactional id `GROUP-requeue` fences a requeue that was thought dead. `partitions` are those of the input topic.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        watchdog: Watchdog,
        *,
        partitions: int,
        limits: Limits,
        clock: Callable[[], int],
        passed: Callable[[str], None] = lambda point: None,
    ) -> None:
        self._settings = settings
        self._watchdog = watchdog
        self._partitions = partitions
        self._limits = limits
        self._clock = clock
        self._passed = passed
        self._group = f"{settings.group}.requeue"
        self._number = TopicPartition(settings.dead_letter_topic, 0)
        self._producer: KafkaProducer | None = None

    def begin(self) -> int:
        """See pipeline.stream.requeue.Sender."""
        doing = "taking over the requeue"
        with self._watchdog.guard(doing), explained(doing, self._settings):
            self._ready()
            consumer = KafkaConsumer(
                **arguments(self._settings),
                group_id=self._group,
                enable_auto_commit=False,
                isolation_level="read_committed",
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
            try:
                number = consumer.committed(self._number, timeout_ms=int(self._settings.call_timeout * 1000))
            finally:
                consumer.close(autocommit=False)
        return int(number or 0)

    def fits(self) -> int:
        """See pipeline.stream.requeue.Sender."""
        return self._limits.fits

    def send(self, number: int, letters: Sequence[tuple[Place, DeadLetter]]) -> None:
        """See pipeline.stream.requeue.Sender."""
        messages = [self._write(i, place, letter) for i, (place, letter) in enumerate(letters)]
        sent: list[Any] = []
        try:
            with self._watchdog.guard("a Kafka transaction"), explained("sending again", self._settings):
                producer = self._ready()
                producer.begin_transaction()
                for message in messages:
                    sent.append(message.send(producer))
                offsets = {self._number: OffsetAndMetadata(number + 1, "", -1)}
                producer.send_offsets_to_transaction(offsets, self._group)
                producer.flush()
                self._passed("in_transaction")
                producer.commit_transaction()
        except (TidecastError, *ARGUMENTS) as error:
            suspected = is_refusal(error, sent, self._producer)
            self.close()
            if suspected and (left := self._find_refused(messages)):
                raise Refused(left) from error
            raise

    def close(self) -> None:
        """End the producer; what it has not committed is aborted."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with self._watchdog.guard("closing the producer"), explained("closing the producer", self._settings):
                producer.close(timeout=0.5)

    def _write(self, i: int, place: Place, letter: DeadLetter) -> Outgoing:
        """Make the message as it was: its partition if that is still there, its headers, its time.

        One whose time the topic's retention has passed by half is sent with the present time: Kafka would delete it,
        perhaps before it is read. The library sends no header without a value; it gets an empty one.
        """
        topic = self._settings.input_topic
        former = place.topic.partition("@")[0]  # a topic that was made anew is kept as TOPIC@ID
        known = former == topic and place.partition < self._partitions
        return Outgoing(
            topic,
            place.partition if known else None,
            letter.key,
            letter.value,
            [(name, content or b"") for name, content in letter.headers],
            Left(place.partition, place.offset, DEAD_LETTER, topic, i),
            self._time_of(letter),
        )

    def _time_of(self, letter: DeadLetter) -> int | None:
        """Return the record time (milliseconds) that a letter is sent with, None for the present."""
        written = None if letter.written_at is None else letter.written_at // 1000
        kept = self._limits.kept_ms
        if written is None or (kept is not None and written < self._clock() // 1000 - kept // 2):
            return None
        return written

    def _find_refused(self, messages: Sequence[Outgoing]) -> list[Left]:
        doing = "finding out what was refused"
        with explained(doing, self._settings):
            return find_refused(
                messages,
                lambda: self._start(ALONE),
                lambda: self._watchdog.guard(doing),
                self._settings.call_timeout,
            )

    def _ready(self) -> KafkaProducer:
        if self._producer is None:
            self._producer = self._start(min(BATCH_BYTES, self._limits.batch_bytes))
        return self._producer

    def _start(self, batch_size: int) -> KafkaProducer:
        return start_producer(self._settings, f"{self._settings.group}-requeue", batch_size=batch_size, linger_ms=5)
