"""The kinds of forecasters: each one is a choice of parts, and any part can be chosen otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["rnn", "lstm", "gru", "bidirectional", "stacked", "attention", "pretrained"]
Cell = Literal["rnn", "lstm", "gru"]
Direction = Literal["forward", "bidirectional"]
Stack = Literal["plain", "residual"]
Attention = Literal["none", "multihead", "additive"]
Decoder = Literal["queries", "recurrent", "dense", "candidates"]
Output = Literal["quantiles", "point"]
CELLS: tuple[str, ...] = get_args(Cell)
DIRECTIONS: tuple[str, ...] = get_args(Direction)
STACKS: tuple[str, ...] = get_args(Stack)
ATTENTIONS: tuple[str, ...] = get_args(Attention)
DECODERS: tuple[str, ...] = get_args(Decoder)
OUTPUTS: tuple[str, ...] = get_args(Output)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What a kind is made of where the user does not say.

    cell and layers: of the encoder, which reads tokens oldest first (direction "forward") or both ways
    ("bidirectional": half of the width each way; the whole window is past, so nothing leaks). stack: "plain" as in
    textbooks, or "residual" with pre-LayerNorm. attention: of the future over all states. decoder: "queries",
    one small state per step; "recurrent", the same after one recurrent step per segment; "dense", one dense layer from
    the last state; or "candidates", of the network of the wheel alone, which weighs simple forecasts.
    """

    cell: str
    layers: int = 1
    direction: str = "forward"
    stack: str = "plain"
    attention: str = "none"
    decoder: str = "queries"


PRESETS: dict[str, Preset] = {  # one for each Kind
    "rnn": Preset(cell="rnn"),
    "lstm": Preset(cell="lstm"),
    "gru": Preset(cell="gru"),
    "bidirectional": Preset(cell="lstm", direction="bidirectional"),
    "stacked": Preset(cell="gru", layers=2, stack="residual"),
    "attention": Preset(cell="gru", layers=2, stack="residual", attention="multihead"),
    "pretrained": Preset(cell="gru", layers=2, stack="residual", decoder="candidates"),
}
NAIVE = "seasonal_naive"
PRETRAINED = "pretrained"
PRETRAINED_SHAPE = {"hidden": 96, "heads": 1, "segment": 16, "rectify": False, "dropout": 0.0, "series_dim": 0}
"""Of the network of the wheel, whatever is asked for: its weights have this shape."""
LEAST_OBSERVED = 8
"""Observed values that it needs in a window; with fewer, seasonal naive knows as much."""
KINDS = (*PRESETS, NAIVE)
