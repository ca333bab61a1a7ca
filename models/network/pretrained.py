"""One recurrent network for every frequency, context, season and horizon: what the wheel brings, already trained.

Nothing in it depends on a series or on a frequency. A window is centred and scaled by itself. A recurrent encoder reads
it in tokens; a second one reads, for every future step, the values at the same phase of the last periods, oldest first,
whatever the length of a period is. Both decide how much to listen to each of a handful of simple forecasts (the same
phase of earlier periods, plain and moved with the level, the last value, a mean, a line), how far to correct them, and
how wide the quantiles are, in units that the window itself brings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.batch import Batch
from models.config import ModelConfig
from models.network.aligned import (
    ALIGNED,
    CLIP,
    COPIES,
    AlignedSeason,
    Season,
    Window,
    count_periods,
    find_places,
    mean_change,
    read_window,
)
from models.network.floor import SeriesSign, find_floor, raise_to
from models.network.precision import full
from models.network.recurrent import SegmentTokens, StackedEncoder
from models.network.scaling import Scale, find_scale
from models.panel import Panel

READ = 512
"""Newest steps that the encoder reads in tokens; earlier ones are read at the phases of the horizon only."""
REACH = 384
"""Steps ahead that are forecast at once; what lies further is forecast from the medians of what lies before."""
NEWEST = 24
"""Newest steps that are read as they are."""
STEP = 64
"""Width of a future step's state."""
UNITS = 5
"""Spread of the window, mean change, mean change x sqrt(step), mean seasonal change, disagreement of the copies."""
PLACES = 9
"""Numbers that say where a future step lies."""
BOUND = 40.0
"""Largest value of a simple forecast, in spreads of the window."""
FIRST_GAP = 0.25
"""Distance of neighbouring quantiles before training."""
LONG_SEASONS = {7: 364, 24: 168, 48: 336, 96: 672, 144: 1008, 288: 2016, 1440: 10080}


def find_long_season(season: int) -> int:
    """The second season that goes with a first one: the week of a day, the year of a week; 0 for none."""
    return LONG_SEASONS.get(season, 0)


def _find_line(window: Window, newest: int) -> tuple[Tensor, Tensor]:
    # Least squares over the newest steps: the value at the step after the origin, and the slope, (B, 1) each.
    values, known = window.values[:, -newest:], window.known[:, -newest:].float()
    time = torch.arange(-values.shape[1], 0, device=values.device, dtype=values.dtype)  # (n,) the origin's next is 0
    count = known.sum(dim=1, keepdim=True).clamp(min=1.0)
    middle = (known * time).sum(dim=1, keepdim=True) / count  # (B, 1)
    mean = (known * values).sum(dim=1, keepdim=True) / count  # (B, 1)
    apart = (time - middle) * known  # (B, n)
    slope = (apart * (values - mean)).sum(dim=1, keepdim=True) / apart.square().sum(dim=1, keepdim=True).clamp(min=1.0)
    return mean - slope * middle, slope


class CandidateHead(nn.Module):
    """How much to listen to each simple forecast, how far to correct them, and how wide the quantiles are.

    `stretch` (2,) multiplies the distances below and above; measured after a fit, 1 until then (see widths.py).
    """

    stretch: Tensor

    def __init__(self, candidates: int, levels: Sequence[float]) -> None:
        super().__init__()
        self.median = levels.index(0.5)
        self.listen = nn.Linear(STEP, candidates)
        self.correct = nn.Linear(STEP, UNITS)
        self.widen = nn.Linear(STEP, UNITS + len(levels) - 1)
        with torch.no_grad():
            for layer in (self.correct, self.widen):
                layer.weight.mul_(0.1)
                layer.bias.zero_()
            self.widen.bias[UNITS:] = math.log(math.expm1(FIRST_GAP))
        self.register_buffer("stretch", torch.ones(2))

    def forward(self, states: Tensor, candidates: Tensor, valid: Tensor, units: Tensor) -> Tensor:
        """States (B, X, STEP), candidates and which there are (B, X, C), units (B, X, UNITS) to quantiles (B, X, Q)."""
        weights = share(self.listen(states).masked_fill(~valid, -1e9))  # (B, X, C)
        centre = (weights * candidates).sum(dim=-1, keepdim=True)  # (B, X, 1)
        centre = centre + (self.correct(states) * units).sum(dim=-1, keepdim=True)
        widths = self.widen(states)
        unit = (share(widths[..., :UNITS]) * units).sum(dim=-1, keepdim=True)  # (B, X, 1)
        gaps = functional.softplus(widths[..., UNITS:]) * unit  # (B, X, Q - 1)
        below = gaps[..., : self.median].flip(-1).cumsum(-1).flip(-1)
        above = gaps[..., self.median :].cumsum(-1)
        low, high = self.stretch.unbind()
        return torch.cat((centre - low * below, centre, centre + high * above), dim=-1)


