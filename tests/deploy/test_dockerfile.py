"""The Dockerfile: pinned, not root, and its RUN lines replayed in a folder of their own, where no container runs.

What is not replayed: the base image's own system, and the download of the dependencies. The environment that runs the
tests has them already, in the same versions (constraints.txt), and lends them to the environment that is built.
"""

import json
import os
import re
import shutil
import signal
import site
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests import servers
from tests.faults.fleet import ROOT, until
from tests.faults.telemetry import Telemetry
from tests.integration.conftest import require

TEXT = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
IGNORED = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
LONG = 180.0


def instructions() -> list[tuple[str, str]]:
    """Every instruction with its argument, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


INSTRUCTIONS = instructions()


def copied(folder: Path) -> None:
    """Copy what the build stage copies from the repository, in the way of .dockerignore."""
    for word, rest in INSTRUCTIONS:
        if word == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            for name in sources:
                assert f"!{name}" in IGNORED, f".dockerignore keeps {name} out"
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, folder / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / name, folder / target)


def test_the_base_image_is_pinned_and_the_image_runs_as_nobody_in_particular() -> None:
    arguments = dict(rest.split("=", 1) for word, rest in INSTRUCTIONS if word == "ARG")
    assert arguments["ACCELERATOR"] == "cpu"
    assert re.fullmatch(r"3\.\d+\.\d+-slim-\w+", arguments["PYTHON"])
    assert [rest for word, rest in INSTRUCTIONS if word == "FROM"] == ["python:${PYTHON} AS build", "python:${PYTHON}"]
    final = INSTRUCTIONS[[word for word, _ in INSTRUCTIONS].index("FROM", 2) :]
    (user,) = [rest for word, rest in final if word == "USER"]
    assert int(user.partition(":")[0]) >= 10_000
    assert [word for word, _ in final if word == "RUN"], "the user is made before it is used"
    assert all(word != "RUN" for word, _ in final[final.index(("USER", user)) :])
    assert dict(INSTRUCTIONS)["STOPSIGNAL"] == "SIGTERM" and '["tidecast"]' in dict(INSTRUCTIONS)["ENTRYPOINT"]


def test_nothing_but_what_is_copied_reaches_the_build() -> None:
    assert IGNORED[0] == "*"
    for secret in ("deploy/secrets/database__url", "tidecast.toml", ".git/config", ".venv/pyvenv.cfg"):
        first = secret.partition("/")[0]
        assert not any(fnmatch(first, each.removeprefix("!")) for each in IGNORED[1:]), secret


@dataclass(frozen=True)
class Image:
    """The folder in which the lines were replayed, and how its programs are called."""

    folder: Path
    passwd: str

    @property
    def tidecast(self) -> Path:
        return self.folder / "opt" / "tidecast" / "bin" / "tidecast"

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.tidecast.parent}:/usr/bin:/bin", "HOME": str(self.folder / "var/lib/tidecast")}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Replay every RUN line."""
    index = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":none:", "setuptools>=77"]
    folder = tmp_path_factory.mktemp("image")
    reached = subprocess.run([*index, "--dest", str(folder / "wheels")], capture_output=True, check=False)
    require(None if reached.returncode == 0 else "pip reaches no package index, from which the image is built")
    for name in ("src", "opt", "etc", "var/lib"):
        (folder / name).mkdir(parents=True)
    copied(folder / "src")
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
    environment = os.environ | {"PATH": f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin", "ACCELERATOR": "cpu"}
    environment = {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    for word, rest in INSTRUCTIONS:
        if word != "RUN":
            continue
        line = re.sub(r"/(opt/tidecast|etc/(?:passwd|group)|var/lib/tidecast)\b(?!:)", rf"{folder}/\1", rest)
        if os.geteuid():
            line = line.replace("-o 10001 -g 10001 ", "")  # only root gives a folder away
        done = subprocess.run(
            ["/bin/sh", "-c", line], cwd=folder / "src", env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"
        lend(folder / "opt" / "tidecast")
    yield Image(folder, (folder / "etc" / "passwd").read_text())


def lend(environment: Path) -> None:
    """Make the packages of this environment importable there, so that pip finds them installed."""
    (packages,) = environment.glob("lib/python3.*/site-packages")
    (packages / "lent.pth").write_text("\n".join(site.getsitepackages()) + "\n")


@pytest.mark.slow
def test_the_image_has_the_package_with_its_files_and_its_user(image: Image) -> None:
    assert image.passwd.startswith("tidecast:x:10001:10001:")
    (packages,) = image.folder.glob("opt/tidecast/lib/python3.*/site-packages")
    for name in ("tidecast", "pipeline", "models", "jobs"):
        kept = {each.relative_to(ROOT / name) for each in (ROOT / name).rglob("*") if each.is_file()}
        missing = [each for each in kept if "__pycache__" not in each.parts and not (packages / name / each).is_file()]
        assert not missing, f"{name} is installed without {missing}"
    said = subprocess.run(
        [image.tidecast, "--version"],
        env=image.environment,
        cwd=image.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(r"tidecast \d+\.\d+\.\d+\n", said.stdout)
    assert list(packages.glob("pipeline/__pycache__/*.pyc")), "compiled, because the image is only read"


@pytest.mark.slow
def test_the_health_check_follows_a_role_of_the_image(image: Image) -> None:
    health = dict(INSTRUCTIONS)["HEALTHCHECK"]
    program, *arguments = json.loads(health.partition("CMD ")[2])
    assert program == "python"
    port = servers.free_port()
    check = [str(image.tidecast.with_name("python")), *(each.replace("9464", str(port)) for each in arguments)]
    home = image.folder / "var" / "lib" / "tidecast"
    environment = image.environment | {
        "TIDECAST_METRICS__LISTEN": f"127.0.0.1:{port}",
        "TIDECAST_DATABASE__URL": f"sqlite:///{home}/tidecast.db",
    }

    def healthy() -> bool:
        return subprocess.run(check, env=environment, capture_output=True, check=False).returncode == 0

    assert not healthy()
    subprocess.run([image.tidecast, "db", "upgrade"], env=environment, cwd=home, capture_output=True, check=True)
    with (image.folder / "schedule.log").open("wb") as log:
        process = subprocess.Popen([image.tidecast, "schedule"], env=environment, cwd=home, stdout=log, stderr=log)
    try:
        until(healthy, LONG, lambda: (image.folder / "schedule.log").read_text()[-1000:], pause=0.5)
        scheduler = Telemetry(f"http://127.0.0.1:{port}")
        until(lambda: scheduler.status("/readyz") == 200, LONG, scheduler.reasons)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert not healthy()


def test_an_accelerator_that_is_neither_is_refused(tmp_path: Path) -> None:
    (line,) = [rest for word, rest in INSTRUCTIONS if word == "RUN" and rest.startswith("case")]
    done = subprocess.run(
        ["/bin/sh", "-c", line], cwd=tmp_path, env={"ACCELERATOR": "tpu"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "ACCELERATOR is cpu or cuda, not tpu\n")
