"""tidecast dead-letters: the messages that could not become observations."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from pipeline.commands.display import say, show_json, show_rows, show_table
from pipeline.commands.invocation import with_settings
from pipeline.commands.opened import now, opened

if TYPE_CHECKING:
    from pipeline.records import DeadLetter
    from pipeline.settings import Settings

HEADER = "tidecast-requeued-from"
WIDEST = 60
AT_ONCE = 500  # messages sent before they are marked


@dataclass(frozen=True, slots=True)
class Place:
    """Where a dead letter came from."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """Write it as commands and headers do."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class PlaceType(click.ParamType[Place]):
    """TOPIC/PARTITION/OFFSET on the command line."""

    name = "topic/partition/offset"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """Split the three parts."""
        topic, _, rest = value.partition("/")
        partition, _, offset = rest.partition("/")
        if not (topic and partition.isdecimal() and offset.isdecimal()):
            self.fail(f"{value!r} is not TOPIC/PARTITION/OFFSET, for example observations/0/17", param, ctx)
        return Place(topic, int(partition), int(offset))


@click.group()
def dead_letters() -> None:
    """Read and requeue messages that were refused."""


@dead_letters.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The newest so many.")
@click.option("--waiting", is_flag=True, help="Only those not sent again yet.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@with_settings
def list_letters(settings: "Settings", limit: int, waiting: bool, as_json: bool) -> None:
    """List the newest refused messages, each with its reason."""
    with opened(settings) as database:
        rows = database.reader.dead_letters(limit, waiting=waiting)
    if not as_json:
        rows = [
            {
                "message": str(Place(row["topic"], row["source_partition"], row["source_offset"])),
                "recorded_at": row["recorded_at"],
                "requeued_at": row["requeued_at"],
                "reason": row["reason"],
                "left_in_sql": _short(row["left_in_sql"]),
                "value": _short(row["value"]),
            }
            for row in rows
        ]
    show_rows(rows, as_json=as_json, empty="no dead letters")


@dead_letters.command()
@click.argument("message", type=PlaceType())
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@with_settings
def show(settings: "Settings", message: Place, as_json: bool) -> None:
    """Show one MESSAGE (TOPIC/PARTITION/OFFSET) in full; bytes that are not text are escaped."""
    with opened(settings) as database:
        letter = database.reader.dead_letter(message.topic, message.partition, message.offset)
    facts = {
        "message": str(message),
        "reason": letter.reason,
        "key": _text(letter.key),
        "value": _text(letter.value),
    }
    if as_json:
        show_json(facts)
    else:
        show_table(["field", "content"], list(facts.items()))


@dead_letters.command()
@click.argument("message", type=PlaceType(), nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that were not sent again yet.")
@with_settings
def requeue(settings: "Settings", message: tuple[Place, ...], everything: bool) -> None:
    """Send MESSAGES to the input topic again, as they were, and mark them; after the cause has been mended.

    Each carries a header that says where it came from. One that still cannot be read becomes a new dead letter.
    """
    from pipeline.codec import FITS
    from pipeline.kafka.topics import check_topics, send

    if bool(message) == everything:
        raise click.UsageError("name messages (TOPIC/PARTITION/OFFSET), or give --all", click.get_current_context())
    kafka = settings.kafka
    with opened(settings) as database:
        reader = database.reader
        if everything:
            rows = reader.dead_letters(1_000_000, waiting=True)
            message = tuple(Place(row["topic"], row["source_partition"], row["source_offset"]) for row in rows)
        check_topics(kafka)
        sent = 0
        for start in range(0, len(message), AT_ONCE):
            some = message[start : start + AT_ONCE]
            letters = [(place, reader.dead_letter(place.topic, place.partition, place.offset)) for place in some]
            fitting = [(place, letter) for place, letter in letters if _size(letter) <= FITS]
            # Marked only after the broker has acknowledged: a crash between the two sends a message twice, never not.
            sent += send(
                kafka,
                kafka.input_topic,
                [(letter.key, letter.value, [(HEADER, str(place).encode())]) for place, letter in fitting],
            )
            for place, _ in fitting:
                reader.mark_requeued(place.topic, place.partition, place.offset, now())
            for place, letter in letters:
                if _size(letter) > FITS:
                    say(f"{place} was left: its {_size(letter):,} bytes are more than a topic takes", err=True)
    say(f"sent {sent:,} {'message' if sent == 1 else 'messages'} to {kafka.input_topic} again")


def _size(letter: "DeadLetter") -> int:
    return len(letter.key or b"") + len(letter.value or b"")


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", "backslashreplace")


def _short(content: str | None) -> str | None:
    return content if content is None or len(content) <= WIDEST else content[: WIDEST - 3] + "..."
