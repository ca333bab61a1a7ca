"""A fresh database serves the network of the wheel from the eighth value on, in SQL and on the topic, also after -9."""

import json
import re

import numpy as np

from pipeline.commands.doctor import check_model
from tests.e2e.test_topic_to_sql import rows
from tests.faults.conftest import Place
from tests.faults.deployment import Sender
from tests.faults.panel import Panel, split
from tests.faults.verify import gather, wait_for_lag_0

PANEL = Panel(series=4, steps=20, partitions=2)


def test_a_fresh_database_serves_the_pretrained_network_under_a_version(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings, "model.pretrained=true", partitions=2)
    sender = Sender(deployment)
    first, second = split(list(PANEL.messages()), 2)
    with place.fleet(deployment) as fleet:
        for name in ("one", "two"):  # both find no champion, and there is one version afterwards
            fleet.start(name)
        sender.send(first)
        wait_for_lag_0(deployment)
        fleet.kill("one")
        fleet.start("one")
        sender.send(second)
        wait_for_lag_0(deployment)
        assert [fleet.stop(name) for name in ("one", "two")] == [0, 0]
    models = rows(deployment, "SELECT version, name, artifact IS NOT NULL AS whole FROM models ORDER BY version")
    assert [(row.version, row.name, bool(row.whole)) for row in models] == [
        (0, "seasonal-naive", False),
        (1, "zero-shot", True),
    ]
    changes = rows(deployment, "SELECT action, version, previous FROM alias_history WHERE alias = 'champion'")
    assert [tuple(row) for row in changes] == [("promote", 1, None)]
    found = check_model(deployment.loaded())
    assert found.ok
    assert found.found.startswith("version 1, pretrained; next, the first retraining: needs 24 steps of a series, has ")

    served = rows(
        deployment,
        "SELECT name, origin, model_version, min(quality) AS quality, count(*) AS steps FROM forecasts "
        "JOIN series USING (series_id) GROUP BY name, origin, model_version ORDER BY name, origin",
    )
    by_series: dict[str, list[tuple[int, str]]] = {}
    for row in served:
        by_series.setdefault(row.name, []).append((row.model_version, row.quality))
    assert len(by_series) == 4
    for name, found in by_series.items():
        versions = [version for version, _ in found]
        assert versions == sorted(versions), f"{name}: the network does not give a series back"
        assert set(versions) == {0, 1}, name
        assert all((version == 0) == (quality == "fallback") for version, quality in found), name

    evidence = gather(deployment, sender)
    for client, messages in evidence.output.items():
        told = {json.loads(record.value)["model_version"] for record in messages}
        assert told == {0, 1}, client
    quantiles = rows(deployment, "SELECT q10, q50, q90 FROM forecasts WHERE model_version = 1")
    table = np.array([tuple(row) for row in quantiles], float)
    assert np.isfinite(table).all()
    assert (np.diff(table, axis=1) >= 0).all()
    assert re.fullmatch(r"[0-9a-f]{64}", rows(deployment, "SELECT sha256 FROM models WHERE version = 1")[0][0])
