"""What the library's I/O thread does between two lines of ours: it may revoke a partition at any time."""

from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition

from pipeline.errors import Fenced
from pipeline.kafka.source import KafkaSource


class Revoking:
    """A consumer whose partition 0 is revoked as soon as somebody has seen that it is assigned."""

    def __init__(self, held: int) -> None:
        self.held = {TopicPartition("input", at) for at in range(1, held)}
        self.paused: set[TopicPartition] = set()
        self._fetcher = SimpleNamespace()

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition("input", 0), *self.held}

    def pause(self, *partitions: TopicPartition) -> None:
        for at in partitions:
            if at not in self.held:
                raise KeyError(at)
            self.paused.add(at)

    def resume(self, *partitions: TopicPartition) -> None:
        raise AssertionError("not reached")

    def seek(self, at: TopicPartition, offset: int) -> None:
        if at not in self.held:
            raise ValueError("Unassigned partition")


def source(consumer: Any) -> KafkaSource:
    made = object.__new__(KafkaSource)
    made._topic, made._consumer, made._returned = "input", consumer, {}
    return made


def test_a_partition_that_is_revoked_while_it_is_started_fences_its_claim() -> None:
    with pytest.raises(Fenced, match="revoked while it was being claimed"):
        source(Revoking(1)).start(0, 5)


def test_a_partition_that_is_revoked_while_it_is_held_is_left_and_the_others_are_paused() -> None:
    consumer = Revoking(3)
    source(consumer).hold([0, 1, 2])
    assert consumer.paused == {TopicPartition("input", 1), TopicPartition("input", 2)}
