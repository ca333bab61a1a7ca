"""The page that `tidecast demo` serves: real series, a trained network, and an event that goes the whole way."""

import json
import os
import re
import signal
import sys
import time
import tomllib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from confluent_kafka import Producer
from playwright.sync_api import expect

from tests import processes
from tests.browser.conftest import Opened
from tests.browser.pages import ROOT
from tests.browser.world import TOPIC
from tests.servers import free_port

SMALL = ("training.steps=15", "training.batch=16", "model.hidden=8", "model.layers=1")
SETS = (*SMALL, "jobs.gate_coverage=[0.0, 1.0]")
PATIENCE = 240.0  # seconds that the demo may take until it only waits
TURN = 90_000  # milliseconds from an event in the topic to the page


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A small demo that has shown its results and goes on: the page's address and the demo's directory."""
    folder = tmp_path_factory.mktemp("demo")
    sets = [word for each in (*SETS, f"serve.listen=127.0.0.1:{free_port()}") for word in ("--set", each)]
    directory, output = folder / "demo", folder / "output.txt"
    words = ["demo", "--series", "4", "--directory", str(directory)]
    command = [sys.executable, "-P", "-m", "pipeline.cli", *sets, *words]
    with output.open("wb") as screen:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = processes.Popen(command, stdout=screen, stderr=screen, cwd=folder, env=environment, forking=True)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(r"the page is at (http://\S+?);", output.read_text(errors="replace"))):
            assert process.poll() is None, output.read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, output.read_text(errors="replace")[-2000:]
            time.sleep(0.3)
        yield found[1], directory
    finally:
        process.send_signal(signal.SIGTERM)  # Ctrl-C is deaf in a background of a shell
        process.wait(60)


def send_next_hour(directory: Path, address: str, name: str) -> datetime:
    """Send an event of the hour after the series' newest to the demo's topic; returns the hour."""
    kafka = tomllib.loads((directory / "tidecast.toml").read_text())["kafka"]
    found = httpx.get(f"{address}api/series", params={"search": name}).json()["items"]
    facts = next(each for each in found if each["name"] == name)
    hour = datetime.fromisoformat(facts["last_observed_at"]) + timedelta(hours=1)
    event = {"series_id": name, "timestamp": hour.isoformat(), "value": 100.0}
    producer = Producer({"bootstrap.servers": kafka["bootstrap_servers"], "log_level": 0})
    producer.produce(TOPIC, json.dumps(event).encode(), key=name.encode())
    assert producer.flush(30) == 0
    return hour


@pytest.mark.slow
def test_an_event_in_the_topic_of_the_demo_moves_the_forecast_on_its_page(
    demo: tuple[str, Path], opened: Opened
) -> None:
    address, directory = demo
    name = httpx.get(f"{address}api/series").json()["items"][0]["name"]
    page = opened(f"{address}#{urlencode({'series': name})}")
    facts = page.locator("#forecast-facts")
    expect(page.locator("#fan canvas")).to_be_visible()
    expect(facts).to_contain_text(re.compile(r"v[1-9] "))  # one of the networks that the demo trained
    expect(page.locator("#models-body")).to_contain_text("v1 ")
    expect(page.locator("#accuracy-body tbody tr").first).to_be_visible()
    expect(page.locator("#link-words")).to_have_text("live")
    hour = send_next_hour(directory, address, name)
    expect(facts).to_contain_text(f"origin {hour:%a %d %b}", timeout=TURN)
    expect(facts).to_contain_text(f"{hour:%H:%M} issued", timeout=TURN)
