"""What the settings hold and nobody may read, and masking it in whatever is written."""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from pipeline.settings import Settings

MASK = "***"


def list_secrets(settings: Settings) -> list[str]:
    """List every secret in settings, of the database's address its passwords, as they are and as a URL writes them."""
    address = settings.database.url
    url = urlsplit(address.get_secret_value())
    fields = [field.partition("=") for field in url.query.split("&")]
    written = [value for name, _, value in fields if name in ("password", "sslpassword", "passfile")]
    if url.password:
        written.append(url.password)
    for _, section in settings:
        written += [
            value.get_secret_value() for _, value in section if isinstance(value, SecretStr) and value is not address
        ]
    return [*written, *map(unquote, written)]


def mask(text: str, secrets: Iterable[str]) -> str:
    """Replace every secret in a text, longer ones first, because one may be a part of another."""
    for secret in sorted(set(filter(None, secrets)), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


class Masking:
    """A processor of structlog that masks secrets in every value of an event, however deep, and in no name."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = sorted(set(filter(None, secrets)), key=len, reverse=True)

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Return the event without secrets."""
        return {name: self._masked(value) for name, value in event.items()} if self._secrets else event

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            return mask(value, self._secrets)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {name: self._masked(own) for name, own in value.items()}
        if isinstance(value, list | tuple):
            return [self._masked(own) for own in value]
        shown = repr(value)  # an exception, an address: as a renderer would show it
        without = mask(shown, self._secrets)
        return value if without == shown else without
