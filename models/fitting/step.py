"""One optimiser step as a function of tensors that stay where they are, so that a GPU can record and replay it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.config import TrainConfig
from models.fitting.losses import sum_error
from models.fitting.ranks import ALONE, Ranks
from models.fitting.sampling import Windows, cut_with_truth, hide_some
from models.network.forecasters import Single
from models.network.precision import lowered


@dataclass(frozen=True, slots=True)
class Begun:
    """What a step changes, as it was before the first one: weights, averages, and states of the generators."""

    weights: list[Tensor]
    averages: list[Tensor]
    sampling: Tensor
    dropout: Tensor


class TrainingStep:
    """A step: 1 sample, 2 cut, 3 hide, 4 forward, 5 loss, 6 backward; 7 exchange; 8 clip, 9 optimise, 10 average, 11
    keep the loss.

    Nothing in it reads a tensor back to the host or branches on one (a test watches that): numbers that change from
    step to step are written by `choose`, losses are kept on the device until `read_loss`. Several ranks draw the same
    `batch_size` windows, each computes its share, and the sums of gradients and observed steps are added up in 7, so
    the step is that of one process.
    """

    def __init__(
        self,
        model: Single,
        average: nn.Module,
        windows: Windows,
        config: TrainConfig,
        *,
        generator: torch.Generator,
        ranks: Ranks = ALONE,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.model, self.windows, self.config = model, windows, config
        self.generator, self.ranks, self.precision = generator, ranks, precision
        self.device = windows.panel.device
        self.total = len(windows)
        self.share = ranks.share(config.batch_size)
        self.levels = model.config.quantile_levels
        self.probability = torch.tensor(self.levels, device=self.device)  # (Q,)
        self.sizes = {"context_length": model.config.context_length, "horizon": model.config.horizon}
        self.weights: list[Tensor] = list(model.parameters())
        self.averages: list[Tensor] = list(average.parameters())
        self.optimiser = choose_optimiser(model, config)
        self.losses = torch.zeros(config.validate_every, device=self.device)
        self.slot = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.kept = 0
        self.rate: Tensor | float = config.learning_rate
        self.taken: Tensor | float = 0.0
        if self.device.type == "cuda":  # a graph would repeat the number it was recorded with
            self.rate = torch.tensor(config.learning_rate, device=self.device)
            self.taken = torch.tensor(0.0, device=self.device)
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate

    def choose(self, rate: float, taken: float) -> None:
        """Set the next step's learning rate, and how much of the new weights the average takes."""
        if isinstance(self.rate, Tensor) and isinstance(self.taken, Tensor):
            self.rate.fill_(rate)
            self.taken.fill_(taken)
        else:
            self.taken = taken
            for group in self.optimiser.param_groups:
                group["lr"] = rate
        self.kept += 1

    def make(self) -> None:
        """Make the step, operation by operation."""
        self.differentiate()
        self.exchange()
        self.update()

    def differentiate(self) -> None:
        """1 to 6: the gradients of this rank's windows."""
        config, ranks = self.config, self.ranks
        rows, ends = self.windows.draw(config.batch_size, self.total, self.generator)  # (all ranks' B,)
        if ranks.world > 1:
            part = slice(ranks.rank * self.share, (ranks.rank + 1) * self.share)
            rows, ends = rows[part], ends[part]  # (B,)
        batch, truth = cut_with_truth(self.windows, rows, ends, **self.sizes)
        hidden = {"ids": config.id_dropout, "histories": config.history_dropout}
        batch = hide_some(batch, self.generator, **hidden, among=ranks.world, place=ranks.rank)
        with lowered(self.precision, self.device):
            quantiles = self.model(batch)  # (B, H, Q)
        error, count = sum_error(
            quantiles, truth, self.levels, loss=config.loss, relative=config.relative, probability=self.probability
        )
        self.optimiser.zero_grad(set_to_none=True)
        if ranks.world == 1:
            loss = error / count.clamp(min=1)
            loss.backward()  # type: ignore[no-untyped-call]
            self.loss = loss.detach()
            return
        error.backward()  # type: ignore[no-untyped-call]
        sums = [gradient.reshape(-1) for gradient in self.gradients()]
        self.sums = torch.cat([*sums, error.detach().reshape(1), count.to(error.dtype).reshape(1)])

    def exchange(self) -> None:
        """7: add up the sums of all ranks."""
        if self.ranks.world > 1:
            self.ranks.add(self.sums)

    def update(self) -> None:
        """8 to 11: the new weights."""
        if self.ranks.world > 1:
            means = self.sums / self.sums[-1].clamp(min=1.0)
            gradients = self.gradients()
            parts = torch.split(means[:-2], [gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))
            self.loss = means[-2]
        nn.utils.clip_grad_norm_(self.weights, self.config.clip_norm)
        self.optimiser.step()
        self._average()
        self.losses.index_copy_(0, self.slot, self.loss.reshape(1))
        self.slot.add_(1)

    def gradients(self) -> list[Tensor]:
        """Those that there are, in the order of the weights."""
        return [weight.grad for weight in self.weights if weight.grad is not None]

    @torch.no_grad()
    def _average(self) -> None:
        if isinstance(self.taken, Tensor):
            change = torch._foreach_sub(self.weights, self.averages)
            torch._foreach_mul_(change, self.taken)
            torch._foreach_add_(self.averages, change)
        else:
            torch._foreach_lerp_(self.averages, self.weights, self.taken)

    def read_loss(self) -> float:
        """Mean loss of the steps since it was last read; the one place that waits for the device."""
        mean = float(self.losses[: self.kept].mean())
        self.slot.zero_()
        self.kept = 0
        return mean

    def save(self) -> Begun:
        """Note where a fit begins, before its first step."""
        return Begun(
            weights=[weight.detach().clone() for weight in self.weights],
            averages=[average.detach().clone() for average in self.averages],
            sampling=self.generator.get_state(),
            dropout=torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.get_rng_state(),
        )

    @torch.no_grad()
    def restore(self, begun: Begun) -> None:
        """Go back to where the fit began; every tensor stays where it is, since a graph knows its address.

        The optimisers keep counts and moments, and all of them begin at zero.
        """
        for weights, before in ((self.weights, begun.weights), (self.averages, begun.averages)):
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)
        for state in self.optimiser.state.values():
            for value in state.values():
                if isinstance(value, Tensor):
                    value.zero_()
        self.optimiser.zero_grad(set_to_none=True)
        self.losses.zero_()
        self.slot.zero_()
        self.generator.set_state(begun.sampling)
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(begun.dropout, self.device)
        else:
            torch.set_rng_state(begun.dropout)


def choose_optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser by name; RMSprop with the decay and epsilon that Keras uses. On a GPU it counts on the device."""
    weights, rate = list(model.parameters()), config.learning_rate
    capturable = weights[0].is_cuda
    if config.optimizer == "adamw":
        return torch.optim.AdamW(weights, lr=rate, weight_decay=config.weight_decay, fused=True, capturable=capturable)
    if config.optimizer == "adam":
        return torch.optim.Adam(weights, lr=rate, fused=True, capturable=capturable)
    return torch.optim.RMSprop(weights, lr=rate, alpha=0.9, eps=1e-7, capturable=capturable)
