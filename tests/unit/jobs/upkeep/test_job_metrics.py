"""The metrics of the jobs: what is exposed, how seldom the database is asked, and what happens without it."""

import socket
import threading
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from jobs.clock.schedule import longest_period, read_trigger
from jobs.upkeep.job_metrics import KEPT, JobCollector
from pipeline.errors import ConfigError, TidecastError, Unavailable
from pipeline.health.probes import Checks, Probes, serving
from pipeline.health.prometheus import Exposition
from pipeline.job_facts import JobFacts
from pipeline.settings.address import check_free
from pipeline.settings.sources import load
from tests.facts import FACTS, NOW, PERIODS

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Source:
    """Answers with facts, or raises; counts how often it was asked."""

    def __init__(self, facts: JobFacts | TidecastError) -> None:
        self.facts = facts
        self.asked = 0

    def __call__(self, now: int) -> JobFacts:
        self.asked += 1
        if isinstance(self.facts, TidecastError):
            raise self.facts
        return self.facts


def collector(source: Callable[[int], JobFacts], seconds: Callable[[], float] = lambda: 0.0) -> JobCollector:
    return JobCollector(source, PERIODS, lambda: NOW, seconds)


def served(listen: str | None, collector: JobCollector) -> AbstractContextManager[str | None]:
    probes = Probes("scheduler")
    probes.watch(Checks(list, list), collector)
    return serving(listen, probes)


def write_metrics(collector: JobCollector) -> str:
    return Exposition(collector).write()


def parse(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value for family in families for each in family.samples
    }


def get(address: str) -> Samples:
    with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return parse(answer.read().decode())


def test_a_scrape_over_http_tells_the_facts_in_base_units() -> None:
    with served("127.0.0.1:0", collector(Source(FACTS))) as address:
        assert address is not None
        samples = get(address)
    retrain = (("job_name", "retrain"),)
    assert samples["tidecast_database_up", ()] == 1.0
    assert samples["tidecast_job_runs_total", (*retrain, ("outcome", "failed"))] == 3.0
    assert samples["tidecast_job_runs_total", (*retrain, ("outcome", "timeout"))] == 0.0, "0 before the first"
    assert samples["tidecast_job_last_success_timestamp_seconds", retrain] == NOW / 1e6 - 3600
    assert samples["tidecast_job_last_success_duration_seconds", retrain] == 90.5
    assert samples["tidecast_job_period_seconds", retrain] == 86_400.0
    assert samples["tidecast_scheduler_lease_held", ()] == 1.0
    assert samples["tidecast_champion_info", (("model_version", "7"),)] == 1.0
    assert samples["tidecast_champion_changes_total", (("action", "rollback"),)] == 1.0
    cell = (("horizon_from", "2"), ("model_version", "7"))
    assert samples["tidecast_live_mase", cell] == 0.8
    assert samples["tidecast_live_coverage_ratio", (cell[0], ("interval", "95"), cell[1])] == 0.94
    assert samples["tidecast_retention_deleted_rows_total", (("table", "forecasts"),)] == 1200.0
    assert samples["tidecast_drift_requests_total", ()] == 2.0


def test_what_never_was_has_no_sample() -> None:
    samples = parse(write_metrics(collector(Source(FACTS))))
    assert ("tidecast_job_last_success_timestamp_seconds", (("job_name", "retention"),)) not in samples
    assert ("tidecast_job_period_seconds", (("job_name", "retention"),)) not in samples
    assert samples["tidecast_job_enabled", (("job_name", "retention"),)] == 0.0
    assert ("tidecast_live_skill", (("horizon_from", "1"), ("model_version", "7"))) not in samples


