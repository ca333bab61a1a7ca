"""The search: a few settings tried before the fit, in half of its time, by successive halving.

    9 candidates, each with 1/9 of the steps -> the best 3, each with 1/3 of the steps -> the best one -> the fit

A trial is a fit of its own, from scratch, with the learning rate annealed to its own end. Losses are in units of each
series' seasonal-naive error whatever a window is centred on, so those of one rung can be compared; the loss itself is
never searched.
"""

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from jobs.clock.outcome import OnStage, Stage
from models.config import ModelConfig
from models.fitting.training import FitReport
from models.presets import PRETRAINED
from pipeline.errors import ConfigError
from pipeline.forecasting.windows import usual_segment
from pipeline.settings import ModelSettings, Settings, TrainingSettings

ETA = 3
"""One candidate in so many goes on to the next rung, with so many times the steps."""
SHARE = 0.5
"""Of training.budget for the search; the fit has the rest, and what the search leaves."""
SPACE: Mapping[str, tuple[Any, ...]] = {
    "kind": ("attention", "stacked", "gru", "lstm"),  # by wish only: who names a kind wants that one
    "layers": (1, 2),  # 1 was better on M4-Hourly's validation cut, 2 is the preset
    "hidden": (32, 64, 128),  # few series overfit a wide network; twice the width is about three times the time
    "segment": (0.5, 1.0, 2.0),  # in seasons, as divisors of the context: points are too slow to be tried
    "location": ("mean", "last"),  # the rule is wrong on a panel that trends, and on a single series that does not
    "dropout": (0.0, 0.1, 0.3),  # panels like little, one short series much
    "learning_rate": (1e-3, 2e-3, 5e-3, 1e-2),  # what the other choices need differs most here
}
"""The choices beside the settings' own. Not batch, which buys a better loss per step with time; the rungs set steps."""

Values = dict[str, Any]
Shape = Callable[[Settings], ModelConfig]
TryOut = Callable[[Settings, OnStage], FitReport]


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate on one rung (from 1): steps done, validation loss (NaN: none is finite), wall-clock seconds."""

    rung: int
    candidate: int
    values: Values
    steps: int
    validation: float
    seconds: float
    stopped: str


@dataclass(frozen=True, slots=True)
class Found:
    """What to fit: `settings` are complete, `chosen` the values of the keys that were searched, `words` the reason.

    rungs: the words of every rung; candidate 0 of the trials is the settings as they were.
    """

    settings: Settings
    chosen: Values
    words: str
    rungs: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything but the settings, as plain values; NaN for a trial without a loss."""
        trials = [asdict(trial) for trial in self.trials]
        return self.provenance() | {"rungs": list(self.rungs), "trials": trials}

    def provenance(self) -> dict[str, Any]:
        """The part without seconds, for the artifact: unless time was short, seed and history alone decide it."""
        return {"words": self.words, "chosen": self.chosen}


def find_settings(
    settings: Settings,
    shape: Shape,
    try_out: TryOut,
    champion: Mapping[str, Any],
    *,
    on_stage: OnStage,
    clock: Callable[[], float],
) -> Found | None:
    """Search if the settings say so, else None; `champion` is the provenance of the one to start warm from, or {}.

    What a search chose for that champion is kept and nothing is tried: its weights fit no other shape. One that no
    search made, or one of fewer keys, keeps nothing.
    """
    keys = searched_keys(settings)
    if not keys:
        return None
    if champion and (kept := _find_kept(keys, champion)):
        words = f"search: none, a warm start keeps what was found for the champion ({describe(kept)})"
        return Found(apply(settings, kept | {"search": 0}), kept, words)
    return search(settings, shape, try_out, on_stage=on_stage, clock=clock)


def keep_found(settings: Settings, champion: Mapping[str, Any]) -> Settings | None:
    """Give the settings what a search found for the champion of this provenance; None if they need another one."""
    keys = searched_keys(settings)
    if not keys:
        return settings
    kept = _find_kept(keys, champion)
    return apply(settings, kept | {"search": 0}) if kept else None


