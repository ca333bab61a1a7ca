"""Messages that a topic, or the client library, will never take, found among those of a publication.

A transaction in which one message was refused fails as a whole, and the library gives the others the same error. So
each is sent again, alone in its batch and awaited, in a transaction that is always aborted.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from kafka import KafkaProducer, errors

from pipeline.errors import ConfigError
from pipeline.records import Left

ARGUMENTS = (ValueError, TypeError, OverflowError, struct.error)
"""What the library raises for a message that it cannot write."""

REFUSALS = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.InvalidRecordError,
    errors.InvalidTimestampError,
    errors.PolicyViolationError,
    errors.CorruptRecordError,
)
"""What a broker answers about a message, which it will say again whenever it is sent."""

Headers = list[tuple[str, bytes]]


class Outgoing(NamedTuple):
    """A message to send, and what to note of it if it is refused; without a partition the library chooses one."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers
    left: Left
    timestamp_ms: int | None = None

    def send(self, producer: KafkaProducer) -> Any:
        """Hand it to a producer; returns the library's future."""
        return producer.send(self.topic, self.value, self.key, self.headers, self.partition, self.timestamp_ms)


def is_refusal(error: BaseException, sent: Iterable[Any], producer: KafkaProducer | None) -> bool:
    """Tell whether a publication that failed may have failed because a message was refused."""
    last = producer and producer._transaction_manager.last_error
    found = (error, error.__cause__, last, *(future.exception for future in sent if future.failed()))
    return any(isinstance(one, REFUSALS) for one in found) or isinstance(error, ARGUMENTS)


def find_refused(
    messages: Sequence[Outgoing], start: Callable[[], KafkaProducer], attempt: Callable[[], Any], seconds: float
) -> list[Left]:
    """Try each message in transactions that are aborted and return those that are refused, with why.

    `start` makes a producer that puts each record into a batch of its own; after a refusal another is needed, since
    the sequence numbers of the first no longer fit. `attempt` makes the context of a call that may never return.
    ConfigError if a topic has fewer partitions than it had.
    """
    refused, producer = [], _begun(start, attempt)
    try:
        for topic, partition in {(each.topic, each.partition) for each in messages}:
            if partition is not None and partition not in (producer.partitions_for(topic) or ()):
                raise ConfigError(f"topic {topic} has fewer partitions than before: was it made anew? Start this again")
        for each in messages:
            try:
                with attempt():
                    each.send(producer).get(timeout=seconds)
            except (*REFUSALS, *ARGUMENTS) as error:
                refused.append(replace(each.left, reason=_said(error)))
                with attempt():
                    producer.close(timeout=0.5)
                producer = _begun(start, attempt)
        with attempt():
            producer.abort_transaction()
    finally:
        with attempt():
            producer.close(timeout=0.5)
    return refused


def _begun(start: Callable[[], KafkaProducer], attempt: Callable[[], Any]) -> KafkaProducer:
    with attempt():
        producer = start()
        producer.begin_transaction()
        return producer


def _said(error: BaseException) -> str:
    words = " ".join(str(error).split())
    name = type(error).__name__.removesuffix("Error")
    return f"{name}: {words}"[:500]
