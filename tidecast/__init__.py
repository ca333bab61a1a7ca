"""tidecast for Python: `from tidecast import Forecaster` fits, predicts and backtests on frames.

Nothing else of these packages is public. The import is light: torch is imported when a Forecaster is made.
"""

from typing import TYPE_CHECKING

from pipeline.version import installed_version

if TYPE_CHECKING:
    from jobs.forecaster.forecaster import Forecaster

__all__ = ["Forecaster", "__version__"]
__version__ = installed_version()


def __getattr__(name: str) -> object:
    if name == "Forecaster":
        from jobs.forecaster.forecaster import Forecaster

        return Forecaster
    raise AttributeError(f"module tidecast has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
