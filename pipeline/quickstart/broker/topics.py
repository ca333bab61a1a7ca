"""The catalogue of topics with their configuration."""

import re
from uuid import uuid4

from pipeline.quickstart.broker.codes import Code
from pipeline.quickstart.broker.log import PartitionLog

LEGAL_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")

# Accepted when a topic is created and reported by DescribeConfigs. Only the first two change what the broker does.
TOPIC_DEFAULTS = {
    "message.timestamp.type": "CreateTime",
    "max.message.bytes": "1048588",
    "cleanup.policy": "delete",
    "compression.type": "producer",
    "min.insync.replicas": "1",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
    "segment.bytes": "1073741824",
    "segment.ms": "604800000",
}


class Topic:
    """A topic: its partitions, and what was configured at its creation."""

    def __init__(self, name: str, partitions: int, config: dict[str, str]) -> None:
        self.name = name
        self.id = uuid4()
        self.config = config
        self.partitions = [PartitionLog() for _ in range(partitions)]

    def setting(self, name: str) -> str:
        """Return a setting, or its default."""
        return self.config.get(name, TOPIC_DEFAULTS[name])


class Topics(dict[str, Topic]):
    """All topics by name; none is ever created by asking for it."""

    def log(self, topic: str, partition: int) -> PartitionLog | None:
        """Return a partition's log, or None if there is no such partition."""
        found = self.get(topic)
        return found.partitions[partition] if found and 0 <= partition < len(found.partitions) else None

    def check(self, name: str, partitions: int, replicas: int, config: dict[str, str | None]) -> tuple[Code, str]:
        """Say why a topic cannot be created, (NONE, '') if it can."""
        if not LEGAL_NAME.fullmatch(name) or name in {".", ".."}:
            return Code.INVALID_TOPIC_EXCEPTION, f"the topic name {name!r} is not legal"
        if name in self:
            return Code.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists."
        if partitions < 1 and partitions != -1:
            return Code.INVALID_PARTITIONS, "a topic needs at least one partition"
        if replicas not in {1, -1}:
            return Code.INVALID_REPLICATION_FACTOR, "this broker is alone: the replication factor is 1"
        unknown = sorted(set(config) - set(TOPIC_DEFAULTS))
        if unknown:
            return Code.INVALID_CONFIG, f"unknown topic settings: {', '.join(unknown)}"
        return Code.NONE, ""

    def grow(self, name: str, count: int) -> tuple[Code, str]:
        """Add partitions to a topic until it has `count`."""
        topic = self.get(name)
        if topic is None:
            return Code.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name!r}"
        if count <= len(topic.partitions):
            return Code.INVALID_PARTITIONS, f"the topic already has {len(topic.partitions)} partitions"
        topic.partitions += [PartitionLog() for _ in range(count - len(topic.partitions))]
        return Code.NONE, ""
