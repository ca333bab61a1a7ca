"""The metrics of the jobs from real rows, scraped over HTTP, on both databases."""

import urllib.request
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from structlog.testing import capture_logs

from jobs.clock.schedule import LEASE
from jobs.upkeep.job_metrics import JobCollector
from jobs.upkeep.retention import clear_out
from pipeline.commands.opened import now as clock
from pipeline.database import Database
from pipeline.database.engine import reading, writing
from pipeline.database.jobs.evaluations import replace_days, sum_days
from pipeline.database.jobs.tallies import add_deleted, read_deleted
from pipeline.database.schema.instants import FIRST, LAST
from pipeline.database.schema.monitor_tables import evaluations
from pipeline.database.schema.tables import job_runs
from pipeline.health.probes import Checks, Probes, serving
from pipeline.job_facts import AccuracyFacts, LeaseFacts
from pipeline.settings import Settings
from tests.contracts.rows import NOW

SECOND = 1_000_000
DAY = 86_400 * SECOND
JOBS = ("retrain", "monitor", "calibrate", "retention")


def ran(database: Database, job: str, due: int, outcome: Any, seconds: int = 2, cause: str | None = None) -> None:
    run = database.ledger.begin(job, due, "me", due, cause=cause)
    assert run is not None
    assert database.ledger.finish(run, outcome, "words", due + seconds * SECOND)


ALL_DAYS = [FIRST, LAST]


def crown(database: Database, expected: int | None = None) -> int:
    version = database.registry.register(
        name="gru", config={}, metrics={}, train_from=None, train_to=None, seed=0, code="", artifact=b"x", now=NOW
    )
    assert database.registry.promote(version, expected=expected, reason="test", now=NOW + SECOND)
    return version


def evaluate(database: Database, day: date, version: int, horizon_from: int, series: int = 1, **sums: float) -> None:
    zero = {column.name: 0 for column in evaluations.c if not column.nullable and not column.primary_key}
    key = {"series_id": series, "model_version": version, "day": day, "horizon_from": horizon_from}
    with writing(database.engine) as connection:
        connection.execute(evaluations.insert().values(zero | key | sums))
        replace_days(connection, ALL_DAYS, sum_days(connection, ALL_DAYS))


def scrape(database: Database, now: int) -> dict[str, float]:
    """Scrape once over HTTP: samples by name{labels}."""
    periods = dict.fromkeys(JOBS, 3600.0)
    collector = JobCollector(lambda now: database.job_facts.read(JOBS, now), periods, lambda: now)
    probes = Probes("scheduler")
    probes.watch(Checks(list, list), collector)
    with serving("127.0.0.1:0", probes) as address, urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            each.name + "".join(f" {name}={value}" for name, value in sorted(each.labels.items())): each.value
            for family in families
            for each in family.samples
        }


def test_runs_are_counted_by_outcome_with_the_last_good_one_and_the_failures_since(database: Database) -> None:
    ran(database, "retrain", NOW, "ok", seconds=90)
    ran(database, "retrain", NOW + DAY, "failed")
    ran(database, "retrain", NOW + 2 * DAY, "timeout")
    silent = database.ledger.begin("monitor", NOW, "me", NOW)
    assert database.ledger.mark_lost(NOW + DAY, 180.0) == 1
    assert silent is not None
    database.ledger.begin("calibrate", NOW, "me", NOW)
    database.ledger.pause("retention", "me", None, NOW)
    database.ledger.request("retrain", "drift: errors", NOW)
    samples = scrape(database, NOW + 3 * DAY)
    for outcome in ("ok", "failed", "timeout", "lost"):
        count = samples[f"tidecast_job_runs_total job_name=retrain outcome={outcome}"]
        assert count == (1.0 if outcome != "lost" else 0.0)
    assert samples["tidecast_job_runs_total job_name=monitor outcome=lost"] == 1.0
    assert samples["tidecast_job_last_success_timestamp_seconds job_name=retrain"] == NOW / 1e6 + 90
    assert samples["tidecast_job_last_success_duration_seconds job_name=retrain"] == 90.0
    assert samples["tidecast_job_consecutive_failures job_name=retrain"] == 2.0
    assert samples["tidecast_job_consecutive_failures job_name=monitor"] == 1.0
    assert samples["tidecast_job_running job_name=calibrate"] == 1.0
    assert samples["tidecast_job_paused job_name=retention"] == 1.0
    assert samples["tidecast_job_requested job_name=retrain"] == 1.0
    assert "tidecast_job_last_success_timestamp_seconds job_name=monitor" not in samples


