"""A champion that is broken in SQL: workers start, forecast as seasonal naive, say so, and take up the next one."""

from typing import Any

import pytest
from sqlalchemy import text

from models.artifact import pack
from models.network.forecasters import build
from pipeline.commands.doctor import check_model
from pipeline.errors import Unloadable
from pipeline.forecasting.windows import model_config
from pipeline.grid.frequency import Frequency
from pipeline.health.prometheus import Exposition
from pipeline.start import clock, open_database
from pipeline.stream.worker_metrics import WorkerCollector
from tests.e2e.test_topic_to_sql import catch_up, rows, working
from tests.faults.conftest import Place
from tests.faults.deployment import Deployment, Sender
from tests.faults.panel import Panel, split

PANEL = Panel(series=3, steps=20, partitions=1)
BREAKS = {
    "changed": "UPDATE models SET artifact = :bytes WHERE version = 1",
    "removed": "UPDATE models SET artifact = NULL WHERE version = 1",
    "another hash": "UPDATE models SET sha256 = 'x' WHERE version = 1",
    "calibration": "INSERT INTO calibrations VALUES (99, 1, :now, :now, :now, 100, '[[2.0]]', '{}')",
}


def promote(deployment: Deployment, expected: int | None) -> int:
    """Register an untrained model and make it champion."""
    settings = deployment.loaded()
    database = open_database(settings)
    config = model_config(settings, Frequency("1h"), PANEL.series)
    artifact = pack(build(config), series=PANEL.names, provenance={})
    facts: dict[str, Any] = {"metrics": {}, "train_from": None, "train_to": None, "seed": 0, "code": "test"}
    version = database.registry.register(
        name="untrained", config=config.to_dict(), artifact=artifact, now=clock(), **facts
    )
    assert database.registry.promote(version, expected=expected, reason="test", now=clock())
    database.close()
    return version


def change(deployment: Deployment, statement: str) -> None:
    engine = deployment.engine()
    now = "2026-01-01 00:00:00+00:00"
    values = {name: value for name, value in (("bytes", b"half"), ("now", now)) if f":{name}" in statement}
    with engine.begin() as connection:
        connection.execute(text(statement), values)
    engine.dispose()


@pytest.mark.parametrize("how", BREAKS)
def test_a_worker_starts_on_a_broken_champion_and_takes_up_the_next_one(place: Place, how: str) -> None:
    deployment = place.deploy(*PANEL.settings, "model.hidden=8", "model.layers=1", partitions=1)
    sender = Sender(deployment)
    first, second, third = split(list(PANEL.messages()), 3)
    bad = promote(deployment, None)
    change(deployment, BREAKS[how])
    model = how != "calibration"
    for part in (first, second):  # twice: a worker that starts again starts again
        sender.send(part)
        with working(deployment) as worker:
            catch_up(worker, deployment)
            scorer = worker.parts.scorer
            assert (scorer.version, scorer.refused) == ((0, bad) if model else (bad, 0))
            assert scorer.failures == 1
            assert model or scorer.calibration == 0
            exposed = Exposition(WorkerCollector(worker)).write()
            assert f"tidecast_champion_refused_version {float(bad if model else 0)}" in exposed
    if model:
        with pytest.raises(Unloadable, match="tidecast models rollback"):
            check_model(deployment.loaded())
    else:
        assert check_model(deployment.loaded()).ok
    ahead = 0

    def now() -> int:
        return clock() + ahead

    with working(deployment, now=now, timer=now) as worker:
        good = promote(deployment, bad)
        ahead = 10_000_000  # the scorer looks for a champion every few seconds
        sender.send(third)
        catch_up(worker, deployment)
        assert (worker.parts.scorer.version, worker.parts.scorer.refused) == (good, 0)
    served = rows(deployment, "SELECT DISTINCT model_version FROM forecasts ORDER BY 1")
    assert [row[0] for row in served] == [0 if model else bad, good]
    fallback = rows(deployment, "SELECT DISTINCT model_version FROM forecasts WHERE quality = 'fallback'")
    assert [row[0] for row in fallback] == ([0] if model else [])
