"""Which requests are allowed, and the headers of every response: plain ASGI around the application.

On loopback a request must name this machine as its host, so that a page elsewhere cannot reach us through a name of its
own that it lets point here (DNS rebinding). On another address it must bring the token, or the reverse proxy's header.
"""

import base64
import secrets
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.settings import ServeSettings
from pipeline.settings.address import is_loopback, name_in
from pipeline.web.documents import Problem
from pipeline.web.page_metrics import Traffic
from pipeline.web.problems import refuse

STREAM = "/api/events"
OPEN = ("/healthz", "/readyz")
"""Probes are allowed without a token and under any host's name; they say nothing of the data."""
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Access:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self.traffic = Traffic()
        self._app = app
        self._settings = settings
        self._token = settings.token.get_secret_value().encode() if settings.token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        began, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = None if scope["path"] in OPEN else self._refuse(scope)
        try:
            if refusal is None:
                await self._app(scope, receive, send_with_headers)
            else:
                problem, code, headers = refusal
                await refuse(code, problem, headers)(scope, receive, send_with_headers)
        finally:
            route = str(getattr(scope.get("route"), "path", "other"))  # a requested path could be anything
            streamed = route == STREAM and status == 200
            self.traffic.count(route, status, 0.0 if streamed else time.perf_counter() - began)

    def _refuse(self, scope: MutableMapping[str, Any]) -> tuple[Problem, int, dict[str, str]] | None:
        headers = Headers(scope=scope)
        known = self._settings.loopback or self._settings.hosts
        if known and not self._knows_host(headers.get("host", "")):
            hint = "open it by the address that tidecast serve listens on, or add the name to serve.hosts"
            return Problem(code="unknown_host", message="this server does not go by that name", hint=hint), 421, {}
        named = self._settings.trusted_header
        if named is not None and headers.get(named, "").strip():
            return None
        if self._token is not None and self._brings_token(headers.get("authorization", "")):
            return None
        if self._token is None and named is None:
            return None
        hint = (
            "send it as Authorization: Bearer TOKEN; a browser asks for it: any user name, the token as password"
            if self._token is not None
            else "come in through the reverse proxy"
        )
        asks = {"WWW-Authenticate": 'Basic realm="tidecast", charset="UTF-8"'} if self._token is not None else {}
        return Problem(code="not_allowed", message="this server wants to know who asks", hint=hint), 401, asks

    def _knows_host(self, host: str) -> bool:
        name = name_in(host)
        return is_loopback(name) or name in {each.lower() for each in self._settings.hosts}

    def _brings_token(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        token = given.strip().encode()
        if scheme.lower() == "basic":
            try:
                token = base64.b64decode(token, validate=True).partition(b":")[2]
            except ValueError:
                return False
        elif scheme.lower() != "bearer":
            return False
        return self._token is not None and secrets.compare_digest(token, self._token)
