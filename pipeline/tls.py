"""TLS of a client: TLS 1.2 or later, the chain and the host's name always verified."""

import ssl
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from pipeline.errors import ConfigError


class TlsFiles(Protocol):
    """The files that a table of settings names."""

    @property
    def ssl_cafile(self) -> Path | None:
        """The authority's certificate; those of the system without it."""
        ...

    @property
    def ssl_certfile(self) -> Path | None:
        """The client's certificate."""
        ...

    @property
    def ssl_keyfile(self) -> Path | None:
        """The client's key."""
        ...

    @property
    def ssl_key_password(self) -> SecretStr | None:
        """The password of the key."""
        ...


def client_context(files: TlsFiles, table: str) -> ssl.SSLContext:
    """Return the TLS that the settings in a table ask for; ConfigError when a file is missing or does not fit."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    authorities = _readable(files.ssl_cafile, f"{table}.ssl_cafile")
    if authorities is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(authorities)
        except ssl.SSLError as error:
            raise ConfigError(f"{table}.ssl_cafile {authorities} holds no PEM certificate") from error
    certificate = _readable(files.ssl_certfile, f"{table}.ssl_certfile")
    key = _readable(files.ssl_keyfile, f"{table}.ssl_keyfile")
    if certificate is not None:
        secret = files.ssl_key_password

        def password() -> str:  # without it OpenSSL would ask on the terminal
            if secret is None:
                raise ConfigError(f"{table}.ssl_keyfile {key} is encrypted; set {table}.ssl_key_password")
            return secret.get_secret_value()

        try:
            context.load_cert_chain(certificate, key, password)
        except ssl.SSLError as error:
            raise ConfigError(
                f"{table}.ssl_certfile {certificate} and ssl_keyfile {key} are no PEM certificate and its key, or "
                f"ssl_key_password is wrong ({said(error)})"
            ) from error
    return context


def _readable(path: Path | None, name: str) -> str | None:
    if path is None:
        return None
    try:
        with path.open("rb"):
            return str(path)
    except OSError as error:
        raise ConfigError(f"{name}: {path} cannot be read ({error.strerror})") from error


def said(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason in plain words."""
    return (error.reason or str(error)).lower().replace("_", " ")
