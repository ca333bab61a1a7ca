"""A training under torchrun: one process does the work, the others fit along when it fits."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from models.fitting.ensembles import follow
from models.fitting.parallel import joined
from models.fitting.ranks import RankLost
from models.fitting.training import choose_device
from pipeline.errors import ConfigError, Unavailable
from pipeline.settings import Settings

RANK_TIMEOUT = 300.0
"""Seconds that a process may be silent within a fit."""


@contextmanager
def leading(settings: Settings) -> Iterator[bool]:
    """Join the processes of torchrun, if it started this one: True in the one that goes on with its work.

    In every other one the block is entered with False when the work is over; it has nothing left to do.
    """
    try:
        device = choose_device(settings.training.device)
    except ValueError as error:
        raise ConfigError(f"settings: training.{error}") from error
    try:
        with joined(os.environ, cuda=device.type == "cuda", timeout=RANK_TIMEOUT) as others:
            if others and others.ranks.rank:
                follow(others, device)
            yield not others or others.ranks.rank == 0
    except RankLost as error:
        raise Unavailable(str(error)) from error
