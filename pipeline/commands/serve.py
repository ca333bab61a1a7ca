"""tidecast serve: the read API and the page, wired to a database that can only be read."""

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import click

from pipeline.commands.display import say
from pipeline.commands.invocation import with_settings
from pipeline.commands.opened import now
from pipeline.errors import ConfigError
from pipeline.settings.address import address_of, listen

if TYPE_CHECKING:
    from pipeline.settings import Settings

KAFKA_SECONDS = 3.0
"""How long a broker may take to say how far it is, for a page that can do without."""


@click.command()
@with_settings
def serve(settings: "Settings") -> None:
    """Serve the page and its read-only API at serve.listen until SIGTERM or Ctrl-C.

    On loopback everybody on this machine may read. Another address needs serve.token or serve.trusted_header. With
    metrics.listen it serves its metrics there, as workers do.
    """
    try:
        from pipeline.web.page_metrics import PageCollector, checks_of
        from pipeline.web.server import QUERIES, build_app, limit_connections, run_server
    except ModuleNotFoundError as error:
        raise ConfigError(f"tidecast serve needs {error.name}: pip install 'tidecast[serve]'") from error
    from pipeline.database.pages.pages import open_pages
    from pipeline.health.logs import start_logging
    from pipeline.health.probes import Probes, serving
    from pipeline.kafka.ends import end_offsets
    from pipeline.settings.secrets import list_secrets

    own = settings.serve
    if own.listen is None:
        raise ConfigError("serve.listen is off; set it to an address, such as 127.0.0.1:8321")
    secrets = list_secrets(settings)
    start_logging(secrets)
    url = settings.database.url.get_secret_value()
    timeout = min(own.query_timeout, settings.database.timeout)
    probes = Probes("page", secrets)
    with ExitStack() as stack:
        stack.enter_context(serving(settings.metrics.listen, probes, settings.metrics.hosts))
        pages = open_pages(url, connections=QUERIES + 1, timeout=timeout)
        stack.callback(pages.close)
        read_ends = partial(end_offsets, settings.kafka, settings.kafka.input_topic, KAFKA_SECONDS)
        app, feed = build_app(settings, pages, clock=now, read_ends=read_ends)
        connections = limit_connections(own)
        probes.watch(checks_of(pages), PageCollector(app.traffic, feed, connections))
        listening = stack.enter_context(listen(own.listen, "serve.listen"))
        say(f"the page is at {address_of(listening)}")
        run_server(app, feed, connections, listening)