def search(
    settings: Settings, shape: Shape, try_out: TryOut, *, on_stage: OnStage, clock: Callable[[], float]
) -> Found:
    """Try the candidates rung by rung; `try_out` fits settings, `clock` gives seconds.

    Each rung has an equal share of the time that is left, each trial an equal share of its rung's. What is still to be
    tried when that is spent is dropped, and the words say so.
    """
    began, budget = clock(), settings.training.budget
    candidates = draw_candidates(settings, shape)
    sizes = plan_rungs(len(candidates))
    left = list(range(len(candidates)))
    trials: list[Trial] = []
    told: list[str] = []
    dropped = 0
    for rung, keep in enumerate(sizes[1:], start=1):
        now = clock()
        ends = now + (began + SHARE * budget - now) / (len(sizes) - rung)
        steps = math.ceil(settings.training.steps / ETA ** (len(sizes) - rung))
        planned = len(trials) + len(left) + sum(sizes[rung:-1])
        scores: dict[int, float] = {}
        for place, candidate in enumerate(left):
            now = clock()
            if now >= ends:
                break
            values = candidates[candidate]
            limits = {
                "steps": steps,
                "budget": (ends - now) / (len(left) - place),
                "search": 0,
                "members": 1,
                "refit": 0,
            }
            label = f"rung {rung} of {len(sizes) - 1}, {describe(values)}"
            done, validation, stopped = _fit(
                try_out, apply(settings, values | limits), _relay(on_stage, len(trials), planned, label)
            )
            scores[candidate] = validation
            trials.append(Trial(rung, candidate, values, done, validation, clock() - now, stopped))
        survivors, words = halve(scores, keep)
        untried = len(left) - len(scores)
        dropped += untried
        told.append(words + (f"; time was spent before {untried} more" if untried else ""))
        on_stage(Stage("search", len(trials), planned, f"rung {rung}: {told[-1]}"))
        left = survivors or left
        if len(survivors) < 2:
            break
    words = explain(left[0], candidates, trials) + (f"; {dropped} trials dropped for time" if dropped else "")
    rest = max(budget - (clock() - began), 1e-3)
    final = apply(settings, candidates[left[0]] | {"search": 0, "budget": rest})
    return Found(final, candidates[left[0]], words, tuple(told), tuple(trials))


def halve(scores: Mapping[int, float], keep: int) -> tuple[list[int], str]:
    """Keep the candidates of the lowest validation losses, best first, and say so.

    The settings themselves, candidate 0, go along to the last rung, so that what wins there has been compared with them
    at the most steps. A loss that is not finite never survives; of equal ones the first does.
    """
    finite = sorted((loss, candidate) for candidate, loss in scores.items() if math.isfinite(loss))
    survivors = [candidate for _, candidate in finite[:keep]]
    if not survivors:
        return [], f"none of {len(scores)} has a finite validation loss"
    best, worst = finite[0][0], finite[len(survivors) - 1][0]
    words = f"kept {len(survivors)} of {len(scores)}, validation {best:.4f}"
    words += f" to {worst:.4f}" if len(survivors) > 1 else ""
    if keep > 1 and 0 not in survivors and math.isfinite(scores.get(0, math.nan)):
        survivors.append(0)
        words += f", and the settings themselves, {scores[0]:.4f}"
    lost = len(scores) - len(finite)
    return survivors, words + (f"; {lost} without a finite loss" if lost else "")


def plan_rungs(count: int) -> tuple[int, ...]:
    """How many candidates each rung keeps of `count`, which comes first: 9 -> (9, 3, 1)."""
    sizes = [count]
    while sizes[-1] > 1:
        sizes.append(math.ceil(sizes[-1] / ETA))
    return tuple(sizes)


