"""`tidecast serve` as a process of its own, and headless Chromium, for tests and screenshots."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests import processes
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome")
WAIT = 60.0  # seconds; a loaded machine may take long
SETTINGS = """
[kafka]
bootstrap_servers = "{kafka}"
input_topic = "observations"

[database]
url = "{url}"
timeout = 5

[series]
frequency = "1h"
context = 168
horizon = 48

[serve]
listen = "127.0.0.1:{port}"
"""


def find_chromium() -> str | None:
    """The browser that Debian installs, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser for the length of a block."""
    with sync_playwright() as playwright:
        words = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=words)
        try:
            yield browser
        finally:
            browser.close()


class Serve:
    """A server on its own port, which can end and start again there."""

    def __init__(self, folder: Path, url: str, kafka: str = "127.0.0.1:1") -> None:
        port = free_port()
        self.address = f"http://127.0.0.1:{port}/"
        self._log = folder / "serve.log"
        self._config = folder / "tidecast.toml"
        self._config.write_text(SETTINGS.format(kafka=kafka, url=url, port=port))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-P", "-m", "pipeline.cli", "--config", str(self._config), "serve"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with self._log.open("wb") as log:
            self._process = processes.Popen(command, stdout=log, stderr=log, env=environment, cwd=self._config.parent)
        deadline = time.monotonic() + WAIT
        while b"the page is at" not in self._log.read_bytes():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"tidecast serve did not start: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(WAIT)
            self._process = None


@contextmanager
def serving(folder: Path, url: str, kafka: str = "127.0.0.1:1") -> Iterator[Serve]:
    """A running server for the length of a block."""
    server = Serve(folder, url, kafka)
    try:
        server.start()
        yield server
    finally:
        server.stop()
