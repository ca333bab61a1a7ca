"""docs/reference/metrics.md: every metric of each role, from the families that the collectors yield."""

import re
from collections.abc import Iterable
from pathlib import Path

from structlog.testing import capture_logs

from jobs.upkeep.job_metrics import JobCollector
from pipeline.health.probes import Probes
from pipeline.health.prometheus import Exposition, MemoryAndThreads, Metric
from pipeline.stream.worker import Worker
from pipeline.stream.worker_metrics import WorkerCollector
from pipeline.web.page_metrics import PageCollector, Traffic
from tests.facts import FACTS, NOW, PERIODS
from tests.fakes import MemoryStore, MemoryTopics
from tests.reference.tables import code, page, sentence, table
from tests.unit.workers import panel, run_dry, worker

RULES = Path(__file__).parents[2] / "deploy" / "prometheus"
RULE = re.compile(r"- alert: (\w+)\n(.*?)(?=- alert: |\Z)", re.DOTALL)
OPEN = {"partition", "model_version", "horizon_from", "job_name", "route", "status", "role"}
"""Labels whose values are not a fixed few."""
HEADS = ("metric, type and labels", "meaning, and the alerts that read it")
INTRODUCTION = """\
`metrics.listen` lets every `tidecast stream`, `tidecast schedule` and `tidecast serve` answer `/metrics`, `/healthz`
and `/readyz`. `tidecast metrics` writes those of the jobs once. Times are seconds since 1970, so an age is `time()`
minus the metric. A counter begins at 0 with its process, except those of the jobs, which are counted in SQL.
A histogram is scraped as `_bucket`, `_sum` and `_count`. A label is never a series or text of a message.
"""


class Nothing:
    """What is open on a page that nobody reads."""

    dropped = 0

    def __len__(self) -> int:
        return 0


def write() -> str:
    """Write the page."""
    return page(
        "Metrics",
        INTRODUCTION,
        "## Every role\n\nThe label `role` is `worker`, `scheduler` or `page`.",
        _table([*Probes("worker").collect(), *MemoryAndThreads().collect()]),
        f"Beside these, every role serves {', '.join(code(name) for name in _of_the_process())} of its process.",
        "## Worker\n\nServed by `tidecast stream`.",
        _table(WorkerCollector(_used()).collect()),
        "## Jobs\n\nServed by `tidecast schedule`, on duty or not, and written by `tidecast metrics`.",
        _table(JobCollector(lambda now: FACTS, PERIODS, lambda: NOW, lambda: 0.0).collect()),
        "## Page\n\nServed by `tidecast serve`.",
        _table(PageCollector(Traffic(), Nothing(), Nothing()).collect()),
    )


def _of_the_process() -> list[str]:
    text = Exposition(process=True).write()
    return sorted(name for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE) if not name.startswith("tidecast_"))


def _table(families: Iterable[Metric]) -> str:
    rows = []
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        kind = f"{family.type} by {labels}" if (labels := _labels(family)) else family.type
        alerts = _alerts(name)
        read = [f"Read by {', '.join(alerts)}."] if alerts else []
        rows.append((f"{code(name)}<br>{kind}", " ".join([sentence(family.documentation), *read])))
    return table(HEADS, rows)


def _labels(family: Metric) -> str:
    """Name the labels, and the values of those that have a fixed few."""
    told = []
    for label in family._labelnames:  # also of a family that has no sample
        values = dict.fromkeys(sample.labels[label] for sample in family.samples)
        few = ", ".join(code(value) for value in values) if label not in OPEN else ""
        told.append(f"{code(label)} ({few})" if few else code(label))
    return ", ".join(told)


def _used() -> Worker:
    """Make a worker that has taken turns, so that every phase has been measured."""
    one = worker(MemoryStore(), MemoryTopics(inputs={0: panel(["a"], 9)}))
    with capture_logs():
        run_dry(one)
    return one


def _alerts(metric: str) -> list[str]:
    """Name the alerts whose expressions read a metric."""
    texts = [file.read_text(encoding="utf-8") for file in sorted(RULES.glob("*.rules.yml"))]
    rules = [(name, body.split("for:")[0]) for text in texts for name, body in RULE.findall(text)]
    return [code(name) for name, body in rules if re.search(rf"\b{metric}(_bucket|_sum|_count)?\b", body)]
