"""The files of deploy/ for containers, Kubernetes and systemd: valid by their schemas, and true to the code."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import click
import jsonschema
import kubernetes_validate
import pytest
import yaml

from pipeline.health.probes import Probes
from pipeline.settings import PREFIX, ServeSettings, Settings
from pipeline.settings.address import KnownHosts
from pipeline.settings.sources import DEFAULT_FILE, SECRETS, load
from pipeline.web.connections import BACKLOG, OTHER_FILES
from pipeline.web.server import CONNECTIONS
from tests.deploy.command_line import parse
from tests.faults.fleet import ROOT
from tests.integration.conftest import require

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
OURS = {name: each for name, each in COMPOSE["services"].items() if each["image"] == "tidecast:latest"}
BASE = DEPLOY / "kubernetes" / "base"
OVERLAYS = ("base", "overlays/gpu", "overlays/keda")
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
HOME = "/var/lib/tidecast"
KUBERNETES = "1.33"
PROBES = {path for path in ("/healthz", "/readyz", "/metrics") if Probes("worker").answer(path)}
SAMPLES = {
    "database__url": "postgresql://tidecast:secret@postgres/tidecast",
    "serve__token": "0123456789abcdef0123",
    "kafka__sasl_password": "secret",
}


def find_kustomize() -> str | None:
    """On PATH, or where `go install` puts it."""
    home = Path(os.environ.get("GOPATH", Path.home() / "go")) / "bin" / "kustomize"
    return shutil.which("kustomize") or (str(home) if home.is_file() else None)


def settings_of(environment: Mapping[str, Any], secrets: Iterable[str], folder: Path, file: Path | None) -> Settings:
    """Read the settings as a process does that gets this environment and these files of secrets."""
    mounted = folder / "secrets"
    shutil.rmtree(mounted, ignore_errors=True)
    mounted.mkdir()
    for name in secrets:
        (mounted / name).write_text(SAMPLES[name])
    environ = {name: str(value) for name, value in environment.items()}
    if SECRETS in environ:
        environ[SECRETS] = str(mounted)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            patch.delenv(name)
        for name, value in environ.items():
            patch.setenv(name, value)
        return load(file)


def port_of(address: str | None) -> int:
    assert address is not None
    return int(address.rpartition(":")[2])


def asked_path(words: Iterable[str]) -> tuple[int, str]:
    """The port and the path that a health check in Python asks."""
    (found,) = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", " ".join(words))
    return int(found[0]), found[1]


def test_compose_is_valid_by_the_schema_of_the_compose_specification() -> None:
    vendored = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(vendored.read_text(encoding="utf-8"))
    found = [
        f"{error.json_path}: {error.message}" for error in jsonschema.Draft202012Validator(schema).iter_errors(COMPOSE)
    ]
    assert not found
    wrong = {**COMPOSE, "services": {"page": {"imag": "x"}}}
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(wrong)), (
        "the schema finds a key that does not exist"
    )


def test_compose_has_every_part_and_starts_it_after_what_it_needs() -> None:
    services = COMPOSE["services"]
    parts = {"kafka", "postgres", "migrate", "worker-0", "worker-1", "scheduler", "page", "prometheus", "grafana"}
    assert set(services) == parts
    for name, service in services.items():
        needs = service.get("depends_on", {})
        for needed in needs:
            assert needed in services
        for needed, how in needs.items() if isinstance(needs, dict) else ():
            if how["condition"] == "service_healthy":
                assert "test" in services[needed]["healthcheck"], f"{name} would wait for {needed} for ever"
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], volume
        assert ":" in service["image"] and (name in OURS or not service["image"].endswith(":latest")), "pinned"
    assert {"migrate", "kafka"} <= set(services["worker-0"]["depends_on"])
    used = {secret for service in services.values() for secret in service.get("secrets", ())}
    assert used == set(COMPOSE["secrets"])
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert all(secret["file"].startswith("./secrets/") for secret in COMPOSE["secrets"].values())
    assert "/deploy/secrets/" in ignored, "secrets are not committed"


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_compose_calls_a_command_that_exists_with_settings_that_are_valid(
    name: str, tmp_path: Path
) -> None:
    service = OURS[name]
    parse(service["command"])
    settings = settings_of(service["environment"], service["secrets"], tmp_path, None)
    assert settings.database.url.get_secret_value() == SAMPLES["database__url"]
    assert settings.kafka.bootstrap_servers == "kafka:9092"
    if service.get("healthcheck", {}).get("disable"):
        return
    port, path = asked_path(service["healthcheck"]["test"]) if "healthcheck" in service else asked_path([DOCKERFILE])
    listening = settings.serve.listen if name == "page" else settings.metrics.listen
    assert (port, path) == (port_of(listening), "/healthz")
    if name == "page":
        assert service["ports"] == [f"127.0.0.1:{port}:{port}"], "only this host reaches it"


def test_workers_have_names_of_their_own_and_prometheus_scrapes_every_process_that_tells_of_itself(
    tmp_path: Path,
) -> None:
    instances = [
        each["environment"]["TIDECAST_KAFKA__INSTANCE"] for each in OURS.values() if each["command"] == ["stream"]
    ]
    assert len(set(instances)) == len(instances) == 2
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = scraped["scrape_configs"]
    ports = {
        f"{name}:{port_of(settings_of(each['environment'], each['secrets'], tmp_path, None).metrics.listen)}"
        for name, each in OURS.items()
        if each["command"] in (["stream"], ["schedule"], ["serve"])
    }
    assert {target for group in job["static_configs"] for target in group["targets"]} == ports
    assert all(KnownHosts("0.0.0.0:9464").knows(target) for target in ports), "telemetry answers under these names"
    assert all((DEPLOY / "prometheus" / name).is_file() for name in scraped["rule_files"])
    assert job.get("metrics_path", "/metrics") in PROBES


def resources_of(overlay: str) -> list[dict[str, Any]]:
    """The resources of an overlay, by kustomize."""
    kustomize = find_kustomize()
    assert kustomize is not None
    done = subprocess.run(
        [kustomize, "build", str(DEPLOY / "kubernetes" / overlay)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def base_resources() -> list[dict[str, Any]]:
    names = yaml.safe_load((BASE / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    return [each for name in names for each in yaml.safe_load_all((BASE / name).read_text(encoding="utf-8"))]


WORKLOADS = {each["metadata"]["name"]: each for each in base_resources() if "template" in each.get("spec", {})}


def test_every_resource_is_valid_by_the_schemas_of_kubernetes() -> None:
    for each in base_resources():
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    wrong = {**base_resources()[0], "specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_builds_an_overlay_whose_resources_are_valid(overlay: str) -> None:
    if find_kustomize() is None and shutil.which("go") is None:
        pytest.skip("there is no kustomize, and no Go (1.21 or newer) to install it")  # not even .ci/run can
    require(None if find_kustomize() else "there is no kustomize; go install sigs.k8s.io/kustomize/kustomize/v5@v5.4.3")
    built = resources_of(overlay)
    for each in built:
        assert each["metadata"]["namespace"] == "tidecast"
        if each["kind"] != "ScaledObject":  # of KEDA, which has its schema elsewhere
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
    kinds = [each["kind"] for each in built]
    assert {"StatefulSet", "Deployment", "Job", "PodDisruptionBudget", "NetworkPolicy", "ConfigMap"} <= set(kinds)
    assert ("ScaledObject" in kinds) == (overlay == "overlays/keda")
    (workers,) = [each for each in built if each["kind"] == "StatefulSet"]
    assert ("replicas" in workers["spec"]) == (overlay != "overlays/keda"), "KEDA alone says how many there are"
    (scheduler,) = [
        each for each in built if each["metadata"]["name"] == "tidecast-scheduler" and each["kind"] == "Deployment"
    ]
    (container,) = scheduler["spec"]["template"]["spec"]["containers"]
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (overlay == "overlays/gpu")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    images = {
        c["image"]
        for e in built
        if "template" in e.get("spec", {})
        for c in e["spec"]["template"]["spec"]["containers"]
    }
    assert images <= {f"tidecast:{version}", f"tidecast:{version}-cuda"}


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_calls_a_command_with_valid_settings_and_is_probed_where_it_answers(
    name: str, tmp_path: Path
) -> None:
    workload = WORKLOADS[name]
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command = parse(container["args"]).info_name
    environment = {each["name"]: each.get("value", "worker-0") for each in container["env"]}
    settings = settings_of(environment, ["database__url", "serve__token"], tmp_path, BASE / "tidecast.toml")
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounts["settings"] == f"{HOME}/{DEFAULT_FILE}" and f"WORKDIR {HOME}" in DOCKERFILE
    assert mounts["secrets"] == environment[SECRETS]
    assert set(mounts) == {each["name"] for each in pod["volumes"]}
    assert "memory" in container["resources"]["limits"] and "cpu" in container["resources"]["requests"]
    assert (
        pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    )
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" in DOCKERFILE
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }, "what the Pod Security Standard `restricted` asks for, and a file system that is only read"
    probes = {
        kind: container[f"{kind}Probe"]["httpGet"]
        for kind in ("startup", "liveness", "readiness")
        if f"{kind}Probe" in container
    }
    if workload["kind"] == "Job":
        assert command == "upgrade" and not probes
        return
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    listening = {"telemetry": settings.metrics.listen} | ({"http": settings.serve.listen} if command == "serve" else {})
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        name: port_of(address) for name, address in listening.items()
    }
    assert {probe["port"] for probe in probes.values()} == {"http" if command == "serve" else "telemetry"}
    for address in listening.values():
        assert address is not None and not address.startswith("127."), "the kubelet comes from outside"


def test_a_worker_is_named_by_its_pod_and_has_the_time_to_end() -> None:
    worker = WORKLOADS["tidecast-worker"]
    assert worker["kind"] == "StatefulSet"
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    (instance,) = [each for each in container["env"] if each["name"] == "TIDECAST_KAFKA__INSTANCE"]
    assert instance["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    for name, workload in WORKLOADS.items():
        if workload["kind"] != "Job":
            budgets = [
                e for e in base_resources() if e["kind"] == "PodDisruptionBudget" and e["metadata"]["name"] == name
            ]
            labels = workload["spec"]["template"]["metadata"]["labels"]
            assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
            assert [budget["spec"]["selector"]["matchLabels"] for budget in budgets] == [labels] * len(budgets)
            assert len(budgets) == (workload["spec"]["replicas"] > 1)


def test_scaling_follows_the_lag_of_the_group_and_the_topic_that_the_workers_have() -> None:
    (scaled,) = yaml.safe_load_all((DEPLOY / "kubernetes/overlays/keda/scaledobject.yaml").read_text(encoding="utf-8"))
    settings = load(BASE / "tidecast.toml")
    (trigger,) = scaled["spec"]["triggers"]
    assert scaled["spec"]["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": WORKLOADS["tidecast-worker"]["metadata"]["name"],
    }
    asked = trigger["metadata"]
    kafka = settings.kafka
    assert (asked["consumerGroup"], asked["topic"], asked["bootstrapServers"]) == (
        kafka.group,
        kafka.input_topic,
        kafka.bootstrap_servers,
    )
    assert scaled["spec"]["maxReplicaCount"] <= kafka.partitions, "one more would have nothing to do"
    assert scaled["spec"]["minReplicaCount"] == WORKLOADS["tidecast-worker"]["spec"]["replicas"]


def test_the_network_policy_opens_the_ports_that_are_served_and_no_other() -> None:
    (policy,) = [each for each in base_resources() if each["kind"] == "NetworkPolicy"]
    served = {
        port["containerPort"]
        for e in WORKLOADS.values()
        for c in e["spec"]["template"]["spec"]["containers"]
        for port in c.get("ports", ())
    }
    opened = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    assert opened == served
    assert all(rule["from"] for rule in policy["spec"]["ingress"])
    reached = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert {53, 9092, 5432} <= reached


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_calls_a_command_with_valid_settings_and_is_started_again(unit: Path, tmp_path: Path) -> None:
    lines = [line for line in unit.read_text(encoding="utf-8").splitlines() if "=" in line and not line.startswith("#")]
    text = "\n".join(lines).replace("%i", "0").replace("%H", "host").replace("%d", "secrets")
    (command,) = re.findall(r"^ExecStart=/opt/tidecast/bin/tidecast (.+)$", text, re.MULTILINE)
    parse(command.split())
    environment = dict(re.findall(r"^Environment=(\w+)=(.+)$", text, re.MULTILINE))
    credentials = re.findall(r"^LoadCredential=(\w+):/etc/tidecast/secrets/\1$", text, re.MULTILINE)
    settings = settings_of(environment, credentials, tmp_path, None)
    assert settings.database.url.get_secret_value() == SAMPLES["database__url"]
    assert "Restart=always" in lines and "NoNewPrivileges=yes" in lines
    assert "EnvironmentFile=-/etc/tidecast/environment" in lines
    if "stream" in unit.name:
        assert settings.kafka.instance == "host-0"


def test_the_units_share_one_user_as_they_share_one_folder_and_none_shares_a_port() -> None:
    texts = [unit.read_text(encoding="utf-8") for unit in UNITS]
    for name in ("User", "StateDirectory"):
        assert {re.findall(rf"^{name}=(\w+)$", text, re.MULTILINE)[0] for text in texts} == {"tidecast"}
    ports = [
        re.findall(r"^Environment=TIDECAST_METRICS__LISTEN=127\.0\.0\.1:(\S+)$", text, re.MULTILINE)[0]
        for text in texts
    ]
    assert sorted(ports) == ["9464", "9465", "947%i"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_a_unit_and_finds_it_hardened(unit: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    require(None if analyze else "there is no systemd-analyze; Debian's package systemd has it")
    assert analyze is not None
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text(encoding="utf-8").replace("/opt/tidecast/bin/tidecast", "/bin/true"))
    for call in (["verify", str(copy)], ["security", "--offline=true", "--threshold=20", str(copy)]):
        done = subprocess.run([analyze, "--man=no", *call], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{call}: {done.stdout[-600:]}{done.stderr}"
        assert call[0] != "verify" or done.stderr == ""


def test_the_page_may_open_as_many_files_as_its_limits_of_connections_need() -> None:
    needed = CONNECTIONS + ServeSettings().clients + BACKLOG + OTHER_FILES
    unit = (DEPLOY / "systemd" / "tidecast-serve.service").read_text(encoding="utf-8")
    assert needed <= 1024, "it starts with the default of most systems, as Kubernetes gives it"
    assert needed <= int(re.findall(r"^LimitNOFILE=(\d+)$", unit, re.MULTILINE)[0])
    assert needed <= OURS["page"]["ulimits"]["nofile"]


def test_a_command_line_that_does_not_exist_is_found() -> None:
    for words in (["strem"], ["stream", "--force"], ["db", "migrate"], ["db"]):
        with pytest.raises(click.UsageError):
            parse(words)
