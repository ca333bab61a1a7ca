"""Covariates inside the model: each is scaled by itself, so its unit changes nothing, and what is missing is a mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.batch import Batch
from models.network.scaling import Scale, find_scale


def scale_channels(values: Tensor, observed: Tensor) -> Tensor:
    """(B, X, C) float64 to float32: centred and scaled per window and channel, +-10 at most, 0 where not observed."""
    rows, steps, channels = values.shape
    flat = values.transpose(1, 2).reshape(-1, steps)  # (B * C, X)
    seen = observed.transpose(1, 2).reshape(-1, steps)  # (B * C, X)
    scaled = find_scale(flat, seen, "mean").apply(flat).where(seen, 0.0)  # (B * C, X)
    return scaled.reshape(rows, channels, steps).transpose(1, 2)  # (B, X, C)


def read_covariates(batch: Batch, calendar: Tensor) -> tuple[Tensor | None, Tensor]:
    """What goes with the context's steps, (B, T, 2P + 2K) or None, and with the horizon's: (B, H, F + 2K).

    Every covariate is two columns, its scaled value and its mask; in the horizon they follow the `calendar` (B, H, F).
    """
    context_length = batch.target.shape[1]
    parts = []
    if batch.past.shape[2]:
        parts += [scale_channels(batch.past, batch.past_observed), batch.past_observed.float()]
    if batch.future.shape[2]:
        known = torch.cat(
            (scale_channels(batch.future, batch.future_observed), batch.future_observed.float()), dim=2
        )  # (B, T + H, 2K)
        parts.append(known[:, :context_length])
        calendar = torch.cat((calendar, known[:, context_length:]), dim=2)  # (B, H, F + 2K)
    return (torch.cat(parts, dim=2) if parts else None), calendar


class StaticEmbedding(nn.Module):
    """What is known of a series beside its values; also where the series itself is unknown (UNK).

    `mean` and `spread` (Z,) are those of the training series and are stored with the weights, `rest` is what float32
    lost of the mean. A covariate that was the same for all of them has spread 0 and is not read: nothing was learned of
    it.
    """

    mean: Tensor
    rest: Tensor
    spread: Tensor

    def __init__(self, covariates: int, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(covariates, hidden, bias=False)
        self.register_buffer("mean", torch.zeros(covariates))
        self.register_buffer("rest", torch.zeros(covariates))
        self.register_buffer("spread", torch.zeros(covariates))

    @torch.no_grad()
    def learn(self, static: Tensor, observed: Tensor) -> None:
        """Take mean and spread from the series (S, Z) of a training set, once: a warm start keeps its champion's."""
        if bool(self.spread.any()) or not len(static):
            return
        scale = find_scale(static.T, observed.T, "mean")  # of columns (Z, S)
        location = scale.location[:, 0]  # (Z,)
        self.mean.copy_(location)
        self.rest.copy_(location - self.mean)
        self.spread.copy_(scale.spread[:, 0])

    def forward(self, static: Tensor, observed: Tensor) -> Tensor:
        """Static covariates (B, Z) and their mask to (B, D)."""
        scale = Scale(*(part[None].double() for part in (self.mean, self.rest, self.spread)))  # (1, Z) each
        scaled = scale.apply(static)  # (B, Z)
        vectors: Tensor = self.project(scaled.where(observed & (self.spread > 0.0), 0.0))
        return vectors
