"""A model is promoted while no event arrives: every series is forecast by it, exactly once, under kill -9."""

import time
from collections import Counter

import pytest
from sqlalchemy import text

from pipeline.database import open_database
from tests.faults.conftest import Place
from tests.faults.deployment import Deployment, Sender
from tests.faults.fleet import Fleet, until
from tests.faults.outside import register_models
from tests.faults.panel import Panel, microseconds, time_of
from tests.faults.summary import report
from tests.faults.verify import agreement, gather, verify, wait_for_lag_0

PANEL = Panel(series=12, steps=20, partitions=3)
KILLS = (
    "KILL@before_sql:1",
    "KILL@after_sql:1",  # leaves a turn that is stored and not published; the next two die on the way to publishing it
    "KILL@in_claim_before_publish:1",
    "KILL@in_publish:1",
    "KILL@after_publish:2",
)
SECONDS = 120.0


def promote(deployment: Deployment, version: int, expected: int | None) -> None:
    database = open_database(deployment.database, timeout=30)
    assert database.registry.promote(version, expected=expected, reason="test", now=time.time_ns() // 1000)
    database.close()


def current(deployment: Deployment) -> Counter[int]:
    """Count the series by the version of their current forecast."""
    engine = deployment.engine()
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT model_version FROM current_forecast WHERE step = 1")).scalars().all()
    engine.dispose()
    return Counter(rows)


def finish(fleet: Fleet, deployment: Deployment, version: int) -> None:
    """Wait until every series' current forecast is of a version, and let the worker end its turn."""
    every = {version: PANEL.series}
    until(lambda: current(deployment) == every, SECONDS, lambda: f"{every}, not {current(deployment)}")
    assert fleet.stop("worker") == 0


@pytest.mark.fault("swap")
@pytest.mark.slow
def test_a_promotion_is_seen_without_any_event_though_a_worker_is_killed_at_any_point(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings, "kafka.session_timeout=30", partitions=PANEL.partitions)
    register_models(deployment)
    sender = Sender(deployment)
    sender.send(PANEL.messages())
    with place.fleet(deployment) as fleet:
        fleet.start("worker")
        wait_for_lag_0(deployment)
        assert fleet.stop("worker") == 0
        before = verify(deployment, PANEL, sender)
        assert not before, str(before)
        promote(deployment, 1, None)
        for kill in KILLS:
            fleet.start("worker", faults=kill)
            assert fleet.ended("worker", SECONDS) == -9, f"{kill} was not reached"
        fleet.start("worker")
        began = time.monotonic()
        finish(fleet, deployment, 1)
        seconds = time.monotonic() - began
        promote(deployment, 2, 1)
        fleet.start("worker")
        finish(fleet, deployment, 2)
    evidence = gather(deployment, sender)
    findings = agreement(evidence, deployment)
    last = microseconds(time_of(PANEL.steps - 1))
    made = Counter((name, version) for (name, origin, version), _ in evidence.forecasts if origin == last)
    again = {forecast.source[1] < 0 for (_, _, version), forecast in evidence.forecasts if version}
    report(
        "a swap, kill -9 at points",
        place.name,
        events=PANEL.series * PANEL.steps,
        faults=len(KILLS),
        findings=findings,
        seconds=seconds,
    )
    assert not findings, str(findings)
    assert made == Counter((name, version) for name in PANEL.names for version in (0, 1, 2))
    assert again == {True}, "no forecast of the new versions has an event"
