"""Keys that releases before had: a deployment that still sets one starts, and is told what happens instead."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

REMOVED: Mapping[str, str] = {
    "kafka.poll": "a poll waits half a second at most",
    "input.max_name_bytes": "the name of a series has 256 bytes at most",
    "input.bad_window": "input.most_bad is a share of 1,000 messages; lower it to pause sooner",
    "input.bad_pause": "a paused partition is tried again after a minute",
    "model.heads": "attention has four heads, or two or one where model.hidden cannot be divided by four",
    "model.rectify": "tokens are not cut off below 0",
    "training.weight_decay": "the weight decay of AdamW is 0.01",
    "training.clip_norm": "the norm of the gradients is 1 at most",
    "training.ema": "the decay of the averaged weights is 0.995, and lower in the first steps of a fit",
    "training.graph": "a CUDA graph of the training step is recorded where there can be one",
    "training.rank_timeout": "a process of torchrun may be silent for five minutes within a fit",
    "training.validation_stride": "forecasts over the validation steps are one horizon apart",
    "training.scaled": "every series counts alike, with errors in units of its seasonal-naive error",
    "training.fine_tune_rate": "a fine-tune has a tenth of training.learning_rate",
    "jobs.timeout": "a job is stopped after six hours unless jobs.timeouts gives it another time, as {retrain = '2h'}",
    "jobs.lease": "a scheduler that is silent for 30 seconds is replaced",
    "jobs.gate_stride": "backtest origins are one horizon apart, or nearer in a short history",
    "jobs.drift_delta": "half a standard deviation above the mean is no drift; jobs.drift_threshold decides the rest",
    "jobs.drift_cooldown": "drift requests one retraining a day at most",
    "jobs.calibration_minimum": "a step of the horizon needs 100 matured forecasts, its neighbours' included",
    "serve.queries": "four database queries run at a time",
    "serve.connections": "448 connections may be open besides the event streams of serve.clients",
}
"""Key -> what happens now."""


def gone(key: str, *, shown: str = "") -> str:
    """Say in one line that a key is gone and what happens now."""
    return f"{shown or key} is no setting any more and has no effect: {REMOVED[key]}; delete the key"


def drop_removed(tree: Mapping[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """Leave removed keys out of a tree of settings, and tell of each."""
    kept = {}
    for section, keys in tree.items():
        if section == "challengers" and isinstance(keys, dict):
            kept[section] = {name: _without(own, tell, f"{section}.{name}") for name, own in keys.items()}
        else:
            kept[section] = _without(keys, tell, section, section)
    return kept


def _without(keys: Any, tell: Callable[[str], None], place: str, *sections: str) -> Any:
    """Leave removed keys out of one table; one of a challenger stands for a key of [model] or [training]."""
    if not isinstance(keys, dict):
        return keys
    for name in keys:
        for key in _meant(name, sections or ("model", "training")):
            tell(gone(key, shown=f"{place}.{name}"))
    return {name: value for name, value in keys.items() if not any(_meant(name, sections or ("model", "training")))}


def _meant(name: str, sections: tuple[str, ...]) -> Iterator[str]:
    return (f"{section}.{name}" for section in sections if f"{section}.{name}" in REMOVED)
