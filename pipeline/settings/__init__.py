"""Settings: every table of tidecast.toml, frozen; unknown keys fail. sources.py reads them."""

from typing import Any

from pydantic import Field, model_validator

from pipeline.settings.challengers import vary
from pipeline.settings.database import DatabaseSettings
from pipeline.settings.durations import parse_seconds
from pipeline.settings.input import InputSettings
from pipeline.settings.jobs import JobSettings
from pipeline.settings.kafka import KafkaSettings, RegistrySettings
from pipeline.settings.metrics import MetricsSettings
from pipeline.settings.model import ModelSettings
from pipeline.settings.retention import RetentionSettings
from pipeline.settings.series import SeriesSettings
from pipeline.settings.serve import ServeSettings
from pipeline.settings.training import SearchKey, TrainingSettings
from pipeline.settings.values import DAY, Policy, Section

__all__ = [
    "DAY",
    "PREFIX",
    "DatabaseSettings",
    "InputSettings",
    "JobSettings",
    "KafkaSettings",
    "MetricsSettings",
    "ModelSettings",
    "Policy",
    "RegistrySettings",
    "RetentionSettings",
    "SearchKey",
    "SeriesSettings",
    "ServeSettings",
    "Settings",
    "TrainingSettings",
    "parse_seconds",
]

PREFIX = "TIDECAST_"


class Settings(Section):
    """All sections; see docs/settings.md."""

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    input: InputSettings = Field(default_factory=InputSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    series: SeriesSettings = Field(default_factory=SeriesSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    challengers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    jobs: JobSettings = Field(default_factory=JobSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    serve: ServeSettings = Field(default_factory=ServeSettings)

    @model_validator(mode="after")
    def check_challengers(self) -> "Settings":
        """Refuse a challenger that could not be trained when the settings are read, not in the night."""
        self.side_by_side()
        return self

    @model_validator(mode="after")
    def check_registry(self) -> "Settings":
        """A format with schemas needs one, of a file or of a registry."""
        kind, file = self.input.format, self.input.schema_file
        if kind in ("avro", "protobuf") and file is None and not self.registry.url:
            raise ValueError(f"input.format {kind} needs registry.url or input.schema_file")
        if kind == "protobuf" and file is not None and self.registry.url:
            raise ValueError("messages of protobuf have their schemas from registry.url or input.schema_file, not both")
        return self

    def side_by_side(self) -> dict[str, "Settings"]:
        """Make the settings of each challenger by name; none when [model] and [training] alone say what to train."""
        return {
            name: self.model_copy(update={"model": model, "training": training, "challengers": {}})
            for name, changes in self.challengers.items()
            for model, training in [vary(self.model, self.training, name, changes)]
        }

    def with_phase(self, phase: int | None) -> "Settings":
        """Fill in the phase of the grid that a database knows, where the settings leave it to the events."""
        if self.series.phase is not None or phase is None:
            return self
        return self.model_copy(update={"series": self.series.model_copy(update={"phase": phase})})
