"""Transactional producers, all made alike."""

from kafka import KafkaProducer

from pipeline.kafka.connection import arguments
from pipeline.kafka.limits import MOST_REQUEST
from pipeline.settings import KafkaSettings

ALONE = 1
"""A size of batches that puts each record into one of its own."""


def start_producer(
    settings: KafkaSettings, transactional_id: str, *, batch_size: int, linger_ms: int = 0
) -> KafkaProducer:
    """Make a producer that has taken over its transactional id: what a predecessor left open is aborted."""
    producer = KafkaProducer(
        **arguments(settings),
        client_id=f"tidecast-{settings.instance}",
        transactional_id=transactional_id,
        transaction_timeout_ms=int(settings.call_timeout * 1000),
        max_block_ms=int(settings.call_timeout * 1000),
        compression_type=None if settings.compression == "none" else settings.compression,
        batch_size=batch_size,
        linger_ms=linger_ms,
        max_request_size=MOST_REQUEST,
        allow_auto_create_topics=False,
        metrics_enabled=False,
    )
    # A batch that is too large is our matter: splitting it within a transaction, the library waits for ever.
    producer._sender._can_split = lambda batch, error: False
    producer.init_transactions()
    return producer
