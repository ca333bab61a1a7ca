"""A fit as one of the processes of torchrun, or alone: `python -m tests.integration.fit_together FILE MEMBERS ENDING`.

Rank 0 writes losses and weights to FILE. ENDING: "well", or at its first validation rank 1 "dies" or "hangs".
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from models.config import ModelConfig, TrainConfig
from models.fitting import ensembles
from models.fitting.cpu import tune_cpu
from models.fitting.parallel import joined
from models.fitting.ranks import RankLost
from models.fitting.training import Progress
from models.network.baselines import SeasonalNaive
from models.network.forecasters import build
from models.panel import Panel
from tests.unit.models.panels import make_panel

CPU = torch.device("cpu")
TIMEOUT = 4.0
TRAIN = TrainConfig(
    steps=30, batch_size=16, validate_every=5, validation_steps=12, learning_rate=1e-2, seed=5, patience=30
)


def main(file: Path, members: int, ending: str) -> None:
    tune_cpu(1)
    with joined(os.environ, cuda=False, timeout=60.0 if ending == "well" else TIMEOUT) as others:
        if others and others.ranks.rank:
            if ending != "well":
                ensembles._say_nothing = break_off if ending == "dies" else hang  # called at the first validation
            ensembles.follow(others, CPU)
            return
        config = ModelConfig(
            hidden=8,
            heads=2,
            layers=1,
            segment=6,
            context_length=24,
            horizon=6,
            season=6,
            series=6,
            series_dim=4,
            calendar_features=3,
            dropout=0.0,
            members=members,
        )
        model = build(config, seed=3)
        assert not isinstance(model, SeasonalNaive)
        train = replace(TRAIN, max_seconds=1000.0) if members > 1 else TRAIN
        try:
            report = ensembles.fit_members(model, with_gaps(), train, device=CPU, on_progress=lambda _: None)
        except RankLost as error:
            file.write_text(json.dumps({"lost": str(error)}))
            os._exit(3)  # what is left of the group cannot be taken down in order
        weights = {name: weight.tolist() for name, weight in model.state_dict().items()}
        history = [[each.step, each.loss, each.validation] for each in report.history]
        file.write_text(json.dumps({"history": history, "weights": weights, "processes": report.processes}))


def with_gaps() -> Panel:
    """Series of which half are nearly unobserved, so that the ranks' shares never count the same."""
    panel = make_panel(series=6, steps=[90, 70, 30, 13, 100, 55], season=6, noise=0.2, features=3)
    gone = torch.rand(panel.target.shape, generator=torch.Generator().manual_seed(0)) < 0.8
    gone &= torch.arange(len(panel.target)) < len(panel.target) // 2
    return replace(panel, target=panel.target.where(~gone, 0.0), observed=panel.observed & ~gone)


def break_off(progress: Progress) -> None:
    os._exit(9)


def hang(progress: Progress) -> None:
    time.sleep(60.0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
