"""The dashboard: whole, on metrics that are exported, and answered by a real Prometheus that scrapes real processes."""

import json
import re
import shutil
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from models.artifact import pack
from models.network.forecasters import build
from pipeline.forecasting.windows import model_config
from pipeline.grid.frequency import Frequency
from pipeline.start import clock, open_database
from tests import processes, servers
from tests.faults.conftest import QUICK
from tests.faults.deployment import Deployment, Sender, deploy
from tests.faults.fleet import ROOT, Fleet, until
from tests.faults.panel import Message
from tests.faults.telemetry import Telemetry
from tests.integration.conftest import KafkaAddress, require
from tests.unit.test_alert_rules import FOUND, LABELS, OF_ANY_PROCESS, exported

FOLDER = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "tidecast.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
PROMETHEUS = shutil.which("prometheus")
MISSING = None if PROMETHEUS else "prometheus is not on PATH; Debian's package prometheus has it"
SERIES, HOURS = 12, 60
LONG = 180.0
TIMETABLE = ("jobs.retrain=0 0 1 1 *", "jobs.calibrate=off", "jobs.monitor=*/1 * * * *")
UNCALIBRATED = "time() - max(tidecast_calibration_created_timestamp_seconds)"  # the model is new: it has none


def test_every_panel_has_a_title_of_its_own_a_place_and_a_query() -> None:
    titles = [panel["title"] for panel in PANELS]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({(panel["title"], panel["gridPos"]["y"]) for panel in PANELS}) == len(titles) > 20
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    assert all(panel["targets"] for panel in PANELS)


def test_the_dashboard_asks_for_metrics_and_labels_that_are_exported() -> None:
    names = {name for query in QUERIES for name in re.findall(r"\b(?:tidecast|process)_\w+", query)}
    known = exported() | set(LABELS) | OF_ANY_PROCESS
    assert names <= known, names - known
    grouped = {
        label.strip()
        for query in QUERIES
        for inside in re.findall(r"\b(?:by|on) \(([^)]*)\)", query)
        for label in inside.split(",")
    }
    assert grouped <= {"instance", "le"} | {label for own in LABELS.values() for label in own}
    for panel in PANELS:
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= set(re.findall(r"\w+", target["expr"])), target


def test_what_tells_of_the_stream_and_of_the_jobs_is_on_the_dashboard() -> None:
    on_it = {name for query in QUERIES for name in re.findall(r"\btidecast_\w+", query)}
    alerted = {name for found in FOUND.values() for name in re.findall(r"\btidecast_\w+", found["expr"])}
    looked_up = {"tidecast_champion_info", "tidecast_job_paused", "tidecast_process_memory_limit_bytes"}
    assert alerted - on_it <= looked_up, "an alert sends its reader to a dashboard that shows what it is about"


