"""The version of tidecast that is installed: of the API, of artifacts, of what trained a model."""

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Name the installed version of tidecast."""
    try:
        return version("tidecast")
    except PackageNotFoundError:
        return "not installed"
