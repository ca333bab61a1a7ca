"""The table [series]: the grid, the window, and when a series is due for a forecast."""

from typing import Literal

from pydantic import Field, field_validator

from pipeline.grid.times import open_zone
from pipeline.settings.values import Phase, Policy, Section


class SeriesSettings(Section):
    """The grid, the window, and when a series is due for a forecast."""

    frequency: str = "1h"
    """Step of the grid: any pandas frequency, such as `15min`, `1h`, `1D`, `W-SUN` or `MS`."""
    timezone: str = "UTC"
    """Zone by whose clocks the steps begin, such as `Europe/Berlin`."""
    phase: Phase = None
    """How long after those clocks the steps of the grid are, such as `6h`. `auto` finds it from the first events."""
    season: int | None = Field(None, ge=1)
    """Steps in a season. Without it, the frequency gives them."""
    context: int = Field(336, ge=2)
    """Steps that a model sees."""
    horizon: int = Field(48, ge=1, le=10_000)
    """Steps that a forecast has."""
    duplicates: Policy = "last"
    """How several events in one step are merged."""
    on: Literal["latest", "every_step"] = "latest"
    """When a series is forecast: `latest`, at the newest step of a turn; `every_step`, at every step in it."""
    min_observed: float = Field(0.5, ge=0, le=1)
    """Expert: Share of the window that must be observed; below it a forecast has quality `degraded`."""

    @field_validator("timezone")
    @classmethod
    def check_timezone(cls, name: str) -> str:
        """Refuse what is no zone; UTC is UTC under all its names."""
        return str(open_zone(name).key)
