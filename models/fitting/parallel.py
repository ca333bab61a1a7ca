"""Several processes fit one model: how torchrun's join, and how rank 0 calls the others to a fit.

    rank 0    reads history ... | send: configs, weights, panel | fit | backtest, register ... | end
    rank 1..  wait              | receive                       | fit | wait                   | end

Waiting is not a collective, so it may take as long as it takes; a fit is, and whoever is silent in it for longer than
the timeout is lost. Nothing is pickled: what is sent is JSON text and tensors.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from models.config import ModelConfig, TrainConfig
from models.fitting.ranks import RankLost, Ranks, answering, read_ranks
from models.network.forecasters import Network
from models.panel import Panel

LOOK = 0.05
"""Seconds between two looks for a call."""
FAREWELL = 10.0
"""Seconds that rank 0 waits at the end for the others to have been told."""


@dataclass(slots=True)
class Crew:
    """The processes of a torchrun; `calls` made so far, and the store in which they are announced."""

    ranks: Ranks
    store: Store
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be fitted, from which weights, on what, how."""

    model: ModelConfig
    weights: dict[str, Tensor]
    panel: Panel
    config: TrainConfig


_joined: list[Crew] = []


def crew() -> Crew | None:
    """The other processes that this one has joined, as torch.distributed itself keeps them: one group a process."""
    return _joined[-1] if _joined else None


@contextmanager
def joined(environ: Mapping[str, str], *, cuda: bool, timeout: float) -> Iterator[Crew | None]:
    """Join the processes that torchrun has started, for the length of a block; None without any.

    Rank 0 ends the waiting of the others when its block ends. `timeout` (seconds): the longest silence within a fit.
    ValueError when there are more processes than GPUs, or the environment is no torchrun's.
    """
    ranks = read_ranks(environ)
    if ranks.world == 1:
        yield None
        return
    if cuda:
        if ranks.local >= torch.cuda.device_count():
            raise ValueError(f"process {ranks.local} of a machine of {torch.cuda.device_count()} GPUs: start fewer")
        torch.cuda.set_device(ranks.local)
        ranks = dataclasses.replace(ranks, device="cuda")
    limit = timedelta(seconds=timeout)
    store, rank, world = next(iter(rendezvous("env://", timeout=limit)))
    distributed.init_process_group(
        "nccl" if cuda else "gloo",
        store=PrefixStore("fit", store),
        rank=rank,
        world_size=world,
        timeout=limit,
    )
    others = Crew(ranks, PrefixStore("calls", store))
    _joined.append(others)
    try:
        yield others
    finally:
        _joined.remove(others)
        if ranks.rank == 0:
            others.store.set(f"call {others.calls}", "end")
    _part(others)


def _part(others: Crew) -> None:
    # Only after a good end: a group that lost a rank cannot be taken down in order.
    others.store.add("gone", 1)
    deadline = time.monotonic() + FAREWELL
    while others.ranks.rank == 0 and others.store.add("gone", 0) < others.ranks.world and time.monotonic() < deadline:
        time.sleep(LOOK)  # rank 0 may be the one that keeps the store
    distributed.destroy_process_group()


def send(others: Crew, model: Network, panel: Panel, config: TrainConfig) -> None:
    """Rank 0 calls the others to a fit and tells them everything about it."""
    others.store.set(f"call {others.calls}", "fit")
    others.calls += 1
    weights, fields = dict(model.state_dict()), {field.name: getattr(panel, field.name) for field in panel_fields()}
    told = {
        "model": model.config.to_dict(),
        "config": config.to_dict(),
        "weights": {name: _describe(weight) for name, weight in weights.items()},
        "panel": {name: _describe(value) for name, value in fields.items()},
    }
    _send_text(json.dumps(told), others.ranks)
    for value in (*weights.values(), *fields.values()):
        if isinstance(value, Tensor):
            _broadcast(value.detach().to(others.ranks.device).contiguous())


def receive(others: Crew) -> Order | None:
    """Wait for rank 0's next call; None when it has ended. RankLost when torchrun itself is gone."""
    key, parent = f"call {others.calls}", os.getppid()
    with answering():
        while not others.store.check([key]):
            if os.getppid() != parent:
                raise RankLost("torchrun has ended without a word")
            time.sleep(LOOK)
        if others.store.get(key) == b"end":
            return None
    others.calls += 1
    told = json.loads(_receive_text(others.ranks))
    weights = {name: _receive(value, others.ranks) for name, value in told["weights"].items()}
    panel = Panel(**{name: _receive(value, others.ranks) for name, value in told["panel"].items()})
    return Order(ModelConfig.from_dict(told["model"]), weights, panel, TrainConfig.from_dict(told["config"]))


def panel_fields() -> tuple[dataclasses.Field[Any], ...]:
    """Whatever a panel consists of: tensors, and plain values."""
    return dataclasses.fields(Panel)


def _describe(value: Any) -> Any:
    if isinstance(value, Tensor):
        return {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
    return {"plain": value}


def _receive(value: Any, ranks: Ranks) -> Any:
    if "plain" in value:
        plain = value["plain"]
        return tuple(plain) if isinstance(plain, list) else plain
    tensor = torch.empty(value["shape"], dtype=getattr(torch, value["dtype"]), device=ranks.device)
    _broadcast(tensor)
    return tensor


def _broadcast(tensor: Tensor) -> None:
    if tensor.numel():
        with answering():
            distributed.broadcast(tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor, src=0)


def _send_text(text: str, ranks: Ranks) -> None:
    coded = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).to(ranks.device)
    _broadcast(torch.tensor([coded.numel()], device=ranks.device))
    _broadcast(coded)


def _receive_text(ranks: Ranks) -> str:
    size = torch.zeros(1, dtype=torch.int64, device=ranks.device)
    _broadcast(size)
    coded = torch.zeros(int(size), dtype=torch.uint8, device=ranks.device)
    _broadcast(coded)
    return bytes(coded.cpu().numpy()).decode()
