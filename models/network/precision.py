"""Which part of a network is computed in bfloat16, and which must not be.

In bfloat16: everything between the scaled window and the head. In float32: the seasonal skip (a seasonal naive of three
digits is none), loss, gradients of the weights, the optimiser, and what every validation and forecast computes between
the scaled window and the quantiles. In float64: values, the scale of a window and quantiles, which a small wave on a
large level needs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

RECURRENT: dict[str, Any] = {"GRU": torch.gru, "LSTM": torch.lstm, "RNN_TANH": torch.rnn_tanh}


def choose_precision(wish: str, device: torch.device) -> torch.dtype:
    """The type of a fit's forward pass; "auto" is bfloat16 on a GPU that has it, else float32."""
    has = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if wish == "bfloat16" and not has:
        raise ValueError("precision bfloat16 is not available on this GPU: use auto or float32")
    low = wish == "bfloat16" or (wish == "auto" and device.type == "cuda" and has)
    return torch.bfloat16 if low else torch.float32


@contextmanager
def lowered(precision: torch.dtype, device: torch.device) -> Iterator[None]:
    """Compute in `precision` where that is safe, with no cache of cast weights, which could outlive a recorded step."""
    if precision == torch.float32:
        yield
        return
    with torch.autocast(device.type, dtype=precision, cache_enabled=False), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
        yield


def full(values: Tensor) -> AbstractContextManager[object]:
    """Compute in float32 again, on the device of `values`."""
    kind = values.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def recur(layer: nn.RNNBase, states: Tensor) -> Tensor:
    """A recurrent layer over (B, S, D), from a zero state, to all its states (B, S, D).

    Autocast would run cuDNN's in float16 whatever was set (torch's AutocastRNN.cpp), and gradients of 1e-7 would
    be zero without anybody saying so; so weights and input are cast here and autocast is left out.
    """
    kind = states.device.type
    if not torch.is_autocast_enabled(kind):
        output: Tensor = layer(states)[0]
        return output
    low = torch.get_autocast_dtype(kind)
    weights = [weight.to(low) for group in layer.all_weights for weight in group]
    places = layer.num_layers * (2 if layer.bidirectional else 1)
    start = states.new_zeros((places, states.shape[0], layer.hidden_size), dtype=low)
    run = RECURRENT[layer.mode]
    begin = (start, start) if layer.mode == "LSTM" else start
    with torch.autocast(kind, enabled=False):
        states, *_ = run(
            states.to(low), begin, weights, True, layer.num_layers, 0.0, layer.training, layer.bidirectional, True
        )  # (B, S, D)
    return states
