"""The page of `tidecast serve` in headless Chromium, over a real server on a real database."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from playwright.sync_api import Page, expect

from pipeline.database import open_database, upgrade
from tests import servers
from tests.browser.conftest import DESKTOP, PHONE, Opened, now
from tests.browser.pages import Serve
from tests.browser.world import HOUR, MARKUP, TOPIC, World, world

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
MOST_ROWS = 80  # rows of the list that may be in the page at a time
PATIENCE = 180_000  # milliseconds


def ready(page: Page) -> None:
    """Wait until the fan is drawn and the panels below have their content."""
    expect(page.locator("#fan canvas")).to_be_visible(timeout=PATIENCE)
    for panel in ("accuracy", "reliability", "models", "jobs", "dead-letters"):
        expect(page.locator(f"#{panel}-body > *").first).to_be_attached(timeout=PATIENCE)


def at(address: str, **state: str) -> str:
    return f"{address}#{urlencode(state)}"


def fan(page: Page) -> str:
    return page.locator("#fan").get_attribute("aria-label") or ""


def test_a_series_is_found_by_keys_alone_and_its_address_shows_it_again(opened: Opened, address: str) -> None:
    page = opened(address)
    ready(page)
    page.keyboard.press("/")
    page.keyboard.type("METER")
    expect(page.locator("#finder-count")).to_have_text("7 found")
    expect(page.locator("#series-list [role=option]")).to_have_count(7)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    name = page.locator("#series-list [aria-selected=true]").get_attribute("data-name")
    assert name is not None
    expect(page.locator("#forecast-title")).to_have_text(name)
    assert urlencode({"series": name}) in page.url
    again = opened(page.url)
    ready(again)
    expect(again.locator("#forecast-title")).to_have_text(name)
    expect(again).to_have_title(f"{name} · tidecast")


def test_the_forecast_moves_when_an_actual_arrives(opened: Opened, address: str, small: World) -> None:
    page = opened(at(address, series="site-1/meter"))
    ready(page)
    expect(page.locator("#link-words")).to_have_text("live")
    before, shown = fan(page), page.locator("#forecast-facts").text_content()
    small.arrive()
    expect(page.locator("#fan")).not_to_have_attribute("aria-label", before, timeout=PATIENCE)
    expect(page.locator("#forecast-facts")).not_to_have_text(shown or "", timeout=PATIENCE)
    expect(page.locator("#replay output")).to_contain_text("the newest")


def test_actuals_come_onto_an_older_forecast_while_one_looks(opened: Opened, address: str, small: World) -> None:
    origin = iso(small.end - 5 * HOUR)
    page = opened(at(address, series="site-2/meter", origin=origin))
    ready(page)
    expect(page.locator("#fan")).to_have_attribute("aria-label", re.compile(" 5 actuals,"))
    facts = page.locator("#forecast-facts").text_content()
    small.arrive()
    expect(page.locator("#fan")).to_have_attribute("aria-label", re.compile(" 6 actuals,"), timeout=PATIENCE)
    assert page.locator("#forecast-facts").text_content() == facts  # the forecast is still that of its origin


def test_past_origins_are_replayed_against_what_came(opened: Opened, address: str) -> None:
    page = opened(at(address, series="site-3/meter"))
    ready(page)
    previous, following = page.get_by_label("Previous origin"), page.get_by_label("Next origin")
    expect(following).to_be_disabled()
    for steps in (1, 2, 3):
        previous.click()
        expect(page.locator("#replay output")).to_contain_text(f"{steps} before the newest")
        expect(page.locator("#fan")).to_have_attribute("aria-label", re.compile(f" {steps} actuals?,"))
    assert "origin=" in page.url
    following.click()
    expect(page.locator("#replay output")).to_contain_text("2 before the newest")
    page.get_by_role("slider", name="Origin").fill("0")
    expect(page.locator("#forecast-facts")).to_contain_text("fallback")  # the first ones were seasonal naive's
    expect(page.locator("#forecast-facts")).to_contain_text("seasonal naive stands in")
    shared = opened(page.url)
    ready(shared)
    expect(shared.locator("#forecast-facts")).to_have_text(page.locator("#forecast-facts").text_content() or "nothing")
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("slider", name="Origin")).to_have_value(re.compile("[2-9]"), timeout=PATIENCE)
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Newest").click()
    expect(page.locator("#replay output")).to_contain_text("the newest")
    assert "origin=" not in page.url


def test_as_of_a_moment_the_page_shows_what_was_known_then(opened: Opened, address: str, small: World) -> None:
    page = opened(at(address, series="site-3/meter"))
    ready(page)
    asked = small.end - 10 * HOUR + HOUR // 2
    page.get_by_label("As of (UTC)").fill(iso(asked).removesuffix("Z"))
    page.get_by_label("As of (UTC)").blur()
    expect(page.locator("#replay output")).to_contain_text("10 before the newest")
    assert "as_of=" in page.url


def iso(instant: int) -> str:
    return datetime.fromtimestamp(instant / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_either_theme(
    opened: Opened, address: str, theme: str, size: dict[str, int]
) -> None:
    page = opened(at(address, series="site-4/meter", days="28"), size=size, color_scheme=theme)
    ready(page)
    for summary in page.locator("summary").all():
        summary.click()
    page.locator("#search").focus()
    expect(page.locator("#series-list [role=option]").first).to_be_visible()
    found = axe(page)
    assert [each for each in found if each["impact"] in ("serious", "critical")] == []
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 200) == (theme == "dark")


def test_axe_finds_nothing_serious_while_the_first_answers_are_on_their_way(opened: Opened, address: str) -> None:
    page = opened(address)
    page.route("**/api/**", lambda route: None)  # asked, and never answered
    page.reload()
    expect(page.locator(".chart")).to_have_count(3)
    assert [each for each in axe(page) if each["impact"] in ("serious", "critical")] == []


def axe(page: Page) -> list[dict[str, Any]]:
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        {"impact": each["impact"], "id": each["id"], "where": [node["html"][:200] for node in each["nodes"][:3]]}
        for each in found["violations"]
    ]


def test_the_modules_of_two_releases_never_meet_in_a_browser(address: str) -> None:
    first = httpx.get(f"{address}static/app.js")
    assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
    again = httpx.get(f"{address}static/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.headers["cache-control"]) == (304, "no-cache")


def test_the_theme_that_is_chosen_stays(opened: Opened, address: str) -> None:
    page = opened(address, color_scheme="light")
    ready(page)
    button = page.get_by_role("button", name=re.compile("Theme"))
    button.click()
    button.click()
    expect(button).to_have_text("Theme: dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(button).to_have_text("Theme: dark")


def test_the_chart_is_read_by_arrow_keys(opened: Opened, address: str) -> None:
    page = opened(at(address, series="site-4/meter"))
    ready(page)
    page.locator("#fan").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#fan-said")).to_contain_text("step 1 of 48")
    expect(page.locator("#fan-said")).to_contain_text("median")
    expect(page.locator("#readout .band-95 dd")).to_contain_text(" to ")
    page.keyboard.press("Home")
    expect(page.locator("#fan-said")).to_contain_text("observed")
    expect(page.locator("#fan-note")).to_contain_text("50 % band is interpolated")


def test_the_table_has_the_numbers_of_the_chart(opened: Opened, address: str) -> None:
    page = opened(at(address, series="site-4/meter"))
    ready(page)
    page.get_by_text("The forecast as a table").click()
    rows = page.locator("#steps-table tbody tr")
    expect(rows).to_have_count(48)
    page.locator("#fan").focus()
    page.keyboard.press("ArrowRight")
    median = page.locator("#readout .median dd").inner_text()
    assert rows.first.locator("td").nth(4).inner_text() == median


def test_a_name_with_markup_is_shown_as_text(opened: Opened, address: str) -> None:
    page = opened(at(address, series=MARKUP))
    ready(page)
    expect(page.locator("#forecast-title")).to_have_text(MARKUP)
    page.locator("#search").fill("<img")
    expect(page.locator("#series-list [role=option]")).to_have_count(1)
    expect(page.locator("#series-list .series-label")).to_have_text(MARKUP)
    expect(page.locator("#dead-letters-body")).to_contain_text("<script>alert(1)</script>")  # and so is a message
    assert page.evaluate("document.querySelectorAll('img, b, main script').length") == 0
    expect(page).to_have_title(f"{MARKUP} · tidecast")


def test_what_an_operator_asks_for_is_in_words(opened: Opened, address: str) -> None:
    page = opened(address)
    ready(page)
    expect(page.locator("#models-body")).to_contain_text("gain 3.1 % over version 2 on 4 origins")
    expect(page.locator("#models-body")).to_contain_text("v3 attention-lstm became champion after v2")
    expect(page.locator("#jobs-body")).to_contain_text("loss 0.213, validation 0.221")
    assert page.locator("#jobs-body progress").evaluate("bar => bar.position") == pytest.approx(1240 / 3000)
    expect(page.locator("#jobs-body")).to_contain_text("the shadow has no forecasts yet")
    expect(page.locator("#stream-body")).to_contain_text("worker-0:4711", timeout=PATIENCE)
    expect(page.locator("#stream-body")).to_contain_text("Lag is unknown")
    expect(page.locator("#accuracy-body")).to_contain_text("seasonal naive")
    page.get_by_label("Metric").select_option("coverage_80")
    expect(page.locator("#accuracy-body")).to_contain_text("share of actuals inside the 80 % band")
    assert "metric=coverage_80" in page.url


def test_nothing_is_wider_than_a_phone(opened: Opened, address: str) -> None:
    page = opened(at(address, series="site-4/meter"), size=PHONE, has_touch=True, is_mobile=True)
    ready(page)
    assert page.evaluate("document.scrollingElement.scrollWidth") == PHONE["width"]
    expect(page.locator("#series-list")).to_be_hidden()
    page.locator("#search").tap()
    page.locator("#series-list [role=option]").nth(2).tap()
    expect(page.locator("#series-list")).to_be_hidden()
    expect(page.locator("#forecast-title")).not_to_have_text("site-4/meter")


def test_motion_is_left_out_for_those_who_ask_for_it(opened: Opened, address: str, small: World) -> None:
    page = opened(at(address, series="site-5/meter", origin=iso(small.end - HOUR)), reduced_motion="reduce")
    ready(page)
    page.evaluate(
        "document.querySelector('#fan').append(Object.assign(document.createElement('i'), {className: 'arrived'}))"
    )
    assert page.evaluate("getComputedStyle(document.querySelector('.arrived')).animationName") == "none"


def test_ten_thousand_series_are_a_few_rows_in_the_page(
    opened: Opened, tmp_path: Path, serve: Callable[[str], Serve]
) -> None:
    opened.expected = ("404",)  # a series without a forecast
    url = f"sqlite:///{tmp_path}/many.db"
    upgrade(url)
    database = open_database(url, timeout=20.0)
    names = [f"series-{i:05d}" for i in range(10_000)]
    database.store(TOPIC, "last", now).recent(names, 1)
    database.close()
    page = opened(serve(url).address)
    rows = page.locator("#series-list [role=option]")
    expect(page.locator("#finder-count")).to_have_text("10,000", timeout=PATIENCE)
    most = 0
    for share in (0.0, 0.01, 0.2, 0.5, 0.9, 1.0):
        page.locator("#series-list").evaluate("(list, share) => list.scrollTop = share * list.scrollHeight", share)
        expect(page.locator(f"#series-{int(share * 9_999)}")).to_be_attached()
        most = max(most, rows.count())
    assert 10 < most < MOST_ROWS
    expect(page.locator("#series-9999 .series-label")).to_have_text("series-09999", timeout=PATIENCE)
    page.keyboard.press("/")
    page.keyboard.type("09876")
    expect(rows).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("#forecast-title")).to_have_text("series-09876")
    expect(page.locator("#forecast-message")).to_contain_text("no forecast yet")


def test_an_empty_database_says_what_to_do_and_shows_the_first_series_by_itself(
    opened: Opened, tmp_path: Path, serve: Callable[[str], Serve]
) -> None:
    url = f"sqlite:///{tmp_path}/empty.db"
    upgrade(url)
    page = opened(serve(url).address)
    expect(page.locator("#forecast-message")).to_contain_text("No forecasts yet.", timeout=PATIENCE)
    expect(page.locator("#forecast-message")).to_contain_text("tidecast doctor")
    awaited = "Next, the first retraining: needs 204 steps of a series, has 0."
    expect(page.locator("#models-body")).to_contain_text(awaited)
    expect(page.locator("#tiles")).to_contain_text("version 0")
    assert [each for each in axe(page) if each["impact"] in ("serious", "critical")] == []
    with world(tmp_path, now(), names=["first"], hours=30, issued=8, url=url):
        expect(page.locator("#forecast-title")).to_have_text("first", timeout=PATIENCE)
    ready(page)


def test_a_series_that_there_is_not_is_named_with_a_hint(opened: Opened, address: str) -> None:
    opened.expected = ("404",)
    page = opened(at(address, series="site-9/meter"))
    expect(page.locator("#forecast-message")).to_contain_text("There is no series of this name.", timeout=PATIENCE)
    expect(page.locator("#forecast-message")).to_contain_text("site-")
    page.locator("#series-list [role=option]").first.click()
    expect(page.locator("#forecast-message")).to_be_hidden()
    ready(page)


def test_a_server_that_is_away_is_said_and_found_again(
    opened: Opened, small: World, serve: Callable[[str], Serve]
) -> None:
    opened.expected = ("net::ERR_",)
    server = serve(small.url)
    page = opened(at(server.address, series="site-6/meter"))
    ready(page)
    expect(page.locator("#link-words")).to_have_text("live")
    server.stop()
    expect(page.locator("#link-words")).to_contain_text("not live since", timeout=PATIENCE)
    expect(page.locator("#banner")).to_contain_text("tidecast serve does not answer, since", timeout=PATIENCE)
    expect(page.locator("#fan canvas")).to_be_visible()  # what was there stays
    origin = small.arrive()
    server.start()
    expect(page.locator("#banner")).to_be_hidden(timeout=PATIENCE)
    expect(page.locator("#link-words")).to_have_text("live", timeout=PATIENCE)
    expect(page.locator("#forecast-facts")).to_contain_text(iso(origin)[11:16], timeout=PATIENCE)  # it caught up


def test_a_database_that_is_away_is_said_with_since_when_and_found_again(
    opened: Opened, tmp_path: Path, serve: Callable[[str], Serve]
) -> None:
    reason = servers.PostgreSQL.missing()
    if reason:
        pytest.fail(reason) if servers.required() else pytest.skip(reason)
    opened.expected = ("503",)
    with servers.PostgreSQL() as postgresql:
        with world(tmp_path, now(), names=["one", "two"], hours=60, issued=16, url=postgresql.fresh_database()) as made:
            page = opened(at(serve(made.url).address, series="two"))
            ready(page)
        postgresql.kill()
        expect(page.locator("#banner")).to_contain_text(
            re.compile(r"The database is away, since \d\d:\d\d:\d\d UTC"), timeout=PATIENCE
        )
        postgresql.start()
        expect(page.locator("#banner")).to_be_hidden(timeout=PATIENCE)
        page.locator("#series-list [role=option]").first.click()
        expect(page.locator("#forecast-title")).to_have_text("one")
        ready(page)


def test_the_focus_stays_where_it_is_when_figures_are_renewed(opened: Opened, address: str) -> None:
    page = opened(at(address, series="site-4/meter"))
    ready(page)
    page.get_by_role("button", name="28 d").click()
    expect(page.get_by_role("button", name="28 d")).to_be_focused()
    expect(page.get_by_role("button", name="28 d")).to_have_attribute("aria-pressed", "true")
    page.get_by_text("Reliability as a table").click()
    page.get_by_role("button", name="1 d").click()
    expect(page.locator("#reliability-body details")).to_have_attribute("open", "")
    expect(page.locator("#reliability-body tbody tr")).to_have_count(13)


def test_a_series_that_is_new_comes_into_the_list_by_itself(
    opened: Opened, tmp_path: Path, serve: Callable[[str], Serve]
) -> None:
    with world(tmp_path, now(), names=["first"], hours=30, issued=8) as made:
        page = opened(serve(made.url).address)
        ready(page)
        expect(page.locator("#finder-count")).to_have_text("1")
        made.store.recent(["second"], 1)
        expect(page.locator("#series-list [role=option]")).to_have_count(2, timeout=PATIENCE)
