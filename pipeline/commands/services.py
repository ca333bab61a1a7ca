"""tidecast run, stream and broker: the commands that stay until they are stopped."""

from typing import TYPE_CHECKING

import click

from pipeline.commands.invocation import with_settings

if TYPE_CHECKING:
    from pipeline.settings import Settings

REWIND = click.option(
    "--accept-database-rewind",
    is_flag=True,
    help="Go on although the database is older than what was published (it was restored from a backup).",
)


@click.command()
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Stream worker processes.")
@with_settings
def run(settings: "Settings", workers: int) -> None:
    """Run everything on this machine: stream workers and the scheduler, each a process, started again if it ends."""
    from pipeline.app import run_all

    run_all(settings, workers=workers)


@click.command()
@REWIND
@with_settings
def stream(settings: "Settings", accept_database_rewind: bool) -> None:
    """Run one stream worker until SIGTERM or Ctrl-C: topic in, SQL rows and forecast messages out."""
    from pipeline.app import run_worker

    run_worker(settings, accept_database_rewind=accept_database_rewind)


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=9092, show_default=True, help="0 picks a free one.")
def broker(port: int) -> None:
    """Run the development broker on this machine's loopback address until Ctrl-C.

    One node, in memory, for development and tests: not a place for data that matters.
    """
    from pipeline.quickstart.broker import serve

    serve(port, lambda address: click.echo(f"development broker on {address}"))
