"""Keys that releases before had: a deployment that still sets one starts, and is told what happens instead."""

from collections.abc import Callable, Mapping
from typing import Any

REMOVED: Mapping[str, str] = {
    "kafka.poll": "a poll waits half a second at most",
    "input.max_name_bytes": "the name of a series has 256 bytes at most",
    "input.bad_window": "input.most_bad is a share of 1,000 messages; lower it to pause sooner",
    "input.bad_pause": "a paused partition is tried again after a minute",
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


def drop_removed(tree: Mapping[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """Leave removed keys out of a tree of settings, and tell of each."""
    return {section: _without(keys, tell, section) for section, keys in tree.items()}


def _without(keys: Any, tell: Callable[[str], None], section: str) -> Any:
    if not isinstance(keys, dict):
        return keys
    for name in keys:
        if f"{section}.{name}" in REMOVED:
            tell(_gone(f"{section}.{name}"))
    return {name: value for name, value in keys.items() if f"{section}.{name}" not in REMOVED}


def _gone(key: str) -> str:
    """Say in one line that a key is gone and what happens now."""
    return f"{key} is no setting any more and has no effect: {REMOVED[key]}; delete the key"