def test_grafana_finds_the_dashboard_and_the_data_where_the_provisioning_says() -> None:
    compose = (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8")
    source = (GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text(encoding="utf-8")
    boards = (GRAFANA / "provisioning" / "dashboards" / "tidecast.yaml").read_text(encoding="utf-8")
    (uid,) = re.findall(r"^ +uid: (\S+)", source, re.MULTILINE)
    (path,) = re.findall(r"^ +path: (\S+)", boards, re.MULTILINE)
    assert {panel["datasource"]["uid"] for panel in PANELS} == {uid}
    assert {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]} == {uid}
    assert f"./grafana/dashboards:{path}:ro" in compose
    assert "http://prometheus:9090" in source


class Prometheus(servers.Server):
    """A Prometheus that scrapes these addresses each second and knows the rules of deploy/prometheus."""

    stop_signal = signal.SIGTERM

    def __init__(self, targets: list[str]) -> None:
        super().__init__()
        text = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
        text, quickened = re.subn(r"_interval: 15s", "_interval: 1s", text)
        assert quickened == 2
        text, replaced = re.subn(r"targets: \[.*\]", f"targets: {json.dumps(targets)}", text, count=1)
        assert replaced == 1
        (self.folder / "prometheus.yml").write_text(text)
        for rules in FOLDER.glob("*.rules.yml"):
            shutil.copy(rules, self.folder)

    def command(self) -> list[str]:
        assert PROMETHEUS is not None
        return [
            PROMETHEUS,
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'series'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=10) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            with error:
                return False  # 503 while it reads its series

    def get(self, path: str, **parameters: str) -> Any:
        address = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            document = json.loads(answer.read())
        assert document["status"] == "success", document
        return document["data"]

    def ask(self, query: str) -> list[Any]:
        found: list[Any] = self.get("query", query=query.replace("$__rate_interval", "1m"))["result"]
        return found


def promote_an_untrained_model(deployment: Deployment) -> None:
    settings = deployment.loaded()
    database = open_database(settings)
    config = model_config(settings, Frequency("1h"), SERIES)
    artifact = pack(build(config), series=[f"s{i}" for i in range(SERIES)], provenance={})
    version = database.registry.register(
        name="untrained",
        config=config.to_dict(),
        metrics={},
        train_from=None,
        train_to=None,
        seed=0,
        code="test",
        artifact=artifact,
        now=clock(),
    )
    assert database.registry.promote(version, expected=None, reason="test", now=clock())
    database.close()


def messages_until_now() -> list[Message]:
    """Hourly events of the last days, so that what matures falls into the last seven."""
    last = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    events = []
    for t in range(HOURS):
        at = (last - timedelta(hours=HOURS - 1 - t)).isoformat()
        for i in range(SERIES):
            fields = {"series_id": f"s{i}", "timestamp": at, "value": float(100 + 10 * (t % 6) + i + t % 5)}
            events.append(Message(i % 6, f"s{i}".encode(), json.dumps(fields).encode()))
    return [*events, Message(0, b"bad", b"{")]


@contextmanager
def scheduler(deployment: Deployment, folder: Path, port: int) -> Iterator[Telemetry]:
    sets = [*deployment.sets, f"metrics.listen=127.0.0.1:{port}", *TIMETABLE]
    words = [word for text in sets for word in ("--set", text)]
    with (folder / "scheduler.log").open("wb") as output:
        process = processes.Popen(
            [sys.executable, "-m", "pipeline.cli", *words, "schedule"],
            cwd=folder,
            stdout=output,
            stderr=output,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            forking=True,
        )
    try:
        yield Telemetry(f"http://127.0.0.1:{port}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


@pytest.mark.slow
def test_a_real_prometheus_answers_every_query_of_the_dashboard(
    development_broker: KafkaAddress, tmp_path: Path
) -> None:
    require(MISSING)
    small = ("series.frequency=1h", "series.context=24", "series.horizon=3", "series.season=6", "series.on=every_step")
    tiny = ("model.hidden=8", "model.layers=1", "model.series_dim=2", "model.segment=6")
    deployment = deploy(
        development_broker.bootstrap_servers, f"sqlite:///{tmp_path}/tidecast.db", (*QUICK, *small, *tiny)
    )
    promote_an_untrained_model(deployment)
    worker_port, scheduler_port = servers.free_port(), servers.free_port()
    targets = [f"127.0.0.1:{worker_port}", f"127.0.0.1:{scheduler_port}"]
    sender = Sender(deployment)
    with (
        Fleet([*deployment.sets, f"metrics.listen=127.0.0.1:{worker_port}"], tmp_path) as fleet,
        scheduler(deployment, tmp_path, scheduler_port) as jobs,
        Prometheus(targets) as prometheus,
    ):
        fleet.start("one")
        one = Telemetry(f"http://127.0.0.1:{worker_port}")
        until(lambda: one.status("/readyz") == 200, LONG, one.reasons)
        sender.send(messages_until_now())
        until(lambda: one.samples()["messages_total",] == SERIES * HOURS + 1, LONG, "every message is stored")
        ran = processes.run(
            [
                sys.executable,
                "-m",
                "pipeline.cli",
                *(w for t in deployment.sets for w in ("--set", t)),
                "job",
                "run",
                "monitor",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        assert ran.returncode == 0 or "somebody else" in ran.stderr, ran.stderr
        until(lambda: jobs.status("/readyz") == 200, LONG, jobs.reasons)
        until(lambda: any(key[0] == "live_mase" for key in jobs.samples()), LONG, "accuracy is told")
        up = 'up{job="tidecast"} == 1'
        until(lambda: len(prometheus.ask(up)) == 2, LONG, "both processes are scraped")

        def unanswered() -> list[str]:
            return [query for query in QUERIES if query != UNCALIBRATED and not prometheus.ask(query)]

        until(lambda: not unanswered(), LONG, lambda: f"no answer to {unanswered()}", pause=1.0)
        assert prometheus.ask(UNCALIBRATED) == []
        groups = prometheus.get("rules")["groups"]
        rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
        assert set(rules) == set(FOUND)

        def ill() -> list[str]:
            found = {rule["name"]: rule for g in prometheus.get("rules")["groups"] for rule in g["rules"]}
            return [name for name, rule in found.items() if rule["health"] != "ok"]

        until(lambda: not ill(), LONG, lambda: f"rules that were not evaluated: {ill()}", pause=1.0)
        assert prometheus.ask('ALERTS{alertstate="firing",severity="critical"}') == []
        fleet.stop("one")
        until(
            lambda: bool(prometheus.ask('ALERTS{alertname="TidecastNoWorker",alertstate="pending"}')),
            LONG + 300.0,  # Prometheus forgets a target that is down at once, or after five minutes
            "an alert waits once no worker tells of itself",
            pause=1.0,
        )