def test_each_run_is_counted_at_once_when_it_begins_and_ends_also_after_hundreds(database: Database) -> None:
    hundreds = [
        {"job": "monitor", "scheduled_for": NOW + n, "owner": "me", "outcome": "ok", "finished_at": NOW}
        | dict.fromkeys(("started_at", "heartbeat_at"), NOW)
        for n in range(150)
    ]
    with writing(database.engine) as connection:
        connection.execute(job_runs.insert(), hundreds)
    for n in range(2):
        due = NOW + (n + 1) * DAY
        run = database.ledger.begin("monitor", due, "me", due)
        assert run is not None
        facts = database.job_facts.read(JOBS, due).runs["monitor"]
        assert (facts.running, facts.endings["ok"]) == (1, 150 + n)
        database.ledger.finish(run, "ok", "words", due)
        facts = database.job_facts.read(JOBS, due).runs["monitor"]
        assert (facts.running, facts.endings["ok"], facts.failures) == (0, 151 + n, 0)
    lost = database.ledger.begin("monitor", NOW + 9 * DAY, "me", NOW)
    assert lost is not None
    database.ledger.mark_lost(NOW + 9 * DAY, 180.0)
    assert database.job_facts.read(JOBS, NOW).runs["monitor"].endings["lost"] == 1
    database.ledger.finish(lost, "failed", "words", NOW + 10 * DAY)
    facts = database.job_facts.read(JOBS, NOW).runs["monitor"]
    assert (facts.endings["lost"], facts.endings["failed"], facts.failures) == (0, 1, 1)


def test_what_retention_deletes_stays_counted_and_is_counted(database: Database) -> None:
    for day in range(5):
        ran(database, "retrain", NOW + day * DAY, "failed" if day % 2 else "ok")
    before = scrape(database, NOW + 900 * DAY)
    settings = Settings(retention={"job_runs": "400 days"})
    outcome = clear_out(
        database.retention, settings, clock=lambda: NOW + 900 * DAY, on_stage=lambda _: None, pause=lambda _: None
    )
    assert outcome.facts["deleted"]["job runs"] == 4
    assert len(database.ledger.runs()) == 1
    after = scrape(database, NOW + 900 * DAY)
    counts = {name: value for name, value in before.items() if name.startswith("tidecast_job_runs_total")}
    assert {name: after[name] for name in counts} == counts
    assert after["tidecast_job_runs_total job_name=retrain outcome=ok"] == 3.0
    assert after["tidecast_retention_deleted_rows_total table=job_runs"] == 4.0
    assert after["tidecast_retention_deleted_rows_total table=forecasts"] == 0.0


def test_a_count_of_deleted_rows_is_in_the_transaction_that_deletes_them(database: Database) -> None:
    with pytest.raises(KeyError), writing(database.engine) as connection:
        add_deleted(connection, "forecasts", 5)
        raise KeyError
    with writing(database.engine) as connection:
        add_deleted(connection, "forecasts", 7)
        add_deleted(connection, "forecasts", 0)
        add_deleted(connection, "job_runs", 2, [("retrain", "ok"), ("retrain", "ok")])
    with reading(database.engine) as connection:
        assert read_deleted(connection) == ({"forecasts": 7, "job_runs": 2}, {("retrain", "ok"): 2})


def test_the_lease_is_held_until_it_expires_or_is_given_back(database: Database) -> None:
    assert scrape(database, NOW)["tidecast_scheduler_lease_held"] == 0.0
    epoch = database.ledger.acquire(LEASE, "me", NOW, 30.0)
    assert database.job_facts.read(JOBS, NOW).lease == LeaseFacts(1, NOW + 30 * SECOND)
    samples = scrape(database, NOW + 29 * SECOND)
    assert samples["tidecast_scheduler_lease_held"] == 1.0
    assert samples["tidecast_scheduler_lease_expiry_timestamp_seconds"] == NOW / 1e6 + 30
    assert scrape(database, NOW + 30 * SECOND)["tidecast_scheduler_lease_held"] == 0.0
    assert epoch == samples["tidecast_scheduler_lease_acquisitions_total"] == 1.0
    database.ledger.release(LEASE, "me", 1)
    assert scrape(database, NOW)["tidecast_scheduler_lease_held"] == 0.0


