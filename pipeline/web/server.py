"""The application and the server around it."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from pipeline.database.pages.pages import Pages
from pipeline.settings import ServeSettings, Settings
from pipeline.version import installed_version
from pipeline.web.access import Access
from pipeline.web.connections import BACKLOG, HEAD_BYTES, KEEP_SECONDS, Connection, Connections, allow_files
from pipeline.web.context import Context
from pipeline.web.feed import Feed
from pipeline.web.models import model_routes
from pipeline.web.problems import Refused, explain_errors
from pipeline.web.query_queue import QueryQueue
from pipeline.web.series import series_routes
from pipeline.web.service import probes, service_routes

log = structlog.get_logger()
STATIC = Path(__file__).parent / "static"
QUERIES = 4
"""Database queries that run at a time."""
CONNECTIONS = 448
"""Connections that may be open besides event streams."""
PATIENCES = 2.5
"""A question is given up after so many times what a query may take: it may be two, and wait for a connection."""
END_SECONDS = 5
"""How long answers that are being written may take once the server is to end."""


def build_app(
    settings: Settings, pages: Pages, *, clock: Callable[[], int], read_ends: Callable[[], dict[int, int]]
) -> tuple[Access, Feed]:
    """Build the application, behind its access check, and the feed that a server closes before it ends."""
    patience = PATIENCES * settings.serve.query_timeout
    context = Context(settings, pages, QueryQueue(QUERIES, clock, patience), read_ends, clock)
    feed = Feed(pages, QueryQueue(1, clock, patience), context.status, settings.serve.clients)

    @contextlib.asynccontextmanager
    async def live(_: FastAPI) -> AsyncIterator[None]:
        polling = asyncio.create_task(feed.run())
        try:
            yield
        finally:
            feed.close()
            await asyncio.wait([polling], timeout=END_SECONDS)
            polling.cancel()

    app = FastAPI(
        title="tidecast",
        version=installed_version(),
        description="Forecasts, their accuracy, and the service behind them. It only reads.",
        docs_url=None,
        redoc_url=None,
        lifespan=live,
    )
    explain_errors(app)
    for router in (series_routes(context), model_routes(context), service_routes(context, feed), probes(context)):
        app.include_router(router)

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        """Serve the page."""
        if not (STATIC / "index.html").is_file():
            raise Refused(404, "no_page", "this installation has no page; the API is described by /openapi.json")
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    if STATIC.is_dir():
        app.mount("/static", PageFiles(directory=STATIC), name="static")
    return Access(app, settings.serve), feed


class PageFiles(StaticFiles):
    """The page's files; a browser asks each time whether they changed, so that modules of two releases never meet."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        """Answer with the file, or 304 if the browser has it."""
        response = super().file_response(*args, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


def limit_connections(settings: ServeSettings) -> Connections:
    """Count connections against the settings, and against the files that this process may open.

    One address may have half of them; a reverse proxy that every reader comes through, all.
    """
    most = allow_files(CONNECTIONS + settings.clients)
    return Connections(most, most if settings.trusted_header else most // 2)


class Server(uvicorn.Server):
    """A server whose connections have limits, and that ends its event streams first: they would hold it up."""

    def __init__(self, config: uvicorn.Config, feed: Feed, connections: Connections) -> None:
        super().__init__(config)
        self.server_state = self._connections = connections
        self._feed = feed

    async def on_tick(self, counter: int) -> bool:
        """Drop, every second, the connections whose time is up, and tell of it once a minute."""
        if counter % 10 == 0:
            self._connections.expire(asyncio.get_running_loop().time())
        if counter % 600 == 0:
            self._connections.tell()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then everything else."""
        self._feed.close()
        await super().shutdown(sockets)


def run_server(app: Access, feed: Feed, connections: Connections, listening: socket.socket) -> None:
    """Serve on a socket that listens already, until SIGTERM or SIGINT."""
    logging.getLogger("uvicorn.error").setLevel(
        logging.ERROR
    )  # what a client does wrong is no event: it could write many
    config = uvicorn.Config(
        app,
        http=Connection,
        h11_max_incomplete_event_size=HEAD_BYTES,
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_SECONDS,
        timeout_graceful_shutdown=END_SECONDS,
        ws="none",
        lifespan="on",
    )
    server = Server(config, feed, connections)

    def end(number: int, frame: object) -> None:
        server.should_exit = True

    # uvicorn puts its own handlers over these while it serves, and then raises what it caught once more: to end well.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    server.run(sockets=[listening])
    log.info("page stopped", answers=app.traffic.total(), failed=app.traffic.failed(), streams_dropped=feed.dropped)
