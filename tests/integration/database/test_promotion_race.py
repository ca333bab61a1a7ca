"""Promotions and rollbacks of two processes at once, each with a connection of its own, on both databases."""

import multiprocessing
import threading
from collections.abc import Callable

from pipeline.database import Database, open_database
from pipeline.errors import ConfigError
from tests.contracts.registry import RegistryContract
from tests.contracts.rows import NOW

PATIENCE = 180.0
register = RegistryContract().register


def move_champion(url: str, versions: list[int | None], start: threading.Barrier) -> list[bool]:
    """Per round, promote a version against the champion that both processes saw before it, or roll back for None."""
    database = open_database(url, timeout=PATIENCE)
    done = []
    for version in versions:
        champion = database.registry.champion()
        start.wait(PATIENCE)  # both have read
        try:
            if version is None:
                database.registry.rollback(NOW)
                done.append(True)
            else:
                done.append(database.registry.promote(version, expected=champion, reason="race", now=NOW))
        except ConfigError:
            done.append(False)
        start.wait(PATIENCE)  # both have written
    database.close()
    return done


def race(url: str, *versions: list[int | None]) -> list[list[bool]]:
    """Let one process per list move the champion, round by round together; what each got done in each round."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with context.Manager() as manager, context.Pool(len(versions)) as pool:
        start = manager.Barrier(len(versions))
        return pool.starmap(move_champion, [(url, each, start) for each in versions])


def assert_unbroken(database: Database) -> None:
    """Every change of the history starts from the champion that the one before it made; the last one is champion."""
    changes = database.registry.history()[::-1]
    assert [change.previous for change in changes] == [None, *(change.version for change in changes[:-1])]
    assert database.registry.champion() == changes[-1].version


def test_a_race_of_two_promotions_has_exactly_one_winner_every_time(
    url: str, open_more: Callable[..., Database]
) -> None:
    database = open_more(url)
    mine, others = ([register(database) for _ in range(12)] for _ in range(2))
    won = race(url, [*mine], [*others])
    assert [sum(results) for results in zip(*won, strict=True)] == [1] * 12
    winners = [one if first else other for one, other, first in zip(mine, others, won[0], strict=True)]
    assert [change.version for change in database.registry.history()] == winners[::-1]
    assert_unbroken(database)
    assert database.registry.rollback(NOW) == winners[-2], "one call goes back after a race as after any promotion"
    assert database.registry.rollback(NOW) == winners[-3]
    assert_unbroken(database)


def test_a_rollback_beside_a_promotion_leaves_an_unbroken_line(url: str, open_more: Callable[..., Database]) -> None:
    database = open_more(url)
    first, second = register(database), register(database)
    database.registry.promote(first, expected=None, reason="first", now=NOW)
    database.registry.promote(second, expected=first, reason="better", now=NOW)
    versions = [register(database) for _ in range(12)]
    promoted, rolled_back = race(url, [*versions], [None] * 12)
    assert all(one or other for one, other in zip(promoted, rolled_back, strict=True)), (
        "one of them always gets through"
    )
    assert len(database.registry.history()) == 2 + sum(promoted) + sum(rolled_back)
    assert_unbroken(database)
