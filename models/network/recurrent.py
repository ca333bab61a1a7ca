"""Recurrent encoders: tokens of a window, and residual layers over them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.network.precision import recur

LONG = 64
"""Tokens above which gates are initialised for long memory."""


class SegmentTokens(nn.Module):
    """Cuts a window into tokens of `segment` steps: 336 recurrent steps become 14, and accuracy rises (SegRNN).

    beside: columns C that go with every step, beside its value and its mask. rectify: what is below 0 is cut off.
    """

    def __init__(self, segment: int, hidden: int, *, beside: int = 0, rectify: bool = False) -> None:
        super().__init__()
        self.segment = segment
        self.rectify = rectify
        self.project = nn.Linear((2 + beside) * segment, hidden)

    def forward(self, values: Tensor, observed: Tensor, beside: Tensor | None = None) -> Tensor:
        """Scaled values (B, T), 0 where not observed, the mask (B, T), and columns (B, T, C) to tokens (B, S, D)."""
        rows = values.shape[0]
        steps = values.reshape(rows, -1, self.segment)  # (B, S, segment)
        known = observed.reshape(rows, -1, self.segment).to(values.dtype)  # (B, S, segment)
        parts = [steps, known]
        if beside is not None:
            parts.append(beside.reshape(rows, steps.shape[1], -1))  # (B, S, segment * C)
        tokens: Tensor = self.project(torch.cat(parts, dim=-1))  # (B, S, D)
        return tokens.relu() if self.rectify else tokens


def build_cell(cell: str, hidden: int, *, direction: str, tokens: int) -> nn.RNNBase:
    """One recurrent layer "gru", "lstm" or "rnn" of D inputs and D states, (B, S, D) to (B, S, D).

    Over more than LONG tokens, gates start so that units remember for between 1 and all of them (chrono
    initialisation): with zero biases a state halves at every step, and nothing learns from 200 steps back.
    """
    both = direction == "bidirectional"
    width = hidden // 2 if both else hidden
    kind = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}[cell]
    layer: nn.RNNBase = kind(hidden, width, batch_first=True, bidirectional=both)
    if tokens > LONG and cell != "rnn":
        for name, bias in layer.named_parameters():
            if name.startswith("bias_"):
                _remember(bias, cell, width, tokens, half=name.startswith("bias_hh"))
    return layer


@torch.no_grad()
def _remember(bias: Tensor, cell: str, width: int, tokens: int, *, half: bool) -> None:
    # torch's order of gates: reset, update, new (GRU); input, forget, cell, output (LSTM). Two biases are added.
    times = torch.exp(torch.linspace(0.1, math.log(tokens - 1.0), width))  # (width,) spread over the scales of time
    keep = torch.zeros(width) if half else torch.log(times)
    if cell == "lstm":
        bias[:width] = -keep
        bias[width : 2 * width] = keep
    else:
        bias[width : 2 * width] = keep


class ResidualLayer(nn.Module):
    """LayerNorm, recurrent layer, dropout, added to its input (pre-norm residual)."""

    def __init__(self, recur: nn.RNNBase, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.recur = recur
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """(B, S, D) to (B, S, D)."""
        update = recur(self.recur, self.norm(states))  # (B, S, D)
        added: Tensor = states + self.dropout(update)
        return added


class PlainLayer(nn.Module):
    """A recurrent layer and dropout, as in textbooks."""

    def __init__(self, recur: nn.RNNBase, dropout: float) -> None:
        super().__init__()
        self.recur = recur
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """(B, S, D) to (B, S, D)."""
        dropped: Tensor = self.dropout(recur(self.recur, states))
        return dropped


class StackedEncoder(nn.Module):
    """Recurrent layers over the S tokens of a window: plain ones, or residual ones and a last LayerNorm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden, tokens = config.hidden, config.context_length // config.segment
        self.both = config.direction == "bidirectional"
        self.layers = nn.Sequential()
        for _ in range(config.layers):
            recur = build_cell(config.cell, hidden, direction=config.direction, tokens=tokens)
            residual = config.stack == "residual"
            self.layers.append(
                ResidualLayer(recur, hidden, config.dropout) if residual else PlainLayer(recur, config.dropout)
            )
        self.norm = nn.LayerNorm(hidden) if config.stack == "residual" else None

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, S, D) to all states (B, S, D) and the final one (B, D), which has seen the whole window.

        Read backwards, the whole window has been seen at the oldest token, so that half is taken there.
        """
        states: Tensor = self.layers(tokens)  # (B, S, D)
        if self.norm is not None:
            states = self.norm(states)
        if not self.both:
            return states, states[:, -1]
        half = states.shape[2] // 2
        return states, torch.cat((states[:, -1, :half], states[:, 0, half:]), dim=1)


class RecurrentStep(nn.Module):
    """One step of a gated cell from the final state for each horizon segment, all of them at once; then dropout.

    The query says which segment, which series and which calendar; the gates choose what of the state bears on it.
    The cell is its own: stepping the encoder's cell again, as SegRNN does, had 1.2 % more squared error on ETTh1's
    validation part.
    """

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.cell = nn.GRUCell(hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, final: Tensor) -> Tensor:
        """Queries (B, X, D) and final state (B, D) to segment states (B, X, D)."""
        state = final[:, None].expand_as(queries)  # (B, X, D)
        stepped = self.cell(queries.flatten(0, 1), state.flatten(0, 1))  # (B * X, D)
        dropped: Tensor = self.dropout(stepped.view_as(queries))
        return dropped
