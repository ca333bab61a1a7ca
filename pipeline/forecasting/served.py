"""A registered model, loaded if it fits the settings that it is to serve under."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from models.artifact import ArtifactError, Loaded, unpack
from models.config import ModelConfig
from models.network.baselines import SeasonalNaive
from pipeline.errors import ConfigError, Corrupt, Unloadable
from pipeline.forecasting.windows import Grid, compare_covariates
from pipeline.grid.frequency import Frequency

ADVICE = "run tidecast job run retrain, tidecast models rollback, or tidecast models promote 0"
REPAIR = "run tidecast models rollback, or tidecast job run retrain"
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What building a model or its forward pass may raise."""
NAIVE = 0
"""The version of the seasonal naive, which has no artifact and always fits; somebody may have made it champion."""
SHAPE = ("context_length", "horizon", "season", "quantile_levels")
"""What a model must share with the settings to be served."""


class Artifacts(Protocol):
    """Where artifacts are."""

    def artifact(self, version: int) -> bytes:
        """Return a version's artifact; raises Corrupt when the bytes do not match the stored hash."""
        ...


class Served(Artifacts, Protocol):
    """Models, and which of them is champion."""

    def champion(self) -> int | None:
        """Return the champion's version, or None."""
        ...


@dataclass(frozen=True, slots=True)
class Champion:
    """The champion of the moment, as a job finds it; `loaded` is None when it is not fit to be served, `unfit` why.

    provenance: what its artifact says of its making, as far as that can be read.
    """

    version: int
    loaded: Loaded | None
    unfit: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)


def find_champion(registry: Served, shape: ModelConfig, frequency: Frequency) -> Champion | None:
    """Load the champion, or say why the scorer refuses it."""
    version = registry.champion()
    if version is None:
        return None
    if version == NAIVE:
        return Champion(version, Loaded(SeasonalNaive(shape).eval(), shape, (), frequency.facts))
    try:
        loaded = unpack(registry.artifact(version))
    except (ArtifactError, ConfigError, Corrupt) as error:
        return Champion(version, None, str(error))
    except FAILURES as error:
        return Champion(version, None, f"{type(error).__name__}: {error}")
    unfit = find_unfit(loaded, frequency, shape)
    return Champion(version, None if unfit else loaded, unfit, loaded.provenance)


def load_model(
    artifacts: Artifacts, version: int, grid: Grid, shape: ModelConfig, *, alias: str = "champion", advice: str = ADVICE
) -> Loaded:
    """Load a version. The errors name it by its `alias` and give `advice`.

    Raises Unloadable if the model itself is broken, ConfigError if it does not fit the settings.
    """
    try:
        loaded = unpack(artifacts.artifact(version))
    except (ArtifactError, ConfigError, Corrupt) as error:
        said = str(error).partition(";")[0]  # a registry gives advice of its own
        raise Unloadable(f"{alias} version {version}: {said}; {REPAIR if advice == ADVICE else advice}") from error
    except FAILURES as error:
        raise Unloadable(f"{alias} version {version}: {type(error).__name__}: {error}; {advice}") from error
    unfit = find_unfit(loaded, grid.frequency, shape)
    if unfit:
        raise ConfigError(f"{alias} version {version} {unfit}; {advice}")
    return loaded


def number_series(loaded: Loaded) -> dict[str, int]:
    """Return the row of each series that the model knows, 1 or more; 0 is any other."""
    return {name: row for row, name in enumerate(loaded.series, start=1)}


def find_unfit(loaded: Loaded, frequency: Frequency, shape: ModelConfig) -> str:
    """Say why a model cannot serve on a grid under the settings' shape, "" if it can: the one answer for everybody.

    An artifact that does not name its frequency was not made here, and is believed.
    """
    unlike = frequency.differs(loaded.provenance)
    if unlike and "frequency" in loaded.provenance:
        return f"was made for {unlike}"
    columns, made = loaded.config.calendar_features, frequency.calendar_features
    if columns > made:
        return f"reads {columns} calendar columns, {frequency.text} has {made}"
    covariates = compare_covariates(loaded.config, shape)
    if covariates:
        return covariates
    for name in SHAPE:
        has, needs = getattr(loaded.config, name), getattr(shape, name)
        if has != needs:
            return f"has {name} {has}, the settings need {needs}"
    return ""
