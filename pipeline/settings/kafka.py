"""The tables [kafka] and [registry]: brokers, topics, the group, where schemas are, and how long a call may take."""

import socket
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from pipeline.settings.values import Password, Seconds, Section

POLL = 0.5
"""Longest wait for messages in seconds: shorter polls keep the group from joining."""


class KafkaSettings(Section):
    """Brokers, topics, the group, and how long a call may take."""

    bootstrap_servers: str = "127.0.0.1:9092"
    """Brokers as host:port, with commas between them."""
    input_topic: str = "observations"
    """Topic that events are read from."""
    output_topic: str = "forecasts"
    """Topic that forecasts are published to."""
    dead_letter_topic: str = "observations.dead-letters"
    """Topic that receives the messages that cannot be read."""
    group: str = "tidecast"
    """Consumer group. All workers of one deployment share it."""
    instance: str = Field(default_factory=lambda: f"{socket.gethostname()}-0", min_length=1)
    """Name of this worker, its own within the group. The default is the host's name and `-0`; `tidecast run` numbers
    its workers."""
    create_topics: bool = True
    """Create topics that are missing."""
    partitions: int = Field(6, ge=1)
    """Partitions of an input topic that tidecast creates."""
    replication: int = Field(1, ge=1)
    """Replicas of topics that tidecast creates."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How connections are encrypted and who logs in."""
    ssl_cafile: Path | None = None
    """PEM file of the certificate authority. Without it, those of the system count."""
    ssl_certfile: Path | None = None
    """PEM file of the client's certificate, together with `kafka.ssl_keyfile`."""
    ssl_keyfile: Path | None = None
    """PEM file of the client's key."""
    ssl_key_password: Password | None = None
    """Password of an encrypted key. It is masked wherever settings are shown."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """SASL mechanism, with SASL_PLAINTEXT or SASL_SSL."""
    sasl_username: str | None = None
    """SASL user."""
    sasl_password: Password | None = None
    """SASL password. It is masked wherever settings are shown."""
    max_messages: int = Field(20_000, ge=1, le=1_000_000)
    """Expert: Messages in one turn, about: record batches are taken whole. A long horizon, a long context with many
    covariates and a turn that failed lower it."""
    session_timeout: Seconds = 30.0
    """Expert: A worker that is silent for so long loses its partitions."""
    call_timeout: Seconds = 30.0
    """Expert: A call that takes longer is an outage. At 1.5 times that, the worker ends itself."""
    compression: Literal["none", "gzip", "lz4", "zstd", "snappy"] = "none"
    """Compression of output messages."""
    batch_hook: bool = True
    """Expert: Read record batches as columns. `false` takes the Kafka library's own path."""

    @model_validator(mode="after")
    def check_call(self) -> "KafkaSettings":
        """A call that may take no longer than a poll would make the watchdog take an idle poll for a hang."""
        if self.call_timeout <= POLL:
            raise ValueError(f"call_timeout must be longer than a poll, which waits {POLL:g} s for messages")
        return self

    @model_validator(mode="after")
    def check_security(self) -> "KafkaSettings":
        """Refuse what would be ignored: a certificate without TLS, a user without SASL, and half of either."""
        protocol = self.security_protocol
        ssl = {name: getattr(self, name) for name in type(self).model_fields if name.startswith("ssl_")}
        sasl = {name: getattr(self, name) for name in type(self).model_fields if name.startswith("sasl_")}
        if not self.encrypted and (given := _given(ssl)):
            raise ValueError(f"{given} is for TLS, but security_protocol is {protocol}: set it to SSL or SASL_SSL")
        account = {name: value for name, value in sasl.items() if name != "sasl_password"}  # may be there for others
        if not protocol.startswith("SASL") and (given := _given(account)):
            raise ValueError(f"{given} is for SASL, but security_protocol is {protocol}: set it to SASL_SSL")
        if protocol.startswith("SASL") and None in sasl.values():
            missing = ", ".join(name for name, value in sasl.items() if value is None)
            raise ValueError(f"security_protocol {protocol} needs {missing}, too")
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            raise ValueError("ssl_certfile and ssl_keyfile belong together: give both, or neither")
        return self

    @property
    def encrypted(self) -> bool:
        """Whether connections use TLS."""
        return self.security_protocol.endswith("SSL")


class RegistrySettings(Section):
    """A schema registry with the interface that Confluent published: theirs, Karapace, Redpanda, Apicurio's ccompat."""

    url: str | None = None
    """Address of the schema registry; several, with commas between them, are tried in turn."""
    username: str | None = None
    """User, or API key."""
    password: Password | None = None
    """Password, or API secret. It is masked wherever settings are shown."""
    ssl_cafile: Path | None = None
    """PEM file of the certificate authority. Without it, those of the system count."""
    ssl_certfile: Path | None = None
    """PEM file of the client's certificate, together with `registry.ssl_keyfile`."""
    ssl_keyfile: Path | None = None
    """PEM file of the client's key."""
    ssl_key_password: Password | None = None
    """Password of an encrypted key. It is masked wherever settings are shown."""
    timeout: Seconds = 5.0
    """Expert: An answer that takes longer is an outage."""

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses, without a slash at the end."""
        return tuple(url.strip().rstrip("/") for url in self.url.split(",")) if self.url else ()

    @field_validator("url")
    @classmethod
    def check_url(cls, url: str | None) -> str | None:
        """Refuse what is no address of HTTP, and one with a password in it, which logs would show."""
        for one in url.split(",") if url is not None else ():
            try:
                parts = urlsplit(one.strip())
                whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            except ValueError:
                whole = False
            if not whole or parts.query or parts.fragment:
                raise ValueError("write it as https://host:port, with a path behind it if there is one")
            if "@" in parts.netloc:
                raise ValueError("write the user and the password as registry.username and registry.password")
        return url

    @model_validator(mode="after")
    def check_pairs(self) -> "RegistrySettings":
        """Half of an account or of a certificate is a mistake, and so is one that no connection would use."""
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together: give both, or neither")
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            raise ValueError("ssl_certfile and ssl_keyfile belong together: give both, or neither")
        files = (self.ssl_cafile, self.ssl_certfile, self.ssl_key_password)
        if any(own is not None for own in files) and not all(url.startswith("https:") for url in self.urls):
            raise ValueError("the ssl settings are for TLS, and url is not https")
        return self


def _given(settings: dict[str, object]) -> str:
    return ", ".join(name for name, value in settings.items() if value is not None)
