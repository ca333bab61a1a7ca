import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from jobs.catalog import CATALOG, timetable
from jobs.commands import NAMES
from jobs.cron import name_weekdays, split_cron
from jobs.schedule import LEASE, Schedule, last_due, next_due, read_cron
from pipeline.errors import ConfigError, Unavailable
from pipeline.settings import Settings
from tests.unit.jobs.fakes import FakeLedger

PATIENCE = 60.0
YEARLY = "0 0 1 1 *"
SHORT = 0.3  # seconds of a lease, for tests that wait for its end


def real_clock() -> int:
    return time.time_ns() // 1000


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Recorder:
    """Fires as the runner does: begin in the ledger, then work until `halt` if told to."""

    def __init__(self, ledger: FakeLedger, owner: str, *, busy: bool = False) -> None:
        self.ledger, self.owner, self.busy = ledger, owner, busy
        self.fired: list[str] = []
        self.halted = 0

    def __call__(self, job: str, due: int, halt: threading.Event) -> None:
        self.fired.append(job)
        run = self.ledger.begin(job, due, self.owner, real_clock())
        if run is None:
            return
        if self.busy:
            assert halt.wait(PATIENCE)
            self.halted += 1
        self.ledger.finish(run, "ok", "done", real_clock())


@contextmanager
def serving(
    ledger: FakeLedger, fire: Recorder, cron: str = YEARLY, lease: float = PATIENCE
) -> Iterator[threading.Event]:
    stop = threading.Event()
    schedule = Schedule({"retrain": cron}, ledger, fire, real_clock, fire.owner, lease)
    thread = threading.Thread(target=schedule.serve, args=(stop,))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_two_schedulers_on_one_ledger_run_a_job_once() -> None:
    ledger = FakeLedger()
    one, other = Recorder(ledger, "one"), Recorder(ledger, "other")
    with serving(ledger, one, "* * * * *"), serving(ledger, other, "* * * * *"):
        wait_until(lambda: any(run.outcome == "ok" for run in ledger.rows))
        holder = ledger.leases[LEASE][0]
    idle = other if holder == "one" else one
    assert {run.owner for run in ledger.rows} == {holder}
    assert idle.fired == []
    assert len({run.scheduled_for for run in ledger.rows}) == len(ledger.rows)


def test_a_scheduler_that_ends_gives_the_lease_back_and_another_takes_over() -> None:
    ledger = FakeLedger()
    one, other = Recorder(ledger, "one"), Recorder(ledger, "other")
    with serving(ledger, one):
        wait_until(lambda: len(one.fired) == 1)
    assert ledger.leases[LEASE] == ("one", 1, 0)
    with serving(ledger, other):
        wait_until(lambda: len(other.fired) == 1)
        assert ledger.leases[LEASE][:2] == ("other", 2)
    assert [run.owner for run in ledger.rows] == ["one"]  # the run that was due has been run


def test_a_dead_schedulers_lease_is_taken_over_when_it_expires() -> None:
    ledger = FakeLedger()
    expires = real_clock() + 500_000
    ledger.leases[LEASE] = ("dead", 7, expires)
    with serving(ledger, Recorder(ledger, "heir"), lease=SHORT):
        wait_until(lambda: ledger.leases[LEASE][0] == "heir")
        assert ledger.leases[LEASE][1] >= 8
        assert real_clock() >= expires


def test_a_missed_run_is_run_once_at_the_start() -> None:
    ledger = FakeLedger()
    for _ in range(2):
        fire = Recorder(ledger, "one")
        with serving(ledger, fire):
            wait_until(lambda fire=fire: len(fire.fired) == 1)
    new_year = datetime(datetime.now(UTC).year, 1, 1, tzinfo=UTC)
    assert [run.scheduled_for for run in ledger.rows] == [round(new_year.timestamp() * 1e6)]


def test_a_lost_lease_stops_the_running_job() -> None:
    ledger = FakeLedger()
    fire = Recorder(ledger, "one", busy=True)
    with serving(ledger, fire, lease=SHORT):
        wait_until(lambda: bool(ledger.rows))
        with ledger.lock:
            ledger.leases[LEASE] = ("thief", 9, real_clock() + 3_600_000_000)
        wait_until(lambda: fire.halted == 1)
        assert ledger.leases[LEASE][0] == "thief"


def test_a_lease_that_is_renewed_outlives_its_seconds_and_the_end_stops_the_job() -> None:
    ledger = FakeLedger()
    fire = Recorder(ledger, "one", busy=True)
    with serving(ledger, fire, lease=2.0):
        wait_until(lambda: bool(ledger.rows))
        first = ledger.leases[LEASE][2]
        wait_until(lambda: real_clock() > first)
        assert ledger.leases[LEASE][1] == 1
        assert fire.halted == 0
    assert fire.halted == 1


