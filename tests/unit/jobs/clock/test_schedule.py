import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.catalog import timetable
from jobs.clock.lease import LEASE, Candidate
from jobs.clock.schedule import Duty, Schedule, checks_of, last_due, next_due, read_trigger
from jobs.clock.timetable import name_weekdays, split_cron
from pipeline.errors import ConfigError, Unavailable
from pipeline.health.heartbeat import Heartbeat
from pipeline.settings import Settings
from tests.unit.jobs.fakes import START, FakeLedger

PATIENCE = 60.0
YEARLY = "0 0 1 1 *"
SECOND = 1_000_000
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

    def __init__(self, ledger: FakeLedger, owner: str, *, busy: bool = False, seconds: float = 0.0) -> None:
        self.ledger, self.owner, self.busy, self.seconds = ledger, owner, busy, seconds
        self.fired: list[str] = []
        self.halted = 0
        self.go_on = threading.Event()

    def __call__(self, job: str, due: int | None, halt: threading.Event) -> None:
        self.fired.append(job)
        if due is None:
            run = self.ledger.begin_requested(job, self.owner, real_clock())
        else:
            run = self.ledger.begin(job, due, self.owner, real_clock())
        if run is None:
            return
        if self.busy:
            wait_until(lambda: halt.is_set() or self.go_on.is_set())
            self.halted += halt.is_set()
        halt.wait(self.seconds)
        self.ledger.finish(run, "ok", "done", real_clock())


class HeldLedger(FakeLedger):
    """Another scheduler holds the lease, and renews it whenever one looks."""

    def holding(self, name: str) -> tuple[str, int, int] | None:
        with self._reach():
            return ("another", 1, real_clock() + 3600 * SECOND)

    def acquire(self, *args: Any, **options: Any) -> int | None:
        with self._reach():
            return None


