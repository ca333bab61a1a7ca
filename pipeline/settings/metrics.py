"""The table [metrics]: what long-running roles tell over HTTP."""

from typing import Annotated

from pydantic import BeforeValidator

from pipeline.settings.address import parse_address
from pipeline.settings.values import Section


class MetricsSettings(Section):
    """Where a long-running process tells how it is: metrics, health and readiness."""

    listen: Annotated[str | None, BeforeValidator(parse_address)] = None
    """host:port at which a worker, a scheduler or the page serves metrics, health and readiness. `tidecast run` gives
    each process a port from there on. `off`: nowhere."""
    hosts: tuple[str, ...] = ()
    """Further names of the host under which metrics may be requested."""
