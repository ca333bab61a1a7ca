"""The table of `make faults`: what is chosen, and what makes it fail."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.faults import __main__ as suite
from tests.faults.__main__ import FaultTest, choose, faults, outcomes, tabulate
from tests.faults.scale import SCALE, scaled

TESTS = [
    FaultTest(
        "tests/faults/test_a.py::test_a[development broker, SQLite]", "kill9", "development broker, SQLite", False
    ),
    FaultTest("tests/faults/test_a.py::test_a[Apache Kafka, SQLite]", "kill9", "Apache Kafka, SQLite", False),
    FaultTest("tests/faults/test_b.py::test_b", "broker-killed", "", False),
    FaultTest("tests/faults/test_b.py::test_c", "broker-frozen", "", False),
    FaultTest("tests/faults/test_c.py::test_d", "soak", "", True),
]
REPORT = {"fault": "kill -9", "place": "Apache Kafka, SQLite", "events": 20_000, "faults": 10, "seconds_to_lag_0": 1.25}


def names(only: tuple[str, ...] = (), place: str = "") -> list[tuple[str, str]]:
    return [(test.name, test.place) for test in choose(TESTS, only, place)]


def test_without_a_choice_every_fault_runs_but_those_on_demand_and_the_development_broker() -> None:
    assert names() == [("kill9", "Apache Kafka, SQLite"), ("broker-killed", ""), ("broker-frozen", "")]


def test_a_name_chooses_the_faults_that_begin_with_it_and_a_place_chooses_by_its_text() -> None:
    assert [name for name, _ in names(("broker",))] == ["broker-killed", "broker-frozen"]
    assert names(("soak",)) == [("soak", "")]
    assert names(("kill",)) == []
    assert names(("kill9",), "development") == [("kill9", "development broker, SQLite")]


def test_counts_grow_with_the_scale_and_never_shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scaled(10) == 10
    monkeypatch.setenv(SCALE, "50")
    assert (scaled(20_000), scaled(10, by=10)) == (1_000_000, 50)
    monkeypatch.setenv(SCALE, "0.1")
    assert scaled(10) == 10


def test_a_test_that_ended_before_it_reported_has_its_row(tmp_path: Path) -> None:
    xml = tmp_path / "results.xml"
    xml.write_text(
        '<testsuites><testsuite><testcase classname="tests.faults.test_a" name="test_a[Apache Kafka, SQLite]"/>'
        '<testcase classname="tests.faults.test_b" name="test_b"><failure message="x"/></testcase>'
        '<testcase classname="tests.faults.test_b" name="test_c"><skipped message="no java"/></testcase>'
        "</testsuite></testsuites>"
    )
    reports = [REPORT | {"lost": 0, "doubled": 2, "mismatched": 0, "test": TESTS[1].node}]
    rows = tabulate(TESTS[1:4], reports, outcomes(xml))
    assert rows[0] == ("kill -9", "Apache Kafka, SQLite", "20,000", "10", "0", "2", "0", "1.2", "ok")
    assert [row[-1] for row in rows[1:]] == ["failed", "skipped: no java"]


@pytest.mark.parametrize(("doubled", "code"), [(0, 0), (1, 1)])
def test_anything_doubled_makes_the_run_fail_even_when_its_test_passed(
    doubled: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(tests: list[FaultTest], scale: float, jobs: int, lines: Path, xml: Path) -> int:
        fields = REPORT | {"lost": 0, "doubled": doubled, "mismatched": 0, "test": tests[0].node}
        lines.write_text(json.dumps(fields) + "\n")
        xml.write_text('<a><testcase classname="tests.faults.test_a" name="test_a[Apache Kafka, SQLite]"/></a>')
        return 0

    monkeypatch.setattr(suite, "collect", lambda: TESTS[1:2])
    monkeypatch.setattr(suite, "run", run)
    kept = tmp_path / "kept" / "faults.jsonl"
    done = CliRunner().invoke(faults, ["--results", str(kept)])
    assert done.exit_code == code
    assert f"10     0        {doubled}" in done.output
    assert [json.loads(line).get("fault") for line in kept.read_text().splitlines()] == [None, "kill -9"]


def test_a_name_that_is_no_fault_is_refused_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "collect", lambda: TESTS)
    done = CliRunner().invoke(faults, ["--only", "kil"])
    assert done.exit_code == 2
    assert "the faults are broker-frozen, broker-killed, kill9, soak" in done.output
