"""A registered model, loaded if it fits the settings that it is to serve under."""

from typing import Protocol

from models.artifact import ArtifactError, Loaded, unpack
from models.config import ModelConfig
from pipeline.errors import ConfigError, Corrupt, Unloadable
from pipeline.forecasting.windows import Grid, compare_covariates

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
SHAPE = ("context_length", "horizon", "season", "quantile_levels")


class Artifacts(Protocol):
    """Where artifacts are."""

    def artifact(self, version: int) -> bytes:
        """Return a version's artifact; raises Corrupt when the bytes do not match the stored hash."""
        ...


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
    unfit = _find_unfit(loaded, grid, shape)
    if unfit:
        raise ConfigError(f"{alias} version {version} {unfit}; {advice}")
    return loaded


def number_series(loaded: Loaded) -> dict[str, int]:
    """Return the row of each series that the model knows, 1 or more; 0 is any other."""
    return {name: row for row, name in enumerate(loaded.series, start=1)}


def _find_unfit(loaded: Loaded, grid: Grid, shape: ModelConfig) -> str:
    text, unlike = grid.frequency.text, grid.frequency.differs(loaded.provenance)
    if unlike and "frequency" in loaded.provenance:
        return f"was made for {unlike}"
    columns, made = loaded.config.calendar_features, grid.frequency.calendar_features
    if columns > made:
        return f"reads {columns} calendar columns, {text} has {made}"
    covariates = compare_covariates(loaded.config, shape)
    if covariates:
        return covariates
    for name in SHAPE:
        has, needs = getattr(loaded.config, name), getattr(shape, name)
        if has != needs:
            return f"has {name} {has}, the settings need {needs}"
    return ""
