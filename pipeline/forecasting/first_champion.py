"""The first champion: a database that has none serves the network of the wheel until it has a model of its own."""

from collections.abc import Mapping
from typing import Any, Protocol

from models.artifact import hash_artifact, pack
from models.pretrained import load_pretrained
from pipeline.forecasting.served import NAIVE, Champion, Served, find_champion
from pipeline.forecasting.windows import model_config
from pipeline.grid.frequency import Frequency
from pipeline.settings import Settings
from pipeline.version import installed_version

NAME = "zero-shot"
"""The name under which it is registered."""
REASON = "pretrained: it forecasts until a retraining has made something better"


class Registry(Served, Protocol):
    """Models, and which of them is champion."""

    def adopt(
        self,
        *,
        name: str,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        code: str,
        artifact: bytes,
        expected: int | None,
        reason: str,
        now: int,
    ) -> int | None:
        """Make an artifact champion that no history has made, if the champion is still `expected`; return its version.

        A version that has these bytes already is taken. None, with nothing stored, if the champion is another by now.
        """
        ...


def serve_pretrained(registry: Registry, settings: Settings, frequency: Frequency, now: int) -> None:
    """Make the network of the wheel champion where there is none, or where an older or other one of the wheel is.

    Nothing where model.pretrained is off, or where a model of its own, or seasonal naive by somebody's wish, serves.
    Whoever comes first registers it; it has one version for a network and a shape.
    """
    if not settings.model.pretrained:
        return
    shape = model_config(settings, frequency, 0)
    champion = find_champion(registry, shape, frequency)
    if champion and not is_zero_shot(champion):
        return
    loaded = load_pretrained(shape)
    facts = loaded.provenance | frequency.facts
    artifact = pack(loaded.model, series=(), provenance=facts)
    if champion and hash_artifact(registry.artifact(champion.version)) == hash_artifact(artifact):
        return
    registry.adopt(
        name=NAME,
        config=loaded.config.to_dict() | {"frequency": frequency.text, "step_seconds": frequency.seconds},
        metrics={"pretrained": loaded.provenance["pretrained"]},
        code=installed_version(),
        artifact=artifact,
        expected=champion.version if champion else None,
        reason=REASON,
        now=now,
    )


def is_own(champion: Champion | None) -> bool:
    """Whether a history of its own has made the champion: it is neither seasonal naive nor the network of the wheel."""
    return champion is not None and champion.version != NAIVE and not is_zero_shot(champion)


def is_zero_shot(champion: Champion) -> bool:
    """Whether it is the network of the wheel as it came, whether it fits the settings of today or not."""
    return "pretrained" in champion.provenance
