"""The table [training]: how a network is fitted."""

from typing import Literal

from pydantic import Field

from models.config import Loss, Optimizer, Precision, Schedule
from pipeline.settings.values import Seconds, Section

SearchKey = Literal["kind", "layers", "hidden", "segment", "location", "dropout", "learning_rate"]


class TrainingSettings(Section):
    """How the network is fitted."""

    loss: Loss = "pinball"
    """Loss of all quantiles (`pinball`), or of the point forecast."""
    optimizer: Optimizer = "adamw"
    """Expert: Optimiser."""
    schedule: Schedule = "one_cycle"
    """Expert: Schedule of the learning rate."""
    steps: int = Field(3000, ge=1)
    """Optimiser steps."""
    patience: int = Field(24, ge=1)
    """Expert: Validations, one every 25 steps, without a better one before the fit ends."""
    refit: float = Field(0.5, ge=0, le=10)
    """Expert: Share of the steps, or of twice those that the best weights took, for which training goes on with the
    validation steps, too; 0 for none."""
    batch: int = Field(128, ge=1)
    """Expert: Windows in a step."""
    learning_rate: float = Field(5e-3, gt=0)
    """Highest learning rate."""
    seed: int = 0
    """Seed of everything random."""
    members: int = Field(1, ge=1, le=20)
    """Networks of seeds from `training.seed` on, served as one: the mean of their quantiles."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where training runs. `auto`: on a GPU if there is one."""
    precision: Precision = "auto"
    """Expert: Precision of the forward pass in training. `auto`: bfloat16 on a GPU that has it."""
    threads: int = Field(0, ge=0)
    """Threads on a CPU. 0: as many as there are free cores when the fit begins."""
    budget: Seconds = 3600.0
    """Longest time of a fit with the search before it. The learning rate is annealed within it."""
    history: int = Field(8760, ge=1)
    """Newest steps that are read for training."""
    validation_steps: int | None = Field(None, ge=1)
    """Expert: Steps of each series that are held back to choose the best weights and to measure intervals. Without it:
    eight horizons of all series together, one step at least."""
    max_rows: int = Field(20_000_000, ge=1000)
    """Expert: Observations that a retraining reads at most."""
    mode: Literal["cold", "warm", "fine-tune"] = "cold"
    """How a retraining starts: `cold`, from scratch; `warm`, from the champion's weights; `fine-tune`, from them on
    recent history."""
    warm_steps: int | None = Field(None, ge=1)
    """Expert: Optimiser steps of a warm start or a fine-tune. Without it: `training.steps`."""
    recent: Seconds = 30 * 86_400.0
    """Newest history that a fine-tune learns from."""
    search: int = Field(0, ge=0, le=100)
    """Settings that are tried before the fit; 0 or 1 for none."""
    search_over: tuple[SearchKey, ...] = ("layers", "hidden", "segment", "location", "dropout", "learning_rate")
    """Expert: Keys that the search varies, of this table and of `[model]`."""
