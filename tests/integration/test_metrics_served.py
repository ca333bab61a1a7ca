"""A real scheduler serves its metrics, says when it cannot, and takes the port along when it ends."""

import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobs.commands import NAMES
from pipeline.database import upgrade
from tests.integration.test_jobs import ran, tidecast, wait_until
from tests.servers import free_port


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Write settings of an upgraded and empty database, with a timetable of one job."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'tidecast.db'}"
    else:
        url = request.getfixturevalue("postgresql").fresh_database()
    upgrade(url)
    jobs = [f'{name} = "off"' for name in NAMES if name != "retrain"]
    lines = ["[database]", f'url = "{url}"', "[jobs]", 'retrain = "0 0 1 1 *"', "lease = 1.0", *jobs]
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
            wait_until(lambda: scrape(first)["tidecast_scheduler_lease_held"] == 1.0)
            wait_until(lambda: scrape(second)["tidecast_scheduler_lease_held"] == 1.0)
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
