"""Settings: tidecast.toml, then TIDECAST_SECTION__KEY, then --set section.key=value; frozen, unknown keys fail."""

import re
import socket
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from pipeline.address import parse_address

PREFIX = "TIDECAST_"
Policy = Literal["last", "first", "mean", "sum", "max"]
SearchKey = Literal["kind", "layers", "hidden", "segment", "location", "dropout", "learning_rate"]


def parse_seconds(text: object) -> float:
    """Turn '10 min', '2h' or a number of seconds into seconds."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    try:
        return float(pd.Timedelta(str(text)).total_seconds())
    except ValueError as error:
        raise ValueError(f"{text!r} is not a duration; write '90s', '10 min', '2h' or '1 day'") from error


def parse_cron(text: object) -> object:
    """Read 'off' as no timetable, which TOML cannot say."""
    return None if text in ("off", "") else text


TIMING = BeforeValidator(parse_cron)
Timing = Annotated[str | None, TIMING]
"""When a job runs: a cron expression, `every 6h`, or None. Keys of this type are the jobs."""


def parse_keeping(text: object) -> float | None:
    """Turn '400 days' into seconds, and 'off' into None, which keeps for ever."""
    return None if text in (None, "off", "") else parse_seconds(text)


Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(gt=0, allow_inf_nan=False)]
DAY = 86_400.0
KEEPING = BeforeValidator(parse_keeping)
Keeping = Annotated[Annotated[float, Field(ge=DAY, allow_inf_nan=False)] | None, KEEPING]
"""How long something is kept, in seconds; None for ever."""
LookedBack = Annotated[float, Field(ge=370 * DAY, allow_inf_nan=False)]
"""The scheduler looks back so far for a run that it missed."""


class Section(BaseModel):
    """A table of tidecast.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
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
    max_future_skew: Seconds = 86_400.0
    max_message_bytes: int = Field(900_000, ge=1)
    max_name_bytes: int = Field(256, ge=1)

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
        return self


class SeriesSettings(Section):
    """The grid, the window, and when a series is due for a forecast."""

    frequency: str = "1h"
    season: int | None = Field(None, ge=1)
    context: int = Field(336, ge=2)
    horizon: int = Field(48, ge=1, le=10_000)
    duplicates: Policy = "last"
    on: Literal["latest", "every_step"] = "latest"
    min_observed: float = Field(0.5, ge=0, le=1)


class ModelSettings(Section):
    """The network that the retraining job fits; what is left away is chosen by kind."""

    kind: Literal["rnn", "lstm", "gru", "bidirectional", "stacked", "attention"] = "attention"
    cell: Literal["rnn", "lstm", "gru"] | None = None
    layers: int | None = Field(None, ge=1, le=4)
    direction: Literal["forward", "bidirectional"] | None = None
    stack: Literal["plain", "residual"] | None = None
    attention: Literal["none", "multihead", "additive"] | None = None
    decoder: Literal["queries", "recurrent", "dense"] | None = None
    hidden: int = Field(64, ge=1)
    heads: int = Field(4, ge=1)
    segment: int | None = Field(None, ge=1)
    rectify: bool = False
    dropout: float = Field(0.1, ge=0, lt=1)
    calendar: Literal["auto", "all", "none"] = "auto"
    location: Literal["auto", "mean", "last", "validate"] = "auto"
    spread: Literal["window", "series"] = "window"
    series_dim: int = Field(16, ge=0)


