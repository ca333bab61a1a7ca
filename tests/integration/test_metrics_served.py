"""A real scheduler serves its metrics, says when it cannot, and takes the port along when it ends."""

import json
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobs.catalog import CATALOG
from pipeline.database import upgrade
from pipeline.errors import TidecastError
from pipeline.settings.address import check_free
from tests.faults.telemetry import Telemetry
from tests.integration.conftest import KafkaAddress
from tests.integration.test_jobs import ran, tidecast, wait_until
from tests.servers import free_port


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Write settings of an upgraded and empty database, with a timetable of one job."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'tidecast.db'}"
    else:
        url = request.getfixturevalue("postgresql").upgraded_database()
    upgrade(url)
    jobs = [f'{name} = "off"' for name in CATALOG if name != "retrain"]
    lines = ["[database]", f'url = "{url}"', "[jobs]", 'retrain = "0 0 1 1 *"', *jobs]
    (tmp_path / "tidecast.toml").write_text("\n".join(lines))


def scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {each.name: each.value for family in families for each in family.samples if not each.labels}


def schedule(tmp_path: Path, port: int) -> "subprocess.Popen[str]":
    return tidecast(tmp_path, "--set", f"metrics.listen=127.0.0.1:{port}", "schedule")


def test_a_scheduler_on_duty_and_one_that_waits_serve_the_same_until_they_end(place: None, tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    with schedule(tmp_path, first) as duty, schedule(tmp_path, second) as waiting:
        try:
            wait_until(lambda: answers(first) and answers(second))
            wait_until(lambda: scrape(first).get("tidecast_scheduler_lease_held") == 1.0)
            wait_until(lambda: scrape(second).get("tidecast_scheduler_lease_held") == 1.0)
            code, output, errors = ran(tmp_path, "--set", f"metrics.listen=127.0.0.1:{first}", "schedule")
            assert (code, output) == (1, "")
            assert errors.splitlines()[-1] == (
                f"tidecast: metrics.listen: cannot listen on 127.0.0.1:{first} (Address already in use);"
                " choose another address, or off"
            )
        finally:
            for each in (duty, waiting):
                each.send_signal(signal.SIGTERM)
                each.communicate(timeout=60)
    assert (duty.returncode, waiting.returncode) == (0, 0)
    assert not answers(first)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_scheduler_that_still_starts_ends_well_when_it_is_told_to(place: None, tmp_path: Path) -> None:
    port = free_port()
    probe = Telemetry(f"http://127.0.0.1:{port}")
    with schedule(tmp_path, port) as process:
        wait_until(lambda: probe.status("/healthz") == 200)
        process.send_signal(signal.SIGTERM)  # the first process of a container does not hear it without a handler
        process.communicate(timeout=60)
    assert process.returncode == 0


def answers(port: int) -> bool:
    try:
        scrape(port)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_the_command_writes_what_a_scheduler_would_serve_and_nothing_else(place: None, tmp_path: Path) -> None:
    code, output, errors = ran(tmp_path, "metrics")
    assert (code, errors) == (0, "")
    samples = {
        (each.name, *each.labels.values()): each.value
        for f in text_string_to_metric_families(output)
        for each in f.samples
    }
    assert samples["tidecast_job_period_seconds", "retrain"] == 366 * 86_400.0
    assert samples["tidecast_job_enabled", "monitor"] == 0.0
    assert samples["tidecast_database_up",] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_run_gives_each_of_its_processes_a_port_of_its_own(
    place: None, development_broker: KafkaAddress, tmp_path: Path
) -> None:
    first = free_ports(3)
    sets = [f"kafka.bootstrap_servers={development_broker.bootstrap_servers}", f"metrics.listen=127.0.0.1:{first}"]
    names = {key: f"served-{first}-{key}" for key in ("input_topic", "output_topic", "dead_letter_topic", "group")}
    sets += [f"kafka.{key}={value}" for key, value in names.items()]
    roles = [Telemetry(f"http://127.0.0.1:{first + number}") for number in range(3)]
    with tidecast(tmp_path, *(word for text in sets for word in ("--set", text)), "run", "--workers", "2") as process:
        try:
            wait_until(lambda: [each.status("/readyz") for each in roles] == [200, 200, 200])
            told = [json.loads(each.get("/readyz")[1])["role"] for each in roles]
            assert told == ["scheduler", "worker", "worker"]
            assert roles[0].samples()["ready", "scheduler"] == 1.0
            # One is not ready for a moment when the other joins the group.
            wait_until(lambda: [each.samples()["ready", "worker"] for each in roles[1:]] == [1.0, 1.0])
            wait_until(lambda: sum(each.sum("partition_claimed") for each in roles[1:]) == 6.0)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
    assert process.returncode == 0
    assert [each.status("/healthz") for each in roles] == [0, 0, 0]


def free_ports(count: int) -> int:
    """Find the first of so many free ports in a row."""
    for _ in range(100):
        first = free_port()
        try:
            for number in range(count):
                check_free(f"127.0.0.1:{first + number}", "metrics.listen")
        except TidecastError:
            continue
        return first
    raise AssertionError("there are no free ports in a row")


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_run_refuses_a_port_that_is_taken_before_it_starts_anything(place: None, tmp_path: Path) -> None:
    port = free_port()
    with schedule(tmp_path, port) as process:
        try:
            wait_until(lambda: answers(port))
            code, output, errors = ran(tmp_path, "--set", f"metrics.listen=127.0.0.1:{port}", "run")
        finally:
            process.kill()
            process.communicate()
    assert (code, output) == (1, "")
    assert errors.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}" in errors
