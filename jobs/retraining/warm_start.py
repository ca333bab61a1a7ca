"""Where a fit starts: from chance, from the champion's weights, or from them on recent history alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from jobs.retraining.search import keep_found
from models.artifact import Loaded
from models.config import LOCATIONS
from models.network.baselines import SeasonalNaive
from models.network.forecasters import Network
from models.presets import PRETRAINED
from models.pretrained import load_pretrained
from pipeline.errors import ConfigError
from pipeline.forecasting.served import Champion
from pipeline.forecasting.windows import model_config
from pipeline.grid.frequency import Frequency
from pipeline.settings import Settings, TrainingSettings

FINE_TUNE_RATE = 0.1
"""Share of training.learning_rate for a fine-tune."""
SIGNS = ("signs.rows", "signs.ended")
SERIES_ROWS = ("series.rows.weight", "spreads.rows", *SIGNS)


@dataclass(frozen=True, slots=True)
class Start:
    """How a fit starts: `mode` as it is really done, and the reason in words.

    It is cold without a champion to start from, and "pretrained" from the weights of the wheel.
    """

    mode: str
    champion: Loaded | None
    words: str

    def adapt(self, settings: Settings) -> Settings:
        """Give the settings the steps and the learning rate of this start."""
        chosen = settings.training
        if not self.champion:
            return settings
        if self.mode == PRETRAINED:
            return settings.model_copy(update={"training": _adapt_to_the_wheel(chosen)})
        rate = FINE_TUNE_RATE if self.mode == "fine-tune" else 1.0
        changes = {"steps": chosen.warm_steps or chosen.steps, "learning_rate": rate * chosen.learning_rate}
        return settings.model_copy(update={"training": chosen.model_copy(update=changes)})


def _adapt_to_the_wheel(chosen: TrainingSettings) -> TrainingSettings:
    changes: dict[str, object] = {
        "steps": chosen.warm_steps or min(chosen.steps, PRETRAINED_STEPS),
        "learning_rate": FINE_TUNE_RATE * chosen.learning_rate,
    }
    if "batch" not in chosen.model_fields_set:
        changes["batch"] = PRETRAINED_BATCH
    return chosen.model_copy(update=changes)


COLD = Start("cold", None, "from scratch")
PRETRAINED_STEPS = 300
"""Optimiser steps from the weights of the wheel, at most, if training.warm_steps is left away."""
PRETRAINED_BATCH = 32
"""Windows of one of those steps, if training.batch is left away."""


def choose_start(
    champion: Champion | None, settings: Settings, frequency: Frequency, *, called: str = "champion"
) -> Start:
    """Start as training.mode says if the champion's weights fit the network of the settings; else cold, and say why.

    A network of kind "pretrained" starts from the weights of the wheel where others start from scratch.
    What the history decides and the settings leave open, calendar and location, stays as the champion has it. The
    words name it as it is `called`.
    """
    mode = settings.training.mode
    cold = begin(settings, frequency)
    if mode == "cold":
        return cold
    loaded, unfit = champion.loaded if champion else None, ""
    if champion is None:
        unfit = f"there is no {called}"
    elif loaded is None:
        unfit = f"version {champion.version} cannot be used ({champion.unfit})"
    else:
        unfit = _find_difference(loaded, settings, frequency, called)
    if unfit:
        return replace(cold, words=f"{cold.words}, not {mode}: {unfit}")
    part = ", on recent history" if mode == "fine-tune" else ""
    return Start(mode, loaded, f"from the {called}'s weights{part}")


def begin(settings: Settings, frequency: Frequency) -> Start:
    """Start from no champion: from the weights of the wheel if the settings ask for that network, else from chance.

    ConfigError for keys of [training] that could do nothing then.
    """
    if settings.model.kind != PRETRAINED:
        return COLD
    if settings.training.members > 1 or settings.training.search > 1:
        raise ConfigError("kind pretrained is one network of one shape: set members = 1 and search = 0 for it")
    return Start(PRETRAINED, load_pretrained(model_config(settings, frequency, 0)), "from the pretrained weights")


def _find_difference(champion: Loaded, settings: Settings, frequency: Frequency, called: str) -> str:
    has = champion.config
    if isinstance(champion.model, SeasonalNaive):
        return f"the {called} is another kind of model"
    searched = keep_found(settings, champion.provenance)
    if searched is None:
        return f"the settings demand a search, and the {called} was made without that one"
    chosen = searched.model
    needs = model_config(
        searched, frequency, has.series, future=has.future_covariates, static=has.static_covariates
    )  # covariates of the past are in the settings
    if chosen.calendar == "auto":
        needs = replace(needs, calendar_features=has.calendar_features)
    if chosen.location not in LOCATIONS:
        needs = replace(needs, location=has.location)
    needs = replace(needs, non_negative=has.non_negative)  # changes no weight
    return "" if needs == has else f"the {called}'s network has another shape"


def warm_start(model: Network, learned: Sequence[str], champion: Loaded) -> None:
    """Copy the champion's weights into `model`, a network of the same shape, series by name.

    A series that the champion does not know starts from its UNK row; member i of an ensemble from the champion's member
    i.
    """
    row = {name: index for index, name in enumerate(champion.series, start=1)}
    rows = torch.tensor([0, *(row.get(name, 0) for name in learned)])
    weights, own = champion.model.state_dict(), model.state_dict()
    found = {name: weight[rows] if name.endswith(SERIES_ROWS) else weight for name, weight in weights.items()}
    signs = {
        name: own[name] for name in own if name.endswith(("signs.rows", "signs.ended"))
    }  # the champion may have none, or alone
    model.load_state_dict(signs | {name: weight for name, weight in found.items() if name in own})
