"""Which deployment a database belongs to: its consumer group, its topics, and its grid.

Two groups on one database would store every message twice, and two grids would mix their rows. So the first worker
binds the database to its settings, and every other deployment is refused.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, Update, select, update

from pipeline.database.engine import reading, writing
from pipeline.database.schema.tables import ingest_jumps, ingest_state, inserting, observations, pipelines
from pipeline.errors import ConfigError
from pipeline.grid.frequency import spell_seconds

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
    """What a deployment is; `frequency` as `Frequency.canonical` spells it.

    phase: seconds from the frequency's steps to those of the grid; None to find it from the first events.
    """

    consumer_group: str
    input_topic: str
    output_topic: str
    dead_letter_topic: str
    frequency: str
    phase: int | None = None


class Pipelines:
    """Reads and writes the binding."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def bind(self, mine: Binding, now: int, *, new_group: bool = False) -> int | None:
        """Bind a database that belongs to nobody yet; ConfigError if it belongs to another deployment.

        With `new_group` another consumer group is taken for the same deployment, renamed. Return the phase of the grid,
        or None while it is to be found.
        """
        with writing(self._engine) as connection:
            values = {name: getattr(mine, name) for name in KEYS} | {"phase": mine.phase}
            if mine.phase is None and connection.execute(select(observations.c.series_id).limit(1)).first():
                values["phase"] = 0
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
            if found.phase is None and mine.phase is not None and not unlike:
                connection.execute(_change(phase=mine.phase))
        if unlike:
            raise ConfigError(_refusal(found, mine, unlike))
        return mine.phase if found.phase is None else int(found.phase)

    def decide_phase(self, seconds: int) -> int:
        """Note the phase of the grid, unless one is noted already, and return the noted one."""
        with writing(self._engine) as connection:
            connection.execute(_change(phase=seconds).where(pipelines.c.phase.is_(None)))
            found = _row(connection)
            assert found is not None, "bound before"
            return int(found.phase)

    def phase(self) -> int | None:
        """Return the phase of the grid in seconds; None while it is not known."""
        with reading(self._engine) as connection:
            found = _row(connection)
        return None if found is None else found.phase

    def rebind(self, mine: Binding, now: int) -> list[str]:
        """Bind the database to these settings whatever it belonged to, and return the keys that changed.

        ConfigError for another grid once there are observations: their times would not be on it.
        """
        with writing(self._engine) as connection:
            found = _row(connection)
            changed = [] if found is None else _unlike(found, mine)
            regridded = not {"frequency", "phase"}.isdisjoint(changed)
            if regridded and connection.execute(select(observations.c.series_id).limit(1)).first():
                raise ConfigError(_refusal(found, mine, ["frequency"]))
            if changed:
                values = {name: getattr(mine, name) for name in changed}
                if regridded:
                    values["phase"] = mine.phase
                if "output_topic" in changed:
                    values["output_incarnation"] = None
                if "dead_letter_topic" in changed:
                    values["dead_letter_incarnation"] = None
                connection.execute(_change(**values))
        if found is None:
            self.bind(mine, now)
        return [KEYS.get(name, f"series.{name}") for name in changed]

    def check_frequency(self, frequency: str, phase: int | None = None) -> None:
        """Raise ConfigError if the database's rows are on another grid; a phase that either leaves open fits."""
        with reading(self._engine) as connection:
            found = _row(connection)
        if found is not None and (found.frequency != frequency or _phases_differ(found.phase, phase)):
            raise ConfigError(_grids(spell(frequency, phase), spell(found.frequency, found.phase)))

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
    unlike = [name for name in KEYS if getattr(found, name) != getattr(mine, name)]
    return [*unlike, "phase"] if _phases_differ(found.phase, mine.phase) else unlike


def _phases_differ(one: int | None, other: int | None) -> bool:
    return None not in (one, other) and one != other


def spell(frequency: str, phase: int | None) -> str:
    """Name a grid for people."""
    return f"{frequency} and {spell_seconds(phase)}" if phase else frequency


def _refusal(found: "Row[Any] | None", mine: Binding, unlike: list[str]) -> str:
    if {"frequency", "phase"} & set(unlike):
        assert found is not None, "compared with"
        return _grids(spell(mine.frequency, mine.phase), spell(found.frequency, found.phase))
    pairs = ", ".join(f"{KEYS[name]} is {getattr(mine, name)} here and {getattr(found, name)} there" for name in unlike)
    return (
        f"this database belongs to another deployment: {pairs}. Give each deployment a database of its own, or run "
        "tidecast db rebind once if this one has moved"
    )


def _grids(here: str, there: str) -> str:
    return (
        f"this database's rows are on the grid {there}, and series.frequency is {here}: rows of two grids do not fit "
        "together; set it back, with its timezone and phase, or use another database"
    )
