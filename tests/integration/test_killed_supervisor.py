"""`tidecast run`, `tidecast schedule` and `tidecast demo` that are killed take their children with them."""

import json
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.database import upgrade
from tests import processes
from tests.integration.conftest import KafkaAddress
from tests.integration.test_jobs import ROOT, wait_until

pytestmark = pytest.mark.slow
SECONDS = 60.0
SETTINGS = """
[kafka]
bootstrap_servers = "{broker}"
input_topic = "killed"
output_topic = "killed.forecasts"
dead_letter_topic = "killed.dead-letters"
[database]
url = "sqlite:///{folder}/tidecast.db"
[jobs]
retrain = "off"
monitor = "every 1s"
calibrate = "off"
retention = "off"
promote = "off"
[serve]
listen = "127.0.0.1:0"
"""


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "pipeline.cli", *words]


@pytest.mark.parametrize("role", ["run", "schedule"])
def test_nothing_outlives_it_and_a_worker_ends_between_two_turns(
    role: str, development_broker: KafkaAddress, tmp_path: Path
) -> None:
    file = tmp_path / "tidecast.toml"
    file.write_text(SETTINGS.format(broker=development_broker.bootstrap_servers, folder=tmp_path))
    upgrade(f"sqlite:///{tmp_path}/tidecast.db")
    log = tmp_path / "log"
    with log.open("wb") as errors:
        process = processes.Popen(
            command(tmp_path, "--config", str(file), role), cwd=ROOT, stderr=errors, stdout=errors
        )
        own = psutil.Process(process.pid)
        try:
            wanted = ["worker ready", "the page is at", "job started"] if role == "run" else ["job started"]
            wait_until(lambda: all(words in log.read_text() for words in wanted))
            descendants = own.children(recursive=True)
        finally:
            process.kill()
            process.wait()
        assert not psutil.wait_procs(descendants, SECONDS)[1]
    events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert role == "schedule" or "worker stopped" in {event["event"] for event in events}
    assert "Traceback" not in log.read_text()


def test_the_children_of_a_demo_end_with_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as errors:
        words = ("demo", "--series", "2", "--directory", str(tmp_path / "demo"))
        process = processes.Popen(command(tmp_path, *words), cwd=ROOT, stderr=errors, stdout=errors)
        own = psutil.Process(process.pid)
        try:
            wait_until(lambda: len(own.children()) == 2)
            descendants = own.children(recursive=True)
        finally:
            process.kill()
            process.wait()
        assert not psutil.wait_procs(descendants, SECONDS)[1]
