"""tidecast serve: the read API and the page."""

from typing import TYPE_CHECKING

import click

from pipeline.commands.invocation import with_settings

if TYPE_CHECKING:
    from pipeline.settings import Settings


@click.command()
@with_settings
def serve(settings: "Settings") -> None:
    """Serve the page and its read-only API at serve.listen until SIGTERM or Ctrl-C.

    On loopback everybody on this machine may read. Another address needs serve.token or serve.trusted_header.
    """
    from pipeline.app import run_server

    run_server(settings, lambda address: click.echo(f"the page is at {address}"))