@contextmanager
def serving(
    ledger: FakeLedger, fire: Recorder, cron: str | None = YEARLY, lease: float = PATIENCE
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
    with serving(ledger, Recorder(ledger, "heir"), lease=1.0):
        wait_until(lambda: ledger.leases[LEASE][0] == "heir")
        assert ledger.leases[LEASE][1] >= 8
        assert real_clock() >= expires


def test_a_lease_that_a_clock_ahead_of_ours_has_left_behind_is_taken_after_its_length() -> None:
    ledger = FakeLedger()
    ledger.leases[LEASE] = ("dead, an hour ahead", 7, real_clock() + 3_600_000_000)
    with serving(ledger, Recorder(ledger, "heir"), lease=SHORT):
        wait_until(lambda: ledger.leases[LEASE][:2] == ("heir", 8))


def test_a_lease_is_not_taken_from_a_holder_that_renews_it_by_a_clock_ahead_of_ours() -> None:
    ledger, seconds, ahead = FakeLedger(), [0.0], 3_600_000_000
    assert ledger.acquire(LEASE, "an hour ahead", START + ahead, 30.0) == 1
    candidate = Candidate(ledger, "heir", lambda: START, 30.0, lambda: seconds[0])
    for turn in range(1, 20):
        seconds[0] += 10.0
        assert candidate.ask() is None
        assert ledger.renew(LEASE, "an hour ahead", 1, START + ahead + turn * 10_000_000, 30.0)
    asked = [candidate.ask()]
    while asked[-1] is None:
        seconds[0] += 10.0
        asked.append(candidate.ask())
    assert asked == [None, None, None, 2], "three thirds of the lease after the last renewal that it saw"


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
        assert ledger.leases[LEASE][1] >= 9


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


@pytest.mark.parametrize("on_duty", [True, False])
def test_a_scheduler_is_ready_while_its_database_answers_on_duty_or_not(on_duty: bool) -> None:
    ledger, seconds = FakeLedger() if on_duty else HeldLedger(), [1000.0]
    ledger.away = True
    heartbeat = Heartbeat(("database",), lambda: seconds[0])
    schedule = Schedule({"retrain": None}, ledger, Recorder(ledger, "one"), real_clock, "one", SHORT, heartbeat)
    checks, stop = checks_of(schedule, 30.0), threading.Event()

    def silent() -> bool:
        seconds[0] += 35.0
        return "the database has not answered for" in " ".join(checks.find_unready())

    seconds[0] += 45.0
    assert checks.find_unready() == [
        "the loop has not turned for 45 s",
        "the database has not answered yet, for 45 s",
    ]
    thread = threading.Thread(target=schedule.serve, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: checks.find_unready() == ["the database has not answered yet, for 45 s"])
        ledger.away = False
        wait_until(lambda: checks.find_unready() == [])
        assert (ledger.leases.get(LEASE, ("another",))[0] == "one") == on_duty
        ledger.away = True
        wait_until(silent)
    finally:
        ledger.away = False
        stop.set()
        thread.join(PATIENCE)
    heartbeat.beat()
    seconds[0] += 1000.0
    assert checks.find_unwell() == ["the loop has not turned for 1000 s"]


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


def test_a_job_that_is_asked_for_runs_at_once_and_once_also_when_it_is_off() -> None:
    ledger = FakeLedger()
    one, other = Recorder(ledger, "one"), Recorder(ledger, "other")
    with serving(ledger, one, None, lease=SHORT), serving(ledger, other, None, lease=SHORT):
        assert ledger.request("retrain", "drift of meter-7", START)
        assert ledger.request("unknown", "a later release's job", START)
        wait_until(lambda: any(run.outcome == "ok" for run in ledger.rows))
        time.sleep(SHORT)
    assert [(run.job, run.scheduled_for, run.cause) for run in ledger.rows] == [("retrain", START, "drift of meter-7")]
    assert ledger.requested() == ["unknown"]


def test_a_job_that_is_asked_for_while_it_runs_waits_for_its_end() -> None:
    ledger = FakeLedger()
    fire = Recorder(ledger, "one", busy=True)
    with serving(ledger, fire, lease=SHORT):
        wait_until(lambda: bool(ledger.rows))
        ledger.request("retrain", "drift", real_clock())
        time.sleep(SHORT)
        assert (len(ledger.rows), ledger.requested()) == (1, ["retrain"])
        fire.go_on.set()
        wait_until(lambda: len(ledger.rows) == 2)
        assert ledger.rows[0].outcome == "ok"


def test_a_job_that_is_always_due_again_when_it_ends_runs_what_is_asked_for_next() -> None:
    ledger = FakeLedger()
    with serving(ledger, Recorder(ledger, "one", seconds=1.5), "every 1s", lease=SHORT):
        wait_until(lambda: len(ledger.rows) == 2)
        ledger.request("retrain", "drift", real_clock())
        wait_until(lambda: len(ledger.rows) == 4)
    assert [run.cause for run in ledger.rows[:4]] == [None, None, "drift", None]


def test_a_paused_job_is_not_started_and_what_was_due_meanwhile_is_not_made_up_for() -> None:
    ledger = FakeLedger()
    ledger.pause("retrain", "me", None, real_clock())
    with serving(ledger, Recorder(ledger, "one"), lease=SHORT):
        ledger.request("retrain", "drift", START)
        time.sleep(2 * SHORT)
        assert (ledger.rows, ledger.requested()) == ([], ["retrain"])
        ledger.resume("retrain", real_clock())
        wait_until(lambda: any(run.outcome == "ok" for run in ledger.rows))
    with serving(ledger, Recorder(ledger, "two"), lease=SHORT):
        time.sleep(2 * SHORT)
    assert [run.cause for run in ledger.rows] == ["drift"]


def test_a_scheduler_that_was_frozen_goes_on_when_nobody_was_on_duty_since() -> None:
    ledger = FakeLedger()
    fire = Recorder(ledger, "one", busy=True)
    with serving(ledger, fire, lease=SHORT):
        wait_until(lambda: bool(ledger.rows))
        with ledger.lock:
            ledger.leases[LEASE] = ("one", 1, 0)
        wait_until(lambda: ledger.leases[LEASE][1] == 2)
        wait_until(lambda: ledger.leases[LEASE][2] > real_clock())
        assert fire.halted == 0
        with ledger.lock:
            ledger.leases[LEASE] = ("other", 3, 0)  # it came and went
        wait_until(lambda: fire.halted == 1)
    assert len(ledger.rows) == 1


def test_an_expired_lease_starts_nothing() -> None:
    ledger = FakeLedger()
    fire = Recorder(ledger, "one")
    schedule = Schedule({"retrain": YEARLY}, ledger, fire, real_clock, "one", SHORT)
    ledger.leases[LEASE] = ("other", 2, real_clock() + 3_600_000_000)
    duty = Duty(1, {"retrain": threading.Lock()})
    schedule._fire_last("retrain", read_trigger(YEARLY), duty)
    assert duty.halt.is_set()
    assert fire.fired == []


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
        ("every 6h", "2026-06-10T05:59:59", "2026-06-10T00:00:00", "2026-06-10T06:00:00"),
        ("every 6h", "2026-06-10T06:00:00", "2026-06-10T06:00:00", "2026-06-10T12:00:00"),
        ("every 7 days", "2026-06-10T12:00:00", "2026-06-04T00:00:00", "2026-06-11T00:00:00"),
        ("Every  90s", "2026-06-10T12:00:01", "2026-06-10T12:00:00", "2026-06-10T12:01:30"),
    ],
)
def test_the_last_and_the_next_due_time(cron: str, now: str, last: str, following: str) -> None:
    assert last_due(read_trigger(cron), at(now)) == at(last)
    assert next_due(read_trigger(cron), at(now)) == at(following)


