"""The table [database]."""

from pydantic import SecretStr

from pipeline.settings.values import Seconds, Section


class DatabaseSettings(Section):
    """Where observations, forecasts and models live."""

    url: SecretStr = SecretStr("sqlite:///tidecast.db")
    """`sqlite:///FILE` or `postgresql://USER@HOST/NAME`. A password in it is masked wherever settings are shown."""
    timeout: Seconds = 30.0
    """Expert: Longest wait for a connection, a lock or a statement."""
