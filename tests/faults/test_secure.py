"""Everything works over TLS and SASL, and what is wrong with a certificate or a password is said in one line."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests import processes
from tests.faults.conftest import QUICK
from tests.faults.deployment import Deployment, Sender, deploy
from tests.faults.fleet import ROOT, Fleet, tell
from tests.faults.panel import Panel
from tests.faults.summary import report
from tests.faults.verify import verify, wait_for_lag_0
from tests.integration.conftest import PostgreSQLAddress, require
from tests.secure import PASSWORD, USER, Authority, SecureKafka
from tests.servers import ApacheKafka

pytestmark = [pytest.mark.apache, pytest.mark.heavy]

PANEL = Panel(series=12, steps=60)
ACCOUNT = (f"kafka.sasl_username={USER}", f"kafka.sasl_password={PASSWORD}")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@pytest.fixture(scope="module")
def kafka() -> Iterator[SecureKafka]:
    require(ApacheKafka.missing())
    require(Authority.missing())
    with SecureKafka() as kafka:
        yield kafka


def security(kafka: SecureKafka, listener: str, *more: str, mechanism: str | None = None) -> list[str]:
    """The settings of a client of one listener that trusts its authority."""
    protocol = "SASL_SSL" if mechanism else "SSL"
    account = (f"kafka.sasl_mechanism={mechanism}", *ACCOUNT) if mechanism else ()
    return [
        f"kafka.bootstrap_servers={kafka.address(listener)}",
        f"kafka.security_protocol={protocol}",
        f"kafka.ssl_cafile={kafka.authority.certificate}",
        *account,
        *more,
    ]


def tidecast(settings: Sequence[str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as an operator would."""
    options, secrets = tell(settings)
    command = [sys.executable, "-m", "pipeline.cli", *options, *words]
    return processes.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False, env=os.environ | secrets
    )


def safe(kafka: SecureKafka, listener: str, tmp_path: Path) -> list[str]:
    """Settings with which this listener works."""
    if listener == "MUTUAL":
        certificate, key = kafka.authority.issue(f"client-{tmp_path.name}", password="of the key")
        pair = (f"kafka.ssl_certfile={certificate}", f"kafka.ssl_keyfile={key}")
        return security(kafka, listener, *pair, "kafka.ssl_key_password=of the key")
    mechanism = listener.partition("/")[2] or None
    return security(kafka, listener.partition("/")[0], mechanism=mechanism)


@pytest.mark.fault("secure")
@pytest.mark.parametrize("listener", ["SSL", "MUTUAL", *(f"SASL_SSL/{name}" for name in MECHANISMS)])
def test_a_worker_survives_kill_9_over_an_encrypted_connection(
    kafka: SecureKafka, listener: str, postgresql: PostgreSQLAddress, tmp_path: Path
) -> None:
    on_sqlite = listener in ("MUTUAL", "SASL_SSL/PLAIN", "SASL_SSL/SCRAM-SHA-256")
    database = f"sqlite:///{tmp_path}/tidecast.db" if on_sqlite else postgresql.upgraded_database()
    settings = (*QUICK, *PANEL.settings, *safe(kafka, listener, tmp_path), "kafka.max_messages=50")
    deployment = deploy(kafka.bootstrap_servers, database, settings)
    sender = Sender(deployment)
    with Fleet(deployment.sets, tmp_path) as fleet:
        fleet.start("one")
        messages = list(PANEL.messages(twice=0.02, poison=10, seed=31))
        sender.send(messages[: len(messages) // 2])
        wait_for_lag_0(deployment)
        fleet.kill("one")
        sender.send(messages[len(messages) // 2 :])
        fleet.start("one")
        wait_for_lag_0(deployment)
        assert fleet.stop("one") == 0
    findings = verify(deployment, PANEL, sender)
    place = f"Apache Kafka {listener}, {'SQLite' if on_sqlite else 'PostgreSQL'}"
    report("kill -9 over TLS", place, events=len(messages), faults=1, findings=findings)
    assert not findings, str(findings)


@pytest.mark.fault("secure-commands")
@pytest.mark.parametrize("listener", ["SSL", "SASL_SSL/SCRAM-SHA-512"])
def test_produce_and_doctor_work_over_an_encrypted_connection(
    kafka: SecureKafka, listener: str, tmp_path: Path
) -> None:
    deployment = deploy(kafka.bootstrap_servers, f"sqlite:///{tmp_path}/tidecast.db")
    settings = [*deployment.sets, *safe(kafka, listener, tmp_path)]
    file = tmp_path / "panel.csv"
    file.write_text("series_id,timestamp,value\n" + "".join(f"a,2024-01-01T{hour:02d}:00,1\n" for hour in range(24)))
    produced = tidecast(settings, "produce", str(file))
    assert (produced.returncode, produced.stdout) == (0, f"sent 24 observations of 1 series to {deployment.topic}\n")
    examined = tidecast(settings, "doctor", "--json")
    assert examined.returncode == 0, examined.stdout
    assert f"{kafka.address(listener.partition('/')[0])} answers" in examined.stdout
    assert PASSWORD not in produced.stderr + examined.stdout + examined.stderr


WRONG = {
    "another authority": ("SSL", 2, "cannot be trusted"),
    "another host's certificate": ("ELSEWHERE", 2, "shows the certificate of another host"),
    "a certificate out of date": ("EXPIRED", 1, "is out of date (certificate has expired)"),
    "no certificate of the client": ("MUTUAL", 2, "does not accept this client's certificate"),
    "a wrong password": ("SASL_SSL", 2, f"refuses the user {USER}"),
    "a plain port": ("PLAINTEXT", 1, "check that the port speaks TLS"),
    "a port without TLS settings": ("SSL", 1, "kafka.security_protocol"),
}


def wrong(kafka: SecureKafka, what: str, tmp_path: Path) -> list[str]:
    listener = WRONG[what][0]
    if what == "another authority":
        return security(kafka, listener, f"kafka.ssl_cafile={Authority(tmp_path, 'other').certificate}")
    if what == "a wrong password":
        return security(kafka, listener, "kafka.sasl_password=another", mechanism="SCRAM-SHA-256")
    if what == "a plain port":
        return security(kafka, "SSL", f"kafka.bootstrap_servers={kafka.bootstrap_servers}")
    if what == "a port without TLS settings":
        return [f"kafka.bootstrap_servers={kafka.address(listener)}"]
    return security(kafka, listener)


@pytest.mark.fault("secure-refusal")
@pytest.mark.parametrize("what", WRONG)
def test_every_command_says_in_one_line_why_there_is_no_secure_connection(
    kafka: SecureKafka, what: str, tmp_path: Path
) -> None:
    _, code, said = WRONG[what]
    deployment: Deployment = deploy(kafka.bootstrap_servers, f"sqlite:///{tmp_path}/tidecast.db")
    settings = [*deployment.sets, *wrong(kafka, what, tmp_path), "kafka.call_timeout=5"]
    file = tmp_path / "one.csv"
    file.write_text("series_id,timestamp,value\na,2024-01-01,1\n")
    for words in (("stream",), ("produce", str(file))):
        ended = tidecast(settings, *words)
        lines = [line for line in ended.stderr.splitlines() if not line.startswith("{")]  # those are the worker's log
        assert (ended.returncode, len(lines)) == (code, 1), ended.stderr
        assert said in lines[0]
    examined = tidecast(settings, "doctor", "--json")
    assert examined.returncode == 1
    assert said in examined.stdout, examined.stdout