class TrainingSettings(Section):
    """How it is fitted."""

    loss: Literal["pinball", "mse", "mae", "huber"] = "pinball"
    optimizer: Literal["adamw", "adam", "rmsprop"] = "adamw"
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    steps: int = Field(3000, ge=1)
    patience: int = Field(24, ge=1)
    refit: float = Field(0.5, ge=0, le=10)
    batch: int = Field(128, ge=1)
    learning_rate: float = Field(5e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    ema: float = Field(0.995, ge=0, lt=1)
    seed: int = 0
    members: int = Field(1, ge=1, le=20)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    graph: Literal["auto", "off"] = "auto"
    rank_timeout: Seconds = 300.0
    threads: int = Field(0, ge=0)
    budget: Seconds = 3600.0
    history: int = Field(8760, ge=1)
    validation_steps: int | None = Field(None, ge=1)
    validation_stride: int | None = Field(None, ge=1)
    scaled: bool = True
    max_rows: int = Field(20_000_000, ge=1000)
    mode: Literal["cold", "warm", "fine-tune"] = "cold"
    warm_steps: int | None = Field(None, ge=1)
    recent: Seconds = 30 * 86_400.0
    fine_tune_rate: float = Field(0.1, gt=0, le=1)
    search: int = Field(0, ge=0, le=100)
    search_over: tuple[SearchKey, ...] = ("layers", "hidden", "segment", "location", "dropout", "learning_rate")


class RetentionSettings(Section):
    """How long the job `retention` leaves what is in the database; None for ever."""

    observations: Keeping = None
    thin_forecasts: Keeping = 35 * DAY
    forecasts: Keeping = 400 * DAY
    requeued_dead_letters: Keeping = 35 * DAY
    waiting_dead_letters: Keeping = None
    job_runs: Annotated[LookedBack | None, KEEPING] = 400 * DAY
    artifacts: Keeping = 90 * DAY
    budget: Seconds = 1800.0


class JobSettings(Section):
    """The timetable (cron expressions or intervals, in UTC) and the gate that a challenger must pass."""

    retrain: Timing = "17 3 * * *"
    monitor: Timing = "*/5 * * * *"
    calibrate: Timing = "47 * * * *"
    retention: Timing = "47 4 * * *"
    promote: Timing = "32 * * * *"
    timeout: Seconds = 6 * 3600.0
    timeouts: dict[str, Seconds] = Field(default_factory=dict)
    lease: Seconds = 30.0
    gate_origins: int = Field(4, ge=1)
    gate_gain: float = Field(0.0, ge=0, lt=1)
    gate_confidence: float = Field(0.9, ge=0, le=1)
    gate_coverage: tuple[float, float] = (0.6, 0.95)
    shadow: Annotated[Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, KEEPING] = None
    group: str | None = None
    drift: bool = True
    drift_delta: float = Field(0.5, ge=0, le=4)
    drift_threshold: float = Field(50.0, gt=0)
    drift_cooldown: Seconds = 86_400.0
    calibration_window: int = Field(336, ge=28, le=10_000)
    calibration_minimum: int = Field(100, ge=20)

    @field_validator("group")
    @classmethod
    def check_group(cls, pattern: str | None) -> str | None:
        """A pattern of groups finds one thing in a name."""
        try:
            if pattern is None or re.compile(pattern).groups == 1:
                return pattern
        except re.error as error:
            raise ValueError(f"group is not a regular expression: {error}") from error
        raise ValueError(r"group must have exactly one group in parentheses, as in '^(\w+)/'")

    @field_validator("timeouts")
    @classmethod
    def check_timeouts(cls, timeouts: dict[str, float]) -> dict[str, float]:
        """A timeout that names no job would never stop one."""
        jobs = [name for name, field in cls.model_fields.items() if TIMING in field.metadata]
        for job in timeouts:
            if job not in jobs:
                raise ValueError(f"{job!r} is not a job; write one of {', '.join(jobs)}")
        return timeouts

    def timeout_of(self, job: str) -> float:
        """Return the seconds after which a job is stopped."""
        return self.timeouts.get(job, self.timeout)

    @model_validator(mode="after")
    def check_coverage(self) -> "JobSettings":
        """Limits in the wrong order, or written as percentages, would refuse every challenger without a word why."""
        low, high = self.gate_coverage
        if not 0.0 <= low < high <= 1.0:
            raise ValueError("gate_coverage must be two shares, the lower one first, such as [0.6, 0.95]")
        return self


class MetricsSettings(Section):
    """Where a scheduler serves its metrics."""

    listen: Annotated[str | None, BeforeValidator(parse_address)] = None


class Settings(BaseSettings):
    """All sections; see README "Settings"."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True, extra="forbid", frozen=True
    )

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    input: InputSettings = Field(default_factory=InputSettings)
    series: SeriesSettings = Field(default_factory=SeriesSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    jobs: JobSettings = Field(default_factory=JobSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: the command line wins, then the environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)
