"""The table [serve]: the read API and its page."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from pipeline.settings.address import is_loopback, parse_address, split_address
from pipeline.settings.values import Password, Seconds, Section

TOKEN_CHARACTERS = 16
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class ServeSettings(Section):
    """Where the page and its API are served, who may read them, and how much they may ask of the database."""

    listen: Annotated[str | None, BeforeValidator(parse_address)] = "127.0.0.1:8321"
    """host:port of the page and its API. `off`: nowhere."""
    token: Password | None = None
    """Secret that a reader must bring: as `Authorization: Bearer`, or as the password that a browser asks for; 16
    characters at least. It is masked wherever settings are shown."""
    trusted_header: str | None = None
    """Header with which a reverse proxy names who has logged in, such as `X-Forwarded-User`. Whoever reaches the port
    can send it."""
    hosts: tuple[str, ...] = ()
    """Names besides localhost under which the page may be opened. Without them, any name counts on another address than
    loopback."""
    query_timeout: Seconds = 10.0
    """Expert: A query that takes longer is stopped."""
    clients: int = Field(64, ge=1, le=10_000)
    """Expert: Open event streams. Besides them, 448 connections may be open. One address may have half of all, or all
    if `serve.trusted_header` is set."""

    @field_validator("token")
    @classmethod
    def check_token(cls, token: SecretStr | None) -> SecretStr | None:
        """A short token is found by trying, and one that a header cannot hold never fits."""
        secret = token.get_secret_value() if token else None
        if secret is not None and not (secret.isascii() and secret.isprintable() and len(secret) >= TOKEN_CHARACTERS):
            raise ValueError(f"token must be at least {TOKEN_CHARACTERS} printable ASCII characters")
        return token

    @field_validator("trusted_header")
    @classmethod
    def check_header(cls, name: str | None) -> str | None:
        """Only the name of a header can be trusted."""
        if name is not None and not _HEADER.fullmatch(name):
            raise ValueError(f"trusted_header {name!r} is not the name of a header; write X-Forwarded-User")
        return name

    @model_validator(mode="after")
    def check_who_may_read(self) -> "ServeSettings":
        """Everybody who reaches another address than loopback could read everything."""
        if self.listen is not None and not self.loopback and self.token is None and self.trusted_header is None:
            raise ValueError(
                f"listen = {self.listen} is not loopback: set token to a secret, or trusted_header to the header with "
                "which a reverse proxy names who has logged in"
            )
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return self.listen is not None and is_loopback(split_address(self.listen)[0])
