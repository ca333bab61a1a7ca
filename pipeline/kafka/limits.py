"""What a topic takes: the size of a message, and whether every one needs a key."""

from collections.abc import Iterable
from dataclasses import dataclass

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource

from pipeline.kafka.connection import arguments, explained
from pipeline.settings import KafkaSettings

SIZE, POLICY, RETENTION = "max.message.bytes", "cleanup.policy", "retention.ms"
USUAL = 1_048_588  # of a broker that was not told otherwise
MOST_REQUEST = 1 << 23  # bytes of one request of our producers
ENVELOPE = 256  # bytes of a batch's and a record's own fields, with the names of our headers


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one topic: the bytes of a record batch, whether compaction demands a key, and how long records are kept.

    `kept_ms` is in milliseconds by the record's own time, None for ever: an older record is deleted at once.
    """

    batch_bytes: int = USUAL
    compacted: bool = False
    kept_ms: int | None = None

    @property
    def fits(self) -> int:
        """Bytes of key, value and headers of a message that is alone in its batch and not compressed."""
        return max(0, min(self.batch_bytes, MOST_REQUEST) - ENVELOPE)


def read_limits(settings: KafkaSettings, topics: Iterable[str]) -> dict[str, Limits]:
    """Ask the broker for the limits of topics; what it does not tell, for want of a right, is what is usual."""
    names = list(topics)
    asked = [ConfigResource("TOPIC", name, {SIZE: None, POLICY: None, RETENTION: None}) for name in names]
    with explained("reading the topics' limits", settings):
        admin = KafkaAdminClient(**arguments(settings))
        try:
            found = admin.describe_configs(asked, config_filter="all").get("topic", {})
        finally:
            admin.close()
    return {name: _limits(found.get(name, {})) for name in names}


def _limits(config: dict[str, dict[str, str | None]]) -> Limits:
    size = config.get(SIZE, {}).get("value")
    policy = config.get(POLICY, {}).get("value") or ""
    kept = int(config.get(RETENTION, {}).get("value") or -1)
    expires = kept >= 0 and policy != "compact"
    return Limits(USUAL if size is None else int(size), "compact" in policy.split(","), kept if expires else None)
