"""Which deployment a database belongs to: its consumer group, its topics, and its grid.

Two groups on one database would store every message twice, and two grids would mix their rows. So the first worker
binds the database to its settings, and every other deployment is refused.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, Update, select, update

from pipeline.database.engine import reading, writing
from pipeline.database.tables import ingest_jumps, ingest_state, inserting, observations, pipelines
from pipeline.errors import ConfigError

MAIN = "main"
"""The name of the one pipeline that a database has today."""

KEYS = {
    "consumer_group": "kafka.group",
    "input_topic": "kafka.input_topic",
    "output_topic": "kafka.output_topic",
    "dead_letter_topic": "kafka.dead_letter_topic",
    "frequency": "series.frequency",
}


@dataclass(frozen=True, slots=True)
class Binding:
    """What a deployment is; `frequency` as `Frequency.canonical` spells it."""

    consumer_group: str
    input_topic: str
    output_topic: str
    dead_letter_topic: str
    frequency: str


class Pipelines:
    """Reads and writes the binding."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def bind(self, mine: Binding, now: int, *, new_group: bool = False) -> None:
        """Bind a database that belongs to nobody yet; ConfigError if it belongs to another deployment.

        With `new_group` another consumer group is taken for the same deployment, renamed.
        """
        with writing(self._engine) as connection:
            values = {name: getattr(mine, name) for name in KEYS}
            connection.execute(
                inserting(connection, pipelines)
                .values(name=MAIN, created_at=now, **values)
                .on_conflict_do_nothing(index_elements=["name"])
            )
            found = _row(connection)
            assert found is not None
            unlike = _unlike(found, mine)
            if unlike == ["consumer_group"] and new_group:
                connection.execute(_change(consumer_group=mine.consumer_group))
                unlike = []
        if unlike:
            raise ConfigError(_refusal(found, mine, unlike))

    def rebind(self, mine: Binding, now: int) -> list[str]:
        """Bind the database to these settings whatever it belonged to, and return the keys that changed.

        ConfigError for another grid once there are observations: their times would not be on it.
        """
        with writing(self._engine) as connection:
            found = _row(connection)
            changed = [] if found is None else _unlike(found, mine)
            if "frequency" in changed and connection.execute(select(observations.c.series_id).limit(1)).first():
                raise ConfigError(_refusal(found, mine, ["frequency"]))
            if changed:
                values = {name: getattr(mine, name) for name in changed}
                if "output_topic" in changed:
                    values["output_incarnation"] = None
                if "dead_letter_topic" in changed:
                    values["dead_letter_incarnation"] = None
                connection.execute(_change(**values))
        if found is None:
            self.bind(mine, now)
        return [KEYS[name] for name in changed]

    def check_frequency(self, frequency: str) -> None:
        """Raise ConfigError if the database's rows are on another grid."""
        with reading(self._engine) as connection:
            found = _row(connection)
        if found is not None and found.frequency != frequency:
            raise ConfigError(_grids(frequency, found.frequency))

    def known_topics(self) -> set[str]:
        """Return the topics that the database holds something of, which therefore must not be made anew unasked."""
        with reading(self._engine) as connection:
            found = _row(connection)
            read = select(ingest_state.c.topic).where(ingest_state.c.next_offset > 0).distinct()
            known = set(connection.execute(read).scalars())
        if found is not None:
            known |= {found.output_topic} if found.output_incarnation else set()
            known |= {found.dead_letter_topic} if found.dead_letter_incarnation else set()
        return known

    def identify(self, output: str, dead_letters: str, now: int, *, accept: bool) -> dict[str, str]:
        """Return Kafka's ids of the two topics that are written to, by column, as the database knows them.

        One that is not known yet is noted as the one given; with `accept` one that differs is, too, and put on record.
        """
        given = {"output_incarnation": output, "dead_letter_incarnation": dead_letters}
        with writing(self._engine) as connection:
            found = _row(connection)
            assert found is not None, "bound before"
            known = {name: getattr(found, name) for name in given}
            new = {name: own for name, own in given.items() if own and (known[name] is None or accept)}
            if new:
                connection.execute(_change(**new))
            for name, own in new.items():
                if known[name] not in (None, own):
                    topic = getattr(found, name.replace("incarnation", "topic"))
                    connection.execute(ingest_jumps.insert().values(_jump(topic, known[name], now)))
        return {name: own or "" for name, own in (known | new).items()}


def _jump(topic: str, former: str, now: int) -> dict[str, object]:
    reason = f"the topic was deleted and made anew: what was published to {topic}@{former} is in SQL only"
    return {
        "topic": topic,
        "partition": -1,
        "from_offset": 0,
        "to_offset": 0,
        "reason": reason,
        "jumped_at": now,
    }


def _row(connection: Connection) -> "Row[Any] | None":
    return connection.execute(select(pipelines).where(pipelines.c.name == MAIN)).first()


def _change(**values: object) -> Update:
    return update(pipelines).where(pipelines.c.name == MAIN).values(**values)


def _unlike(found: "Row[Any]", mine: Binding) -> list[str]:
    return [name for name in KEYS if getattr(found, name) != getattr(mine, name)]


def _refusal(found: "Row[Any] | None", mine: Binding, unlike: list[str]) -> str:
    if "frequency" in unlike:
        return _grids(mine.frequency, getattr(found, "frequency", ""))
    pairs = ", ".join(f"{KEYS[name]} is {getattr(mine, name)} here and {getattr(found, name)} there" for name in unlike)
    return (
        f"this database belongs to another deployment: {pairs}. Give each deployment a database of its own, or run "
        "tidecast db rebind once if this one has moved"
    )


def _grids(here: str, there: str) -> str:
    return (
        f"this database's rows are on the grid {there}, and series.frequency is {here}: rows of two grids do not fit "
        "together; set it back, or use another database"
    )
