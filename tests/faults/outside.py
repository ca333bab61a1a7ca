"""What the randomised driver does to a deployment from outside: commands, models, and a look at how far it is."""

import subprocess
import sys
import time

from confluent_kafka import KafkaException
from sqlalchemy import make_url

from models.artifact import pack
from models.network.forecasters import build
from pipeline.database import open_database
from pipeline.forecasting.windows import model_config
from pipeline.grid.frequency import Frequency
from tests import processes, servers
from tests.faults.conftest import Place
from tests.faults.deployment import Deployment
from tests.faults.fleet import ROOT, holds_within, tell
from tests.faults.left import read_topic
from tests.faults.verify import ends, published_confluent


def fresh_database(place: Place, name: str) -> str:
    """Return the address of an empty database of the kind that the place has."""
    port = make_url(place.database).port
    return f"sqlite:///{place.folder}/{name}.db" if port is None else servers.fresh_database(port)


def behind(deployment: Deployment) -> dict[int, str]:
    """Say of each partition that is not stored and published to its last message how far it is.

    The marker of a transaction takes an offset and is no message.
    """
    try:
        end, stored, published = ends(deployment), deployment.stored(), published_confluent(deployment)
    except KafkaException as error:  # the group's coordinator is not there yet
        return {-1: str(error)}
    found = {}
    messages: set[tuple[int, int]] | None = None
    for partition, stop in end.items():
        s, k = stored.get(partition), published.get(partition)
        if s == k == stop:
            continue
        if s is not None and s == k and s < stop:
            if messages is None:
                messages = {(each.partition, each.offset) for each in read_topic(deployment, deployment.topic)}
            if not any(at == partition and offset >= s for at, offset in messages):
                continue
        found[partition] = f"ends at {stop}, S is {s}, K is {k}"
    return found


def begin(deployment: Deployment, *words: str) -> "subprocess.Popen[bytes]":
    """Start a command of tidecast on a deployment."""
    options, _ = tell(deployment.sets)
    return processes.Popen([sys.executable, "-m", "pipeline.cli", *options, *words], cwd=ROOT, stdin=subprocess.DEVNULL)


def command(deployment: Deployment, *words: str) -> None:
    """Run a command of tidecast on a deployment to its end, which must be a good one."""
    options, _ = tell(deployment.sets)
    line = [sys.executable, "-m", "pipeline.cli", *options, *words]

    def done() -> bool:
        nonlocal said
        ended = processes.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        said = f"tidecast {' '.join(words)} ended with {ended.returncode}: {(ended.stderr or ended.stdout)[-500:]}"
        assert ended.returncode != 2, said
        return ended.returncode == 0

    said = ""
    assert holds_within(done, 60.0, pause=1.0), said


def register_models(deployment: Deployment) -> None:
    """Register versions 1 and 2: networks that nobody has trained, the same in every deployment."""
    settings = deployment.loaded()
    shape = model_config(settings, Frequency("1h"), 0)
    database = open_database(deployment.database, timeout=30)
    try:
        for seed in (1, 2):
            artifact = pack(build(shape, seed=seed), series=(), provenance={"frequency": "1h"})
            version = database.registry.register(
                name=f"seed {seed}",
                config={},
                metrics={},
                train_from=None,
                train_to=None,
                seed=seed,
                code="",
                artifact=artifact,
                now=time.time_ns() // 1000,
            )
            assert version == seed, f"the model of seed {seed} is version {version}"
    finally:
        database.close()
