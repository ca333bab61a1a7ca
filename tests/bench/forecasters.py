"""tidecast and its peers on the official split of M4-Hourly, one after the other in one run, each in its own process.

Every implementation trains on the train file and writes quantiles; all of them are scored here, by one function.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.config import QUANTILE_LEVELS
from models.metrics import seasonal_scale
from pipeline.records import Floats
from tests.bench import peers
from tests.bench.accuracy import HORIZON, SEASON, WANTED, read_split, score_quantiles
from tests.bench.results import Figure, Report, median, ratios, say

HERE = Path(__file__).parent
OWN = "tidecast"
PEERS = {
    "neuralforecast-lstm": ("peer_neuralforecast.py", "LSTM"),
    "neuralforecast-gru": ("peer_neuralforecast.py", "GRU"),
    "neuralforecast-nhits": ("peer_neuralforecast.py", "NHITS"),
    "darts-blockrnn": ("peer_darts.py", "LSTM"),
    "gluonts-deepar": ("peer_gluonts.py", "DeepAR"),
}
NAMES = (*PEERS, OWN)  # ours last: its ratios need the peers
PROTOCOL = (
    "M4-Hourly, official split: {series} series, horizon 48, season 24, one origin; each implementation in a process "
    "of its own, {threads} threads, no GPU, one after the other in every round; {levels} quantiles of each, sorted, "
    "scored by models.metrics; a run is a round, with a seed of its own"
)
# bench: (unit, lower is better, what the number is)
BENCHES = {
    "mase": ("mase", True, "of the medians"),
    "train": ("windows/s", False, "windows in the batches of all optimiser steps / seconds from histories to model"),
    "forecast": ("series/s", False, "from the model to the quantiles of every series"),
    "memory": ("MiB", True, "peak resident memory of the process"),
}


class Failed(Exception):
    """An implementation gave no forecasts that can be scored; the text says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What every round has in common. `peer_steps` None is the documented number."""

    folder: Path
    threads: int
    sets: Sequence[str]
    peer_steps: int | None
    peer_seconds: float


def run(plan: Plan, *, seeds: Sequence[int], only: Sequence[str]) -> tuple[Path, bool]:
    """Measure; return the file of figures, and whether every implementation gave some."""
    histories, target = read_split(plan.folder)
    scale = np.array([seasonal_scale(each[None], SEASON)[0] for each in histories])  # (S,)
    protocol = PROTOCOL.format(series=len(histories), threads=plan.threads, levels=len(QUANTILE_LEVELS))
    report = Report("forecasters")
    names = [name for name in NAMES if not only or name in only]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    whole = True
    for number, seed in enumerate(seeds, 1):
        for name in names:
            say(f"{name}, seed {seed}")
            try:
                quantiles, facts = forecast(plan, name, seed)
                check(quantiles, target)
            except Failed as failure:
                whole = False
                say(f"{name} failed: {failure}")
                report.write_failure("forecasters", name, f"seed {seed}: {failure}")
            else:
                found[name].append(rate(facts | {"seed": seed}, quantiles, target, scale))
                say(f"{name}: MASE {found[name][-1]['mase']:.4f} in {facts['seconds']:.0f} s, {facts['stopped']}")
            if number == len(seeds) and found[name]:
                write(report, name, found, protocol=protocol)
    return report.path, whole


def forecast(plan: Plan, name: str, seed: int) -> tuple[Floats, dict[str, Any]]:
    """Train and forecast in a child; return quantiles (S, H, Q) and what the child says of itself."""
    script, model = PEERS.get(name, ("", ""))
    peer = name != OWN
    with tempfile.TemporaryDirectory(prefix="tidecast-bench-") as scratch:
        out = Path(scratch) / "quantiles.npy"
        job = {
            "data": str(plan.folder.resolve()),
            "model": model,
            "horizon": HORIZON,
            "levels": QUANTILE_LEVELS,
            "threads": plan.threads,
            "seed": seed,
            "out": str(out),
            "steps": plan.peer_steps if peer else None,
            "seconds": plan.peer_seconds,
            "sets": [] if peer else list(plan.sets),
        }
        command = (
            [str(_peer_python()), str(HERE / script)] if peer else [sys.executable, "-m", "tests.bench.own_forecaster"]
        )
        answer = run_child(
            [*command, json.dumps(job)], Path(scratch), ours=not peer, timeout=2 * plan.peer_seconds + 3600
        )
        try:
            return np.load(out, allow_pickle=False).astype(np.float64), json.loads(answer)
        except (OSError, ValueError) as error:
            raise Failed(f"its answer cannot be read: {error}") from error


def _peer_python() -> Path:
    try:
        return peers.forecasters_python()
    except (OSError, subprocess.SubprocessError) as error:
        raise Failed(f"its environment cannot be made: {error}") from error


def run_child(command: Sequence[str], scratch: Path, *, ours: bool, timeout: float) -> str:
    """Run a child in `scratch`, where libraries may leave logs; return the last line of its stdout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    if ours:
        environment["PYTHONPATH"] = str(HERE.parents[1])
    log = scratch / "stderr"
    try:
        with log.open("w") as errors:
            done = subprocess.run(
                command,
                cwd=scratch,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=timeout,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"not done after {timeout:.0f} s") from error
    if done.returncode:
        raise Failed(f"exit {done.returncode}: {_last_line(log.read_text(errors='replace'))}")
    return _last_line(done.stdout)


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def check(quantiles: Floats, target: Floats) -> None:
    """Refuse forecasts that the scores would leave out."""
    wanted = (*target.shape, len(QUANTILE_LEVELS))
    if quantiles.shape != wanted:
        raise Failed(f"quantiles have shape {quantiles.shape}, not {wanted}")
    if missing := int(np.count_nonzero(~np.isfinite(quantiles))):
        raise Failed(f"{missing} of {quantiles.size} quantiles are not finite")


