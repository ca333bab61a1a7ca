"""tidecast run, stream and broker: the commands that stay until they are stopped."""

from typing import TYPE_CHECKING

import click

from pipeline.commands.display import say
from pipeline.commands.invocation import Invocation, with_settings

if TYPE_CHECKING:
    from pipeline.settings import Settings


REWIND = click.option(
    "--accept-database-rewind",
    is_flag=True,
    help="Go on although the database is older than what was published (it was restored from a backup).",
)
LOST = click.option(
    "--accept-offsets-lost",
    is_flag=True,
    help="Go on although the group's offsets are gone (another group or cluster, or they expired).",
)


NEW = click.option(
    "--accept-new-topic",
    is_flag=True,
    help="Go on although a topic was deleted and made anew; what is stored of the former one is kept, renamed.",
)


def accepted_of(**flags: bool) -> list[str]:
    """Spell the flags that are set as options."""
    return [f"--{name.replace('_', '-')}" for name, given in flags.items() if given]


@click.command()
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Stream worker processes.")
@REWIND
@LOST
@NEW
@click.pass_obj
def run(invocation: Invocation, /, workers: int, **accept: bool) -> None:
    """Run everything on this machine: stream workers, the scheduler, and the page if the extra serve is installed.

    Each is a process that is started again if it ends.
    """
    from pipeline.roles import run_all

    run_all(invocation.settings, invocation.arguments(), workers=workers, accepted=accepted_of(**accept))


@click.command()
@REWIND
@LOST
@NEW
@with_settings
def stream(settings: "Settings", /, **accept: bool) -> None:
    """Run one stream worker until SIGTERM or Ctrl-C: topic in, SQL rows and forecast messages out."""
    from pipeline.app import run_worker
    from pipeline.stream.claim import Accept

    accepted = Accept.NOTHING
    for name, given in accept.items():
        accepted |= Accept[name.removeprefix("accept_").upper()] if given else Accept.NOTHING
    run_worker(settings, accept=accepted)


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=9092, show_default=True, help="0 picks a free one.")
def broker(port: int) -> None:
    """Run the development broker on this machine's loopback address until Ctrl-C.

    One node, in memory, for development and tests: not a place for data that matters.
    """
    from pipeline.errors import Unavailable
    from pipeline.quickstart.broker import serve

    try:
        serve(port, lambda ready: say(f"development broker on {ready.bootstrap_servers}; Ctrl-C ends it"))
    except OSError as error:
        raise Unavailable(f"port {port} cannot be used ({error.strerror}); choose another with --port") from error
