"""What most fault tests do: two workers take in a stream, something is done to them, and all is there once after it."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.faults.conftest import Place
from tests.faults.deployment import Deployment, Sender
from tests.faults.fleet import End, Fleet, until
from tests.faults.panel import Message, Panel
from tests.faults.summary import report
from tests.faults.verify import verify, wait_for_lag_0

WORKERS = ("one", "two")
REASONS = ("did not return within", "Kafka at ", "tidecast: database ")


@dataclass(frozen=True)
class Ordeal:
    """A stream of `messages` of `panel` that is sent over about `seconds`, while `fault` happens at `place`."""

    fault: str
    place: Place
    deployment: Deployment
    panel: Panel
    messages: Sequence[Message]
    seconds: float
    measured: dict[str, float] = field(default_factory=dict)
    """What `strike` measured, for the results."""

    def endure(self, strike: Callable[[Fleet], int]) -> list[End]:
        """Run `strike`, which returns how many faults there were, and check what is left; return who ended meanwhile.

        Nobody but a supervisor helps the workers, and whoever ends has to give a reason.
        """
        sender = Sender(self.deployment)
        with self.place.fleet(self.deployment) as fleet, ThreadPoolExecutor(1) as pool:
            for worker in WORKERS:
                fleet.start(worker)
            owned = lambda: len(self.deployment.owners()) == self.panel.partitions  # noqa: E731
            until(owned, 120.0, "the workers own every partition")
            with fleet.supervised() as ended:
                sending = pool.submit(sender.send_over, self.messages, self.seconds)
                faults = strike(fleet)
                sending.result()
                began = time.monotonic()
                wait_for_lag_0(self.deployment)
                seconds = time.monotonic() - began
            codes = [fleet.stop(worker) for worker in WORKERS]
        self.measured["workers_ended"] = len(ended)
        findings = verify(self.deployment, self.panel, sender)
        events = len(self.messages)
        report(
            self.fault,
            self.place.name,
            events=events,
            faults=faults,
            findings=findings,
            seconds=seconds,
            more=self.measured,
        )
        assert not findings, str(findings)
        assert codes == [0, 0]
        for end in ended:
            assert end.code == 1, end
            assert any(words in end.said for words in REASONS), end
        return ended
