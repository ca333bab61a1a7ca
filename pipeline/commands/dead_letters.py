"""tidecast dead-letters: the messages that could not become observations."""

import os
import socket
from typing import TYPE_CHECKING

import click

from pipeline.commands.display import progress, say, show_json, show_rows, show_table
from pipeline.commands.invocation import with_settings
from pipeline.commands.opened import now, opened
from pipeline.stream.requeue import Place

if TYPE_CHECKING:
    from pipeline.settings import Settings

WIDEST = 60
KAFKA_CALLS = 1.5
"""The watchdog waits for so many times what a call may take."""


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
    """Send MESSAGES to the input topic again, each exactly once, with its headers and time; after the cause was mended.

    They go in order of arrival to the partition that they arrived in. Each carries a header that says where it came
    from; one that still cannot be read becomes a new dead letter. What must not be sent is named with the reason: it
    has no value (compaction would take it for a delete), is not one whole message, or too large. An earlier requeue
    that was ended halfway is finished first; one that still runs ends.
    """
    from pipeline.database.turns.requeue import RequeueShelf
    from pipeline.health.watchdog import Watchdog
    from pipeline.kafka.limits import read_limits
    from pipeline.kafka.requeue import RequeueSender
    from pipeline.kafka.topics import check_topics
    from pipeline.stream.requeue import Requeue

    if bool(message) == everything:
        raise click.UsageError("name messages (TOPIC/PARTITION/OFFSET), or give --all", click.get_current_context())
    kafka = settings.kafka

    def tell(place: Place, why: str) -> None:
        say(f"{place} was left: {why}", err=True)

    with opened(settings) as database:
        shelf = RequeueShelf(database.engine)
        counts = check_topics(kafka)
        sender = RequeueSender(
            kafka,
            Watchdog(kafka.call_timeout * KAFKA_CALLS),
            partitions=counts[kafka.input_topic],
            limits=read_limits(kafka, [kafka.input_topic])[kafka.input_topic],
            clock=now,
        )
        total = shelf.count() if everything else len(message)
        try:
            with progress(f"to {kafka.input_topic}", total) as advance:
                keep = settings.input.reads_record_time
                work = Requeue(shelf, sender, clock=now, tell=tell, advance=advance, keep_time=keep)
                sent = work.run(f"{socket.gethostname()}:{os.getpid()}", None if everything else message)
        finally:
            sender.close()
    say(f"sent {sent:,} {'message' if sent == 1 else 'messages'} to {kafka.input_topic} again")


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", "backslashreplace")


def _short(content: str | None) -> str | None:
    return content if content is None or len(content) <= WIDEST else content[: WIDEST - 3] + "..."
