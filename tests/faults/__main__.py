"""`python -m tests.faults`: run the fault tests against real servers and print one table of what came of them."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest
from rich.console import Console
from rich.table import Table

from tests.bench.results import machine
from tests.faults.scale import SCALE
from tests.faults.summary import RESULTS
from tests.processes import FORK

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
TEST_SECONDS = 900.0  # at SCALE=1
DEVELOPMENT = "development"
COLUMNS = ("fault", "place", "events", "kills", "lost", "doubled", "mismatched messages", "seconds to lag 0", "result")


@dataclass(frozen=True)
class FaultTest:
    """A test with the mark `fault`; `place` is empty for one that brings its own servers or needs none."""

    node: str
    name: str
    place: str
    on_demand: bool

    @property
    def reported_as(self) -> tuple[str, str]:
        """Class and name in pytest's XML."""
        path, _, rest = self.node.partition("::")
        return path.removesuffix(".py").replace("/", "."), rest


@dataclass
class Collector:
    """A plugin for pytest that keeps the fault tests it finds."""

    tests: list[FaultTest] = field(default_factory=list)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for test in session.items:
            mark = test.get_closest_marker("fault")
            if mark is not None:
                parameters = (
                    test.callspec.params if isinstance(test, pytest.Function) and hasattr(test, "callspec") else {}
                )
                place = next((value for key, value in parameters.items() if key.endswith("place")), "")
                on_demand = bool(mark.kwargs.get("on_demand"))
                self.tests.append(FaultTest(test.nodeid, mark.args[0], str(place), on_demand))


@click.command()
@click.option("--only", multiple=True, metavar="NAME", help="A fault, or all that begin so; may be repeated.")
@click.option("--scale", type=click.FloatRange(min=0.01), default=1.0, show_default=True, help="How much larger.")
@click.option("--place", default="", metavar="TEXT", help="Only places with this in their name, for example SQLite.")
@click.option("--seconds", type=click.FloatRange(1.0), help="For how long the fault `random` goes on, in each place.")
@click.option("--seed", type=click.IntRange(0), help="The first seed of the fault `random`.")
@click.option("--steps", type=click.IntRange(1), help="How many sends each of its rounds has.")
@click.option("--without", multiple=True, metavar="SITUATION", help="What must not happen in it; may be repeated.")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Tests at once.")
@click.option("--results", type=click.Path(dir_okay=False, path_type=Path), help="Keep the table as JSON lines there.")
@click.option("--list", "listed", is_flag=True, help="Name the faults and their places, and run nothing.")
def faults(
    *,
    only: Sequence[str],
    scale: float,
    place: str,
    seconds: float | None,
    seed: int | None,
    steps: int | None,
    without: Sequence[str],
    jobs: int,
    results: Path | None,
    listed: bool,
) -> None:
    """Kill, freeze, cut and slow down everything, and count what was lost, doubled or changed.

    Ends with 1 if a test failed or anything was lost, doubled or mismatched, and with 5 if there was nothing to run.
    """
    known = collect()
    chosen = choose(known, only, place)
    if listed:
        for test in sorted(chosen if only or place else known, key=lambda test: (test.name, test.place)):
            wait = " (only when ONLY names it)" if test.on_demand else ""
            click.echo(f"{test.name}{', ' + test.place if test.place else ''}{wait}")
        return
    if not chosen:
        names = ", ".join(sorted({test.name for test in known}))
        raise click.BadParameter(f"no fault test fits; the faults are {names}", param_hint="--only or --place")
    drawn = {"SECONDS": seconds, "SEED": seed, "STEPS": steps, "WITHOUT": ",".join(without) or None}
    os.environ.update({f"TIDECAST_RANDOM_{name}": str(value) for name, value in drawn.items() if value is not None})
    with tempfile.TemporaryDirectory(prefix="tidecast-faults-") as folder:
        lines, xml = Path(folder) / "results.jsonl", Path(folder) / "results.xml"
        code = run(chosen, scale, jobs, lines, xml)
        reports = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
        rows = tabulate(chosen, reports, outcomes(xml))
        show(rows)
        if results is not None:
            about = {"machine": machine(), "scale": scale, "jobs": jobs}
            results.parent.mkdir(parents=True, exist_ok=True)
            results.write_text("".join(json.dumps(line) + "\n" for line in [about, *reports]))
    sys.exit(code or int(any(row[4:7] != ("0", "0", "0") for row in rows if row[-1] == "ok" and row[4])))


