"""Peers of the zero-shot benchmark: each forecasts in a child with an environment of its own, and its answers are kept.

A peer trains nothing, so its answer to a task changes only with what it is given, its script and its version. The hash
of these is the name under which the answer is kept, so that a run of ours need not wait for peers again.
"""

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from models.config import QUANTILE_LEVELS
from pipeline.records import Floats
from tests.bench import peers
from tests.bench.forecasters import Failed, run_child
from tests.bench.zero_shot_tasks import Task

SCRIPT = Path(__file__).parent / "peer_zero_shot.py"
PEERS = {"fracast": "fracast", "autotheta": "AutoTheta", "autoets": "AutoETS"}
SPEED = {"windows": 1_024, "peer_windows": 64, "context": 512, "horizon": 48, "rounds": 5}
SECONDS = 3_600
ONE_THREAD = ("OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a forecaster said: sorted quantiles (N, H, 13) of each task, or why it did not forecast it; seconds a task.

    speed: what `measure_speed` says, where it was measured. versions: of its libraries. fits: of what was fitted to a
    task, facts about the fit.
    """

    quantiles: Mapping[str, Floats] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    speed: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    fits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def ask_peer(name: str, tasks: Sequence[Task], *, fresh: bool = False) -> Answer:
    """What a peer says of the tasks; those that it has answered before are not asked again, unless `fresh`."""
    places = {task.name: _place(name, task) for task in tasks}
    asked = [task for task in tasks if fresh or not places[task.name].exists()]
    kept = [_recall(task, places[task.name]) for task in tasks if task not in asked]
    new = _ask(name, asked)
    for task in asked:
        _keep(new, task, places[task.name])
    return _join([*kept, new])


def check(what: str, task: Task, quantiles: Floats) -> Floats:
    """Sort quantiles; refuse those that the scores would leave out, since a NaN would make a forecaster look better."""
    wanted = (len(task.windows), task.horizon, len(QUANTILE_LEVELS))
    if quantiles.shape != wanted:
        raise Failed(f"{what}: quantiles have shape {quantiles.shape}, not {wanted}")
    if missing := int(np.count_nonzero(~np.isfinite(quantiles))):
        raise Failed(f"{what}: {missing} of {quantiles.size} quantiles are not finite")
    return np.sort(quantiles, axis=-1)


def speed_windows() -> Floats:
    """Windows (N, T) with the season of a day for the speed, always the same ones."""
    random = np.random.default_rng(0)
    shape = (SPEED["windows"], SPEED["context"])
    return 10.0 + 3.0 * np.sin(2.0 * np.pi * np.arange(shape[1]) / 24.0) + random.normal(0.0, 0.3, shape)


def _ask(name: str, tasks: Sequence[Task]) -> Answer:
    try:
        python = peers.zero_shot_python()
    except (OSError, subprocess.SubprocessError) as error:
        raise Failed(f"its environment cannot be made: {error}") from error
    with tempfile.TemporaryDirectory(prefix="tidecast-bench-") as scratch:
        inputs, out = Path(scratch) / "histories.npz", Path(scratch) / "quantiles.npz"
        np.savez(inputs, speed=speed_windows()[: SPEED["peer_windows"]], **_flat(tasks))
        job = {
            "model": PEERS[name],
            "levels": QUANTILE_LEVELS,
            "tasks": [_job(task) for task in tasks],
            "histories": str(inputs),
            "out": str(out),
            "speed_horizon": SPEED["horizon"],
            "rounds": SPEED["rounds"],
        }
        command = ["env", *ONE_THREAD, str(python), str(SCRIPT), json.dumps(job)]
        line = run_child(command, Path(scratch), ours=False, timeout=SECONDS)
        try:
            facts = json.loads(line)
            with np.load(out, allow_pickle=False) as stored:
                found = {
                    task.name: check(f"{name} on {task.name}", task, stored[task.name])
                    for task in tasks
                    if task.name in stored
                }
        except (OSError, ValueError) as error:
            raise Failed(f"its answer cannot be read: {error}") from error
    return Answer(found, facts["left_out"], facts["seconds"], facts["speed"], facts["versions"])


def _flat(tasks: Sequence[Task]) -> dict[str, np.ndarray]:
    """The histories of every task, end to end, and their lengths."""
    arrays = {}
    for task in tasks:
        histories = task.histories()
        arrays[f"{task.name}/values"] = np.concatenate(histories)
        arrays[f"{task.name}/lengths"] = np.array([len(history) for history in histories])
    return arrays


def _job(task: Task) -> dict[str, Any]:
    return {"name": task.name, "season": task.season, "horizon": task.horizon}


def _place(name: str, task: Task) -> Path:
    """Where a peer's answer is kept."""
    digest = hashlib.sha256(SCRIPT.read_bytes())
    digest.update(json.dumps([peers.ZERO_SHOT, PEERS[name], QUANTILE_LEVELS, _job(task)]).encode())
    for array in _flat([task]).values():
        digest.update(array.tobytes())
    return peers.cache_folder() / "zero-shot-answers" / f"{name}-{task.name}-{digest.hexdigest()[:16]}.npz"


def _keep(answer: Answer, task: Task, place: Path) -> None:
    """Keep an answer, but not that the peer failed; a file of half of it never has the name."""
    if answer.left_out.get(task.name, "").startswith("failed"):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Any] = {"seconds": answer.seconds.get(task.name, 0.0)}
    if task.name in answer.quantiles:
        parts["quantiles"] = answer.quantiles[task.name]
    else:
        parts["left_out"] = answer.left_out[task.name]
    unfinished = place.with_suffix(".unfinished.npz")
    np.savez(unfinished, **parts)
    unfinished.replace(place)


def _recall(task: Task, place: Path) -> Answer:
    with np.load(place, allow_pickle=False) as stored:
        said = {task.name: stored["quantiles"]} if "quantiles" in stored else {}
        why = {task.name: str(stored["left_out"])} if "left_out" in stored else {}
        return Answer(said, why, {task.name: float(stored["seconds"])})


def _join(answers: Sequence[Answer]) -> Answer:
    """One answer of several, each of other tasks."""
    columns = [[getattr(answer, part.name) for answer in answers] for part in fields(Answer)]
    return Answer(*[{key: value for each in column for key, value in each.items()} for column in columns])
