"""Where requests wait for the database: so many at a time, dated outages, and a frozen one that holds up nobody."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from pipeline.errors import ConfigError, TooSlow, Unavailable
from pipeline.web import query_queue as desks
from pipeline.web.query_queue import Away, Busy, QueryQueue

NOW = 1_767_225_600_000_000


def run(body: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(body, 60.0))


def away() -> None:
    raise Unavailable("the database is away")


def test_an_outage_has_the_time_of_its_first_failure_until_an_answer_comes() -> None:
    times = iter([NOW, NOW + 5, NOW + 9])

    async def body() -> None:
        queries = QueryQueue(1, lambda: next(times), 60.0)
        for _ in range(3):
            with pytest.raises(Away) as told:
                await queries.ask(away)
            assert told.value.since == queries.away_since == NOW
        assert await queries.ask(lambda: 7) == 7
        assert queries.away_since is None
        with pytest.raises(Away) as told:
            await queries.ask(away)
        assert told.value.since == NOW + 9

    run(body())


@pytest.mark.parametrize("error", [TooSlow("stopped"), ConfigError("run tidecast db upgrade")])
def test_a_query_that_was_stopped_or_a_schema_that_does_not_fit_is_no_outage(error: Exception) -> None:
    async def body() -> None:
        queries = QueryQueue(1, lambda: NOW, 60.0)

        def fail() -> None:
            raise error

        with pytest.raises(type(error)):
            await queries.ask(fail)
        assert queries.away_since is None

    run(body())


def test_a_database_that_is_frozen_is_given_up_and_the_next_question_is_answered() -> None:
    thaw = threading.Event()

    async def body() -> None:
        queries = QueryQueue(1, lambda: NOW, 0.05)
        with pytest.raises(Away):
            await queries.ask(thaw.wait, 60.0)
        patient = QueryQueue(1, lambda: NOW, 60.0)
        assert await patient.ask(lambda: "answered") == "answered"
        thaw.set()

    run(body())


def test_only_so_many_are_asked_at_a_time_and_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "MOST_WAITING", 5)
    go, lock = threading.Event(), threading.Lock()
    asked, most = 0, 0

    def read() -> None:
        nonlocal asked, most
        with lock:
            asked += 1
            most = max(most, asked)
        go.wait(60.0)
        with lock:
            asked -= 1

    async def body() -> None:
        queries = QueryQueue(2, lambda: NOW, 60.0)
        waiting = [asyncio.create_task(queries.ask(read)) for _ in range(5)]
        while asked < 2:
            await asyncio.sleep(0)
        with pytest.raises(Busy):
            await queries.ask(read)
        go.set()
        await asyncio.gather(*waiting)
        assert most == 2
        await queries.ask(read)

    run(body())


def test_what_was_just_read_is_read_once_however_many_ask() -> None:
    calls: list[int] = []

    def read() -> int:
        calls.append(1)
        return len(calls)

    async def body() -> None:
        queries = QueryQueue(4, lambda: NOW, 60.0)
        found = await asyncio.gather(*(queries.remembered("key", 600.0, read) for _ in range(8)))
        assert found == [1] * 8
        assert await queries.remembered("other", 0.0, read) == 2
        assert await queries.remembered("other", 0.0, read) == 3

    run(body())
