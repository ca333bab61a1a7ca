"""Days that do not begin at 0:00 UTC, months of a zone: over the whole path the times are those of the events."""

import json
from collections.abc import Sequence

import pandas as pd
import pytest

from tests.faults.conftest import Place
from tests.faults.deployment import Deployment, Sender
from tests.faults.panel import Message
from tests.faults.verify import wait_for_lag_0

SMALL = ("series.context=16", "series.horizon=4", "series.season=7")
BERLIN = "Europe/Berlin"


def regular(first: str, count: int, frequency: str, zone: str) -> pd.DatetimeIndex:
    return pd.date_range(first, periods=count, freq=frequency, tz=zone, unit="us")


def messages(times: pd.DatetimeIndex) -> list[Message]:
    rows = [
        (s, {"series_id": f"meter-{s}", "timestamp": at.isoformat(), "value": i % 7 + s})
        for i, at in enumerate(times)
        for s in range(3)
    ]
    return [Message(s, f"meter-{s}".encode(), json.dumps(fields).encode()) for s, fields in rows]


def stored(deployment: Deployment, query: str) -> list[pd.Timestamp]:
    engine = deployment.engine()
    try:
        found = pd.read_sql_query(query, engine)
    finally:
        engine.dispose()
    return list(pd.to_datetime(found.iloc[:, 0], utc=True))


OBSERVED = "SELECT observed_at FROM observations o JOIN series s USING (series_id) WHERE s.name = 'meter-1' ORDER BY 1"
TARGETS = (
    "SELECT target_time FROM forecasts f JOIN series s USING (series_id) WHERE s.name = 'meter-1'"
    " AND origin = (SELECT MAX(origin) FROM forecasts) ORDER BY 1"
)


@pytest.mark.parametrize(
    ("settings", "times"),
    [
        (["series.frequency=1D", "series.timezone=Europe/Berlin"], regular("2024-03-20", 24, "D", BERLIN)),
        (
            ["series.frequency=1D", f"series.timezone={BERLIN}"],
            regular("2024-10-20 06:00", 24, "D", BERLIN),
        ),
    ],
    ids=["midnights of a zone", "gas days"],
)
def test_steps_are_those_of_the_events(place: Place, settings: Sequence[str], times: pd.DatetimeIndex) -> None:
    deployment = place.deploy(*SMALL, *settings)
    known, future = times[:-4], times[-4:]
    sender = Sender(deployment)
    with place.fleet(deployment) as fleet:
        fleet.start("one")
        fleet.start("two")
        sender.send(messages(known))
        wait_for_lag_0(deployment)
    assert stored(deployment, OBSERVED) == list(known.tz_convert("UTC"))
    assert stored(deployment, TARGETS) == list(future.tz_convert("UTC"))
    assert count_off_grid(deployment) == 0


def count_off_grid(deployment: Deployment) -> int:
    engine = deployment.engine()
    try:
        return int(pd.read_sql_query("SELECT SUM(off_grid) FROM ingest_state", engine).iloc[0, 0])
    finally:
        engine.dispose()