def collect() -> list[FaultTest]:
    """Find every fault test, without running any."""
    found = Collector()
    options = ["--collect-only", "-p", "no:terminal", "-o", "addopts=--strict-markers", "-p", "no:cacheprovider"]
    code = pytest.main([*options, "--rootdir", str(ROOT), str(FOLDER)], plugins=[found])
    if code != pytest.ExitCode.OK:
        raise click.ClickException(f"pytest could not collect {FOLDER}; run: python -m pytest --collect-only {FOLDER}")
    return found.tests


def choose(known: Sequence[FaultTest], only: Sequence[str], place: str) -> list[FaultTest]:
    """Choose by name and place. Without a place the development broker is left out, because `make test` has it."""
    chosen = []
    for test in known:
        named = any(test.name == name or test.name.startswith(f"{name}-") for name in only)
        elsewhere = any(other.name == test.name and not _is_development(other) for other in known)
        fits = place.lower() in test.place.lower() if place else not (_is_development(test) and elsewhere)
        if fits and (named if only else not test.on_demand):
            chosen.append(test)
    return chosen


def _is_development(test: FaultTest) -> bool:
    return test.place.startswith(DEVELOPMENT)


def run(tests: Sequence[FaultTest], scale: float, jobs: int, lines: Path, xml: Path) -> int:
    """Run tests in a process of their own; what they report goes to `lines` and how they ended to `xml`."""
    words = ["-m", "pytest", "-o", "addopts=--strict-markers", "--tb=short", "-v", "-rs", f"--junit-xml={xml}"]
    words += [f"--timeout={TEST_SECONDS * max(1.0, scale):.0f}"]
    words += ["-n", str(min(jobs, len(tests)))] if min(jobs, len(tests)) > 1 else ["-n", "0"]
    environment = os.environ | {SCALE: str(scale), RESULTS: str(lines), FORK: "off"}
    command = [sys.executable, *words, *(test.node for test in tests)]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def outcomes(xml: Path) -> dict[tuple[str, str], str]:
    """How each test ended, from pytest's XML: ok, failed, or skipped with the reason."""
    found: dict[tuple[str, str], str] = {}
    for case in ElementTree.parse(xml).iter("testcase") if xml.exists() else ():
        outcome = "ok"
        for child in case:
            if child.tag in ("failure", "error"):
                outcome = "failed"
            elif child.tag == "skipped" and outcome == "ok":
                outcome = f"skipped: {child.get('message', '')}"
        found[case.get("classname", ""), case.get("name", "")] = outcome
    return found


def tabulate(
    tests: Sequence[FaultTest], reports: Sequence[dict[str, Any]], ended: dict[tuple[str, str], str]
) -> list[tuple[str, ...]]:
    """One row for each report, in COLUMNS, and one for each test that ended before it could report."""
    rows: list[tuple[str, ...]] = []
    for test in tests:
        outcome = ended.get(test.reported_as, "failed")
        own = [each for each in reports if each["test"] == test.node]
        rows += [
            (
                each["fault"],
                each["place"],
                f"{each['events']:,}",
                *(str(each[key]) for key in ("faults", "lost", "doubled", "mismatched")),
                "" if each["seconds_to_lag_0"] is None else f"{each['seconds_to_lag_0']:.1f}",
                outcome,
            )
            for each in own
        ]
        if not own:
            rows.append((test.name, test.place, *[""] * 6, outcome))
    return rows


def show(rows: Sequence[tuple[str, ...]]) -> None:
    """Print the table; plain lines where there is no terminal."""
    console = Console() if sys.stdout.isatty() else Console(width=200, color_system=None)
    table = Table(box=None, pad_edge=False) if not console.is_terminal else Table()
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in COLUMNS[2:8] else "left")
    for row in rows:
        style = None if row[-1] == "ok" and row[4:7] == ("0", "0", "0") else "yellow" if "skipped" in row[-1] else "red"
        table.add_row(*row, style=style)
    console.print(table)


if __name__ == "__main__":
    faults()
