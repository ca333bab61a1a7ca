"""The same phase of earlier periods, for any length of a period: a recurrent layer over it, and forecasts from it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.network.precision import recur

PERIODS = 16
"""Periods that are read at most."""
NEIGHBOURS = 2
"""Steps on either side that are read beside a value of the same phase."""
ALIGNED = 24
"""Width of the states at one phase."""
COPIES = 5
"""Forecasts from one season: see `AlignedSeason`."""
CLIP = 10.0
"""Largest value that a network reads."""
TINY = 1e-6
FEW = 64
"""Rows up to which torch's own layer is faster than that loop: a step of it makes fewer calls."""
AT_ONCE = 3072
"""Rows whose states one step of the loop over periods holds: 64 windows of a horizon of 48."""


class Places(NamedTuple):
    """Where the values at the phases of X future steps lie in a window, for one season of K periods and P phases.

    ago (K,): periods back, oldest first; near (P, K, 2 NEIGHBOURS + 1): index into a window with NEIGHBOURS steps more
    on either side; phase (X,): which of the P; cycle (X,): whole seasons ahead, float32; before (K,): index of the step
    before the origin of that period; inside (K,): whether there is one.
    """

    ago: Tensor
    near: Tensor
    phase: Tensor
    cycle: Tensor
    before: Tensor
    inside: Tensor


