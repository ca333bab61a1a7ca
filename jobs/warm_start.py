"""Start a fit from the champion's weights instead of from chance."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from models.artifact import Loaded
from models.baselines import SeasonalNaive
from models.forecasters import Network

SERIES_ROWS = ("series.rows.weight", "spreads.rows")


def warm_start(model: Network, learned: Sequence[str], champion: Loaded) -> str:
    """Copy the champion's weights into `model`, series by name, and say in words what was done.

    A series that the champion does not know starts from its UNK row; member i of an ensemble from the champion's member
    i. Nothing is copied when the networks differ in anything but their series.
    """
    if isinstance(champion.model, SeasonalNaive):
        return "from scratch: the champion is another kind of model"
    if replace(champion.config, series=model.config.series) != model.config:
        return "from scratch: the champion's network has another shape"
    row = {name: index for index, name in enumerate(champion.series, start=1)}
    rows = torch.tensor([0, *(row.get(name, 0) for name in learned)])
    weights = champion.model.state_dict()
    model.load_state_dict(
        {name: weight[rows] if name.endswith(SERIES_ROWS) else weight for name, weight in weights.items()}
    )
    return "from the champion's weights"
