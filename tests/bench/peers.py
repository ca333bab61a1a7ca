"""The peers' virtual environments, each made once in a cache folder: their libraries are pinned otherwise than ours."""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from tests.bench.results import say

QUIX = ("quixstreams[postgresql]>=3.28",)
# The same torch as ours in constraints.txt, so that a difference in speed is the library's.
FORECASTERS = ("neuralforecast==3.3.0", "darts[torch]==0.48.1", "gluonts[torch]==0.17.0", "torch==2.13.0")
ZERO_SHOT = ("fracast==0.1.0", "statsforecast==2.1.1", "torch==2.13.0")


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidecast" / "bench"


def make_environment(name: str, requirements: Sequence[str]) -> Path:
    """Return the interpreter that has `requirements`, after installing them if another list, or none, was installed."""
    folder = cache_folder() / f"{name}-py{sys.version_info.major}.{sys.version_info.minor}"
    python, done = folder / "bin" / "python", folder / ".installed"
    wanted = "\n".join(requirements)
    if not done.exists() or done.read_text() != wanted:
        say(f"installing {', '.join(requirements)} into {folder}, once")
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True, timeout=1800)
        done.write_text(wanted)
    return python


def quix_python() -> Path:
    """Return the interpreter that has Quix Streams."""
    return make_environment("quixstreams", QUIX)


def forecasters_python() -> Path:
    """Return the interpreter that has neuralforecast, darts and GluonTS: their pins agree, so one environment does."""
    return make_environment("forecasters", FORECASTERS)


def zero_shot_python() -> Path:
    """Return the interpreter that has fracast and statsforecast, which forecast without a training."""
    return make_environment("zero-shot", ZERO_SHOT)


def versions(python: Path) -> dict[str, str]:
    """Return the versions that matter beside Quix Streams."""
    code = (
        "import json; from importlib.metadata import version;"
        "print(json.dumps({n: version(n) for n in ('quixstreams', 'confluent-kafka', 'psycopg2-binary')}))"
    )
    found = json.loads(subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout)
    return {name if name == "quixstreams" else f"{name} (peer)": text for name, text in found.items()}
