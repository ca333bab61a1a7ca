"""Forecasts without a training, task by task: seasonal naive, fracast, statsforecast and ours, by the same scores.

Every forecaster gets the same histories and no more. A peer that cannot forecast a task leaves it out and says why.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from models.config import QUANTILE_LEVELS
from models.fitting.cpu import tune_cpu
from models.metrics import METRICS, Matured
from pipeline.records import Floats
from tests.bench.forecasters import Failed
from tests.bench.peer_job import measure_speed
from tests.bench.results import Figure, Report, ratios, say
from tests.bench.zero_shot_own import OWN_CONTEXT, own, predict_naive, predict_own
from tests.bench.zero_shot_peers import SPEED, Answer, ask_peer, check, speed_windows
from tests.bench.zero_shot_sources import PARTS
from tests.bench.zero_shot_tasks import Task, load_tasks
from tests.bench.zero_shot_tuned import answer_tuned

NAIVE, OWN, FRACAST = "seasonal-naive", "tidecast", "fracast"
TUNED = "tidecast-tuned"
SHARED_LEVELS = tuple(level for level in QUANTILE_LEVELS if 0.1 <= level <= 0.9)
"""The nine levels that every peer gives: fracast's other four are extended from them."""
SCORES = ("mase", "wql", "coverage_80", "coverage_95", "width_80")
RATIOS = ("mase", "wql", "wql_9")
WANTED_MASE, WANTED_SPEED = 0.75, 2_000.0
PROTOCOL = (
    "{windows} windows of {source} ({group}), horizon {horizon}, season {season}, origins a horizon apart or as the "
    "task says, the last one a horizon before the end; no training; one thread; 13 quantiles of each, sorted; MASE in "
    "units of the whole history's seasonal differences; wql_9: at the nine levels that every peer gives"
)
CHOICES = {
    "split": "by source, before any figure was seen; choices are made on the choosing part only",
    "tidecast": f"the network of the wheel as it came, newest {OWN_CONTEXT} steps",
    TUNED: "the same after a fit on what was known at the first origins, at its defaults, without a gate",
    "seasonal-naive": "models/network/baselines.py, context 2048",
    "fracast": "packaged weights at their defaults, newest 2048 steps; 2.5, 5, 95, 97.5 % follow a normal tail",
    "statsforecast": "AutoTheta, AutoETS at their defaults, newest 1024 steps, gaps filled linearly, the mean as 50 %",
    "no scale": "windows whose history has no seasonal difference are left out of MASE, for every forecaster",
}


def run(
    folder: Path,
    *,
    parts: Sequence[str],
    only: Sequence[str],
    peers: Sequence[str],
    fresh: bool,
    artifact: Path | None,
    tuned: bool = False,
) -> tuple[Path, bool]:
    """Measure, and with `tuned` ours after a fit, too; return the file of figures, and whether all gave some."""
    tune_cpu(1)
    tasks = [task for task in load_tasks(folder).values() if task.part in parts and (not only or task.name in only)]
    ask = {NAIVE: partial(answer, NAIVE, tasks, predict_naive)}
    ask |= {name: partial(ask_peer, name, tasks, fresh=fresh) for name in peers}
    network = own(artifact) if artifact else None
    ask[OWN] = partial(answer, OWN, tasks, partial(predict_own, network))
    if tuned:
        ask[TUNED] = partial(answer_tuned, TUNED, tasks, network)
    report = Report("zero-shot")
    answers: dict[str, Answer] = {}
    for name, forecast in ask.items():
        say(name)
        try:
            answers[name] = forecast()
        except Failed as failure:
            say(f"{name} failed: {failure}")
            report.write_failure("zero-shot", name, str(failure))
    scores = {task.name: rate(task, answers) for task in tasks}
    versions = {package: text for found in answers.values() for package, text in found.versions.items()}
    for task in tasks:
        write_task(report, task, scores[task.name], answers, versions)
    for part in parts:
        held = [task for task in tasks if task.part == part]
        for name in answers if held else ():
            write_summary(report, part, name, held, scores, answers[name], versions)
    for name, found in answers.items():
        if found.speed:
            write_speed(report, name, answers, versions)
    return report.path, len(answers) == len(ask)


def answer(name: str, tasks: Sequence[Task], forecast: Callable[[Sequence[Floats], int, str, int], Floats]) -> Answer:
    """Forecast every task in this process, and measure the speed; a ValueError says why a task is left out."""
    found, seconds, left_out = {}, {}, {}
    for task in tasks:
        histories = task.histories()
        began = time.perf_counter()
        try:
            quantiles = forecast(histories, task.season, task.frequency, task.horizon)
        except ValueError as error:
            left_out[task.name] = str(error)
            continue
        seconds[task.name] = time.perf_counter() - began
        found[task.name] = check(f"{name} on {task.name}", task, quantiles)
    try:
        speed = measure_speed(
            lambda windows: forecast(windows, 24, "1h", SPEED["horizon"]), list(speed_windows()), SPEED["rounds"]
        )
    except ValueError:
        speed = {}  # it forecasts no hours; left_out says so where a task is hourly
    return Answer(found, left_out, seconds, speed)


def rate(task: Task, answers: Mapping[str, Answer]) -> dict[str, dict[str, float]]:
    """Score what each forecaster said of a task."""
    target, scale = task.targets(), task.scales()
    return {
        name: score(Matured(target=target, quantiles=found.quantiles[task.name], scale=scale))
        for name, found in answers.items()
        if task.name in found.quantiles
    }


def score(matured: Matured) -> dict[str, float]:
    """The scores of one forecaster on one task."""
    columns = [matured.levels.index(level) for level in SHARED_LEVELS]
    shared = replace(matured, quantiles=matured.quantiles[..., columns], levels=SHARED_LEVELS)
    return {name: METRICS[name](matured) for name in SCORES} | {"wql_9": METRICS["wql"](shared)}


