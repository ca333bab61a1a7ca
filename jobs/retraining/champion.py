"""The champion of the moment, as a retraining finds it."""

from dataclasses import dataclass

from jobs.ports import Registry
from models.artifact import ArtifactError, Loaded, unpack
from models.config import ModelConfig
from models.network.baselines import SeasonalNaive
from pipeline.errors import ConfigError, Corrupt
from pipeline.forecasting.windows import compare_covariates
from pipeline.grid.frequency import Frequency

NAIVE = 0
"""The version of the seasonal naive, which has no artifact and always fits; somebody may have made it champion."""
SHAPE = ("context_length", "horizon", "season", "quantile_levels")
"""What a model must share with the settings to be served."""


@dataclass(frozen=True, slots=True)
class Champion:
    """The champion of the moment, as the retraining found it; `loaded` is None when it cannot be compared."""

    version: int
    loaded: Loaded | None
    unfit: str = ""


def find_champion(registry: Registry, shape: ModelConfig, frequency: Frequency) -> Champion | None:
    """Load the champion, or say why it cannot be compared: the scorer refuses it for the same reasons."""
    version = registry.champion()
    if version is None:
        return None
    if version == NAIVE:
        return Champion(version, Loaded(SeasonalNaive(shape).eval(), shape, (), frequency.facts))
    try:
        loaded = unpack(registry.artifact(version))
    except (ArtifactError, ConfigError, Corrupt) as error:
        return Champion(version, None, str(error))
    other = frequency.differs(loaded.provenance)
    if other:
        return Champion(version, None, other)
    for name in SHAPE:
        has, needs = getattr(loaded.config, name), getattr(shape, name)
        if has != needs:
            return Champion(version, None, f"{name} {has}, the settings need {needs}")
    unlike = compare_covariates(loaded.config, shape)
    return Champion(version, None, unlike) if unlike else Champion(version, loaded)
