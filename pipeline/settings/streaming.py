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
    poll: Seconds = 0.5
    """Expert: Longest wait for messages. It is half a second at least and shorter than `kafka.call_timeout`."""
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
    """`sqlite:///FILE` or `postgresql://USER@HOST/NAME`. A password in it is masked wherever settings are shown."""
    timeout: Seconds = 30.0
    """Expert: Longest wait for a connection, a lock or a statement."""


class InputSettings(Section):
    """How an input message is read."""

    series_id: str = "series_id"
    """Field with the name of the series."""
    timestamp: str = "timestamp"
    """Field with the event time."""
    value: str = "value"
    """Field with the value."""
    covariates: tuple[str, ...] = Field((), max_length=32)
    """Fields with further numbers, past covariates. They are read and stored under these names; 32 at most."""
    time_unit: Unit = "auto"
    """Unit of times that are numbers since 1970, in messages and files. `auto` tells the units apart by size, for 1980
    to 2190."""
    oldest_time: Day = None
    """Date from which event times are believed; an older event is a dead letter. Without it, texts count from 1900 on
    and numbers from 1980 on. Earlier numbers need `input.time_unit`, too."""
    max_future_skew: Skew = Steps(2)
    """An event farther in the future is a dead letter: steps of the grid (a minute at least), or a duration."""
    max_message_bytes: int = Field(900_000, ge=1)
    """Expert: A longer message is a dead letter."""
    max_batch_bytes: int = Field(1 << 26, ge=1 << 20, le=1 << 30)
    """Expert: A compressed record batch that unpacks to more is one dead letter."""
    max_name_bytes: int = Field(256, ge=1)
    """Expert: An event whose series has a longer name is a dead letter."""
    tombstones: Literal["skip", "refuse"] = "skip"
    """Messages without a value, with which Kafka deletes a key: `skip` counts them, `refuse` makes them dead
    letters."""
    most_bad: Share = 0.5
    """Share of dead letters in `input.bad_window` messages beyond which a partition pauses instead of storing more.
    `off`: it never pauses."""
    bad_window: int = Field(1_000, ge=1, le=1_000_000)
    """Expert: Messages in a row, of one partition and worker, over which the share of `input.most_bad` is taken."""
    bad_pause: Seconds = 60.0
    """Expert: A paused partition is tried again after so long."""
    max_new_series: Limit = 100_000  # a minute and worker
    """Series that a worker may meet for the first time in a minute. Messages of more are dead letters; known series go
    on. `off`: any number."""
    max_series: Limit = 2_000_000  # in SQL
    """Series that the database may hold. Messages of a new one beyond are dead letters; known series go on. `off`: any
    number."""
    series_in_memory: Limit = 1_000_000  # a worker
    """Series whose windows a worker holds, some 5 kB each at 336 steps. The longest silent ones make room and are read
    from SQL when they return. `off`: any number."""

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
    """Step of the grid: any pandas frequency, such as `15min`, `1h`, `1D`, `W-SUN` or `MS`."""
    timezone: str = "UTC"
    """Zone by whose clocks the steps begin, such as `Europe/Berlin`."""
    phase: Phase = None
    """How long after those clocks the steps of the grid are, such as `6h`. `auto` finds it from the first events."""
    season: int | None = Field(None, ge=1)
    """Steps in a season. Without it, the frequency gives them."""
    context: int = Field(336, ge=2)
    """Steps that a model sees."""
    horizon: int = Field(48, ge=1, le=10_000)
    """Steps that a forecast has."""
    duplicates: Policy = "last"
    """How several events in one step are merged."""
    on: Literal["latest", "every_step"] = "latest"
    """When a series is forecast: `latest`, at the newest step of a turn; `every_step`, at every step in it."""
    min_observed: float = Field(0.5, ge=0, le=1)
    """Expert: Share of the window that must be observed; below it a forecast has quality `degraded`."""

    @field_validator("timezone")
    @classmethod
    def check_timezone(cls, name: str) -> str:
        """Refuse what is no zone; UTC is UTC under all its names."""
        return str(open_zone(name).key)
