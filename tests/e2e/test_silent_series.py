"""A worker that may hold fewer windows than there are series, over the whole path."""

from tests.e2e.test_topic_to_sql import catch_up, working
from tests.faults.conftest import Place
from tests.faults.deployment import Sender
from tests.faults.panel import Panel, split
from tests.faults.verify import verify

PANEL = Panel(series=12, steps=40)


def test_evicted_series_come_back_from_sql_with_the_same_forecasts(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings, "input.series_in_memory=3", "kafka.max_messages=100")
    sender = Sender(deployment)
    groups = [PANEL.names[first : first + 3] for first in range(0, PANEL.series, 3)]
    with working(deployment) as worker:
        assert worker.parts.eviction is not None
        for part in split(list(PANEL.messages(twice=0.05, seed=2)), 3):
            for group in groups:  # three series at a time, the others are silent
                sender.send([message for message in part if message.key.decode() in group])
                catch_up(worker, deployment)
                assert sum(len(own.ring) for own in worker.owned.values()) <= 3
        assert worker.parts.eviction.evicted >= 2 * PANEL.series
    findings = verify(deployment, PANEL, sender)
    assert not findings, str(findings)
