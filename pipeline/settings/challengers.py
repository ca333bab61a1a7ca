"""Tables [challengers.NAME]: models that a retraining fits side by side, as [model] and [training] with changes."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.settings.model import ModelSettings
from pipeline.settings.training import TrainingSettings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
COMMON = {
    "device",
    "precision",
    "threads",
    "history",
    "validation_steps",
    "max_rows",
    "mode",
    "recent",
}
"""Keys of [training] that say what is read, how it is cut and on what machine: the same for all, or none could be
compared with another."""


def vary(
    model: ModelSettings, training: TrainingSettings, name: str, changes: Mapping[str, Any]
) -> tuple[ModelSettings, TrainingSettings]:
    """Make the sections of one challenger; ValueError says in one line which of its keys is wrong and why."""
    if not NAME.fullmatch(name):
        raise ValueError(f"challengers: {name!r} is no name: write letters, digits, '-', '_' and '.', 63 at most")
    own_model, own_training = {}, {}
    for key, value in changes.items():
        if key in ModelSettings.model_fields:
            own_model[key] = value
        elif key in COMMON:
            raise ValueError(f"challengers.{name}.{key} is the same for all challengers: write it in [training]")
        elif key in TrainingSettings.model_fields:
            own_training[key] = value
        else:
            raise ValueError(f"unknown key challengers.{name}.{key}: write keys of [model] and [training]")
    try:
        return (
            model.with_changes(own_model),
            TrainingSettings.model_validate(training.model_dump() | own_training),
        )
    except ValidationError as error:
        places = [".".join(("challengers", name, *map(str, each["loc"]))) for each in error.errors()]
        said = [each["msg"].removeprefix("Value error, ").lower() for each in error.errors()]
        wrong = "; ".join(f"{place}: {words}" for place, words in zip(places, said, strict=True))
        raise ValueError(wrong) from error
