"""Live updates on both databases: what is stored is told to whom it concerns, and a slow reader holds up nobody."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

from pipeline.database import Database
from pipeline.errors import Unavailable
from pipeline.web import context
from pipeline.web import feed as feeds
from pipeline.web.feed import Client, Feed, Full
from tests.page_world import MARKUP, Visitor, World

PATIENCE = 180.0


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


@pytest.fixture
def visitor(world: World, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visitor]:
    monkeypatch.setattr(feeds, "POLL_SECONDS", 0.01)
    with Visitor(url, clients=3) as visiting:
        yield visiting


def polling(visitor: Visitor, act: Callable[[Feed], Coroutine[Any, Any, Any]]) -> Any:
    """Run the poller beside a body, as the server does."""

    async def both() -> Any:
        feed = visitor.feed
        task = asyncio.create_task(feed.run())
        try:
            return await asyncio.wait_for(act(feed), PATIENCE)
        finally:
            feed.close()
            await task

    return visitor.loop.run(both())


def spelled(event: bytes) -> tuple[str, Any]:
    name, _, data = event.decode().strip().partition("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def following(client: Client, *names: str) -> tuple[str, Any]:
    """Return the next event of one of these names."""
    while True:
        event = await client.queue.get()
        assert event is not None
        name, data = spelled(event)
        if name in names:
            return name, data


def test_a_stream_begins_with_the_newest_and_goes_on_with_what_is_stored(world: World, visitor: Visitor) -> None:
    own = world.ids["meter-1"]

    async def act(feed: Feed) -> None:
        with feed.joined(own) as client:
            await feed.greet(client)
            assert (await following(client, "observation"))[1] == {"at": "2026-01-03T11:00:00Z", "value": 59.0}
            assert (await following(client, "forecast"))[1]["origin"] == "2026-01-03T08:00:00Z"
            await asyncio.to_thread(world.observe, (own, 60, 3.5))
            assert (await following(client, "observation"))[1] == {"at": "2026-01-03T12:00:00Z", "value": 3.5}
            await asyncio.to_thread(world.forecast, "meter-1", 60, 2)
            _, told = await following(client, "observation", "forecast")
            assert (told["origin"], told["model_version"]) == ("2026-01-03T12:00:00Z", 2)

    polling(visitor, act)
    assert len(visitor.feed) == 0


def test_a_correction_is_told_with_its_time_and_new_value(world: World, visitor: Visitor) -> None:
    own = world.ids["meter-1"]

    async def act(feed: Feed) -> None:
        with feed.joined(own) as client:
            await feed.greet(client)
            await following(client, "forecast")
            await asyncio.to_thread(world.observe, (own, 55, None), fresh=False)
            assert (await following(client, "observation"))[1] == {"at": "2026-01-03T07:00:00Z", "value": None}

    polling(visitor, act)


def test_only_those_who_follow_a_series_hear_of_it_and_one_without_a_series_hears_the_status(
    world: World, visitor: Visitor
) -> None:
    async def act(feed: Feed) -> None:
        one, other = world.ids["meter-1"], world.ids[MARKUP]
        with feed.joined(one) as first, feed.joined(other) as second, feed.joined(None) as third:
            for client in (first, second, third):
                await feed.greet(client)
            assert (await following(second, "forecast"))[0] == "forecast"
            assert spelled(third.queue.get_nowait() or b"")[1]["database"] == "ok"
            await asyncio.to_thread(world.observe, (one, 61, 1.0))
            await asyncio.to_thread(world.observe, (other, 62, 2.0))
            assert (await following(second, "observation"))[1]["value"] == 2.0
            assert (await following(first, "forecast"))[0] == "forecast"
            assert (await following(first, "observation"))[1]["value"] == 1.0
            for client, strange in ((first, 2.0), (second, 1.0), (third, None)):
                while not client.queue.empty():
                    name, data = spelled(client.queue.get_nowait() or b"")
                    assert name == "status" or (strange is not None and data.get("value") != strange)

    polling(visitor, act)


def test_a_reader_that_takes_nothing_is_let_go_and_the_others_hear_everything(
    world: World, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "WAITING", 4)
    own = world.ids["meter-1"]

    async def act(feed: Feed) -> None:
        with feed.joined(own) as slow, feed.joined(own) as quick:
            for number in range(8):
                await feed.greet(quick)
                while not quick.queue.empty():
                    quick.queue.get_nowait()
                await asyncio.to_thread(world.observe, (own, 60 + number, float(number)))
                assert (await following(quick, "observation"))[1]["value"] == float(number)
            assert slow.lost
            assert not quick.lost
            assert slow.queue.qsize() == 4

    polling(visitor, act)
    assert visitor.feed.dropped == 1


def test_there_are_only_so_many_streams(visitor: Visitor) -> None:
    async def act(feed: Feed) -> None:
        with feed.joined(None), feed.joined(None), feed.joined(None):
            with pytest.raises(Full), feed.joined(None):
                pass
            assert len(feed) == 3

    polling(visitor, act)
    with visitor.feed.joined(None), visitor.feed.joined(None), visitor.feed.joined(None):
        status, error = visitor.error("/api/events")
    assert (status, error["code"]) == (503, "too_many_clients")


async def stream(
    app: Any, path: str, query: bytes, sent: Callable[[dict[str, Any]], Awaitable[None]]
) -> asyncio.Task[None]:
    """Open an event stream as an ASGI server does, for a reader who never goes away."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [(b"host", b"127.0.0.1:8321")],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("127.0.0.1", 8321),
        "asgi": {"version": "3.0"},
    }
    never = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await never.wait()
        return {"type": "http.disconnect"}

    return asyncio.create_task(app(scope, receive, sent))


