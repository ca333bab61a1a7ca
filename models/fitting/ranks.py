"""The processes that fit one model together, and the few things they say to each other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


class RankLost(RuntimeError):
    """Another process of the fit has ended, or was silent for longer than the timeout."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """A process, number `rank` of `world`, number `local` on its machine; `device` is where it may say something.

    Rank 0 decides. One process alone is rank 0 of 1, and none of its calls says or changes anything.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    device: str = "cpu"

    def share(self, batch_size: int) -> int:
        """Windows of a step that fall to this process; ValueError when they do not divide."""
        if batch_size % self.world:
            raise ValueError(
                f"batch {batch_size} does not divide among {self.world} processes: use a multiple of {self.world}"
            )
        return batch_size // self.world

    def add(self, values: Tensor) -> None:
        """Replace `values` by their sum over all processes, in place."""
        if self.world > 1:
            with answering():
                distributed.all_reduce(values)

    def total(self, *numbers: float) -> list[float]:
        """Sums over all processes, in double precision."""
        if self.world == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        self.add(values)
        return values.tolist()

    def follow(self, *numbers: float) -> list[float]:
        """Rank 0's numbers, in double precision, on every rank: what is decided from them is decided alike."""
        if self.world == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        with answering():
            distributed.broadcast(values, src=0)
        return values.tolist()


ALONE = Ranks()


def read_ranks(environ: Mapping[str, str]) -> Ranks:
    """The place that torchrun gives this process; ALONE without one. ValueError when it is half said or no number."""
    given = {name: environ[name] for name in ("RANK", "WORLD_SIZE") if name in environ}
    if not given:
        return ALONE
    if len(given) == 1 or not all(value.isdigit() for value in given.values()):
        raise ValueError(f"environment {given}: start with torchrun, which sets RANK and WORLD_SIZE, or unset them")
    rank, world = int(given["RANK"]), int(given["WORLD_SIZE"])
    local = environ.get("LOCAL_RANK", str(rank))
    if not rank < world or not local.isdigit():
        raise ValueError(f"environment {given}: RANK must be below WORLD_SIZE and LOCAL_RANK a number, not {local!r}")
    return Ranks(rank, world, int(local))


@contextmanager
def answering() -> Iterator[None]:
    """Say in one line that another process is gone, which each backend says in its own way."""
    try:
        yield
    except RuntimeError as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise RankLost(f"another process of this training ended or is silent: {words[0][:200]}") from error


class Clock:
    """Seconds since a fit began, the same on every rank, so that learning rates and ends are the same too.

    Several ranks take over rank 0's clock at step 1, 2, 4, 8 ... and every `every` steps, and count on at its pace.
    """

    def __init__(self, ranks: Ranks, every: int) -> None:
        self._ranks, self._every = ranks, every
        self._began = time.monotonic()
        self._step, self._told, self._pace = 1, 0.0, 0.0

    def own(self) -> float:
        """Seconds by this process's own clock."""
        return time.monotonic() - self._began

    def read(self, step: int) -> float:
        """Seconds before step 1, 2, ...; call it once for each, on every rank."""
        if self._ranks.world == 1:
            return self.own()
        if step & (step - 1) == 0 or step % self._every == 0:
            (self._told,) = self._ranks.follow(self.own())
            self._step, self._pace = step, self._told / max(step - 1, 1)
        return self._told + (step - self._step) * self._pace
