"""Settings: tidecast.toml, then TIDECAST_SECTION__KEY, then --set section.key=value; frozen, unknown keys fail."""

import json
import os
import re
import socket
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from pipeline.errors import ConfigError

DEFAULT_FILE = "tidecast.toml"
PREFIX = "TIDECAST_"
Policy = Literal["last", "first", "mean", "sum", "max"]


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


Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(gt=0, allow_inf_nan=False)]


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
    max_future_skew: Seconds = 86_400.0
    max_message_bytes: int = Field(900_000, ge=1)
    max_name_bytes: int = Field(256, ge=1)

    @model_validator(mode="after")
    def check_fields(self) -> "InputSettings":
        """Each part of an event has a field of its own."""
        if len({self.series_id, self.timestamp, self.value}) < 3:
            raise ValueError("series_id, timestamp and value must name three different fields")
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
    dropout: float = Field(0.1, ge=0, lt=1)
    calendar: Literal["auto", "all", "none"] = "auto"
    location: Literal["auto", "mean", "last"] = "auto"
    series_dim: int = Field(16, ge=0)


class TrainingSettings(Section):
    """How it is fitted."""

    loss: Literal["pinball", "mse", "mae", "huber"] = "pinball"
    optimizer: Literal["adamw", "adam", "rmsprop"] = "adamw"
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    steps: int = Field(1500, ge=1)
    patience: int = Field(8, ge=1)
    batch: int = Field(128, ge=1)
    learning_rate: float = Field(5e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    ema: float = Field(0.995, ge=0, lt=1)
    seed: int = 0
    members: int = Field(1, ge=1, le=20)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(0, ge=0)
    budget: Seconds = 3600.0
    history: int = Field(8760, ge=1)
    validation_steps: int | None = Field(None, ge=1)
    validation_stride: int | None = Field(None, ge=1)
    scaled: bool = True
    warm_start: bool = False


class JobSettings(Section):
    """The timetable (cron expressions in UTC) and the gate that a challenger must pass."""

    retrain: Annotated[str | None, BeforeValidator(parse_cron)] = "17 3 * * *"
    timeout: Seconds = 6 * 3600.0
    lease: Seconds = 30.0
    gate_origins: int = Field(4, ge=1)
    gate_gain: float = 0.0
    gate_coverage: tuple[float, float] = (0.6, 0.95)


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


def load(file: Path | None = None, sets: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings, or raise one ConfigError that lists everything that is wrong with them.

    Without `file`, ./tidecast.toml is read if it is there. `sets` are 'section.key=value', the value TOML or text.
    """
    if file is not None and not file.is_file():
        raise ConfigError(f"settings file {file} does not exist; create it or leave --config away")
    path = file or Path(DEFAULT_FILE)
    _refuse_unknown_environment(os.environ if environ is None else environ)

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=path)

    try:
        return FromFile(**_overrides(sets))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"settings file {path} is not TOML: {error}") from error
    except SettingsError as error:
        raise ConfigError(f"environment: {' '.join(str(error).split())}; lists and tables are JSON") from error
    except ValidationError as error:
        raise ConfigError(f"settings: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """Say in one line which settings are wrong and why."""
    problems = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            problems.append(f"unknown key {key} (see tidecast config show for the known ones)")
        else:
            problems.append(f"{key}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems)


def shown(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain values with every secret masked, for people and logs."""
    plain: dict[str, Any] = json.loads(settings.model_dump_json())
    plain["database"]["url"] = masked(settings.database.url.get_secret_value())
    return plain


def masked(url: str) -> str:
    """Return a database address without its password."""
    url = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)
    return re.sub(r"([?&](?:password|sslpassword|passfile)=)[^&]*", r"\1***", url)


def _overrides(sets: Sequence[str]) -> dict[str, Any]:
    overrides: dict[str, Any] = {}
    for text in sets:
        path, separator, value = text.partition("=")
        section, dot, key = path.strip().partition(".")
        if not (separator and dot and key):
            raise ConfigError(f"--set {text!r}: write section.key=value, for example series.horizon=24")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value
        overrides.setdefault(section, {})[key] = parsed
    return overrides


def _refuse_unknown_environment(environ: Mapping[str, str]) -> None:
    for name in environ:
        section, separator, _ = name.removeprefix(PREFIX).lower().partition("__")
        mistaken = next((one for one in Settings.model_fields if _names_a_key(one, section)), None)
        if name.startswith(PREFIX) and not separator and mistaken:
            key = section.removeprefix(f"{mistaken}_").upper()
            raise ConfigError(f"environment variable {name}: write {PREFIX}{mistaken.upper()}__{key}, two underscores")
        if name.startswith(PREFIX) and separator and section not in Settings.model_fields:
            raise ConfigError(
                f"environment variable {name} names no section; use one of {', '.join(Settings.model_fields)}"
            )


def _names_a_key(section: str, text: str) -> bool:
    fields = Settings.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
    return text.startswith(f"{section}_") and text.removeprefix(f"{section}_") in fields
