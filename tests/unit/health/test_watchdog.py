"""A call that does not return ends the process; one that does is left alone."""

import subprocess
import sys
import threading

from pipeline.health.watchdog import Watchdog, WatchedStore
from pipeline.records import Claim
from tests.fakes import MemoryStore


def test_a_call_that_does_not_return_is_reported_with_its_name() -> None:
    expired: list[tuple[str, float]] = []
    rang = threading.Event()

    def expire(doing: str, seconds: float) -> None:
        expired.append((doing, seconds))
        rang.set()

    with Watchdog(0.2, expire).guard("a commit"):
        assert rang.wait(20)
    assert expired == [("a commit", 0.2)]


def test_an_inner_guard_gives_the_outer_one_its_deadline_back() -> None:
    rang = threading.Event()
    watchdog = Watchdog(0.5, lambda *_: rang.set())
    with watchdog.guard("outer"):
        with watchdog.guard("inner"):
            assert watchdog._guarded is not None
            assert watchdog._guarded[0] == "inner"
        assert watchdog._guarded[0] == "outer"
    assert watchdog._guarded is None
    assert not rang.wait(1.5), "nothing is guarded, so nothing expires"


def test_the_process_ends_with_one_and_a_reason() -> None:
    code = (
        "import time\nfrom pipeline.health.watchdog import Watchdog\n"
        "with Watchdog(0.2).guard('a Kafka transaction'):\n    time.sleep(60)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 1
    assert "a Kafka transaction did not return" in ended.stderr


class FrozenStore(MemoryStore):
    """A database that acknowledges and never answers, until the watchdog has rung."""

    def __init__(self, rang: threading.Event) -> None:
        super().__init__()
        self.rang = rang

    def claim(self, partition: int, owner: str) -> Claim:
        assert self.rang.wait(20)
        return super().claim(partition, owner)


def test_a_frozen_database_is_noticed() -> None:
    rang, doing = threading.Event(), []

    def expire(what: str, _: float) -> None:
        doing.append(what)
        rang.set()

    WatchedStore(FrozenStore(rang), Watchdog(0.2, expire)).claim(0, "me")
    assert doing == ["claiming a partition in SQL"]


def test_a_frozen_database_is_noticed_while_the_grid_is_settled() -> None:
    rang, doing = threading.Event(), []

    def expire(what: str, _: float) -> None:
        doing.append(what)
        rang.set()

    def note(seconds: int) -> int:
        assert rang.wait(20)
        return seconds

    assert Watchdog(0.2, expire).guarding("noting the phase", note)(60) == 60
    assert doing == ["noting the phase"]
