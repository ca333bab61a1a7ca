"""A world that is served, and a browser whose pages fail a test that made them complain."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import servers
from tests.browser.pages import Serve, chromium, find_chromium, serving
from tests.browser.world import MARKUP, World, world

DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
expect.set_options(timeout=90_000)


def now() -> int:
    return time.time_ns() // 1000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser per module: its event loop must not outlive the module in this thread."""
    if find_chromium() is None:
        reason = "the page is tested in Chromium, and there is none (apt-get install chromium)"
        pytest.fail(reason) if servers.required() else pytest.skip(reason)
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Eight series, one with markup for a name, that grow when a test says so."""
    names = [f"site-{i}/meter" for i in range(1, 8)] + [MARKUP]
    with world(tmp_path_factory.mktemp("small"), now(), names=names, hours=35 * 24, issued=72, spare=12) as made:
        yield made


@pytest.fixture(scope="module")
def address(small: World) -> Iterator[str]:
    with serving(small.folder, small.url) as server:
        yield server.address


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[str], Serve]]:
    """Serve another database: `serve(url)`."""
    started: list[Serve] = []

    def start(url: str) -> Serve:
        server = Serve(tmp_path, url)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


class Opened:
    """Opens pages; what they complained about, and which other hosts they asked."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.complaints: list[str] = []
        self.expected: tuple[str, ...] = ()
        """Parts of complaints that a test is about: a browser notes every answer that is not 200 by itself."""
        self.elsewhere: list[str] = []
        self._contexts: list[Any] = []

    def __call__(self, address: str, *, size: dict[str, int] = DESKTOP, **options: Any) -> Page:
        context = self._browser.new_context(viewport=size, **options)  # type: ignore[arg-type]
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(90_000)
        page.on(
            "console", lambda line: self.complaints.append(line.text) if line.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.complaints.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
        host = urlsplit(address).netloc
        page.on("request", lambda asked: self._elsewhere(asked.url, host))
        page.goto(address)
        return page

    def _elsewhere(self, url: str, host: str) -> None:
        if urlsplit(url).scheme != "data" and urlsplit(url).netloc != host:
            self.elsewhere.append(url)

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def opened(browser: Browser, serve: Callable[[str], Serve]) -> Iterator[Opened]:
    """Open pages; whatever goes to the console as a complaint, or to another host, fails the test.

    They close before the servers of the test do, and would complain if they did not.
    """
    pages = Opened(browser)
    yield pages
    pages.close()
    unexpected = [each for each in pages.complaints if not any(part in each for part in pages.expected)]
    assert unexpected == []  # a violation of the content security policy is one
    assert pages.elsewhere == []
