"""One question to a schema registry over HTTP: a bounded answer in a bounded time, TLS verified, no redirects.

Who must act is decided here: 401 and 403 are the operator's, and a certificate that is not trusted; whatever else is no
answer is an outage. A 404 counts as "no such schema" only in the registry's own words, not in those of a proxy.
"""

import json
import ssl
from base64 import b64encode
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import ConfigError, Service, TidecastError, Unavailable
from pipeline.settings import RegistrySettings
from pipeline.tls import client_context, said
from pipeline.visible import shown

MOST_BYTES = 8 << 20
"""Of an answer."""
PIECE = 1 << 16
UNKNOWN = (404, 40401, 40402, 40403)
"""Error codes of a registry that has no such thing."""
SECOND = 1_000_000


class RegistryClient:
    """Asks the addresses of the settings in turn until one answers; `timer` counts microseconds."""

    def __init__(self, settings: RegistrySettings, timer: Callable[[], int]) -> None:
        self._urls, self._timeout, self._timer = settings.urls, settings.timeout, timer
        secure = any(url.startswith("https:") for url in self._urls)
        self._context = client_context(settings, "registry") if secure else None
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if settings.username is not None and settings.password is not None:
            account = f"{settings.username}:{settings.password.get_secret_value()}".encode()
            self._headers["Authorization"] = f"Basic {b64encode(account).decode()}"

    def ask(self, path: str) -> dict[str, Any] | None:
        """Return the object at a path, None if the registry says that there is none. Unavailable, or ConfigError."""
        failure: TidecastError | None = None
        for url in self._urls:
            try:
                return self._ask(url, path)
            except ssl.SSLCertVerificationError as error:
                words = error.verify_message.rstrip(".")
                failure = ConfigError(
                    f"the certificate of {url} cannot be trusted ({words}); set registry.ssl_cafile to the authority "
                    "that signed it, and registry.url as it names the host"
                )
            except ssl.SSLError as error:
                failure = _away(url, f"no TLS: {said(error)}")
            except (OSError, HTTPException) as error:
                failure = _away(url, str(error) or type(error).__name__)
            except Unavailable as error:
                failure = error
        assert failure is not None, "there is one address at least"
        raise failure

    def _ask(self, url: str, path: str) -> dict[str, Any] | None:
        parts = urlsplit(url)
        assert parts.hostname is not None, "the settings check it"
        until = self._timer() + int(self._timeout * SECOND)
        if parts.scheme == "https":
            connection: HTTPConnection = HTTPSConnection(
                parts.hostname, parts.port, timeout=self._timeout, context=self._context
            )
        else:
            connection = HTTPConnection(parts.hostname, parts.port, timeout=self._timeout)
        try:
            connection.request("GET", parts.path + path, headers=self._headers)
            with connection.getresponse() as answer:
                return _understand(answer.status, self._read(answer, url, until), url)
        finally:
            connection.close()

    def _read(self, answer: HTTPResponse, url: str, until: int) -> bytes:
        body = b""
        while piece := answer.read1(PIECE):
            body += piece
            if len(body) > MOST_BYTES:
                raise _away(url, f"an answer of more than {MOST_BYTES:,} bytes")
            if self._timer() > until:
                raise _away(url, f"no whole answer in {self._timeout:g} s")
        return body


def _understand(status: int, body: bytes, url: str) -> dict[str, Any] | None:
    if status in (401, 403):
        raise ConfigError(
            f"the schema registry at {url} refuses this client (HTTP {status}); "
            "check registry.username and registry.password, and that they may read"
        )
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if status == 404 and type(found) is dict and found.get("error_code") in UNKNOWN:
        return None
    if status != 200 or type(found) is not dict:
        raise _away(url, f"HTTP {status}, {shown(body[:80].decode(errors='replace'))}")
    return found


def _away(url: str, why: str) -> Unavailable:
    return Unavailable(f"the schema registry at {url} does not answer ({why}); check registry.url", Service.REGISTRY)
