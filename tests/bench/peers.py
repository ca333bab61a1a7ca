"""The peer's virtual environment, made once in a cache folder: its client library may be pinned otherwise than ours."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

from tests.bench.results import say

REQUIREMENT = "quixstreams[postgresql]>=3.28"


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidecast" / "bench"


def quix_python() -> Path:
    """Return the interpreter that has Quix Streams, after installing the newest one if there is none."""
    folder = cache_folder() / f"quixstreams-py{sys.version_info.major}.{sys.version_info.minor}"
    python, done = folder / "bin" / "python", folder / ".installed"
    if not done.exists():
        say(f"installing {REQUIREMENT} into {folder}, once")
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", REQUIREMENT], check=True, timeout=600)
        done.touch()
    return python


def versions(python: Path) -> dict[str, str]:
    """Return the versions that matter in that environment."""
    code = (
        "import json; from importlib.metadata import version;"
        "print(json.dumps({n: version(n) for n in ('quixstreams', 'confluent-kafka', 'psycopg2-binary')}))"
    )
    found = json.loads(subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout)
    return {name if name == "quixstreams" else f"{name} (peer)": text for name, text in found.items()}
