"""Start a fit from the champion's weights instead of from chance."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from models.artifact import Loaded
from models.forecasters import RecurrentForecaster


def warm_start(model: RecurrentForecaster, learned: Sequence[str], champion: Loaded) -> str:
    """Copy the champion's weights into `model`, series by name, and say in words what was done.

    A series that the champion does not know starts from its UNK row. Nothing is copied when the networks differ in
    anything but their series.
    """
    if not isinstance(champion.model, RecurrentForecaster):
        return "from scratch: the champion is another kind of model"
    if replace(champion.config, series=model.config.series) != model.config:
        return "from scratch: the champion's network has another shape"
    weights = champion.model.state_dict()
    if model.series is not None and champion.model.series is not None:
        row = {name: index for index, name in enumerate(champion.series, start=1)}
        rows = torch.tensor([0, *(row.get(name, 0) for name in learned)])
        weights["series.rows.weight"] = champion.model.series.rows.weight.detach()[rows]
    model.load_state_dict(weights)
    return "from the champion's weights"
