"""`tidecast run`: the roles of one machine, each a process of its own. This one only watches them, without torch."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from pipeline import database as databases
from pipeline.health.logs import start_logging
from pipeline.health.supervisor import Role, Supervisor
from pipeline.kafka import topics
from pipeline.settings import Settings
from pipeline.settings.address import check_free, number_address
from pipeline.settings.secrets import list_secrets
from pipeline.start import ending_well, open_database, stop_signal


def run_all(settings: Settings, options: Sequence[str], *, workers: int = 1, accepted: Sequence[str] = ()) -> None:
    """Supervise `workers` stream workers, a scheduler and the page as child processes until SIGTERM or SIGINT.

    A page that cannot listen is tried again and again, and the rest goes on: forecasts do not depend on it.

    `options` are the root options of this command, passed on to the children; `accepted` are more options for every
    worker.
    """
    start_logging(list_secrets(settings))
    stopping = stop_signal()  # before the checks, which may wait: PID 1 of a container ignores what it does not catch
    with ending_well(stopping):
        url = settings.database.url.get_secret_value()
        if url.startswith("sqlite"):
            databases.upgrade(url)
        database = open_database(settings)
        known = () if "--accept-new-topic" in accepted else database.pipelines.known_topics()
        database.close()
        paged = settings.serve.listen is not None and page_installed()
        places = place_telemetry(settings.metrics.listen, 1 + workers + paged)
        topics.check_topics(settings.kafka, known)
        command = [sys.executable, "-P", "-m", "pipeline.cli", *options]  # -P: not from the working folder
        roles = [Role("scheduler", [*command, *places[0], "schedule"])]
        for number in range(workers):
            own = ["--set", f"kafka.instance={settings.kafka.instance}-{number}", *places[1 + number]]
            roles.append(Role(f"worker-{number}", [*command, *own, "stream", *accepted]))
        if paged:
            roles.append(Role("page", [*command, *places[-1], "serve"]))
        Supervisor(roles).run(stopping)


def place_telemetry(listen: str | None, roles: int) -> list[list[str]]:
    """Give each role its own port, from the one of `metrics.listen` on, as options; Unavailable if one is taken."""
    if listen is None:
        return [[] for _ in range(roles)]
    addresses = [number_address(listen, number) for number in range(roles)]
    for address in addresses:
        check_free(address, "metrics.listen")
    return [["--set", f"metrics.listen={address}"] for address in addresses]


def page_installed() -> bool:
    """Tell whether this installation can serve the page: the extra `serve` is there."""
    return all(find_spec(library) is not None for library in ("fastapi", "uvicorn"))