def rate(facts: Mapping[str, Any], quantiles: Floats, target: Floats, scale: Floats) -> dict[str, Any]:
    """Add scores and rates to a child's facts."""
    scores = score_quantiles(np.sort(quantiles, axis=-1), target, scale)
    return {
        **facts,
        "scores": scores,
        "mase": scores["mase"],
        "train": facts["windows"] / facts["seconds"],
        "forecast": len(target) / facts["forecast_seconds"],
        "memory": facts["peak_mib"],
    }


def write(report: Report, name: str, found: Mapping[str, Sequence[Mapping[str, Any]]], *, protocol: str) -> None:
    """Write the figures of one implementation; ours have ratios to the peers of this run."""
    runs = found[name]
    scores = {score: median([each["scores"][score] for each in runs]) for score in runs[0]["scores"]}
    more = {
        "mase": {
            **{score: value for score, value in scores.items() if score != "mase"},
            "settings": runs[0]["settings"],
            "documented": runs[0]["documented"],
        },
        "train": {
            **{fact: median([each[fact] for each in runs]) for fact in ("seconds", "steps", "windows")},
            **{fact: runs[0][fact] for fact in ("parameters", "context", "threads")},
            "stopped": [each["stopped"] for each in runs],
        },
        "forecast": {"seconds": median([each["forecast_seconds"] for each in runs])},
        "memory": {},
    }
    for bench, (unit, lower, what) in BENCHES.items():
        value = median([each[bench] for each in runs])
        others = {peer: median([each[bench] for each in found[peer]]) for peer in PEERS if found.get(peer)}
        best, every = ratios(value, others if name == OWN else {}, lower_is_better=lower)
        figure = Figure(
            bench=f"forecasters/{bench}",
            impl=name,
            value=value,
            unit=unit,
            protocol=f"{protocol}; {bench}: {what}",
            runs=[each[bench] for each in runs],
            wanted=WANTED["mase"] if name == OWN and bench == "mase" else None,
            ratio=best,
            ratios=every,
            more=more[bench],
        )
        report.write(figure, runs[0]["versions"])
