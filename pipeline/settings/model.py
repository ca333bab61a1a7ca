"""The table [model]: the network."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from models.config import Floor, Location, Spread
from models.presets import PRETRAINED, Attention, Cell, Decoder, Direction, Kind, Stack
from pipeline.settings.values import Section

SHAPE = ("cell", "layers", "direction", "stack", "attention", "decoder", "hidden", "segment", "dropout", "series_dim")
"""Keys that change nothing of the pretrained network, whose weights have a shape."""


class ModelSettings(Section):
    """The network that the retraining job fits; what is left away is chosen by kind."""

    kind: Kind = "attention"
    """Kind of the network. It chooses cell, layers, direction, stack, attention and decoder; `pretrained` is the
    network that comes with tidecast, and its other keys are those of its weights."""
    pretrained: bool = True
    """Whether the network that comes with tidecast, trained already, serves until there is a model of its own, and is
    fine-tuned beside the first one."""
    cell: Cell | None = None
    """Expert: Recurrent cell. Without it, the kind chooses."""
    layers: int | None = Field(None, ge=1, le=4)
    """Expert: Recurrent layers. Without it, the kind chooses."""
    direction: Direction | None = None
    """Expert: Direction of the recurrence. Without it, the kind chooses."""
    stack: Stack | None = None
    """Expert: Plain layers, or residual ones with LayerNorm. Without it, the kind chooses."""
    attention: Attention | None = None
    """Expert: Attention over the states. Without it, the kind chooses."""
    decoder: Decoder | None = None
    """Expert: `queries`: a state per future step; `recurrent`: the same after one recurrent step per future segment;
    `dense`: one dense layer from the last state. Without it, the kind chooses."""
    hidden: int = Field(64, ge=1)
    """Width of the network."""
    segment: int | None = Field(None, ge=1)
    """Expert: Steps per token, 1 for a token per point. It divides `series.context`; without it, it is near the
    season."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Expert: Dropout in training."""
    calendar: Literal["auto", "all", "none"] = "auto"
    """Expert: Calendar columns. `auto`: day and week, and year from 700 days of history on."""
    location: Literal["auto", Location, "validate"] = "auto"
    """Expert: What a window is centred on: its mean, its last value, `auto` by a rule, or `validate`, which tries
    both."""
    spread: Spread = "window"
    """Expert: What a window is divided by: `window`, its own deviation; `series`, the deviation of a known series in
    training, so a quiet window of a lively series looks quiet."""
    series_dim: int = Field(16, ge=0)
    """Expert: Width of the series' embedding; 0 for none."""
    non_negative: Floor = "auto"
    """Which forecasts stay at zero or above: `auto`, those of series that were never negative and rest at zero or
    count; `on`, all; `off`, none."""

    @model_validator(mode="after")
    def check_pretrained(self) -> Self:
        """Refuse keys that could do nothing."""
        if self.kind == PRETRAINED:
            defaults = {key: type(self).model_fields[key].default for key in SHAPE}
            idle = [key for key, default in defaults.items() if getattr(self, key) != default]
            if idle:
                raise ValueError(f"kind pretrained has the shape of its weights: leave {', '.join(idle)} away")
        return self

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """Make it anew with other keys; what only another kind has stays behind where they make it pretrained."""
        kept = set(SHAPE) if changes.get("kind") == PRETRAINED else set()
        return self.model_validate(self.model_dump(exclude=kept) | dict(changes))
