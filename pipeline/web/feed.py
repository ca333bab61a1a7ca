"""Live updates: one poller per process reads what changed, and hands it to every client that follows it.

A client has a bounded queue. One that does not take its events is disconnected, so it never holds up the others, and
nothing here ever waits for a client: the poller costs two queries a second when nothing happens, and none without a
client.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pipeline.database.pages import series as series_pages
from pipeline.database.pages import service as service_pages
from pipeline.database.pages.pages import Pages
from pipeline.errors import TidecastError
from pipeline.web.context import Status
from pipeline.web.query_queue import Away, Busy, QueryQueue
from pipeline.web.series import Origin, Point

log = structlog.get_logger()
POLL_SECONDS = 1.0
STATUS_SECONDS = 15.0
HEARTBEAT_SECONDS = 10.0
SLOW_SECONDS = 20.0
"""A client that takes nothing for so long is disconnected."""
TAIL = 96
"""Newest observations and forecasts of a series that are looked at for what changed."""
WAITING = 256
"""Events that may wait for a client."""
Tail = tuple[dict[int, float | None], dict[tuple[int, int], dict[str, Any]]]


class Full(Exception):
    """There are as many clients as there may be."""


@dataclass(eq=False, slots=True)
class Client:
    """One event stream: the series it follows, None for the status alone, and what waits to be sent."""

    series_id: int | None
    queue: "asyncio.Queue[bytes | None]" = field(default_factory=lambda: asyncio.Queue(WAITING))
    lost: bool = False

    def put(self, event: bytes | None) -> None:
        """Add an event; a client whose queue is full is disconnected, and connects again by itself."""
        if self.lost:
            return
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.lost = True


class Feed:
    """The poller and its clients; for one event loop. `read_status` says how the service is, also when it is away."""

    def __init__(
        self, pages: Pages, queries: QueryQueue, read_status: Callable[[], Awaitable[Status]], most: int
    ) -> None:
        self._pages = pages
        self._queries = queries
        self._read_status = read_status
        self._most = most
        self._clients: set[Client] = set()
        self._tails: dict[int, Tail] = {}
        self._marks: object = None
        self._status: tuple[float, object] = (0.0, None)
        self._closing = asyncio.Event()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._clients)

    @contextlib.contextmanager
    def joined(self, series_id: int | None) -> Iterator[Client]:
        """Add a client for the length of a block; Full when there are too many."""
        if len(self._clients) >= self._most:
            raise Full
        client = Client(series_id)
        self._clients.add(client)
        if self._closing.is_set():
            client.put(None)
        try:
            yield client
        finally:
            self._clients.discard(client)
            self.dropped += client.lost
            if series_id is not None and not any(other.series_id == series_id for other in self._clients):
                self._tails.pop(series_id, None)

    async def greet(self, client: Client) -> None:
        """Send the status and the newest observation and forecast, so that nothing is missed before the first poll."""
        client.put(write_event("status", await self._read_status()))
        if client.series_id is None:
            return
        tails = await self._queries.ask(self._pages.ask, series_pages.read_tails, [client.series_id], TAIL)
        seen, issued = tails[client.series_id]
        self._tails.setdefault(client.series_id, (seen, issued))
        for at in list(seen)[-1:]:
            client.put(write_event("observation", Point(at=at, value=seen[at])))
        for key in list(issued)[-1:]:
            client.put(write_event("forecast", Origin(**issued[key])))

    async def run(self) -> None:
        """Poll until the feed is closed, which waits for the query at work: its connection is given back."""
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), POLL_SECONDS)
            if self._clients and not self._closing.is_set():
                try:
                    await self._poll()
                except (Away, Busy, TidecastError) as error:
                    log.debug("nothing was read for the event streams", error=str(error))
                await self._tell_status()

    def close(self) -> None:
        """End every stream and the poller, so that the server can end."""
        self._closing.set()
        for client in self._clients:
            client.queue = asyncio.Queue(1) if client.lost else client.queue
            client.lost = False
            client.put(None)

    async def _poll(self) -> None:
        marks = await self._queries.ask(self._pages.ask, service_pages.read_partitions)
        watched = sorted({client.series_id for client in self._clients if client.series_id is not None})
        if marks == self._marks and all(own in self._tails for own in watched):
            return
        self._marks = marks
        tails = await self._queries.ask(self._pages.ask, series_pages.read_tails, watched, TAIL)
        for own, (seen, issued) in tails.items():
            if own in self._tails:
                events = list(_changes(self._tails[own], (seen, issued)))
                for client in self._clients:
                    if client.series_id == own:
                        for event in events:
                            client.put(event)
            self._tails[own] = (seen, issued)

    async def _tell_status(self) -> None:
        """Send the status when the database, the champion or the series changed, and every STATUS_SECONDS."""
        try:
            status = await self._read_status()
        except (Busy, TidecastError):
            return
        now = asyncio.get_running_loop().time()
        telling = (status.database, status.champion, status.series)
        if telling != self._status[1] or now - self._status[0] >= STATUS_SECONDS:
            self._status = (now, telling)
            event = write_event("status", status)
            for client in self._clients:
                client.put(event)


class EventStream(Response):
    """A response that sends a client's events until it leaves, is lost, or the server ends."""

    def __init__(self, feed: Feed, series_id: int | None) -> None:
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._feed = feed
        self._series_id = series_id
        del self.headers["content-length"]
        self.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send; a client that reads nothing for SLOW_SECONDS is disconnected."""
        with self._feed.joined(self._series_id) as client:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with anyio.create_task_group() as group:
                group.start_soon(_wait_until_gone, receive, group.cancel_scope)
                try:
                    await self._send_events(client, send)
                except TimeoutError:
                    client.lost = True
                    log.info("an event stream's client reads nothing; it is disconnected")
                group.cancel_scope.cancel()

    async def _send_events(self, client: Client, send: Send) -> None:
        async def write(content: bytes, *, more: bool = True) -> None:
            with anyio.fail_after(SLOW_SECONDS):
                await send({"type": "http.response.body", "body": content, "more_body": more})

        await write(b"retry: 3000\n\n")
        try:
            await self._feed.greet(client)
        except (Away, Busy, TidecastError) as error:
            log.debug("an event stream begins without its newest events", error=str(error))
        while not client.lost:
            try:
                event = await asyncio.wait_for(client.queue.get(), HEARTBEAT_SECONDS)
            except TimeoutError:
                event = b": here\n\n"
            if event is None:
                break
            await write(event)
        await write(b"", more=False)


def write_event(name: str, answer: Point | Origin | Status) -> bytes:
    """Encode one server-sent event; JSON has no raw line ends, which would end it."""
    return f"event: {name}\ndata: {answer.model_dump_json()}\n\n".encode()


async def _wait_until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _changes(before: Tail, after: Tail) -> Iterator[bytes]:
    for at, value in after[0].items():
        if at not in before[0] or before[0][at] != value:
            yield write_event("observation", Point(at=at, value=value))
    for key, row in after[1].items():
        if key not in before[1]:
            yield write_event("forecast", Origin(**row))
