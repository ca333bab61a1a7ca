"""The import direction, the homes of outside libraries, and the size and names of modules."""

import ast
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("models", "pipeline", "jobs", "tidecast")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
HOMES = {
    "kafka": ("pipeline/kafka/", "pipeline/quickstart/broker/"),
    "sqlalchemy": ("pipeline/database/",),
    "alembic": ("pipeline/database/",),
    "psycopg": ("pipeline/database/",),
    "apscheduler": ("jobs/clock/schedule.py",),
    "prometheus_client": ("pipeline/health/prometheus.py",),
    "fastapi": ("pipeline/web/",),
    "starlette": ("pipeline/web/",),
    "anyio": ("pipeline/web/",),
    "uvicorn": ("pipeline/web/",),
    "h11": ("pipeline/web/",),
    "fastavro": ("pipeline/formats/avro.py",),
    "google": ("pipeline/formats/protobuf.py",),
    "matplotlib": ("pipeline/charts.py",),
    "click": ("pipeline/cli.py", "pipeline/commands/", "pipeline/commands/jobs.py"),
}
VAGUE = {"utils", "util", "common", "base", "manager", "managers", "helpers", "helper", "misc"}
MOST_LINES = 400
MOST_MODULES = 18
ROOTS = ("pipeline.start", "pipeline.app", "pipeline.roles", "pipeline.cli")
ADAPTERS = ("pipeline.kafka", "pipeline.database", "pipeline.web", "pipeline.registry", "pipeline.commands", *ROOTS)
ROOF = (
    *(f"{root.replace('.', '/')}.py" for root in ROOTS),
    "pipeline/commands/",
    "pipeline/quickstart/",
    "jobs/__main__.py",
)
"""Who puts services and adapters together; the page reads the database, and adapters their own kind."""
ADAPTER_ROOMS = ("pipeline/kafka/", "pipeline/database/", "pipeline/web/", "pipeline/registry/")
LOBBIES = ("models", "pipeline", "jobs", "tidecast", "pipeline/database")
"""Folders whose own modules stand for themselves: other rooms lie between them."""
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "jobs/__init__.py",
        "models/__init__.py",
        "models/batch.py",
        "models/presets.py",
        "pipeline/__init__.py",
        "pipeline/columns.py",
        "pipeline/fields.py",
        "pipeline/quickstart/broker",
        "pipeline/version.py",
        "pipeline/visible.py",
    ),
    ("models/config.py", "models/panel.py"),
    ("models/metrics.py", "pipeline/records.py"),
    ("models/network", "pipeline/errors.py", "pipeline/job_facts.py", "pipeline/quantiles.py"),
    (
        "models/artifact.py",
        "models/fitting",
        "models/predict.py",
        "pipeline/database/engine.py",
        "pipeline/grid",
        "pipeline/tls.py",
    ),
    ("models/pretrained.py", "pipeline/charts.py", "pipeline/database/schema", "pipeline/settings"),
    (
        "models/pretraining",
        "pipeline/database/packed.py",
        "pipeline/database/schema/migrations",
        "pipeline/database/schema/migrations/versions",
        "pipeline/health",
        "pipeline/messages",
    ),
    ("jobs/clock", "pipeline/forecasting", "pipeline/formats"),
    (
        "jobs/catalog.py",
        "jobs/retraining",
        "jobs/upkeep",
        "pipeline/database/models",
        "pipeline/registry",
        "pipeline/stream",
    ),
    ("jobs/frames", "pipeline/database/turns", "pipeline/kafka"),
    ("jobs/forecaster", "pipeline/database/jobs"),
    ("pipeline/database/packing.py", "pipeline/database/pages", "tidecast/__init__.py"),
    ("pipeline/database/upgrade.py",),
    ("pipeline/database/transfer.py",),
    ("pipeline/database/__init__.py", "pipeline/web"),
    ("pipeline/start.py",),
    ("pipeline/app.py", "pipeline/quickstart", "pipeline/roles.py"),
    ("pipeline/commands",),
    ("jobs/__main__.py", "pipeline/cli.py"),
)
"""Rooms from the ground up: each imports only from floors below its own."""


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module that a file imports, also inside functions."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(found)


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def offenders(paths: list[Path], packages: tuple[str, ...]) -> list[str]:
    return [f"{name(path)} imports {module}" for path in paths for module in imports(path) if within(module, packages)]


def test_the_rules_look_at_every_package() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(PACKAGES)


def room(path: Path) -> str:
    """Name the folder that a module is in; a module right in a package is a room of its own."""
    folder = path.relative_to(ROOT).parent.as_posix()
    return name(path) if folder in LOBBIES else folder


def arrows() -> dict[tuple[str, str], list[str]]:
    """List each import from one room into another, also those inside functions."""
    found: dict[tuple[str, str], list[str]] = {}
    places = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path for path in MODULES}
    places |= {module.removesuffix(".__init__"): path for module, path in places.items()}
    for path in MODULES:
        for module in imports(path):
            if module in places and room(places[module]) != room(path):
                found.setdefault((room(path), room(places[module])), []).append(f"{name(path)} imports {module}")
    return found


def test_every_room_has_its_floor() -> None:
    rooms = {room(path) for path in MODULES}
    assert sorted(each for floor in FLOORS for each in floor) == sorted(rooms)


def test_rooms_import_only_what_is_below_them() -> None:
    height = {each: number for number, floor in enumerate(FLOORS) for each in floor}
    upwards = [lines for (one, other), lines in arrows().items() if height[one] <= height[other]]
    assert upwards == []


def test_services_never_import_an_adapter() -> None:
    strangers = [path for path in MODULES if not name(path).startswith((*ROOF, *ADAPTER_ROOMS))]
    assert offenders(strangers, ADAPTERS) == []


@pytest.mark.parametrize("own", ["pipeline/kafka", "pipeline/database", "pipeline/web", "pipeline/registry"])
def test_an_adapter_imports_no_other(own: str) -> None:
    others = tuple(each for each in ADAPTERS if each != own.replace("/", "."))
    if own == "pipeline/web":  # the page reads what the database keeps for it
        others = tuple(each for each in others if each != "pipeline.database")
    assert offenders([path for path in MODULES if name(path).startswith(own + "/")], others) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    places = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path for path in MODULES}
    graph = {module: {each for each in imports(path) if each in places} for module, path in places.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_room_is_crowded() -> None:
    crowds = Counter(path.parent.relative_to(ROOT).as_posix() for path in MODULES if path.name != "__init__.py")
    assert {folder: count for folder, count in crowds.items() if count > MOST_MODULES} == {}


@pytest.mark.parametrize("library", HOMES)
def test_an_outside_library_is_imported_in_its_home_only(library: str) -> None:
    strangers = [path for path in MODULES if not name(path).startswith(HOMES[library])]
    assert offenders(strangers, (library,)) == []


def test_no_module_is_longer_than_one_can_hold_in_mind() -> None:
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {module: lines for module, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [name(path) for path in MODULES if VAGUE & set(path.relative_to(ROOT).with_suffix("").parts)] == []
