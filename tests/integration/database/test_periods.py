"""PostgreSQL's partitions of forecasts: made ahead, thinned as a whole, and nobody who uses them notices."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import numpy as np
import psycopg
import pytest
from psycopg import sql
from psycopg.errors import AdminShutdown, InsufficientPrivilege
from sqlalchemy import text

from jobs.upkeep.retention import clear_out
from pipeline.columns import concat
from pipeline.database import Database, SqlStore, open_database
from pipeline.database.engine import reading
from pipeline.database.jobs import periods
from pipeline.database.jobs.pruned import read_pruned
from pipeline.database.schema.grants import grant_work
from pipeline.database.transfer import _snapshot
from pipeline.errors import Unavailable
from pipeline.records import Claim, Forecasts
from pipeline.settings import Settings
from tests.contracts.rows import HOUR, NOW, START, at_once, turn_of
from tests.integration.database.conftest import PATIENCE, ROLE, THERE
from tests.integration.database.test_retention import DAY, hourly, of, run, stored

SMALL = 16_384  # bytes: what a partition of one page of rows has
LISTED = "SELECT name, lower_end::text, thinned FROM tidecast_periods() WHERE parent = 'packed_forecasts'"


def month_after(instant: int) -> int:
    day = datetime.fromtimestamp(instant / 1_000_000, UTC)
    following = datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=UTC)
    return int(following.timestamp()) * 1_000_000


BEGIN = month_after(int(time.time() * 1_000_000))
"""The first month after the one in which the database is made."""
SECOND = month_after(BEGIN)
THIRD = month_after(SECOND)
FIRST_HOUR = (BEGIN - START) // HOUR
LATER = THIRD + 40 * DAY
BY_DEFAULT = 35 * DAY


@pytest.fixture
def owner(postgresql: Any) -> str:
    """The address of a database of its own, for the role that owns it; another may work in it."""
    url: str = postgresql.upgraded_database()
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection, suppress(*THERE):
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(ROLE)))
    grant_work(url, ROLE)
    return url


@pytest.fixture
def database(owner: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """For the role that owns nothing; a partition of two pages is large."""
    monkeypatch.setattr(periods, "LARGE", SMALL)
    opened = open_database(owner.replace("://postgres@", f"://{quote(ROLE)}@"), timeout=PATIENCE)
    assert opened.retention.add_periods(BEGIN, LATER + 70 * DAY, "month")
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> SqlStore:
    return database.store("meters", "last", lambda: NOW)


@pytest.fixture
def session(owner: str) -> Iterator[Callable[[], psycopg.Connection[Any]]]:
    """Open sessions of the owner's beside the database's own."""
    opened: list[psycopg.Connection[Any]] = []

    def more() -> psycopg.Connection[Any]:
        opened.append(psycopg.connect(owner.replace("+psycopg", "")))
        return opened[-1]

    yield more
    for one in opened:
        one.close()


def issue(store: SqlStore, claim: Claim, made: list[Forecasts]) -> Claim:
    """Store forecasts by one turn, each of an offset of its own, which a later one shows to be published."""
    new = concat(made)
    stop = claim.next_offset + len(new)
    new.offset[:] = np.arange(claim.next_offset, stop)
    store.commit(turn_of(claim, stop, forecasts=new))
    store.commit(turn_of(Claim(claim.partition, claim.epoch, stop), stop + 1))
    return Claim(claim.partition, claim.epoch, stop + 1)


def hours(first: int, last: int) -> range:
    """Hours from one time to before another, as `hourly` counts them."""
    return range((first - START) // HOUR, (last - START) // HOUR)


def listed(database: Database) -> dict[str, tuple[str, bool]]:
    """The partitions of forecasts: where each begins (a date), and whether it is thinned."""
    return {row["name"]: (str(row["lower_end"])[:10], row["thinned"]) for row in database.reader.query(LISTED)}


def date(instant: int) -> str:
    return datetime.fromtimestamp(instant / 1_000_000, UTC).date().isoformat()


def named(instant: int) -> str:
    return f"packed_forecasts_{date(instant).replace('-', '_')}"


@pytest.mark.parametrize("seed", range(4))
def test_a_month_thinned_as_a_whole_is_what_its_rows_thinned_one_by_one_are(
    database: Database, store: SqlStore, seed: int, monkeypatch: pytest.MonkeyPatch, postgresql: Any
) -> None:
    random = np.random.default_rng(seed)
    address: str = postgresql.upgraded_database()
    other = open_database(address, timeout=PATIENCE)
    twin = other.store("meters", "last", lambda: NOW)
    made: list[list[Forecasts]] = []
    for name in ("a", "b", "silent"):
        own, also = of(store, name), of(twin, name)
        assert own == also
        until = SECOND - 2 * DAY if name == "silent" else THIRD
        some = [hour for hour in hours(BEGIN - 3 * DAY, until) if random.random() < 0.5]
        made.append(hourly(name, own, some, issued=int(random.integers(2)) * (LATER - NOW - HOUR)))
        made.append(hourly(name, own, some[::3], version=2))
    claims = [one.claim(0, "me") for one in (store, twin)]
    for part in made:
        claims = [issue(one, claim, part) for one, claim in zip((store, twin), claims, strict=True)]
    for now in (THIRD + BY_DEFAULT - DAY, LATER, SECOND + 401 * DAY, THIRD + 440 * DAY):
        monkeypatch.setattr(periods, "LARGE", SMALL)
        as_a_whole = run(database, now)
        monkeypatch.setattr(periods, "LARGE", 1 << 40)
        one_by_one = run(other, now)
        if now == LATER or now == THIRD + 440 * DAY:  # no month is waited for
            assert stored(database) == stored(other)
        assert as_a_whole.keys() == one_by_one.keys()
    other.close()


def test_of_a_large_month_nothing_goes_until_all_of_it_is_old(database: Database, store: SqlStore) -> None:
    issue(store, store.claim(0, "me"), hourly("a", of(store, "a"), hours(BEGIN, THIRD)))
    now = SECOND + BY_DEFAULT - 5 * DAY
    assert run(database, now) == {}, "all but five days of the first month are old"
    before = len(stored(database))
    deleted = run(database, now + 10 * DAY)
    days = (SECOND - BEGIN) // DAY
    assert deleted == {"forecasts": days * 23}
    assert len(stored(database)) == before - days * 23
    assert [thinned for _, thinned in listed(database).values()].count(True) == 1
    assert listed(database)[named(BEGIN)] == (date(BEGIN), True)
    assert run(database, now + 10 * DAY) == {}
    with reading(database.engine) as connection:
        assert read_pruned(connection) >= SECOND


def test_where_forecasts_are_kept_for_less_than_a_month_none_waits_for_it(database: Database, store: SqlStore) -> None:
    issue(store, store.claim(0, "me"), hourly("a", of(store, "a"), hours(BEGIN, BEGIN + 25 * DAY)))
    assert run(database, BEGIN + 25 * DAY, thin_forecasts="off", forecasts="7 days") == {"forecasts": 18 * 24}


def test_where_little_is_kept_a_day_goes_as_a_whole(
    owner: str, open_more: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periods, "LARGE", SMALL)
    database = open_more(owner)
    store = database.store("meters", "last", lambda: NOW)
    keep = {"thin_forecasts": "off", "forecasts": "6 days"}
    claim, own = store.claim(0, "me"), [of(store, name) for name in "abcd"]
    run(database, BEGIN - 2 * DAY, **keep)
    for day in range(15):
        some = hours(BEGIN + (day - 1) * DAY, BEGIN + day * DAY)
        claim = issue(
            store, claim, [one for place, name in enumerate("abcd") for one in hourly(name, own[place], some)]
        )
        run(database, BEGIN + day * DAY, **keep)
    kept = {hour for _, hour, _ in stored(database)}
    oldest = FIRST_HOUR + 14 * 24 - 6 * 24  # all but the newest six days may go
    assert FIRST_HOUR + 14 * 24 - 1 in kept
    assert oldest - 48 <= min(kept) <= oldest, "a day at most is waited for"
    assert len(kept) == FIRST_HOUR + 14 * 24 - min(kept)
    days = [begin for name, (begin, _) in listed(database).items() if name[-4:] not in ("past", "open")]
    assert date(BEGIN + 9 * DAY) in days
    assert date(BEGIN + 2 * DAY) not in days, "they joined the past"


def test_a_month_that_is_deleted_joins_the_past_with_what_stays_of_it(database: Database, store: SqlStore) -> None:
    claim = store.claim(0, "me")
    silent, a = of(store, "silent"), of(store, "a")
    claim = issue(store, claim, hourly("silent", silent, hours(BEGIN, BEGIN + 3 * DAY)))
    claim = issue(store, claim, hourly("a", a, hours(BEGIN, THIRD)))
    run(database, LATER)
    left = stored(database)
    assert len(left) == (THIRD - BEGIN) // DAY + 3 + 2, "each day's first, and of each series the newest"
    run(database, THIRD + 401 * DAY)
    assert set(stored(database)) == {("silent", FIRST_HOUR + 71, 1), ("a", hours(BEGIN, THIRD)[-1], 1)}
    partitions = listed(database)
    assert named(BEGIN) not in partitions, "it joined the past"
    claim = issue(store, claim, hourly("late", of(store, "late"), hours(BEGIN - DAY, BEGIN + DAY)))
    assert len([key for key in stored(database) if key[0] == "late"]) == 48
    assert [row["q50"] for row in database.reader.forecasts_latest("silent")] == [float(FIRST_HOUR + 71)] * 3


def test_rows_that_nobody_made_a_month_for_in_time_are_kept_in_a_longer_one(
    owner: str, open_more: Callable[..., Database]
) -> None:
    database = open_more(owner)
    store = database.store("meters", "last", lambda: NOW)
    claim = issue(store, store.claim(0, "me"), hourly("a", of(store, "a"), range(FIRST_HOUR, FIRST_HOUR + 24 * 70, 7)))
    before = stored(database)
    database.retention.add_periods(THIRD, THIRD + 70 * DAY, "month")
    partitions = listed(database)
    first = min(name for name in partitions if "_past" not in name)
    assert partitions[first][0] <= date(BEGIN)
    assert sorted(begin for begin, _ in partitions.values())[-1] >= date(THIRD + 70 * DAY)
    assert named(SECOND) not in partitions, "the open one reached to the end of the newest row's month"
    assert stored(database) == before
    issue(store, claim, hourly("a", of(store, "a"), range(FIRST_HOUR + 24 * 71, FIRST_HOUR + 24 * 72)))
    assert len(stored(database)) == len(before) + 24


def test_an_origin_of_the_far_future_makes_no_month_of_a_century(
    owner: str, open_more: Callable[..., Database]
) -> None:
    database = open_more(owner)
    store = database.store("meters", "last", lambda: NOW)
    issue(store, store.claim(0, "me"), hourly("a", of(store, "a"), [FIRST_HOUR + 24 * 365 * 100]))
    before = listed(database)
    database.retention.add_periods(BEGIN, THIRD, "month")
    assert listed(database) == before
    assert len(stored(database)) == 1


def test_who_reads_and_writes_for_a_moment_is_waited_for(
    database: Database, store: SqlStore, session: Callable[[], psycopg.Connection[Any]]
) -> None:
    claim = issue(store, store.claim(0, "me"), hourly("a", of(store, "a"), hours(BEGIN, THIRD)))
    beside = session()
    assert beside.execute("SELECT count(*) FROM packed_forecasts").fetchall()  # its transaction stays open
    free = threading.Timer(1.0, beside.rollback)
    free.start()
    assert run(database, LATER)["forecasts"] == 23 * ((THIRD - BEGIN) // DAY) - 1
    free.join()
    issue(store, claim, hourly("a", of(store, "a"), hours(THIRD, THIRD + DAY)))


def test_who_writes_into_the_month_makes_it_give_way_and_nobody_is_a_deadlocks_victim(
    database: Database, store: SqlStore, session: Callable[[], psycopg.Connection[Any]]
) -> None:
    issue(store, store.claim(0, "me"), hourly("a", of(store, "a"), hours(BEGIN, THIRD)))
    before = stored(database)
    beside = session()
    beside.execute("SELECT count(*) FROM packed_forecasts")  # holds the whole, so that the change has to wait
    copying = "SELECT count(*) FROM pg_locks l WHERE l.relation = %s::regclass AND l.mode = 'ShareLock' AND l.granted"
    deleted: list[dict[str, int]] = []
    job = threading.Thread(target=lambda: deleted.append(run(database, SECOND + BY_DEFAULT + 5 * DAY)))
    job.start()
    watching = session()
    while watching.execute(copying, [named(BEGIN)]).fetchone() == (0,):
        watching.rollback()
        time.sleep(0.01)
    moved = beside.execute("UPDATE packed_forecasts SET quality = quality WHERE origin < %s", [datetime.now(UTC)])
    assert moved.rowcount == 0
    beside.execute(sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(sql.Identifier(named(BEGIN))))
    beside.commit()
    job.join(60)
    assert deleted == [{}]
    assert stored(database) == before
    assert run(database, SECOND + BY_DEFAULT + 5 * DAY)["forecasts"] == 23 * ((SECOND - BEGIN) // DAY)


@pytest.mark.parametrize("held", ["packed_forecasts", "the period", "packed_forecasts_past"])
def test_who_uses_a_table_for_long_keeps_nobody_waiting_and_is_told_of(
    database: Database, store: SqlStore, session: Callable[[], psycopg.Connection[Any]], held: str
) -> None:
    claim = issue(store, store.claim(0, "me"), hourly("a", of(store, "a"), hours(BEGIN, THIRD)))
    before = stored(database)
    name = named(BEGIN) if held == "the period" else held
    beside = session()
    beside.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name)))  # stays open, as a backup does
    settings = Settings(series={"context": 4, "horizon": 3})  # type: ignore[arg-type]
    now = SECOND + BY_DEFAULT + 5 * DAY
    told: list[Any] = []

    def thin() -> None:
        told.append(clear_out(database.retention, settings, clock=lambda: now, on_stage=lambda _: None))

    job = threading.Thread(target=thin)
    job.start()
    for hour in hours(THIRD, THIRD + DAY):
        began = time.monotonic()
        claim = issue(store, claim, hourly("a", of(store, "a"), [hour]))
        assert time.monotonic() - began < PATIENCE / 2, "a worker waits for a moment at most"
    job.join(120)
    assert told[0].facts["left"] == [named(BEGIN)]
    assert f"left for the next run, since somebody used the table for long: {named(BEGIN)}" in told[0].reason
    assert set(before) <= set(stored(database))
    beside.rollback()
    assert run(database, now)["forecasts"] == 23 * ((SECOND - BEGIN) // DAY)


def test_a_copy_of_the_database_sees_every_forecast_of_its_snapshot(database: Database, store: SqlStore) -> None:
    issue(store, store.claim(0, "me"), hourly("a", of(store, "a"), hours(BEGIN, THIRD)))
    before = len(stored(database))
    with _snapshot(database.engine) as old:
        old.execute(text("SELECT 1"))
        assert run(database, LATER) == {}
        assert old.execute(text("SELECT count(*) FROM packed_forecasts")).scalar() == before
    assert run(database, LATER)["forecasts"] == 23 * ((THIRD - BEGIN) // DAY) - 1


def test_ended_in_the_middle_nothing_has_changed(
    database: Database, store: SqlStore, session: Callable[[], psycopg.Connection[Any]]
) -> None:
    issue(store, store.claim(0, "me"), hourly("a", of(store, "a"), hours(BEGIN, THIRD)))
    before, partitions = stored(database), listed(database)
    beside = session()
    beside.execute("SELECT count(*) FROM packed_forecasts")
    ended: list[str] = []

    def thin() -> None:
        try:
            run(database, LATER)
        except Unavailable as error:
            ended.append(str(error))

    job = threading.Thread(target=thin)
    job.start()
    killer = session()
    kill = "SELECT count(pg_terminate_backend(l.pid)) FROM pg_locks l WHERE l.relation = %s::regclass AND l.mode = %s"
    while killer.execute(kill, [named(BEGIN), "ShareLock"]).fetchone() == (0,):
        killer.rollback()
        time.sleep(0.01)
    job.join(60)
    assert ended and AdminShutdown.__name__ not in ended[0]
    beside.rollback()
    assert (stored(database), listed(database)) == (before, partitions)
    assert run(database, LATER)["forecasts"] == 23 * ((THIRD - BEGIN) // DAY) - 1


def test_a_worker_goes_on_beside_months_that_are_thinned(database: Database, store: SqlStore) -> None:
    a, b = of(store, "a"), of(store, "b")
    claim = issue(
        store, store.claim(0, "me"), hourly("a", a, hours(BEGIN, THIRD)) + hourly("b", b, hours(BEGIN, THIRD))
    )

    def work() -> None:
        mine = claim
        for hour in hours(THIRD, THIRD + 2 * DAY):
            mine = issue(store, mine, hourly("a", a, [hour]))

    at_once(work, lambda: run(database, LATER))
    run(database, LATER)
    kept = stored(database)
    assert len([key for key in kept if key[0] == "b"]) == (THIRD - BEGIN) // DAY + 1
    assert {hour for name, hour, _ in kept if name == "a" and hour >= (THIRD - START) // HOUR}


def test_two_runs_at_once_thin_a_month_once(database: Database, store: SqlStore) -> None:
    issue(store, store.claim(0, "me"), hourly("a", of(store, "a"), hours(BEGIN, THIRD)))
    results = at_once(lambda: run(database, LATER), lambda: run(database, LATER))
    for one in results:
        if not isinstance(one, dict):
            raise one
    run(database, LATER)
    assert len(stored(database)) == (THIRD - BEGIN) // DAY + 1


def test_the_role_may_change_no_partition_but_as_retention_does(owner: str, database: Database) -> None:
    with psycopg.connect(owner.replace("+psycopg", ""), user=ROLE, autocommit=True) as worker:
        for statement in (
            f"DROP TABLE {named(BEGIN)}",
            f"ALTER TABLE packed_forecasts DETACH PARTITION {named(BEGIN)}",
            "CREATE OR REPLACE FUNCTION tidecast_periods() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        ):
            with pytest.raises(InsufficientPrivilege):
                worker.execute(statement.encode())
        with pytest.raises(psycopg.DatabaseError):  # of a month that is not old, and of a table that is none
            worker.execute("SELECT tidecast_thin_period('series', now(), now(), now(), 0)")
        with pytest.raises(psycopg.DatabaseError):
            worker.execute("SELECT tidecast_thin_period(%s, now(), now(), now(), 0)", [named(SECOND)])
    with psycopg.connect(owner.replace("+psycopg", ""), autocommit=True) as connection:
        public = "SELECT has_function_privilege('pg_monitor', p.oid, 'EXECUTE') FROM pg_proc p WHERE p.proname = %s"
        assert connection.execute(public, ["tidecast_thin_period"]).fetchall() == [(False,)]
        assert connection.execute(public, ["tidecast_add_periods"]).fetchall() == [(False,)]