def test_a_database_that_is_away_is_waited_for() -> None:
    ledger = FakeLedger(away=True)
    fire = Recorder(ledger, "one")
    with serving(ledger, fire, lease=SHORT):
        time.sleep(0.2)
        assert fire.fired == []
        ledger.away = False
        wait_until(lambda: len(ledger.rows) == 1)


def test_a_database_that_stays_away_longer_than_the_lease_ends_the_duty() -> None:
    ledger = FakeLedger()
    fire = Recorder(ledger, "one", busy=True)
    with serving(ledger, fire, lease=SHORT):
        wait_until(lambda: bool(ledger.rows))
        ledger.away = True
        wait_until(lambda: fire.halted == 1)
        ledger.away = False


def test_a_due_run_waits_for_a_database_that_is_away_for_a_moment() -> None:
    ledger = FakeLedger()
    fire = Recorder(ledger, "one")
    begin, failures = ledger.begin, iter([True, False])

    def fail_once(job: str, due: int, owner: str, now: int) -> int | None:
        if next(failures):
            raise Unavailable("away for a moment")
        return begin(job, due, owner, now)

    ledger.begin = fail_once  # type: ignore[method-assign]
    with serving(ledger, fire, lease=SHORT):
        wait_until(lambda: any(run.outcome == "ok" for run in ledger.rows))


def test_silent_runs_are_marked_lost_on_duty() -> None:
    ledger = FakeLedger()
    ledger.begin("retrain", 1, "dead", 1)
    with serving(ledger, Recorder(ledger, "one")):
        wait_until(lambda: ledger.rows[0].outcome == "lost")


def at(text: str) -> int:
    return round(datetime.fromisoformat(text + "+00:00").timestamp() * 1e6)


@pytest.mark.parametrize(
    ("cron", "now", "last", "following"),
    [
        ("17 3 * * *", "2026-06-10T03:16:59", "2026-06-09T03:17:00", "2026-06-10T03:17:00"),
        ("17 3 * * *", "2026-06-10T03:17:00", "2026-06-10T03:17:00", "2026-06-11T03:17:00"),
        ("* * * * *", "2026-06-10T12:00:30", "2026-06-10T12:00:00", "2026-06-10T12:01:00"),
        ("0 0 * * 0", "2026-06-10T12:00:00", "2026-06-07T00:00:00", "2026-06-14T00:00:00"),
        ("0 0 1 * *", "2026-06-10T12:00:00", "2026-06-01T00:00:00", "2026-07-01T00:00:00"),
        ("0 0 1 1 *", "2026-06-10T12:00:00", "2026-01-01T00:00:00", "2027-01-01T00:00:00"),
    ],
)
def test_the_last_and_the_next_due_time(cron: str, now: str, last: str, following: str) -> None:
    assert last_due(read_cron(cron), at(now)) == at(last)
    assert next_due(read_cron(cron), at(now)) == at(following)


def test_a_day_that_comes_every_four_years_may_have_no_due_time() -> None:
    assert last_due(read_cron("0 0 29 2 *"), at("2026-06-10T00:00:00")) is None


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("*", "*"),
        ("0", "sun"),
        ("7", "sun"),
        ("1-5", "mon,tue,wed,thu,fri"),
        ("5-7", "sun,fri,sat"),
        ("fri-mon", "sun,mon,fri,sat"),
        ("*/3", "sun,wed,sat"),
        ("1-5/2", "mon,wed,fri"),
        ("SUN,Wednesday", "sun,wed"),
    ],
)
def test_weekdays_are_those_of_cron_not_those_of_apscheduler(field: str, expected: str) -> None:
    assert name_weekdays(field) == expected


@pytest.mark.parametrize("text", ["", "* * * *", "61 * * * *", "x * * * *", "0 0 * * 8", "0 0 * * foo", "0 0 * * 1-"])
def test_a_bad_cron_expression_is_the_operators_business(text: str) -> None:
    with pytest.raises(ConfigError, match="cron"):
        read_cron(text)


def test_fields_keep_their_names() -> None:
    assert split_cron("1 2 3 4 5") == {
        "minute": "1",
        "hour": "2",
        "day": "3",
        "month": "4",
        "day_of_week": "fri",
    }


def test_a_job_without_a_cron_expression_is_off() -> None:
    assert timetable(Settings(jobs={"retrain": None, "retention": None})) == {}
    assert timetable(Settings()) == {"retrain": "17 3 * * *", "retention": "47 4 * * *"}
    assert tuple(CATALOG) == NAMES
