"""A call that does not return ends the process; one that does is left alone."""

import subprocess
import sys
import threading
from pathlib import Path

from sqlalchemy import event

from pipeline.database import open_database, upgrade
from pipeline.health.watchdog import Watchdog


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


def test_every_transaction_with_a_database_is_guarded(tmp_path: Path) -> None:
    """A frozen server still acknowledges: here SQLite takes as long as the watchdog lets it."""
    url, expired = f"sqlite:///{tmp_path}/tidecast.db", []
    upgrade(url)
    rang = threading.Event()

    def expire(doing: str, _: float) -> None:
        expired.append(doing)
        rang.set()

    database = open_database(url, timeout=5.0, guard=Watchdog(0.2, expire).guard)
    event.listen(database.engine, "before_cursor_execute", lambda *_: rang.wait(20))
    try:
        assert database.registry.champion() is None
        assert expired == ["a transaction with the database"]
    finally:
        database.close()
