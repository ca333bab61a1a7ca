"""Who may read: this machine by its own names, others with a token or a reverse proxy's header; and every header."""

import asyncio
import base64
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from pipeline.errors import ConfigError
from pipeline.settings import ServeSettings
from pipeline.settings.sources import load, shown
from pipeline.web.access import Access

TOKEN = "a secret of sixteen or more"


def answer(settings: ServeSettings, path: str = "/api/status", **headers: str | bytes) -> httpx.Response:
    given = {name.encode(): text if isinstance(text, bytes) else text.encode() for name, text in headers.items()}

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(Access(PlainTextResponse("inside"), settings))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8321") as client:
            return await client.get(path, headers=given)

    return asyncio.run(call())


def admits(settings: ServeSettings, **headers: str | bytes) -> bool:
    found = answer(settings, **headers)
    assert found.status_code in (200, 401, 421)
    return found.status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8321", "localhost:1", "LOCALHOST", "[::1]:8321", "127.0.0.9"])
def test_loopback_goes_by_its_own_names(host: str) -> None:
    assert admits(ServeSettings(), host=host)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8321", "127.0.0.1.evil.example", "localhost.evil.example", "", "10.0.0.1", "@"],
)
def test_loopback_refuses_another_name_that_points_to_it(host: str) -> None:
    found = answer(ServeSettings(), host=host)
    assert (found.status_code, found.json()["error"]["code"]) == (421, "unknown_host")
    assert "serve.hosts" in found.json()["error"]["hint"]


def test_a_name_that_the_settings_know_is_let_in() -> None:
    settings = ServeSettings(hosts=("Desk.example",))
    assert admits(settings, host="desk.EXAMPLE:8321")
    assert not admits(settings, host="example")
    proxied = ServeSettings(listen="0.0.0.0:8321", trusted_header="X-User", hosts=("desk.example",))
    assert admits(proxied, host="desk.example", **{"x-user": "ada"})
    assert not admits(proxied, host="evil.example", **{"x-user": "ada"})


def test_a_token_opens_as_bearer_and_as_the_password_that_a_browser_asks_for() -> None:
    settings = ServeSettings(listen="0.0.0.0:8321", token=TOKEN)  # type: ignore[arg-type]

    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    assert admits(settings, authorization=f"Bearer {TOKEN}", host="anything.example")
    assert admits(settings, authorization=basic(f"anybody:{TOKEN}"))
    for wrong in ("", TOKEN, f"Bearer {TOKEN}x", "Bearer ", basic(f"{TOKEN}:x"), basic("x"), "Basic !!", "Basic é"):
        assert not admits(settings, authorization=wrong.encode())
    refused = answer(settings)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "not_allowed")
    assert refused.headers["www-authenticate"].startswith("Basic ")


def test_a_token_on_loopback_is_asked_for_too() -> None:
    assert not admits(ServeSettings(token=TOKEN))  # type: ignore[arg-type]


def test_the_header_of_a_reverse_proxy_opens_and_without_a_token_nothing_else_does() -> None:
    settings = ServeSettings(listen="0.0.0.0:8321", trusted_header="X-Forwarded-User")
    assert admits(settings, **{"x-forwarded-user": "ada"})
    assert not admits(settings)
    assert not admits(settings, **{"x-forwarded-user": "  "})
    assert "www-authenticate" not in answer(settings).headers


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_come_in_without_anything(path: str) -> None:
    settings = ServeSettings(listen="0.0.0.0:8321", token=TOKEN)  # type: ignore[arg-type]
    assert answer(settings, path, host="10.1.2.3").status_code == 200
    assert answer(settings, path + "/").status_code == 401


def test_every_answer_is_counted_by_its_route_and_not_by_what_was_asked_for() -> None:
    access = Access(PlainTextResponse("inside"), ServeSettings())

    async def call() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(access), base_url="http://127.0.0.1") as client:
            for path in ("/a", "/b"):
                await client.get(path)
            await client.get("/a", headers={"host": "evil.example"})

    asyncio.run(call())
    assert access.traffic.answers == {("other", 200): 2, ("other", 421): 1}
    assert (access.traffic.total(), access.traffic.failed()) == (3, 0)
    assert access.traffic.seconds["other"] > 0


def test_every_answer_has_the_strict_headers_also_a_refusal() -> None:
    for found in (answer(ServeSettings()), answer(ServeSettings(), host="evil.example")):
        policy = found.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["referrer-policy"] == "no-referrer"
        assert not [name for name in found.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        (
            ["serve.listen=0.0.0.0:8321"],
            r"serve: listen = 0\.0\.0\.0:8321 is not loopback: set token .* trusted_header",
        ),
        (["serve.listen=tidecast.example:80"], "is not loopback"),
        (["serve.listen=:8321"], "is not an address"),
        (["serve.token=short"], "serve.token: token must be at least 16"),
        (["serve.trusted_header='X User'"], "serve.trusted_header: .* is not the name of a header"),
        (["serve.clients=99999"], "serve.clients: .*10000"),
    ],
)
def test_settings_that_would_let_everybody_in_are_refused(sets: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load(None, sets)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:8321", "[::1]:8321", "off"])
def test_loopback_needs_no_token(listen: str) -> None:
    load(None, [f"serve.listen={listen}"])


def test_the_token_is_masked_wherever_settings_are_shown() -> None:
    plain: dict[str, Any] = shown(load(None, [f"serve.token={TOKEN}"]))
    assert TOKEN not in str(plain)
