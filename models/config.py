"""What a network looks like and how it is fitted: frozen, validated, saved with the weights, listed once."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from models.presets import (
    ATTENTIONS,
    CELLS,
    DECODERS,
    DIRECTIONS,
    KINDS,
    LEAST_OBSERVED,
    OUTPUTS,
    PRESETS,
    PRETRAINED,
    PRETRAINED_SHAPE,
    STACKS,
)

QUANTILE_LEVELS: tuple[float, ...] = (0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975)
"""Probabilities of every forecast in SQL and on the output topic; 0.5 is the point forecast."""
QUANTILE_NAMES = tuple("q" + f"{level:.3f}"[2:].removesuffix("0") for level in QUANTILE_LEVELS)
"""Of their columns, in SQL and in frames: q025, q05, q10, ... q975."""

Location = Literal["mean", "last"]
Spread = Literal["window", "series"]
Floor = Literal["auto", "on", "off"]
Loss = Literal["pinball", "mse", "mae", "huber"]
Optimizer = Literal["adamw", "adam", "rmsprop"]
Schedule = Literal["one_cycle", "cosine", "constant"]
Graph = Literal["auto", "off"]
Precision = Literal["auto", "float32", "bfloat16"]
LOCATIONS: tuple[str, ...] = get_args(Location)
SPREADS: tuple[str, ...] = get_args(Spread)
FLOORS: tuple[str, ...] = get_args(Floor)
LOSSES: tuple[str, ...] = get_args(Loss)
OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)
SCHEDULES: tuple[str, ...] = get_args(Schedule)
GRAPHS: tuple[str, ...] = get_args(Graph)
PRECISIONS: tuple[str, ...] = get_args(Precision)
COVARIATES = ("past_covariates", "future_covariates", "static_covariates")
PARTS = {"cell": CELLS, "direction": DIRECTIONS, "stack": STACKS, "attention": ATTENTIONS, "decoder": DECODERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The shape of one forecaster; everything that its weights depend on.

    kind: one of KINDS; it chooses the parts that are left away ("" or 0): cell, layers, direction, stack, attention,
    decoder (see `Preset`). hidden (D), heads, dropout: sizes of the network. segment: steps per token, 1 for a token
    per point; divides context_length. rectify: tokens are cut off below 0. context_length (T), horizon (H), season: in
    steps. calendar_features (F): columns of the known-future calendar, the first ones of those that a batch brings.
    series: known series, embedding rows 1..series; row 0 is UNK. series_dim: width of the series embedding, 0 for none.
    location: what a window is centred on. spread: what it is divided by, its own deviation ("window") or a known
    series' in training ("series"). output: "quantiles", for pinball loss, or "point", for a point loss. members:
    networks of different seeds whose quantiles are averaged. non_negative: which forecasts stay at zero or above, see
    models/network/floor.py. Kind "pretrained" has the shape of its weights, see PRETRAINED_SHAPE, reads windows of any
    length, and neither calendar nor covariates. past_covariates (P), future_covariates (K),
    static_covariates (Z): names of what it reads beside the values, in the order of a batch's columns. Raises
    ValueError, with what to change, when a field cannot work.
    """

    kind: str = "attention"
    cell: str = ""
    layers: int = 0
    direction: str = ""
    stack: str = ""
    attention: str = ""
    decoder: str = ""
    hidden: int = 64
    heads: int = 4
    segment: int = 24
    rectify: bool = False
    dropout: float = 0.1
    context_length: int = 336
    horizon: int = 48
    season: int = 24
    calendar_features: int = 0
    series: int = 0
    series_dim: int = 16
    location: str = "last"
    spread: str = "window"
    output: str = "quantiles"
    members: int = 1
    non_negative: str = "off"
    past_covariates: tuple[str, ...] = ()
    future_covariates: tuple[str, ...] = ()
    static_covariates: tuple[str, ...] = ()
    quantile_levels: tuple[float, ...] = QUANTILE_LEVELS

    def __post_init__(self) -> None:
        _check_choice("kind", self.kind, KINDS)
        preset = PRESETS.get(self.kind, PRESETS["attention"])
        if self.kind == PRETRAINED:
            for name, value in {**PRETRAINED_SHAPE, **asdict(preset)}.items():
                object.__setattr__(self, name, value)
        for name, choices in PARTS.items():
            if not getattr(self, name):
                object.__setattr__(self, name, getattr(preset, name))
            _check_choice(name, getattr(self, name), choices)
        if self.layers == 0 and not isinstance(self.layers, bool):
            object.__setattr__(self, "layers", preset.layers)
        _check_choice("location", self.location, LOCATIONS)
        _check_choice("spread", self.spread, SPREADS)
        _check_choice("output", self.output, OUTPUTS)
        _check_choice("non_negative", self.non_negative, FLOORS)
        for name in ("hidden", "layers", "heads", "segment", "context_length", "horizon", "season", "members"):
            _check_integer(name, getattr(self, name), 1)
        for name in ("calendar_features", "series", "series_dim"):
            _check_integer(name, getattr(self, name), 0)
        _check_range("dropout", self.dropout, 0.0, 0.95)
        if self.kind == PRETRAINED and self.output != "quantiles":
            raise ValueError("kind pretrained forecasts quantiles: use the loss pinball, or another kind")
        if (self.decoder == "candidates") != (self.kind == PRETRAINED):
            raise ValueError("decoder candidates is that of kind pretrained alone: use another one")
        if self.context_length % self.segment and self.kind != PRETRAINED:
            raise ValueError(
                f"segment {self.segment} does not divide context_length {self.context_length}: "
                f"use a segment of {_nearest_divisor(self.context_length, self.segment)}"
            )
        if self.hidden % self.heads:
            raise ValueError(f"heads {self.heads} does not divide hidden {self.hidden}: change one of them")
        if self.hidden % 2 and self.direction == "bidirectional":
            raise ValueError(f"hidden {self.hidden} must be even for a bidirectional encoder: half of it goes each way")
        if self.attention != "none" and self.decoder == "dense":
            raise ValueError("decoder 'dense' reads the last state only: use decoder 'queries', or attention 'none'")
        _check_covariates((*self.past_covariates, *self.future_covariates, *self.static_covariates))
        levels = self.quantile_levels
        ascending = all(low < high for low, high in itertools.pairwise(levels))
        if not levels or not ascending or not 0.0 < levels[0] <= levels[-1] < 1.0 or 0.5 not in levels:
            raise ValueError(f"quantile_levels {levels} must ascend, lie between 0 and 1 and contain 0.5")

    @property
    def covariates(self) -> tuple[int, int, int]:
        """P, K, Z: how many past, known-future and static covariates it reads."""
        return len(self.past_covariates), len(self.future_covariates), len(self.static_covariates)

    @property
    def least_observed(self) -> int:
        """Observed values that a window must have; what has fewer is left to seasonal naive."""
        return LEAST_OBSERVED if self.kind == PRETRAINED else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The config of `to_dict`; ValueError for an unknown field or a bad value."""
        _check_names(cls, fields)
        levels = fields.get("quantile_levels", QUANTILE_LEVELS)
        tuples = {name: tuple(fields.get(name, ())) for name in COVARIATES}
        return cls(**{**fields, **tuples, "quantile_levels": tuple(float(level) for level in levels)})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How one fit runs. Steps are optimiser steps; there are no epochs.

    loss: "pinball" for a network whose output is quantiles, else "mse", "mae" or "huber" of the point forecast.
    optimizer: "adamw", the only one that decays weights, "adam" or "rmsprop". schedule: of the learning rate.
    ema: decay of the averaged weights, which are the ones validated and kept. validate_every: steps between
    two validations; patience: validations without a better loss before stopping. validation_steps: the last
    steps of every series that are never trained on; 0 trains on everything and keeps the last average.
    validation_stride: steps between two origins over them, 0 for one horizon. refit: after the best weights are found,
    go on for this share of the steps with the held-back ones, too; 0 for none. anchored: what is kept lies between the
    weights at the start and those of the last step, without a refit.
    id_dropout: share of windows whose series is hidden (UNK), so that a new series can be served;
    history_dropout: share whose history is cut short, and share of covariates that are hidden in a window.
    relative: weight of the relative term of pinball loss.
    scaled: the loss of each series is in units of its seasonal-naive error, so all of them count alike; False takes
    the target's own units.
    max_seconds: wall-clock budget, None for none; the learning rate is annealed within it. graph: "auto" replays
    a CUDA graph of the step where it can be recorded, "off" never. precision: of the forward pass while fitting,
    "auto" (bfloat16 on a GPU that has it), "float32" or "bfloat16".
    """

    loss: str = "pinball"
    optimizer: str = "adamw"
    schedule: str = "one_cycle"
    steps: int = 400
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1.0
    clip_norm: float = 1.0
    ema: float = 0.99
    relative: float = 1.0
    scaled: bool = True
    seed: int = 0
    patience: int = 8
    validate_every: int = 25
    validation_steps: int = 48
    validation_stride: int = 0
    refit: float = 0.0
    anchored: bool = False
    id_dropout: float = 0.1
    history_dropout: float = 0.1
    max_seconds: float | None = None
    graph: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        _check_choice("graph", self.graph, GRAPHS)
        _check_choice("precision", self.precision, PRECISIONS)
        _check_choice("loss", self.loss, LOSSES)
        _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        _check_choice("schedule", self.schedule, SCHEDULES)
        for name in ("steps", "batch_size", "patience", "validate_every"):
            _check_integer(name, getattr(self, name), 1)
        for name in ("seed", "validation_steps", "validation_stride"):
            _check_integer(name, getattr(self, name), 0)
        for name in ("learning_rate", "clip_norm"):
            _check_range(name, getattr(self, name), 1e-12, math.inf)
        for name in ("weight_decay", "relative", "refit"):
            _check_range(name, getattr(self, name), 0.0, math.inf)
        for name in ("id_dropout", "history_dropout"):
            _check_range(name, getattr(self, name), 0.0, 1.0)
        _check_range("ema", self.ema, 0.0, 0.999999)
        if self.max_seconds is not None:
            _check_range("max_seconds", self.max_seconds, 1e-3, math.inf)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The config of `to_dict`; ValueError for an unknown field or a bad value."""
        _check_names(cls, fields)
        return cls(**fields)


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} {value!r} is unknown: use one of {', '.join(choices)}")


def _check_integer(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} {value!r} must be a whole number of at least {least}")


def _check_range(name: str, value: object, low: float, high: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} {value!r} must be a number from {low:g} to {high:g}")


def _check_covariates(names: tuple[object, ...]) -> None:
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise ValueError(f"covariates {', '.join(map(str, names))} must be different names, each of one kind")


def _check_names(config: type[ModelConfig] | type[TrainConfig], fields: Mapping[str, Any]) -> None:
    known = {field.name for field in dataclasses.fields(config)}
    unknown = sorted(set(fields) - known)
    if unknown:
        raise ValueError(f"{config.__name__} has no field {', '.join(unknown)}: it has {', '.join(sorted(known))}")


def _nearest_divisor(number: int, wish: int) -> int:
    divisors = [divisor for divisor in range(1, number + 1) if number % divisor == 0]
    return min(divisors, key=lambda divisor: abs(divisor - wish))
