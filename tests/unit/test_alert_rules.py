"""The alert rules: read, of whole parts, on metrics and labels that are exported; and promtool's own tests of them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobs.metrics import JobCollector, write_metrics
from tests.facts import FACTS, NOW, PERIODS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = FOLDER / "tidecast-jobs.rules.yml"
README = (ROOT / "README.md").read_text(encoding="utf-8")
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
FOUND = {found["alert"]: found for found in RULE.finditer(RULES.read_text(encoding="utf-8"))}
PROMTOOL = shutil.which("promtool")
TEXT = write_metrics(JobCollector(lambda now: FACTS, PERIODS, lambda: NOW, lambda: 0.0))
LABELS: dict[str, dict[str, set[str]]] = {}
for family in text_string_to_metric_families(TEXT):
    for sample in family.samples:
        own = LABELS.setdefault(sample.name, {})
        for label, value in sample.labels.items():
            own.setdefault(label, set()).add(value)


def exported() -> set[str]:
    return set(re.findall(r"^# HELP (\S+)", TEXT, re.MULTILINE))


def test_every_metric_has_a_sample_here_so_that_its_labels_are_known() -> None:
    assert set(LABELS) == exported()


def test_the_file_is_nothing_but_whole_rules() -> None:
    text = RULES.read_text(encoding="utf-8")
    rest = RULE.sub("", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    assert rest == "groups:\n  - name: tidecast-jobs\n    rules:\n"
    assert len(FOUND) == text.count("- alert:") == 12
    assert {found["severity"] for found in FOUND.values()} <= {"critical", "warning", "info"}
    assert {name.lower(): found["anchor"] for name, found in FOUND.items()} == {n.lower(): n.lower() for n in FOUND}


@pytest.mark.parametrize("alert", FOUND)
def test_an_alert_names_only_metrics_and_labels_that_are_exported(alert: str) -> None:
    expression = FOUND[alert]["expr"]
    names = set(re.findall(r"\btidecast_\w+", expression))
    assert names
    assert names <= exported()
    grouped = {
        label.strip() for inside in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in inside.split(",")
    }
    known: set[str] = set().union(*(LABELS[name] for name in names))
    assert grouped <= known
    for name, selector in re.findall(r"\b(tidecast_\w+)\{([^}]*)\}", expression):
        for label, value in re.findall(r'(\w+)!?="([^"]*)"', selector):
            assert value in LABELS[name][label]
    shown = set(re.findall(r"\$labels\.(\w+)", FOUND[alert]["summary"] + FOUND[alert]["description"]))
    assert shown <= grouped


def test_the_readme_has_every_alert_and_every_metric_and_no_other() -> None:
    assert set(re.findall(r"`(Tidecast[A-Z]\w+)`", README)) == set(FOUND)
    assert set(re.findall(r"`(tidecast_\w+)`", README)) == exported()


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on PATH; Debian's package prometheus has it")
def test_promtool_accepts_rules_and_exposition_and_its_tests_fire_as_they_should() -> None:
    assert PROMTOOL is not None
    calls = (["check", "rules", RULES.name], ["test", "rules", "tidecast-jobs.test.yml"], ["check", "metrics"])
    for call in calls:
        done = subprocess.run([PROMTOOL, *call], cwd=FOLDER, input=TEXT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), f"{call}: {done.stdout}{done.stderr}"
