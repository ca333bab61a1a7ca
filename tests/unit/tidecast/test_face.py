"""The public face of the packages: two names, typed, and light until one of them is used."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import tidecast
from jobs.forecaster.forecaster import Forecaster

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "pandas", "numpy", "sqlalchemy", "kafka", "pydantic")


def test_it_has_the_forecaster_the_version_and_nothing_else() -> None:
    assert dir(tidecast) == ["Forecaster", "__version__"]
    assert tidecast.Forecaster is Forecaster
    assert tidecast.__version__ == version("tidecast")
    with pytest.raises(AttributeError, match="no attribute 'Panel'"):
        tidecast.Panel  # noqa: B018


def test_its_import_imports_no_library() -> None:
    code = f"import sys, tidecast; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_type_checkers_may_read_it_and_what_it_shows() -> None:
    for package in ("tidecast", "pipeline", "models", "jobs"):
        assert (ROOT / package / "py.typed").is_file(), f"{package} would be Any in a user's own code"