class PretrainedForecaster(nn.Module):
    """The network of the wheel; of its config, weights depend on hidden, layers, segment and levels alone."""

    spreads = None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.seasons = (config.season, find_long_season(config.season))
        self.levels = len(config.quantile_levels)
        self.candidates = 2 * COPIES + 5
        self.signs = SeriesSign(config.series) if config.non_negative == "auto" else None
        self.tokens = SegmentTokens(config.segment, config.hidden)
        self.encoder = StackedEncoder(config)
        self.aligned = AlignedSeason()
        self.window = nn.Linear(config.hidden + 3 * NEWEST + 10, STEP)
        self.step = nn.Linear(2 * ALIGNED + 2 * self.candidates + UNITS + PLACES, STEP)
        self.deepen = nn.Linear(STEP, STEP)
        self.norm = nn.LayerNorm(STEP)
        self.head = CandidateHead(self.candidates, config.quantile_levels)
        self.prepare(torch.device("cpu"))

    def forward(self, batch: Batch) -> Tensor:
        """Quantiles (B, H, Q) float64, ascending, in the user's units; in eval mode none below the window's floor."""
        quantiles = self.unbounded(batch)  # (B, H, Q)
        return quantiles if self.training else raise_to(quantiles, lambda: self.find_floor(batch))

    def find_floor(self, batch: Batch) -> Tensor | None:
        """The least value (B,) of the forecast of each window; None where nothing has one."""
        return find_floor(self.config.non_negative, batch, self.signs(batch.series) if self.signs else None)

    def prepare(self, device: torch.device) -> None:
        """Lay out what a forward pass looks up, so that none of them waits for a copy to the device."""
        length = self.config.context_length
        for first in range(0, self.config.horizon, REACH):
            steps = tuple(range(min(REACH, self.config.horizon - first)))
            _count_ahead(steps, device)
            _find_places(steps, self.seasons, device)
            for season in self.seasons:
                if periods := count_periods(length, season):
                    find_places(length, season, periods, steps, device)

    def unbounded(self, batch: Batch) -> Tensor:
        """Quantiles (B, H, Q) float64 as the network says them."""
        scale = self.find_scale(batch)
        return scale.invert(self.unroll(scale_window(batch.target, batch.observed, scale), batch.observed))

    def find_scale(self, batch: Batch) -> Scale:
        """What the network's zero and one are in each window, in the user's units."""
        return find_scale(batch.target, batch.observed, "mean")

    def learn_static(self, panel: Panel) -> None:
        """Nothing: it reads no covariates."""

    def unroll(self, values: Tensor, known: Tensor) -> Tensor:
        """Scaled values (B, T), 0 where not observed, and their mask to quantiles (B, H, Q) in units of the window.

        Steps after REACH are forecast from the medians before them; what those may be off by is added to their widths.
        """
        parts: list[Tensor] = []
        median, horizon = self.head.median, self.config.horizon
        off = values.new_zeros((values.shape[0], 1, self.levels))  # (B, 1, Q) distances from the median
        for first in range(0, horizon, REACH):
            part = self.forecast(values, known, tuple(range(min(REACH, horizon - first))))  # (B, X, Q)
            centre = part[..., median : median + 1]
            if first:
                apart = part - centre
                part = centre + apart.sign() * torch.hypot(apart, off)
            parts.append(part)
            off = (part - centre)[:, -1:]
            values = torch.cat((values, centre[..., 0].clamp(-BOUND, BOUND)), dim=1)[:, -values.shape[1] :]
            known = torch.cat((known, torch.ones_like(known[:, : part.shape[1]])), dim=1)[:, -known.shape[1] :]
        return torch.cat(parts, dim=1)

    def forecast(self, values: Tensor, known: Tensor, steps: Sequence[int]) -> Tensor:
        """Scaled windows to the quantiles (B, X, Q) of some future steps, counted from 0, in units of the window."""
        window = read_window(values, known)
        first, second = (self.aligned(window, season, steps) for season in self.seasons)
        change = mean_change(window, 1)  # (B, 1)
        state = self.read(window, first, second, change)  # (B, STEP)
        ahead = _count_ahead(tuple(steps), values.device)  # (X,)
        candidates, valid = self.propose(window, first, second, ahead)  # (B, X, C) each
        units = torch.stack(
            broadcast(torch.ones_like(first.spread), change, change * ahead.sqrt(), first.change, first.spread),
            dim=-1,
        )  # (B, X, UNITS)
        away = candidates - window.last[:, :, None]  # (B, X, C)
        features = torch.cat(
            (
                first.states,
                second.states,
                (away * valid).clamp(-CLIP, CLIP) * 0.5,
                compress(away / (change[:, :, None] + 0.05)) * valid,
                (units + 1e-4).log() * 0.2,
                self.place(window, steps),
            ),
            dim=-1,
        )
        states = functional.gelu(state[:, None] + self.step(features))  # (B, X, STEP)
        states = self.norm(states + functional.gelu(self.deepen(states)))  # (B, X, STEP)
        with full(values):
            quantiles: Tensor = self.head(states.float(), candidates, valid, units)
            return quantiles

    def read(self, window: Window, first: Season, second: Season, change: Tensor) -> Tensor:
        """What the whole window says, (B, STEP)."""
        segment = self.config.segment
        values, known = window.values[:, -READ:], window.known[:, -READ:]
        missing = -values.shape[1] % segment
        values = functional.pad(values.clamp(-CLIP, CLIP), (missing, 0))
        _, final = self.encoder(self.tokens(values, functional.pad(known, (missing, 0))))  # (B, D)
        newest = functional.pad(window.values, (NEWEST, 0))[:, -NEWEST:]  # (B, NEWEST)
        there = functional.pad(window.known, (NEWEST, 0))[:, -NEWEST:].float()
        away = (newest - window.last) * there
        count = window.known.sum(dim=1, keepdim=True).float()
        still = (window.held[:, 1:] == window.held[:, :-1]).float().mean(dim=1, keepdim=True)
        least = window.values.where(window.known, BOUND).amin(dim=1, keepdim=True).clamp(-CLIP, CLIP)
        at_least = ((window.values <= least) & window.known).sum(dim=1, keepdim=True) / count.clamp(min=1.0)
        facts = (
            (change + 1e-4).log() * 0.2,
            (first.change + 1e-4).log() * 0.2,
            (second.change + 1e-4).log() * 0.2,
            count.clamp(min=1.0).log() * 0.2,
            count / window.values.shape[1],
            still,
            least * 0.2,
            at_least,
            (window.last - first.level).clamp(-CLIP, CLIP),
            window.last.clamp(-CLIP, CLIP),
        )
        parts = (final, away.clamp(-CLIP, CLIP), compress(away / (change + 0.05)), there, *facts)
        state: Tensor = self.window(torch.cat(parts, dim=1))
        return state

    def propose(self, window: Window, first: Season, second: Season, ahead: Tensor) -> tuple[Tensor, Tensor]:
        """The simple forecasts (B, X, C) and which of them there are."""
        line, slope = _find_line(window, window.values.shape[1])
        _, lately = _find_line(window, 32)
        newest = functional.pad(window.known, (8, 0))[:, -8:]
        recent = functional.pad(window.values, (8, 0))[:, -8:].sum(dim=1, keepdim=True)
        recent = (recent / newest.sum(dim=1, keepdim=True).clamp(min=1)).where(newest.any(dim=1, keepdim=True), 0.0)
        plain = broadcast(
            window.last,
            torch.zeros_like(window.last),
            recent,
            line + slope * (ahead - 1.0),
            window.last + lately * ahead,
        )  # (B, X) each
        copies = torch.cat((first.copies, second.copies), dim=-1)
        valid = torch.cat(
            [season.valid[:, :, None].expand(-1, -1, COPIES) for season in (first, second)]
            + [torch.ones_like(first.valid)[:, :, None].expand(-1, -1, len(plain))],
            dim=-1,
        )
        return torch.cat((copies, torch.stack(plain, dim=-1)), dim=-1).clamp(-BOUND, BOUND) * valid, valid

    def place(self, window: Window, steps: Sequence[int]) -> Tensor:
        """Where a future step lies, (B, X, PLACES): how far, of what is known, and in both seasons."""
        count = window.known.sum(dim=1)[:, None, None].clamp(min=1).to(window.values.dtype)  # (B, 1, 1)
        there, off = _find_places(tuple(steps), self.seasons, window.values.device)
        return there - off * count.log()


