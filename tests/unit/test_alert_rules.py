"""The alert rules: read, of whole parts, on metrics and labels that are exported; and promtool's own tests of them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobs.upkeep.job_metrics import JobCollector
from pipeline.health.probes import Checks, Probes
from pipeline.health.prometheus import Exposition
from pipeline.stream.worker import Worker
from pipeline.stream.worker_metrics import WorkerCollector
from pipeline.web.page_metrics import PageCollector, Traffic
from tests import documents
from tests.facts import FACTS, NOW, PERIODS
from tests.fakes import MemoryStore, MemoryTopics
from tests.unit.workers import panel, run_dry, worker

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
GROUPS = {"jobs": 12, "stream": 16}
RULE = re.compile(
    r"^      - alert: (?P<alert>Tidecast\w+)\n"
    r"        expr: \|-\n(?P<expr>(?:          .+\n)+)"
    r"        for: \d+[mh]\n"
    r"        labels:\n          severity: (?P<severity>\w+)\n"
    r'        annotations:\n          summary: "(?P<summary>[^"\n]+)"\n'
    r'          description: "(?P<description>[^"\n]+)"\n'
    r'          runbook: "deploy/runbook\.md#(?P<anchor>[a-z]+)"\n',
    re.MULTILINE,
)
RULES = {group: (FOLDER / f"tidecast-{group}.rules.yml").read_text(encoding="utf-8") for group in GROUPS}
FOUND = {found["alert"]: found for text in RULES.values() for found in RULE.finditer(text)}
PROMTOOL = shutil.which("promtool")
OF_ANY_PROCESS = {"process_start_time_seconds", "process_resident_memory_bytes"}  # by prometheus_client, on Linux
SCRAPED = {"instance"}  # labels that Prometheus adds


def scored() -> Worker:
    """A worker that has seen everything that its metrics tell of, but for a shadow and a trained model."""
    one = worker(MemoryStore(), MemoryTopics(inputs={0: [*panel(["a"], 9), (None, b"{")]}))
    run_dry(one)
    return one


def written() -> str:
    """What a scheduler, a worker and the page serve."""
    probes = Probes("worker")
    probes.watch(Checks(list, list), WorkerCollector(scored()))
    worker_text = probes.answer("/metrics")
    assert worker_text is not None
    return (
        Exposition(JobCollector(lambda now: FACTS, PERIODS, lambda: NOW, lambda: 0.0)).write()
        + worker_text.body.decode()
        + Exposition(PageCollector(traffic(), NoStreams(), NoStreams())).write()
    )


class NoStreams:
    dropped = 0

    def __len__(self) -> int:
        return 0


def traffic() -> Traffic:
    counted = Traffic()
    counted.count("/api/series", 200, 0.01)
    return counted


TEXT = written()
LABELS: dict[str, dict[str, set[str]]] = {}
for family in text_string_to_metric_families(TEXT):
    for sample in family.samples:
        own = LABELS.setdefault(sample.name, {})
        for label, value in sample.labels.items():
            own.setdefault(label, set()).add(value)


def exported() -> set[str]:
    """Our own metrics, by the names that they are scraped under."""
    return {name for name in re.findall(r"^# HELP (\S+)", TEXT, re.MULTILINE) if name.startswith("tidecast_")}


def test_every_metric_has_a_sample_here_so_that_its_labels_are_known() -> None:
    sampled = {re.sub(r"(_seconds)_(bucket|sum|count)$", r"\1", name) for name in LABELS}
    assert exported() - sampled == {"tidecast_model_trained_until_timestamp_seconds"}


def test_no_two_roles_call_different_things_alike() -> None:
    names = re.findall(r"^# HELP (\S+)", TEXT, re.MULTILINE)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("group", GROUPS)
def test_the_file_is_nothing_but_whole_rules(group: str) -> None:
    text = RULES[group]
    rest = RULE.sub("", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    assert rest == f"groups:\n  - name: tidecast-{group}\n    rules:\n"
    assert len(RULE.findall(text)) == text.count("- alert:") == GROUPS[group]


def test_every_alert_has_one_of_three_severities_and_its_own_place_in_the_runbook() -> None:
    assert len(FOUND) == sum(GROUPS.values())
    assert {found["severity"] for found in FOUND.values()} <= {"critical", "warning", "info"}
    assert {name.lower(): found["anchor"] for name, found in FOUND.items()} == {n.lower(): n.lower() for n in FOUND}


@pytest.mark.parametrize("alert", FOUND)
def test_an_alert_names_only_metrics_and_labels_that_are_exported(alert: str) -> None:
    expression = FOUND[alert]["expr"]
    names = set(re.findall(r"\b(?:tidecast|process)_\w+", expression))
    assert names
    assert names <= exported() | OF_ANY_PROCESS
    grouped = {
        label.strip() for inside in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in inside.split(",")
    }
    known: set[str] = set().union(*(LABELS[name] for name in names & set(LABELS)))
    assert {label for label in grouped if label} <= known | SCRAPED
    for name, selector in re.findall(r"\b(tidecast_\w+)\{([^}]*)\}", expression):
        for label, value in re.findall(r'(\w+)!?="([^"]*)"', selector):
            assert value in LABELS[name][label]
    shown = set(re.findall(r"\$labels\.(\w+)", FOUND[alert]["summary"] + FOUND[alert]["description"]))
    assert shown <= (grouped or known)


def test_the_documents_have_every_alert_and_every_metric_and_no_other() -> None:
    assert set(re.findall(r"`(Tidecast[A-Z]\w+)`", documents.TEXT)) == set(FOUND)
    assert set(re.findall(r"`(tidecast_\w+)`", documents.TEXT)) == exported()


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on PATH; Debian's package prometheus has it")
def test_promtool_accepts_rules_and_exposition_and_its_tests_fire_as_they_should() -> None:
    assert PROMTOOL is not None
    rules = [["check", "rules", f"tidecast-{group}.rules.yml"] for group in GROUPS]
    tests = [["test", "rules", f"tidecast-{group}.test.yml"] for group in GROUPS]
    for call in (*rules, *tests, ["check", "metrics"]):
        done = subprocess.run([PROMTOOL, *call], cwd=FOLDER, input=TEXT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), f"{call}: {done.stdout}{done.stderr}"
