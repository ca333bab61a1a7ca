"""Topics by Kafka's ids: a topic that was deleted and made anew has the old name, and its offsets mean other events.

The database keeps the id beside what it holds of a topic. It is compared at each claim, before each turn is stored, and
every few seconds while nothing arrives. The broker is asked while a turn computes, so a turn hardly waits; it is asked
after the turn's messages arrived, so messages of a new topic are never taken for the old one's.
"""

from collections.abc import Mapping

from pipeline.errors import ConfigError, Service, Unavailable
from pipeline.stream.ports import Source

ADVICE = (
    "Start once with --accept-new-topic: what the database holds of the former topic is kept under the name {0}@{1}, "
    "and reading begins at the new topic's first message"
)


class Incarnations:
    """What the database knows of the topics, by name: `known` grows as topics are met."""

    def __init__(self, source: Source, input_topic: str = "", known: Mapping[str, str] | None = None) -> None:
        self.input_topic = input_topic
        self.known = dict(known or {})
        self._source = source

    def ask(self) -> None:
        """Ask the broker, without waiting for the answer."""
        self._source.ask()

    def check(self) -> None:
        """Wait for the answer. ConfigError for a topic that was made anew, Unavailable for one that is gone."""
        found = self._source.incarnations()
        for topic, known in self.known.items():
            if topic not in found:
                raise _gone(topic)
            if known and found.get(topic) and found[topic] != known:
                raise remade(topic, known, is_input=topic == self.input_topic)

    def identify(self) -> str:
        """Return the input topic's id as the broker has it now; "" where it gives none, Unavailable for no topic."""
        self._source.ask()
        found = self._source.incarnations()
        if self.input_topic not in found:
            raise _gone(self.input_topic)  # or its group's offsets, gone with it, would count as lost
        return found[self.input_topic]


def _gone(topic: str) -> Unavailable:
    return Unavailable(
        f"topic {topic} does not exist any more; nothing is read or written until it is back", Service.BROKER
    )


def remade(topic: str, known: str, *, is_input: bool) -> ConfigError:
    """Say that a topic is another one than the database knows, and what to do."""
    if is_input:
        return ConfigError(
            f"topic {topic} was deleted and made anew: its offsets mean other messages than those that the database "
            f"holds. {ADVICE.format(topic, known)}"
        )
    return ConfigError(
        f"topic {topic} was deleted and made anew: messages that the database takes as published are not on it. Start "
        "once with --accept-new-topic to go on; earlier forecasts are in the table forecasts"
    )
