"""Tables of tidecast.toml for what streams: the topics, the database, and the shape of messages and series."""

import socket
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from pipeline.grid.times import TimeRule, Unit, midnight, open_zone
from pipeline.settings.values import Day, Limit, Password, Phase, Policy, Seconds, Section, Share, Skew, Steps

LEAST_SKEW = 60.0
"""Seconds by which honest clocks may differ, however fine the grid."""


class KafkaSettings(Section):
    """Brokers, topics, the group, and how long a call may take."""

    bootstrap_servers: str = "127.0.0.1:9092"
    input_topic: str = "observations"
    output_topic: str = "forecasts"
    dead_letter_topic: str = "observations.dead-letters"
    group: str = "tidecast"
    instance: str = Field(default_factory=lambda: f"{socket.gethostname()}-0", min_length=1)
    create_topics: bool = True
    partitions: int = Field(6, ge=1)
    replication: int = Field(1, ge=1)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_key_password: Password | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: Password | None = None
    poll: Seconds = 0.5
    max_messages: int = Field(20_000, ge=1, le=1_000_000)
    session_timeout: Seconds = 30.0
    call_timeout: Seconds = 30.0
    compression: Literal["none", "gzip", "lz4", "zstd", "snappy"] = "none"
    batch_hook: bool = True

    @model_validator(mode="after")
    def check_poll(self) -> "KafkaSettings":
        """Short polls livelock the group join (shared/kafka.md), so refuse them."""
        if self.poll < 0.5:
            raise ValueError("poll must be at least 500 ms: shorter polls keep the group from joining")
        if self.poll >= self.call_timeout:
            raise ValueError("poll must be shorter than call_timeout, or the watchdog takes an idle poll for a hang")
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


def _given(settings: dict[str, object]) -> str:
    return ", ".join(name for name, value in settings.items() if value is not None)


class DatabaseSettings(Section):
    """Where observations, forecasts and models live."""

    url: SecretStr = SecretStr("sqlite:///tidecast.db")
    timeout: Seconds = 30.0


class InputSettings(Section):
    """How an input message is read."""

    series_id: str = "series_id"
    timestamp: str = "timestamp"
    value: str = "value"
    covariates: tuple[str, ...] = Field((), max_length=32)
    time_unit: Unit = "auto"
    oldest_time: Day = None
    max_future_skew: Skew = Steps(2)
    max_message_bytes: int = Field(900_000, ge=1)
    max_batch_bytes: int = Field(1 << 26, ge=1 << 20, le=1 << 30)
    max_name_bytes: int = Field(256, ge=1)
    tombstones: Literal["skip", "refuse"] = "skip"
    most_bad: Share = 0.5
    bad_window: int = Field(1_000, ge=1, le=1_000_000)
    bad_pause: Seconds = 60.0
    max_new_series: Limit = 100_000  # a minute and worker
    max_series: Limit = 2_000_000  # in SQL
    series_in_memory: Limit = 1_000_000  # a worker

    def time_rule(self, timezone: str | None = None) -> TimeRule:
        """Return what is a time; `timezone` is that of times in files and frames that have no offset."""
        oldest = None if self.oldest_time is None else midnight(self.oldest_time)
        return TimeRule(self.time_unit, oldest, open_zone(timezone) if timezone else None)

    def future_skew(self, step_seconds: float) -> float:
        """Return how many seconds ahead of now an event may lie; steps of the grid are a minute at least."""
        skew = self.max_future_skew
        return max(LEAST_SKEW, skew * step_seconds) if isinstance(skew, Steps) else float(skew)

    @model_validator(mode="after")
    def check_fields(self) -> "InputSettings":
        """Each part of an event has a field of its own, and each covariate a name that SQL can hold."""
        own = {self.series_id, self.timestamp, self.value}
        if len(own) < 3:
            raise ValueError("series_id, timestamp and value must name three different fields")
        if len(own | set(self.covariates)) < 3 + len(self.covariates):
            raise ValueError("covariates must name different fields, and none of series_id, timestamp and value")
        if not all(name and name.isprintable() for name in self.covariates):
            raise ValueError("covariates must be names of fields: text that is not empty and can be printed")
        for name in (*own, *self.covariates):
            if not name.isprintable() or set(name) & {'"', "\\"}:
                raise ValueError(f"{name!r} cannot be a field: write a name without quotes, backslashes and line ends")
        return self


class SeriesSettings(Section):
    """The grid, the window, and when a series is due for a forecast."""

    frequency: str = "1h"
    timezone: str = "UTC"
    phase: Phase = None
    season: int | None = Field(None, ge=1)
    context: int = Field(336, ge=2)
    horizon: int = Field(48, ge=1, le=10_000)
    duplicates: Policy = "last"
    on: Literal["latest", "every_step"] = "latest"
    min_observed: float = Field(0.5, ge=0, le=1)

    @field_validator("timezone")
    @classmethod
    def check_timezone(cls, name: str) -> str:
        """Refuse what is no zone; UTC is UTC under all its names."""
        return str(open_zone(name).key)