def test_a_lease_is_held_if_it_was_when_it_was_read_however_short_it_is() -> None:
    now = [NOW]
    own = JobCollector(Source(FACTS), PERIODS, lambda: now[0], lambda: 0.0)
    assert parse(write_metrics(own))["tidecast_scheduler_lease_held", ()] == 1.0
    now[0] += 60_000_000  # it ended meanwhile, or was renewed
    assert parse(write_metrics(own))["tidecast_scheduler_lease_held", ()] == 1.0
    late = collector(Source(replace(FACTS, read_at=NOW + 60_000_000)))
    assert parse(write_metrics(late))["tidecast_scheduler_lease_held", ()] == 0.0


def test_without_the_database_a_scrape_still_answers_and_says_so_once_per_look() -> None:
    source, seconds = Source(Unavailable("database postgresql://db: away")), [0.0]
    own = collector(source, lambda: seconds[0])
    with capture_logs() as logs:
        samples = parse(write_metrics(own))
        assert parse(write_metrics(own)) == samples
        assert samples["tidecast_database_up", ()] == 0.0
        assert {name for name, _ in samples} == {
            "tidecast_database_up",
            "tidecast_job_enabled",
            "tidecast_job_period_seconds",
        }
        source.facts, seconds[0] = FACTS, KEPT
        assert parse(write_metrics(own))["tidecast_database_up", ()] == 1.0
    assert [(each["event"], each["reason"]) for each in logs] == [
        ("metrics not read", "database postgresql://db: away")
    ]


def test_however_often_it_is_scraped_the_database_is_asked_once_in_ten_seconds() -> None:
    source, seconds = Source(FACTS), [0.0]
    own = collector(source, lambda: seconds[0])
    write_metrics(own)
    seconds[0] = KEPT - 0.1
    write_metrics(own)
    assert source.asked == 1
    seconds[0] = KEPT
    write_metrics(own)
    assert source.asked == 2


def test_scrapes_at_one_time_read_once() -> None:
    begun, go_on = threading.Event(), threading.Event()
    asked = []

    def slow(now: int) -> JobFacts:
        asked.append(now)
        begun.set()
        assert go_on.wait(30)
        return FACTS

    own = collector(slow)
    texts: list[str] = []
    scrapes = [threading.Thread(target=lambda: texts.append(write_metrics(own))) for _ in range(3)]
    for each in scrapes:
        each.start()
    assert begun.wait(30)
    go_on.set()
    for each in scrapes:
        each.join()
    assert len(asked) == 1
    assert len(set(texts)) == 1


def test_off_serves_nothing_and_reads_nothing() -> None:
    source = Source(FACTS)
    with served(None, collector(source)) as address:
        assert address is None
    assert source.asked == 0


def test_the_port_is_free_again_after_the_block() -> None:
    with served("127.0.0.1:0", collector(Source(FACTS))) as address:
        assert address is not None
    check_free(address.removeprefix("http://"), "metrics.listen")


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = (
            rf"metrics\.listen: cannot listen on {address} \(Address already in use\); choose another address, or off"
        )
        with pytest.raises(Unavailable, match=line), served(address, collector(Source(FACTS))):
            pass
        with pytest.raises(Unavailable, match=line):
            check_free(address, "metrics.listen")


@pytest.mark.parametrize("text", ["9464", ":9464", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536", "[]:9464"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"metrics\.listen: .* is not an address; write 127\.0\.0\.1:9464, or off"):
        load(sets=[f"metrics.listen={text}"], environ={})


@pytest.mark.parametrize(("text", "read"), [("off", None), ("[::1]:9464", "[::1]:9464"), ("0.0.0.0:1", "0.0.0.0:1")])
def test_an_address_or_off_is_read(text: str, read: str | None) -> None:
    assert load(sets=[f"metrics.listen={text}"], environ={}).metrics.listen == read


@pytest.mark.parametrize(
    ("timing", "seconds"),
    [("every 6h", 21_600.0), ("17 3 * * *", 86_400.0), ("0 12 * * 1-5", 3 * 86_400.0), ("0 0 30 2 *", None)],
)
def test_the_period_is_the_longest_gap_of_the_timetable(timing: str, seconds: float | None) -> None:
    assert longest_period(read_trigger(timing), NOW) == seconds
