"""Take the screenshots of the documents anew: `python -m tests.browser.screenshots`, into docs/.

A world as in the tests, with a development broker that holds as many messages as the worker has stored.
"""

import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

from confluent_kafka import Producer
from playwright.sync_api import Browser, expect

from pipeline.quickstart.broker import DevelopmentBroker
from tests.browser.pages import ROOT, chromium, serving
from tests.browser.test_page import iso
from tests.browser.world import HOUR, TOPIC, World, world
from tests.servers import create_topic

FOLDER = ROOT / "docs"
DESKTOP = {"width": 1360, "height": 850}
PHONE = {"width": 390, "height": 844}
POINT = 0.86  # where on the chart the crosshair is, of its width


def take(browser: Browser, address: str, made: World, folder: Path) -> None:
    """Both themes, the figures further down, and a phone."""
    shown = urlencode({"series": "site-02/meter-3", "origin": iso(made.end - 26 * HOUR)})
    for name, theme, size, below in (
        ("page-light", "light", DESKTOP, None),
        ("page-dark", "dark", DESKTOP, None),
        ("page-operations", "light", DESKTOP, "accuracy"),
        ("page-phone", "dark", PHONE, None),
    ):
        phone = size is PHONE
        context = browser.new_context(viewport=size, color_scheme=theme, is_mobile=phone, has_touch=phone)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(f"{address}#{shown}")
        for panel in ("accuracy", "reliability", "models", "jobs", "stream", "dead-letters"):
            expect(page.locator(f"#{panel}-body > *").first).to_be_attached(timeout=60_000)
        expect(page.locator("#link-words")).to_have_text("live")
        if below:
            page.evaluate(f"document.getElementById('{below}').scrollIntoView()")
        else:
            page.locator("#fan").evaluate("fan => fan.scrollIntoView({block: 'end'})") if phone else None
            box = page.locator("#fan .u-over").bounding_box()
            assert box is not None
            page.mouse.move(box["x"] + POINT * box["width"], box["y"] + 0.6 * box["height"])
        if phone:
            page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(300)
        page.screenshot(path=folder / f"{name}.png")
        context.close()


def send(bootstrap_servers: str, count: int) -> None:
    """Fill the topic up to where the world's worker has read."""
    create_topic(bootstrap_servers, TOPIC)
    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 50, "log_level": 0})
    for _ in range(count):
        producer.produce(TOPIC, b"{}", partition=0)
        producer.poll(0)
    producer.flush(60)


def main() -> None:
    """Make the world, serve it, take the pictures."""
    FOLDER.mkdir(exist_ok=True)
    now = time.time_ns() // 1000
    with (
        tempfile.TemporaryDirectory(prefix="tidecast-screenshots-") as folder,
        DevelopmentBroker() as broker,
        world(Path(folder), now, hours=35 * 24, spare=0, failing=False) as made,
    ):
        send(broker.bootstrap_servers, made.offset)
        with serving(Path(folder), made.url, broker.bootstrap_servers) as server, chromium() as browser:
            take(browser, server.address, made, FOLDER)
    for picture in sorted(FOLDER.glob("page-*.png")):
        sys.stdout.write(f"{picture.relative_to(ROOT)} {picture.stat().st_size // 1000} kB\n")


if __name__ == "__main__":
    main()