def count_periods(length: int, season: int) -> int:
    """How many periods of a window are read; 0 for no season."""
    return min(PERIODS, length // season) if season > 1 else 0


@lru_cache(maxsize=256)
def find_places(length: int, season: int, periods: int, steps: Sequence[int], device: torch.device) -> Places:
    """Of the future `steps`, counted from 0, after a window of that length. Kept: a graph of a GPU copies nothing."""
    phases = sorted({step % season for step in steps})
    cpu = torch.device("cpu")  # also while a model is built on the meta device
    ago = torch.arange(periods, 0, -1, device=cpu)  # (K,)
    index = length + torch.tensor(phases, device=cpu)[:, None] - season * ago  # (P, K)
    near = index[:, :, None] + torch.arange(2 * NEIGHBOURS + 1, device=cpu)
    places = Places(
        ago,
        near,
        torch.tensor([phases.index(step % season) for step in steps], device=cpu),
        torch.tensor([float(step // season) for step in steps], device=cpu),
        (length - season * ago - 1).clamp(min=0),
        length > season * ago,
    )
    return Places(*(each.to(device) for each in places))


class Window(NamedTuple):
    """A window in units of its own: values (B, T) float32, 0 where not observed; known (B, T) bool.

    held (B, T): the newest observed value at each step, 0 before the first; last (B, 1): that of the origin.
    """

    values: Tensor
    known: Tensor
    held: Tensor
    last: Tensor


class Season(NamedTuple):
    """What the values at the same phase say of X steps.

    copies (B, X, COPIES) and valid (B, X): forecasts; states (B, X, ALIGNED): of the recurrent layer; spread (B, X):
    how much the copied values disagree; change (B, 1): mean absolute seasonal change; level (B, 1): mean of the newest
    period.
    """

    copies: Tensor
    valid: Tensor
    states: Tensor
    spread: Tensor
    change: Tensor
    level: Tensor


class AlignedSeason(nn.Module):
    """A recurrent layer over the values at one phase of the last periods, oldest first, and forecasts from them.

    The forecasts are averages over the periods, whose weights the states give: of the values as they are; moved by how
    far the mean of a period has moved since; the same, also stretched by how the deviation of a period has changed;
    moved by how far the newest value has moved; and moved by the mean growth of a period. No weight depends on the
    length of a period, so that a season is learned once for all frequencies.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recur = nn.GRU(2 * (2 * NEIGHBOURS + 1) + 4, ALIGNED, batch_first=True)
        self.weigh = nn.Linear(ALIGNED, COPIES)

    def forward(self, window: Window, season: int, steps: Sequence[int]) -> Season:
        """A window, the season in steps, and which future steps, counted from 0."""
        rows, length = window.values.shape
        periods = count_periods(length, season)
        if not periods:
            return _no_season(window, len(steps))
        ago, near, phase, cycle, before, inside = find_places(length, season, periods, steps, window.values.device)
        pads = (NEIGHBOURS, NEIGHBOURS)
        values = functional.pad(window.values, pads)[:, near]  # (B, P, K, N)
        known = functional.pad(window.known, pads)[:, near]  # (B, P, K, N)

        means, deviations, counts = _describe_periods(window, season, periods)  # (B, K + 1) each, oldest first
        mean, level = means[:, :-1], means[:, -1:]  # (B, K), (B, 1): before the origin and k periods before it
        unit = deviations.mean(dim=1, keepdim=True).clamp(min=TINY)  # (B, 1)
        stretch = ((deviations[:, -1:] + TINY) / (deviations[:, :-1] + TINY)).clamp(0.5, 2.0)  # (B, K)
        relative = ((values - mean[:, None, :, None]) / unit[:, :, None, None]).clamp(-CLIP, CLIP)  # (B, P, K, N)
        seen = known.float()
        aside = torch.stack(
            (
                ((level - mean) / unit).clamp(-CLIP, CLIP),
                stretch.log(),
                counts[:, :-1] / season,
                (ago / PERIODS).expand(rows, -1),
            ),
            dim=-1,
        )  # (B, K, 4)
        read = torch.cat((relative * seen, seen, aside[:, None].expand(-1, near.shape[0], -1, -1)), dim=-1)
        states = read_phases(self.recur, read.flatten(0, 1))  # (B * P, K, ALIGNED)
        states = states.reshape(rows, near.shape[0], periods, ALIGNED)

        value, there = values[..., NEIGHBOURS], known[..., NEIGHBOURS]  # (B, P, K) each
        held = window.held[:, before].where(inside, mean)  # (B, K)
        growth = _find_growth(means, counts, periods)  # (B, 1)
        moved = torch.stack(
            (
                value,
                value - mean[:, None] + level[:, None],
                level[:, None] + (value - mean[:, None]) * stretch[:, None],
                value - held[:, None] + window.last[:, None],
                value + growth[:, None] * ago,
            ),
            dim=-1,
        )  # (B, P, K, COPIES)
        logits = self.weigh(states).float().masked_fill(~there[..., None], -1e9)  # (B, P, K, COPIES)
        weights = logits.softmax(dim=2) * there[..., None]  # (B, P, K, COPIES)
        copies = (weights * moved).sum(dim=2)  # (B, P, COPIES)
        disagree = weights[..., 1] * (moved[..., 1] - copies[:, :, None, 1]).square()  # (B, P, K)
        grown = copies[:, phase, -1] + growth * cycle  # (B, X)
        return Season(
            torch.cat((copies[:, phase, :-1], grown[..., None]), dim=-1),
            there.any(dim=2)[:, phase],
            states[:, phase, -1],
            (disagree.sum(dim=2) + TINY**2).sqrt()[:, phase],
            mean_change(window, season),
            level,
        )


def read_phases(layer: nn.GRU, read: Tensor) -> Tensor:
    """All states (R, K, ALIGNED) of the layer over (R, K, F).

    Forecasts on a CPU take a loop that holds a feature of AT_ONCE rows side by side: gates are then whole blocks of
    memory that stay in the cache, and it takes half of the time of torch's own, which is made for long sequences.
    """
    usual = torch.is_grad_enabled() or read.device.type != "cpu" or torch.is_autocast_enabled("cpu")
    if usual or len(read) <= FEW:
        return recur(layer, read)
    return torch.cat([_loop(layer, read[first : first + AT_ONCE]) for first in range(0, len(read), AT_ONCE)])


def _loop(layer: nn.GRU, read: Tensor) -> Tensor:
    rows, periods, _ = read.shape
    width = layer.hidden_size
    into, over, before, within = layer.all_weights[0]
    inner = within[2 * width :, None]  # of the new state, inside of what the reset gate multiplies
    bias = before[:, None] + functional.pad(within[: 2 * width], (0, width))[:, None]  # (3 ALIGNED, 1)
    features = read.permute(1, 2, 0).contiguous()  # (K, F, R)
    state = read.new_zeros((width, rows))
    states = read.new_empty((periods, width, rows))
    for period in range(periods):
        gates, recurrent = torch.addmm(bias, into, features[period]), over @ state  # (3 ALIGNED, R) each
        both = gates[: 2 * width].add_(recurrent[: 2 * width]).sigmoid_()
        new = recurrent[2 * width :].add_(inner).mul_(both[:width]).add_(gates[2 * width :])
        new = new.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)  # tanh, in a quarter of the time of torch's
        state = torch.lerp(new, state, both[width:], out=states[period])
    return states.permute(2, 0, 1)


def _no_season(window: Window, steps: int) -> Season:
    rows = window.values.shape[0]
    none = window.values.new_zeros((rows, steps))
    one = window.values.new_zeros((rows, 1))
    return Season(
        none[:, :, None].expand(-1, -1, COPIES),
        torch.zeros_like(none, dtype=torch.bool),
        none[:, :, None].expand(-1, -1, ALIGNED),
        none,
        one,
        one,
    )


def _describe_periods(window: Window, season: int, periods: int) -> tuple[Tensor, Tensor, Tensor]:
    # Mean, deviation and count (B, K + 1) of the periods that end k = K..0 periods before the origin. Sums in float64:
    # a season may be a thousandth of the window's spread. A period without a value has the window's mean, 0.
    length = window.values.shape[1]
    ends = length - season * torch.arange(periods, -1, -1, device=window.values.device)  # (K + 1,)
    begins = (ends - season).clamp(min=0)
    values = window.values.double()
    running = torch.stack((values, values.square(), window.known.double())).cumsum(dim=2)  # (3, B, T)
    running = functional.pad(running, (1, 0))  # (3, B, T + 1)
    total, squares, count = running[:, :, ends] - running[:, :, begins]  # (B, K + 1) each
    mean = total / count.clamp(min=1.0)
    variance = (squares / count.clamp(min=1.0) - mean.square()).clamp(min=0.0)
    return mean.float(), variance.sqrt().float(), count.float()


def _find_growth(means: Tensor, counts: Tensor, periods: int) -> Tensor:
    # The mean change of the level from period to period over up to four of them, (B, 1); 0 if there is no earlier one.
    back = torch.arange(1, min(4, periods) + 1, device=means.device)  # (J,)
    earlier, there = means[:, -1 - back], counts[:, -1 - back] > 0.0  # (B, J) each
    furthest = (there * back).amax(dim=1, keepdim=True)  # (B, 1), 0 for none
    growth = (means[:, -1:] - earlier.gather(1, (furthest - 1).clamp(min=0))) / furthest.clamp(min=1)
    return growth.where((furthest > 0) & (counts[:, -1:] > 0.0), 0.0)


def mean_change(window: Window, lag: int) -> Tensor:
    """The mean absolute change over `lag` steps, (B, 1); 0 where nothing can be compared."""
    if lag >= window.values.shape[1]:
        return torch.zeros_like(window.last)
    pairs = window.known[:, lag:] & window.known[:, :-lag]  # (B, T - lag)
    change = (window.values[:, lag:] - window.values[:, :-lag]).abs().where(pairs, 0.0)
    return change.sum(dim=1, keepdim=True) / pairs.sum(dim=1, keepdim=True).clamp(min=1)


def read_window(values: Tensor, known: Tensor) -> Window:
    """Scaled values (B, T), 0 where not observed, and their mask, with the newest value of every step."""
    steps = torch.arange(1, values.shape[1] + 1, device=values.device)  # (T,)
    newest = (known * steps).cummax(dim=1).values  # (B, T), 0 before the first
    held = values.gather(1, (newest - 1).clamp(min=0)).where(newest > 0, 0.0)  # (B, T)
    return Window(values, known, held, held[:, -1:])