def test_a_day_that_comes_every_four_years_may_have_no_due_time() -> None:
    assert last_due(read_trigger("0 0 29 2 *"), at("2026-06-10T00:00:00")) is None


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
        read_trigger(text)


@pytest.mark.parametrize("text", ["every", "every now and then", "every 0s", "every -1h", "every 1.5s", "every 1ms"])
def test_a_bad_interval_is_the_operators_business(text: str) -> None:
    with pytest.raises(ConfigError, match=r"interval|cron"):
        read_trigger(text)


MOMENT = st.integers(at("1999-01-01T00:00:00") // SECOND, at("2099-01-01T00:00:00") // SECOND)


@given(seconds=st.integers(1, 31 * 86_400), moment=MOMENT)
def test_an_interval_is_due_at_every_multiple_since_1970_and_at_nothing_else(seconds: int, moment: int) -> None:
    trigger = read_trigger(f"every {seconds}s")
    assert last_due(trigger, moment * SECOND + 1) == moment // seconds * seconds * SECOND
    assert next_due(trigger, moment * SECOND + 1) == (moment // seconds + 1) * seconds * SECOND
    previous = datetime.fromtimestamp(moment, UTC)
    following = trigger.get_next_fire_time(previous, previous)
    assert 0 < (following - previous).total_seconds() <= seconds


FIELD = st.sampled_from(["*", "*/2", "*/5", "1-3", "2,3", "0"])


@given(minute=FIELD, hour=FIELD, weekday=FIELD, moment=MOMENT)
def test_a_cron_expression_is_due_when_each_field_says_so_and_never_else(
    minute: str, hour: str, weekday: str, moment: int
) -> None:
    trigger = read_trigger(f"{minute} {hour} * * {weekday}")

    def due(time: datetime) -> bool:
        fields = ((minute, time.minute, 60), (hour, time.hour, 24), (weekday, time.isoweekday() % 7, 7))
        return all(value in values(field, top) for field, value, top in fields)

    last, following = last_due(trigger, moment * SECOND), next_due(trigger, moment * SECOND)
    assert last is not None
    assert following is not None
    assert last <= moment * SECOND < following
    assert due(datetime.fromtimestamp(last // SECOND, UTC))
    assert due(datetime.fromtimestamp(following // SECOND, UTC))
    between = range(last // SECOND + 60, following // SECOND, 60)
    assert not any(due(datetime.fromtimestamp(second, UTC)) for second in between)


def values(field: str, top: int) -> set[int]:
    """Spell out a field of a cron expression with numbers below `top`."""
    if field.startswith("*"):
        return set(range(0, top, int(field[2:] or 1)))
    if "-" in field:
        return set(range(int(field[0]), int(field[2]) + 1))
    return {int(value) for value in field.split(",")}


def test_fields_keep_their_names() -> None:
    assert split_cron("1 2 3 4 5") == {
        "minute": "1",
        "hour": "2",
        "day": "3",
        "month": "4",
        "day_of_week": "fri",
    }


def test_a_job_without_a_cron_expression_is_off() -> None:
    assert timetable(Settings(jobs={"retrain": None}))["retrain"] is None
    assert timetable(Settings()) == {
        "retrain": "17 3 * * *",
        "monitor": "*/5 * * * *",
        "calibrate": "47 * * * *",
        "retention": "47 4 * * *",
        "promote": "32 * * * *",
    }


def test_a_clock_that_only_a_job_has_seen_ahead_is_followed_back() -> None:
    ledger, shown = FakeLedger(), [START]
    fired: list[int | None] = []
    schedule = Schedule(
        {"retrain": "every 1s"}, ledger, lambda _, due, __: fired.append(due), lambda: shown[0], "one", 60
    )
    epoch = Candidate(ledger, "one", lambda: shown[0], 60).ask()
    assert epoch is not None
    duty, planned = Duty(epoch, {"retrain": threading.Lock()}, latest=START), []
    shown[0] = START + 3600 * SECOND
    schedule._run_last("retrain", read_trigger("every 1s"), duty)
    shown[0] = START + SECOND
    schedule._follow_clock(duty, lambda: planned.append(True))
    assert fired == [START + 3600 * SECOND]
    assert planned == [True], "or APScheduler would wait for an hour"
