"""Retrain: history -> training set -> fit -> backtest -> verdict -> register -> promote or keep."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from jobs.clock.outcome import OnStage, Outcome, Stage
from jobs.retraining.challenger import describe, fit_challenger, pack_challenger
from jobs.retraining.comparison import Backtests, compare, judge, record
from jobs.retraining.history import HistoryReader, HistoryShare, count_recent, find_depth, read_history
from jobs.retraining.training_set import TooLittleHistory, TrainingSet, cut_training_set, drop_future
from jobs.retraining.verdict import Verdict
from jobs.retraining.warm_start import Start, choose_start
from models.presets import PRETRAINED
from models.pretrained import load_pretrained
from pipeline.forecasting import first_champion
from pipeline.forecasting.first_champion import is_own, is_zero_shot, serve_pretrained
from pipeline.forecasting.served import Champion, find_champion
from pipeline.forecasting.windows import model_config
from pipeline.grid.frequency import Frequency
from pipeline.settings import Settings
from pipeline.version import installed_version

FINE_TUNED = "fine-tuned"
ONLY = ""
"""The name of the one challenger of settings that name none; it is registered under its kind and cell."""
KEPT = "kept as challenger:"
NOTHING_KEPT = "its weights stay as they were, for held-back steps were forecast worse after the training"
NOT_BEST = "kept as challenger, another is better:"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Judged:
    """A registered challenger, what was found, and everything there is to say about it in words and in figures."""

    name: str
    version: int
    found: Verdict
    words: str
    facts: dict[str, Any]


class Registry(first_champion.Registry, Backtests, Protocol):
    """Models, which of them is champion, and which its shadow."""

    def register(  # noqa: PLR0913 - one row's columns, all by name
        self,
        *,
        name: str,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        train_from: int,
        train_to: int,
        seed: int,
        code: str,
        artifact: bytes,
        now: int,
    ) -> int:
        """Store a model with everything known about it, as JSON without NaN, and return its version."""
        ...

    def promote(self, version: int, *, expected: int | None, reason: str, now: int) -> bool:
        """Make `version` champion if `expected` still is; False, with nothing changed, if it no longer is."""
        ...

    def shadow(self) -> int | None:
        """Return the version of the shadow, or None."""
        ...

    def begin_shadow(self, version: int, *, expected: int | None, reason: str, now: int) -> bool:
        """Let `version` score beside the champion in place of the shadow `expected`; False if that is another."""
        ...


def retrain(
    reader: HistoryReader,
    registry: Registry,
    settings: Settings,
    *,
    clock: Callable[[], int],
    code: str,
    on_stage: OnStage,
) -> Outcome:
    """Train a challenger, compare it, register it with every number, and promote it if it deserves it.

    1 read the history and the champion, 2 cut, 3 fit, 4 backtest, 5 verdict, 6 register, 7 promote. The promotion is a
    compare-and-set against the champion that was compared, so a champion chosen meanwhile by somebody else stays.
    With a shadow period, one that beat a champion becomes shadow instead; the job `promote` ends the period. Where the
    settings name several challengers, all go through 2 to 6 side by side, and the best of those that deserve it to 7.
    Until there is a champion of its own, too little history is no failure, and the network of the wheel, fine-tuned, is
    one of them; and never does anything become champion that is worse than that network as it came.
    """
    began = clock()
    frequency = Frequency.of(settings.series)
    serve_pretrained(registry, settings, frequency, began)
    named = settings.side_by_side() or {ONLY: settings}
    shape, *_ = [model_config(each, frequency, 0) for each in named.values()]  # what cannot be built is refused here
    on_stage(Stage("reading history"))
    champion = find_champion(registry, shape, frequency)
    chosen = add_pretrained(named, champion)
    wheel = load_pretrained(shape).model if settings.model.pretrained else None
    starts = {name: choose_start(champion, each, frequency) for name, each in chosen.items()}
    try:
        sets, read = _prepare(reader, starts, settings, frequency, now=began)
    except TooLittleHistory as error:
        if is_own(champion):
            return Outcome("failed", str(error))
        serves = "seasonal naive serves"
        if champion and is_zero_shot(champion):
            serves = f"the pretrained network serves, version {champion.version}"
        return Outcome("ok", f"waiting for history: {error}; until then {serves}")
    on_stage(Stage("history read", words=read.words))

    fitted = {
        name: fit_challenger(sets[name], starts[name], each, frequency=frequency, on_stage=_name_stages(name, on_stage))
        for name, each in chosen.items()
    }
    on_stage(Stage("backtest"))
    device = fitted[next(iter(chosen))].device
    models = {name: one.model for name, one in fitted.items()}
    compared = compare(models, sets, champion, device, seed=settings.training.seed, wheel=wheel)

    on_stage(Stage("registering"))
    judged: dict[str, Judged] = {}
    for name, one in fitted.items():
        # The wheel's network is none of many that somebody tries until one is better: it is there as a start.
        found = judge(compared[name], champion, settings, among=len(named))
        asides = (
            one.search.words if one.search else "",
            f"started {one.start.words}" if one.start.mode != settings.training.mode else "",
            NOTHING_KEPT if one.report.share == 0.0 else "",
            read.words if read.sampled else "",
        )
        facts = describe(sets[name], one, compared[name], found) | {"seconds": (clock() - began) / 1e6}
        version = registry.register(
            name=name or f"{one.model.config.kind}-{one.model.config.cell}",
            config=one.model.config.to_dict() | {"frequency": frequency.text, "step_seconds": frequency.seconds},
            metrics=facts,
            train_from=sets[name].lineage.train_from,
            train_to=sets[name].lineage.train_to,
            seed=chosen[name].training.seed,
            code=code,
            artifact=pack_challenger(one, sets[name], chosen[name], code),
            now=clock(),
        )
        judged[name] = Judged(name, version, found, "; ".join((found.reason, *filter(None, asides))), facts)
    versions = {name: one.version for name, one in judged.items()}
    record(registry, compared, versions, champion, now=clock())
    best = min(judged.values(), key=lambda one: (not one.found.promote, compared[one.name].scores["challenger"].wql))
    words, done = _advance(registry, best, champion, settings, now=clock()) if best.found.promote else (KEPT, {})
    return _put_together(judged, best, words, {"champion": champion.version if champion else None} | done)


def add_pretrained(chosen: Mapping[str, Settings], champion: Champion | None) -> dict[str, Settings]:
    """Add the network of the wheel, to be fine-tuned, where there is no champion of its own and nobody names it."""
    first = next(iter(chosen.values()))
    if is_own(champion) or not first.model.pretrained or any(each.model.kind == PRETRAINED for each in chosen.values()):
        return dict(chosen)
    model = first.model.with_changes({"kind": PRETRAINED})
    training = first.training.model_copy(update={"loss": "pinball", "members": 1, "search": 0})
    fine_tuned = first.model_copy(update={"model": model, "training": training, "challengers": {}})
    others = {name or each.model.kind: each for name, each in chosen.items()}
    names = PRETRAINED, FINE_TUNED, f"{FINE_TUNED} {PRETRAINED}"  # a challenger may have any but the last
    own = next(name for name in names if name not in others)
    return {own: fine_tuned} | others


def _advance(
    registry: Registry, best: Judged, champion: Champion | None, settings: Settings, *, now: int
) -> tuple[str, dict[str, bool]]:
    """Make the best challenger champion or shadow; return the result in words, and as facts."""
    version, reason = best.version, best.found.reason
    if settings.jobs.shadow is not None and champion and champion.loaded:
        before = registry.shadow()
        if not registry.begin_shadow(version, expected=before, reason=reason, now=now):
            return "not made shadow: the shadow changed meanwhile;", {}
        return f"is shadow now{'' if before is None else f' in place of version {before}'}:", {"shadow": True}
    expected = champion.version if champion else None
    if not registry.promote(version, expected=expected, reason=reason, now=now):
        was = "there was none" if expected is None else f"it was version {expected}"
        return f"not promoted: the champion changed meanwhile ({was});", {}
    return "promoted:", {"promoted": True}


def _put_together(judged: Mapping[str, Judged], best: Judged, words: str, more: dict[str, Any]) -> Outcome:
    """Tell how it ended: of one challenger its own figures, of several those of each by name; the best comes first."""
    kept = [one for one in judged.values() if one is not best]
    said = [f"version {best.version} {words} {best.words}"]
    said += [f"version {one.version} {NOT_BEST if one.found.promote else KEPT} {one.words}" for one in kept]
    if len(judged) == 1:
        return Outcome("ok", said[0], best.facts | {"version": best.version, "promoted": False} | more)
    named = [f"{one.name}, {each}" for one, each in zip((best, *kept), said, strict=True)]
    figures = {one.name: one.facts | {"version": one.version} for one in judged.values()}
    return Outcome("ok", "; ".join(named), {"version": best.version, "promoted": False, "challengers": figures} | more)


def _name_stages(name: str, on_stage: OnStage) -> OnStage:
    if name == ONLY:
        return on_stage
    return lambda stage: on_stage(replace(stage, name=f"{stage.name} {name}"))


def _prepare(
    reader: HistoryReader, starts: Mapping[str, Start], settings: Settings, frequency: Frequency, *, now: int
) -> tuple[dict[str, TrainingSet], HistoryShare]:
    """Read the history once, as deep as any challenger needs it, and cut it for each."""
    depth = max(find_depth(settings, frequency, recent=start.mode == "fine-tune") for start in starts.values())
    names, history, read = read_history(reader, settings, depth)
    history = drop_future(history, now)
    if read.sampled:
        log.info(
            "history sampled",
            series_read=read.series,
            series_stored=read.of_series,
            rows_read=read.rows,
            rows_stored=read.of_rows,
        )
    cuts: dict[bool, TrainingSet] = {}
    sets = {}
    for name, start in starts.items():
        recent = start.mode == "fine-tune"
        if recent not in cuts:
            steps = count_recent(settings, frequency) if recent else None
            cuts[recent] = cut_training_set(names, history, settings, frequency, recent=steps)
        sets[name] = _keep_known(cuts[recent], start, read)
    return sets, read


def _keep_known(cut: TrainingSet, start: Start, read: HistoryShare) -> TrainingSet:
    learned = cut.learned
    if start.champion and (start.mode == "fine-tune" or read.sampled):
        learned += tuple(sorted(set(start.champion.series) - set(learned)))  # what it knows of series that are not read
    lineage = replace(
        cut.lineage,
        series=len(learned),
        series_read=read.series,
        series_stored=read.of_series,
        rows_read=read.rows,
        rows_stored=read.of_rows,
    )
    return replace(cut, learned=learned, lineage=lineage)


class Stored(Protocol):
    """The parts of the database that the job works on."""

    @property
    def reader(self) -> HistoryReader:
        """Observations, for training."""
        ...

    @property
    def registry(self) -> Registry:
        """Models, and which of them is champion."""
        ...


def run(database: Stored, settings: Settings, *, clock: Callable[[], int], on_stage: OnStage) -> Outcome:
    """Run the job on a database."""
    return retrain(
        database.reader, database.registry, settings, clock=clock, code=installed_version(), on_stage=on_stage
    )