def share(logits: Tensor) -> Tensor:
    """The softmax over the last dimension; torch's own takes five times as long where that is narrow."""
    weights = (logits - logits.amax(dim=-1, keepdim=True)).exp()
    return weights / weights.sum(dim=-1, keepdim=True)


def compress(values: Tensor) -> Tensor:
    """The inverse hyperbolic sine; without a gradient in a tenth of the time of torch's own."""
    if torch.is_grad_enabled():
        return values.asinh()
    return (values.abs() + (values.square() + 1.0).sqrt()).log().copysign(values)


def broadcast(*parts: Tensor) -> tuple[Tensor, ...]:
    """The same, in one shape."""
    return torch.broadcast_tensors(*parts)  # type: ignore[no-any-return, no-untyped-call]


@lru_cache(maxsize=256)
def _count_ahead(steps: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor([step + 1.0 for step in steps], device="cpu").to(device)


@lru_cache(maxsize=256)
def _find_places(steps: Sequence[int], seasons: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """What of a place does not depend on the window (X, PLACES), and what the logarithm of its points takes off."""
    ahead = torch.tensor([step + 1.0 for step in steps], device="cpu")  # (X,)
    parts = [ahead.log() * 0.2, ahead.log() * 0.2]
    for season in seasons:
        turn = 2.0 * math.pi * (ahead - 1.0) / max(season, 1)
        there = float(season > 1)
        parts += [turn.sin() * there, turn.cos() * there, (ahead / max(season, 1)).clamp(max=4.0) * 0.25 * there]
    parts.append(torch.full_like(ahead, math.log(max(seasons[0], 1)) * 0.1))
    off = torch.tensor([0.0, 0.2] + [0.0] * (PLACES - 2), device="cpu")
    return torch.stack(parts, dim=-1).to(device), off.to(device)


def scale_window(target: Tensor, observed: Tensor, scale: Scale) -> Tensor:
    """Values (B, X) in units of the window, float32, 0 where not observed.

    They are not clipped as what a network reads is: a step up that is a few values old is many spreads of its window.
    """
    spread = scale.spread.where(scale.spread > 0.0, torch.inf)  # (B, 1)
    values = ((target - scale.reference - scale.offset) / spread).float().clamp(-BOUND, BOUND)
    return values.where(observed, 0.0)
