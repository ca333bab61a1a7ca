"""tidecast produce: replay a file into the input topic."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.display import progress, read_moment, say
from pipeline.commands.invocation import with_settings

if TYPE_CHECKING:
    from pipeline.quickstart.produce import Message
    from pipeline.settings import Settings


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--series-id", default="series_id", show_default=True, metavar="COLUMN", help="Column of the series.")
@click.option("--timestamp", default="timestamp", show_default=True, metavar="COLUMN", help="Column of the time.")
@click.option("--value", default="value", show_default=True, metavar="COLUMN", help="Column of the number.")
@click.option("--covariate", multiple=True, metavar="COLUMN", help="Column of another number; may be repeated.")
@click.option("--since", metavar="TIME", help="First time to send; UTC unless it has an offset.")
@click.option("--until", metavar="TIME", help="Stop before this time.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="At most N messages a second.")
@with_settings
def produce(
    settings: "Settings",
    /,
    file: Path,
    *,
    covariate: tuple[str, ...],
    since: str | None,
    until: str | None,
    rate: float | None,
    **columns: str,
) -> None:
    """Replay a CSV or Parquet FILE into the input topic, in the order of time, keyed by series.

    One row per observation. The file is held in memory. An empty value is sent as null: explicitly missing. Covariates
    are sent under the names of their columns, and read by workers whose input.covariates lists them.
    """
    from pipeline.kafka.topics import check_topics, send
    from pipeline.quickstart.produce import FileColumns, messages, paced, read

    first, end = (read_moment(text, name) if text else None for name, text in (("--since", since), ("--until", until)))
    named = FileColumns(**columns, covariates=covariate)
    table = read(file, named, first, end, times=settings.input.time_rule(settings.series.timezone))
    check_topics(settings.kafka)
    with progress(f"to {settings.kafka.input_topic}", len(table)) as advance:

        def watched() -> "Iterator[Message]":
            for message in paced(messages(table, settings.input, covariate), rate):
                yield message
                advance(1)

        count = send(settings.kafka, settings.kafka.input_topic, watched())
    series = table["series_id"].nunique()
    say(f"sent {count:,} observations of {series:,} series to {settings.kafka.input_topic}")
