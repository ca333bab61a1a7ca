"""fracast and statsforecast on the tasks of the zero-shot benchmark, in their own environment: `peer_zero_shot.py JOB`.

It gets histories and never what came after them. It imports nothing of ours but the part of peer_job that counts.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from peer_job import measure_speed, peak_memory

FRACAST_CONTEXT, FRACAST_BATCH = 2048, 4  # of 1, 4, 8, 16 and 64 windows at once, 1 and 4 are fastest on one core
FRACAST_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
NEWEST = 1024  # steps of a history that the statistical models are fitted on
MOST_WINDOWS, LONGEST_SEASON = 120, 24  # of AutoETS: one fit takes 1 to 8 s
Forecast = Callable[[Sequence[np.ndarray], int, int], np.ndarray]


def fracast(levels: Sequence[float]) -> Forecast:
    """The packaged weights at their defaults; levels beyond its nine follow a normal tail through 10, 50 and 90 %."""
    from fracast import FracastModel

    model = FracastModel.from_pretrained()
    assert tuple(model.quantiles) == FRACAST_LEVELS

    def forecast(histories: Sequence[np.ndarray], season: int, horizon: int) -> np.ndarray:
        rows = np.full((len(histories), FRACAST_CONTEXT), np.nan)
        for row, history in zip(rows, histories, strict=True):
            newest = history[-FRACAST_CONTEXT:]
            row[-len(newest) :] = newest
        parts = [rows[first : first + FRACAST_BATCH] for first in range(0, len(rows), FRACAST_BATCH)]
        own = np.sort(np.concatenate([model.forecast_batch(part, horizon=horizon) for part in parts]), axis=-1)
        return extend(own.astype(np.float64), levels)

    return forecast


def extend(own: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Quantiles at `levels` from those at FRACAST_LEVELS (N, H, 9); the outermost ones are moved out for the tails."""
    scores = NormalDist()
    median, found = own[..., FRACAST_LEVELS.index(0.5)], []
    for level in levels:
        if level in FRACAST_LEVELS:
            found.append(own[..., FRACAST_LEVELS.index(level)])
        else:
            edge = FRACAST_LEVELS[0] if level < FRACAST_LEVELS[0] else FRACAST_LEVELS[-1]
            grown = scores.inv_cdf(level) / scores.inv_cdf(edge)
            found.append(median + grown * (own[..., FRACAST_LEVELS.index(edge)] - median))
    return np.stack(found, axis=-1)


def statistical(name: str, levels: Sequence[float]) -> Forecast:
    """A model of statsforecast, fitted on the newest steps of each history, whose gaps are filled linearly."""
    import statsforecast.models

    kind = getattr(statsforecast.models, name)
    wanted = sorted({round(100 * abs(1 - 2 * level)) for level in levels if level != 0.5})

    def forecast(histories: Sequence[np.ndarray], season: int, horizon: int) -> np.ndarray:
        quantiles = np.empty((len(histories), horizon, len(levels)))
        for row, history in zip(quantiles, histories, strict=True):
            found = kind(season_length=season).forecast(y=fill(history[-NEWEST:]), h=horizon, level=wanted)
            for column, level in enumerate(levels):
                side = "lo" if level < 0.5 else "hi"
                row[:, column] = found["mean" if level == 0.5 else f"{side}-{round(100 * abs(1 - 2 * level))}"]
        return np.sort(quantiles, axis=-1)

    return forecast


def fill(history: np.ndarray) -> np.ndarray:
    """Gaps as a straight line between their neighbours; before the first and after the last value, as that value."""
    known = np.flatnonzero(np.isfinite(history))
    return np.interp(np.arange(len(history)), known, history[known])


def why_not(name: str, task: dict[str, Any], windows: int) -> str:
    """Why a model does not forecast a task; "" if it does."""
    if name != "AutoETS":
        return ""
    if task["season"] > LONGEST_SEASON:
        return f"season {task['season']} is over {LONGEST_SEASON}"
    return f"{windows} windows are over {MOST_WINDOWS}" if windows > MOST_WINDOWS else ""


def main() -> None:
    job = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    name, levels = job["model"], job["levels"]
    forecast = fracast(levels) if name == "fracast" else statistical(name, levels)
    facts: dict[str, Any] = {"seconds": {}, "left_out": {}, "speed": {}}
    found = {}
    with np.load(job["histories"], allow_pickle=False) as stored:
        for task in job["tasks"]:
            lengths = stored[f"{task['name']}/lengths"]
            histories = np.split(stored[f"{task['name']}/values"], np.cumsum(lengths)[:-1])
            if reason := why_not(name, task, len(histories)):
                facts["left_out"][task["name"]] = reason
                continue
            began = time.perf_counter()
            try:
                found[task["name"]] = forecast(histories, task["season"], task["horizon"])
            except Exception as error:  # noqa: BLE001 - a library's failure on a task is a result, whatever it is
                facts["left_out"][task["name"]] = f"failed: {type(error).__name__}: {error}"
            facts["seconds"][task["name"]] = time.perf_counter() - began
            sys.stderr.write(f"{task['name']} {facts['seconds'][task['name']]:.1f} s\n")
        if name == "fracast":
            facts["speed"] = measure_speed(
                lambda windows: forecast(windows, 24, job["speed_horizon"]), list(stored["speed"]), job["rounds"]
            )
    np.savez(job["out"], **found)
    packages = ("fracast", "torch") if name == "fracast" else ("statsforecast",)
    facts |= {"peak_mib": peak_memory(), "versions": {package: version(package) for package in packages}}
    sys.stdout.write("\n" + json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
