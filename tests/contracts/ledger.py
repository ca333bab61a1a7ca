"""The ledger of jobs: leases, requests, runs."""

from pipeline.database import Database
from tests.contracts.rows import HOUR, NOW, START, at_once


class LedgerContract:
    """Leases and runs."""

    def test_a_lease_is_taken_over_after_it_expired_with_a_higher_epoch(self, database: Database) -> None:
        ledger = database.ledger
        assert ledger.acquire("scheduler", "a", NOW, 30) == 1
        assert ledger.acquire("scheduler", "b", NOW + 29_999_999, 30) is None
        assert ledger.renew("scheduler", "a", 1, NOW + 29_999_999, 30)
        assert ledger.acquire("scheduler", "b", NOW + 30_000_000, 30) is None
        assert ledger.acquire("scheduler", "b", NOW + 60_000_000, 30) == 2
        assert not ledger.renew("scheduler", "a", 1, NOW + 60_000_001, 30)
        ledger.release("scheduler", "a", 1)
        assert ledger.acquire("scheduler", "c", NOW + 60_000_002, 30) is None
        ledger.release("scheduler", "b", 2)
        assert ledger.acquire("scheduler", "c", NOW + 60_000_003, 30) == 3

    def test_a_lease_that_stayed_the_same_is_taken_whatever_its_expiry_and_a_renewed_one_is_not(
        self, database: Database
    ) -> None:
        ledger, ahead = database.ledger, NOW + 3_600_000_000
        assert ledger.holding("scheduler") is None
        assert ledger.acquire("scheduler", "a", ahead, 30) == 1
        seen = ledger.holding("scheduler")
        assert seen == ("a", 1, ahead + 30_000_000)
        assert ledger.acquire("scheduler", "b", NOW, 30) is None
        assert ledger.renew("scheduler", "a", 1, ahead + 10_000_000, 30)
        assert ledger.acquire("scheduler", "b", NOW, 30, silent=seen) is None
        silent = ledger.holding("scheduler")
        won = at_once(*(lambda o=str(i): ledger.acquire("scheduler", o, NOW, 30, silent=silent) for i in range(4)))
        assert sorted(won, key=str) == [2, *[None] * 3]
        assert not ledger.renew("scheduler", "a", 1, ahead + 20_000_000, 30)

    def test_of_two_that_take_a_lease_at_once_one_gets_it(self, database: Database) -> None:
        won = at_once(*(lambda owner=str(i): database.ledger.acquire("x", owner, NOW, 30) for i in range(6)))
        assert sorted(won, key=str) == [1, *[None] * 5]

    def test_a_due_run_begins_once(self, database: Database) -> None:
        ledger = database.ledger
        won = at_once(*(lambda owner=str(i): ledger.begin("retrain", START, owner, NOW) for i in range(4)))
        assert len([run for run in won if run is not None]) == 1
        assert ledger.begin("retrain", START, "late", NOW) is None
        assert ledger.begin("retrain", START + HOUR, "next", NOW) is not None

    def test_a_run_is_known_by_its_cause_and_while_it_runs_by_its_job(self, database: Database) -> None:
        ledger = database.ledger
        assert not ledger.caused("retrain", "drift")
        ledger.request("retrain", "drift", NOW)
        assert not ledger.caused("retrain", "drift"), "it has not begun"
        run = ledger.begin_requested("retrain", "me", NOW)
        assert run is not None
        assert ledger.caused("retrain", "drift")
        assert ledger.caused("retrain", "another")
        assert not ledger.caused("monitor", "drift")
        ledger.finish(run, "failed", None, NOW)
        assert ledger.caused("retrain", "drift")
        assert not ledger.caused("retrain", "another")

    def test_a_request_waits_once_and_becomes_one_run_with_its_reason(self, database: Database) -> None:
        ledger = database.ledger
        assert ledger.begin_requested("retrain", "me", NOW) is None
        asked = at_once(*(lambda i=i: ledger.request("retrain", f"drift {i}", START) for i in range(4)))
        assert sorted(asked) == [False, False, False, True]
        assert ledger.request("calibrate", "coverage", START - 1)
        assert ledger.requested() == ["calibrate", "retrain"]
        won = at_once(*(lambda owner=str(i): ledger.begin_requested("retrain", owner, NOW) for i in range(4)))
        assert len([run for run in won if run is not None]) == 1
        (run,) = ledger.runs("retrain")
        assert (run.scheduled_for, run.cause) == (START, f"drift {asked.index(True)}")
        assert ledger.requested() == ["calibrate"]
        assert ledger.request("retrain", "again", START)
        assert ledger.begin_requested("retrain", "me", NOW) is None, "the job has run for that microsecond"
        assert ledger.requested() == ["calibrate"]
        assert ledger.begin("retrain", START + HOUR, "me", NOW) is not None
        assert ledger.runs("retrain", 1)[0].cause is None

    def test_a_run_beats_progresses_and_ends_once(self, database: Database) -> None:
        ledger = database.ledger
        run = ledger.begin("retrain", START, "me", NOW)
        assert run is not None
        assert ledger.heartbeat(run, NOW + 5, {"step": 3})
        assert ledger.heartbeat(run, NOW + 6, None)
        assert ledger.finish(run, "failed", "out of memory", NOW + 9, exit_code=-9, log="allocating\n")
        assert not ledger.finish(run, "ok", None, NOW + 10)
        assert not ledger.heartbeat(run, NOW + 11, None)
        row = ledger.last("retrain")
        assert row is not None
        assert (row.outcome, row.reason, row.progress, row.heartbeat_at, row.finished_at) == (
            "failed",
            "out of memory",
            {"step": 3},
            NOW + 6,
            NOW + 9,
        )
        assert (row.exit_code, ledger.log(run), ledger.log(run + 1)) == (-9, "allocating\n", None)

    def test_a_paused_job_is_held_until_it_is_resumed_and_so_is_what_was_due_before(self, database: Database) -> None:
        ledger = database.ledger
        assert not ledger.held("retrain", START)
        assert not ledger.resume("retrain", NOW)
        paused = at_once(*(lambda by=str(i): ledger.pause("retrain", by, "holidays", NOW) for i in range(4)))
        assert sorted(paused) == [False, False, False, True]
        (pause,) = ledger.pauses().values()
        assert (pause.paused_by, pause.reason) == (str(paused.index(True)), "holidays")
        assert ledger.held("retrain", NOW - HOUR)
        assert ledger.held("retrain", NOW + HOUR)
        assert ledger.held("retrain", None)
        assert not ledger.held("calibrate", NOW)

        assert ledger.resume("retrain", NOW + 5)
        assert not ledger.resume("retrain", NOW + 6)
        assert ledger.pauses() == {}
        assert ledger.held("retrain", NOW + 4)
        assert not ledger.held("retrain", NOW + 5)
        assert not ledger.held("retrain", None)
        assert ledger.pause("retrain", "me", None, NOW + 7)
        assert ledger.held("retrain", NOW + 9)

    def test_a_silent_run_is_lost_until_it_reports_after_all(self, database: Database) -> None:
        ledger = database.ledger
        silent = ledger.begin("retrain", START, "frozen", NOW)
        alive = ledger.begin("retrain", START + HOUR, "me", NOW)
        assert silent is not None
        assert alive is not None
        ledger.heartbeat(alive, NOW + 50_000_000, None)
        assert ledger.mark_lost(NOW + 61_000_000, 60) == 1
        assert ledger.mark_lost(NOW + 61_000_000, 60) == 0
        assert [run.outcome for run in ledger.runs("retrain")] == ["running", "lost"]
        assert ledger.heartbeat(silent, NOW + 62_000_000, None)  # it, or the clock, stood still
        row = ledger.runs("retrain")[1]
        assert (row.outcome, row.reason, row.finished_at) == ("running", None, None)
        assert ledger.mark_lost(NOW + 200_000_000, 60) == 2
        assert ledger.finish(silent, "ok", None, NOW + 203_000_000)
        assert not ledger.heartbeat(silent, NOW + 204_000_000, None)
        assert ledger.last("never") is None