def test_closing_the_feed_ends_every_stream(visitor: Visitor) -> None:
    async def act(feed: Feed) -> bytes:
        bodies: list[bytes] = []
        greeted = asyncio.Event()

        async def sent(message: dict[str, Any]) -> None:
            bodies.append(message.get("body", b""))
            if b"event: forecast" in bodies[-1]:
                greeted.set()

        task = await stream(visitor.app, "/api/events", b"series=meter-1", sent)
        await greeted.wait()
        feed.close()
        await task
        return b"".join(bodies)

    whole = polling(visitor, act)
    assert whole.startswith(b"retry: 3000\n\nevent: status\ndata: {")


def test_a_reader_whose_connection_takes_nothing_is_let_go(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "SLOW_SECONDS", 0.2)

    async def act(feed: Feed) -> None:
        async def sent(message: dict[str, Any]) -> None:
            if b"event: " in message.get("body", b""):
                await asyncio.Event().wait()  # as a full socket does

        await (await stream(visitor.app, "/api/events", b"series=meter-1", sent))
        assert len(feed) == 0

    polling(visitor, act)
    assert visitor.feed.dropped == 1


def test_a_database_that_goes_away_is_told_with_since_and_when_it_is_back(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "STATUS_SECONDS", 0.0)
    away = False
    ask = type(visitor.pages).status

    def status(self: Any, topic: str) -> dict[str, Any]:
        if away:
            raise Unavailable("it is away")
        return ask(self, topic)

    monkeypatch.setattr(type(visitor.pages), "status", status)

    async def act(feed: Feed) -> None:
        nonlocal away
        with feed.joined(None) as client:
            await feed.greet(client)
            away = True
            told: dict[str, Any] = {"database": "ok"}
            while told["database"] == "ok":
                _, told = await following(client, "status")
            assert told["since"] == "2026-01-01T00:00:00.123456Z"
            away = False
            while told["database"] == "away":
                _, told = await following(client, "status")
            assert (told["since"], told["series"]) == (None, 5)

    polling(visitor, act)