def draw_candidates(settings: Settings, shape: Shape) -> list[Values]:
    """Draw training.search different ones that can be built: first the settings themselves, the others by seed.

    To validate the location, the other location is always the second one.
    """
    built = shape(settings)
    own = {key: _read(settings, built, key) for key in searched_keys(settings)}
    candidates = [own]
    if settings.model.location == "validate":
        candidates += [own | {"location": place} for place in SPACE["location"] if place != own["location"]]
    rows = list(itertools.product(*(dict.fromkeys((own[key], *list_choices(key, built))) for key in own)))
    random.Random(settings.training.seed).shuffle(rows)
    others = (values for row in rows if (values := dict(zip(own, row, strict=True))) not in candidates)
    others = (values for values in others if _can_be_built(settings, values, shape))
    missing = max(settings.training.search - len(candidates), 0)
    return candidates + list(itertools.islice(others, missing))


def list_choices(key: str, built: ModelConfig) -> tuple[Any, ...]:
    """List the choices of SPACE for a key; segments in steps."""
    if key != "segment":
        return SPACE[key]
    seasons = (max(1, round(share * built.season)) for share in SPACE[key])
    return tuple(usual_segment(built.context_length, steps) for steps in seasons)


def searched_keys(settings: Settings) -> tuple[str, ...]:
    """List the keys to search, in the order of SPACE; none without one, nor where the shape is that of the wheel."""
    if settings.model.kind == PRETRAINED:
        return ()
    wished = set(settings.training.search_over) if settings.training.search > 1 else set()
    if settings.model.location == "validate":
        wished.add("location")
    return tuple(key for key in SPACE if key in wished)


def apply(settings: Settings, values: Values) -> Settings:
    """Put values of keys of [model] and [training] into settings."""
    known = TrainingSettings.model_fields
    training = {key: value for key, value in values.items() if key in known}
    model = {key: value for key, value in values.items() if key not in known}
    return settings.model_copy(
        update={
            "model": ModelSettings.model_validate(settings.model.model_dump() | model),
            "training": TrainingSettings.model_validate(settings.training.model_dump() | training),
        }
    )


def explain(best: int, candidates: Sequence[Values], trials: Sequence[Trial]) -> str:
    """Say what won, of how many, and by how much over the settings themselves on the same rung."""
    finite = [trial for trial in trials if math.isfinite(trial.validation)]
    won = next((trial for trial in reversed(finite) if trial.candidate == best), None)
    if won is None:
        return f"search: no finite validation loss in {len(trials)} trials, so the settings stay as they are"
    tried = len({trial.candidate for trial in trials})
    if best == 0:
        return f"search: the settings themselves ({describe(won.values)}) best of {tried}, {won.validation:.4f}"
    news = {key: value for key, value in won.values.items() if value != candidates[0][key]}
    own = [trial.validation for trial in finite if (trial.candidate, trial.rung) == (0, won.rung)]
    over = f" against {own[0]:.4f} of the settings themselves" if own else ""
    return f"search: {describe(news)} best of {tried}, validation {won.validation:.4f}{over}"


def describe(values: Values) -> str:
    """Write values for a person."""
    return ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
    )


def _find_kept(keys: Sequence[str], champion: Mapping[str, Any]) -> Values:
    chosen = champion.get("search", {}).get("chosen", {})
    return {key: chosen[key] for key in keys} if set(keys) <= set(chosen) else {}


def _read(settings: Settings, built: ModelConfig, key: str) -> Any:
    return getattr(settings.training if key in TrainingSettings.model_fields else built, key)


def _can_be_built(settings: Settings, values: Values, shape: Shape) -> bool:
    try:
        shape(apply(settings, values))
    except ConfigError:
        return False
    return True


def _fit(try_out: TryOut, settings: Settings, on_stage: OnStage) -> tuple[int, float, str]:
    # A wide candidate that does not fit the GPU, or one that diverged after a good start, is last and not the end.
    try:
        report = try_out(settings, on_stage)
    except torch.OutOfMemoryError:
        return 0, math.nan, "out of memory"
    diverged = report.stopped == "loss not finite"
    return report.steps, math.nan if diverged else report.best_validation, report.stopped


def _relay(on_stage: OnStage, done: int, total: int, label: str) -> OnStage:
    def tell(stage: Stage) -> None:
        on_stage(Stage("search", done, total, f"{label}: {stage.words}"))

    return tell