def test_champion_calibration_and_drift_are_told_and_each_change_is_one_event(database: Database) -> None:
    assert "tidecast_champion_version" not in scrape(database, NOW)
    with capture_logs() as logs:
        first = crown(database)
        second = crown(database, first)
        assert not database.registry.promote(first, expected=99, reason="lost the race", now=NOW)
        database.registry.rollback(NOW + 9 * SECOND)
    told = [(each["event"], each["action"], each["version"], each["previous"]) for each in logs]
    assert told == [
        ("champion changed", "promote", first, None),
        ("champion changed", "promote", second, first),
        ("champion changed", "rollback", first, second),
    ]
    for version in (first, first, second):
        database.calibrations.record(version, between=(NOW, NOW), n=40 + version, factors=[[1.0]], metrics={}, now=NOW)
    database.states.replace("drift", 0, {"requests": 3, "asked_at": NOW, "waiting": "errors rose"})
    samples = scrape(database, NOW + DAY)
    assert samples[f"tidecast_champion_info model_version={first}"] == 1.0
    assert samples["tidecast_champion_promoted_timestamp_seconds"] == NOW / 1e6 + 9
    assert samples["tidecast_champion_created_timestamp_seconds"] == NOW / 1e6
    assert samples["tidecast_champion_changes_total action=promote"] == 2.0
    assert samples["tidecast_champion_changes_total action=rollback"] == 1.0
    assert samples["tidecast_calibration_version"] == 2.0, "the champion's newest, not the newest of all"
    assert samples["tidecast_calibration_matured_steps"] == 40.0 + first
    assert samples["tidecast_drift_requests_total"] == 3.0
    assert samples["tidecast_drift_last_request_timestamp_seconds"] == NOW / 1e6
    assert samples["tidecast_drift_alarm_waiting"] == 1.0


def test_live_accuracy_is_that_of_the_view_over_seven_days_and_no_evidence_is_no_sample(database: Database) -> None:
    today = date(2026, 1, 31)
    now = 1_769_860_800 * SECOND  # its noon
    sums = {
        "n": 10,
        "absolute_error": 4.0,
        "pinball": 3.0,
        "absolute_actual": 60.0,
        "inside_80": 8,
        "inside_95": 10,
        "naive_n": 10,
        "naive_absolute_error": 8.0,
        "absolute_error_beside_naive": 4.0,
        "scaled_n": 10,
        "scaled_error": 5.0,
    }
    evaluate(database, today, 1, 1, **sums)
    evaluate(database, date(2026, 1, 25), 1, 1, series=2, **sums | {"scaled_error": 15.0, "inside_80": 6})
    evaluate(database, date(2026, 1, 24), 1, 1, **sums | {"n": 1000})  # older than seven days
    evaluate(database, today, 1, 2, n=5, inside_80=5, inside_95=5)
    found = database.job_facts.read(JOBS, now).accuracy
    assert found[0] == AccuracyFacts(1, 1, 20, 1.0, pytest.approx(0.1), 0.5, 0.7, 1.0)
    assert found[1] == AccuracyFacts(1, 2, 5, None, None, None, 1.0, 1.0)
    (row,) = database.reader.query("SELECT * FROM forecast_accuracy WHERE day = '2026-01-31' AND horizon_from = 1")
    own = replace(found[0], mase=row["mase"], coverage_80=row["coverage_80"])
    assert (row["wql"], row["skill"], row["coverage_95"]) == pytest.approx((own.wql, own.skill, own.coverage_95))
    samples = scrape(database, now)
    assert samples["tidecast_live_matured_steps horizon_from=1 model_version=1"] == 20.0
    assert "tidecast_live_skill horizon_from=2 model_version=1" not in samples


def test_accuracy_is_told_of_the_champion_the_naive_and_the_five_newest_models_only(database: Database) -> None:
    crown(database)
    for version in range(10):
        evaluate(database, date(2026, 1, 31), version, 1, n=5)
    found = database.job_facts.read(JOBS, 1_769_860_800 * SECOND).accuracy
    assert [each.model_version for each in found] == [9, 8, 7, 6, 5, 1, 0]


def test_accuracy_is_read_again_only_after_a_good_run_of_the_monitor(database: Database) -> None:
    now = 1_769_860_800 * SECOND
    ran(database, "monitor", now, "ok")
    evaluate(database, date(2026, 1, 31), 1, 1, n=5)
    assert [each.n for each in database.job_facts.read(JOBS, now).accuracy] == [5]
    evaluate(database, date(2026, 1, 31), 1, 1, series=2, n=5)
    assert [each.n for each in database.job_facts.read(JOBS, now).accuracy] == [5]
    ran(database, "monitor", now + 300 * SECOND, "ok")
    assert [each.n for each in database.job_facts.read(JOBS, now).accuracy] == [10]


def test_a_scrape_without_its_tables_says_so_and_one_after_that_recovers(
    database: Database, owner_url: str, open_more: Callable[..., Database]
) -> None:
    owner = open_more(owner_url)
    with writing(owner.engine) as connection:
        connection.execute(text("ALTER TABLE leases RENAME TO leases_away"))
    try:
        assert scrape(database, NOW)["tidecast_database_up"] == 0.0
    finally:
        with writing(owner.engine) as connection:
            connection.execute(text("ALTER TABLE leases_away RENAME TO leases"))
    assert scrape(database, clock())["tidecast_database_up"] == 1.0