def geometric_mean(values: Sequence[float]) -> float:
    """NaN without any."""
    return float(np.exp(np.mean(np.log(values)))) if values else float("nan")


def compare(name: str, other: str, scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """Geometric means of ratios to another forecaster, and the share of tasks that are better, where both forecast."""
    both = [task for task in scores.values() if name in task and other in task]
    found: dict[str, float] = {"tasks": len(both)}
    for metric in RATIOS if both else ():
        pairs = [(task[name][metric], task[other][metric]) for task in both]
        ratios_of_tasks = [mine / theirs for mine, theirs in pairs if mine > 0.0 and theirs > 0.0]
        found[metric] = geometric_mean(ratios_of_tasks)
        found[f"{metric}_worst"] = max(ratios_of_tasks, default=float("nan"))
        found[f"{metric}_better"] = sum(mine < theirs for mine, theirs in pairs) / len(pairs)
    return found


def write_task(
    report: Report,
    task: Task,
    scores: Mapping[str, Mapping[str, float]],
    answers: Mapping[str, Answer],
    versions: Mapping[str, str],
) -> None:
    """One line a task: ours if there is one, else seasonal naive, and every forecaster's scores beside it."""
    impl = OWN if OWN in scores else NAIVE
    value = scores[impl]["mase"]
    best, every = ratios(
        value, {name: each["mase"] for name, each in scores.items() if name not in (impl, TUNED)}, lower_is_better=True
    )
    target = task.targets()
    report.write(
        Figure(
            bench=f"zero-shot/{task.name}",
            impl=impl,
            value=value,
            unit="mase",
            protocol=PROTOCOL.format(
                windows=len(task.windows),
                source=task.source,
                group=task.group,
                horizon=task.horizon,
                season=task.season,
            ),
            runs=[value],
            ratio=best,
            ratios=every,
            more={
                "part": task.part,
                "group": task.group,
                "series": len(task.values),
                "origins": task.origins,
                "windows_left_out": task.left_out,
                "windows_without_scale": int(np.count_nonzero(~(np.nan_to_num(task.scales()) > 0.0))),
                "steps_scored": int(np.isfinite(target).sum()),
                "scores": scores,
                "seconds": {name: found.seconds.get(task.name) for name, found in answers.items()},
                "fits": {name: found.fits[task.name] for name, found in answers.items() if task.name in found.fits},
                "not_forecast": {
                    name: found.left_out[task.name] for name, found in answers.items() if task.name in found.left_out
                },
            },
        ),
        versions,
    )


def write_summary(
    report: Report,
    part: str,
    name: str,
    tasks: Sequence[Task],
    scores: Mapping[str, Mapping[str, Mapping[str, float]]],
    found: Answer,
    versions: Mapping[str, str],
) -> None:
    """One line a part and forecaster: ratios to seasonal naive and to fracast, and the coverage of each group."""
    held = {task.name: scores[task.name] for task in tasks}
    to_naive = compare(name, NAIVE, held)
    if not to_naive["tasks"]:
        return
    groups: dict[str, list[float]] = {}
    for task in tasks:
        if name in held[task.name]:
            groups.setdefault(task.group, []).append(held[task.name][name]["coverage_80"])
    report.write(
        Figure(
            bench=f"zero-shot/summary-{part}",
            impl=name,
            value=to_naive["mase"],
            unit="mase ratio",
            protocol=f"geometric mean of MASE to seasonal naive's over those tasks of the {part} part that {name} "
            f"forecast, {to_naive['tasks']}; coverage_80: mean of the tasks of a group",
            runs=[to_naive["mase"]],
            wanted=WANTED_MASE if name == OWN else None,
            more={
                "to_naive": to_naive,
                "to_fracast": compare(name, FRACAST, held),
                "to_zero_shot": compare(name, OWN, held) if name == TUNED else None,
                "coverage_80": {group: float(np.mean(shares)) for group, shares in sorted(groups.items())},
                "not_forecast": {task: why for task, why in found.left_out.items() if task in held},
                "choices": CHOICES,
            },
        ),
        versions,
    )


def write_speed(report: Report, name: str, answers: Mapping[str, Answer], versions: Mapping[str, str]) -> None:
    """One line a forecaster that tells its speed."""
    speeds = {each: found.speed["series_per_cpu_second"] for each, found in answers.items() if found.speed}
    value = speeds.pop(name)
    best, every = ratios(value, speeds)
    report.write(
        Figure(
            bench="zero-shot/speed",
            impl=name,
            value=value,
            unit="series/CPU s",
            protocol=f"{SPEED['windows']} windows of {SPEED['context']} steps, {SPEED['peer_windows']} for a peer, "
            f"horizon {SPEED['horizon']}, one thread, median of {SPEED['rounds']} rounds, from arrays to quantiles; "
            "single: one window alone; ms and series_per_second are by the clock, on a machine with other work",
            runs=[value],
            wanted=WANTED_SPEED if name == OWN else None,
            ratio=best,
            ratios=every,
            more=answers[name].speed,
        ),
        versions,
    )


def table(tasks: Sequence[Task]) -> str:
    """The tasks, one a line."""
    rows = [
        f"{task.name:22}{task.part:10}{task.group:21}{task.source:17}{len(task.values):4} series x {task.origins:2} "
        f"origins, horizon {task.horizon:3}, season {task.season:3}"
        for task in tasks
    ]
    counts = ", ".join(f"{sum(task.part == part for task in tasks)} {part}" for part in PARTS)
    return "\n".join([*rows, f"{len(tasks)} tasks: {counts}"])
