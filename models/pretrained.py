"""The weights of the wheel: read once, given the context, horizon and season of a deployment, without any training."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from models.artifact import Loaded, hash_artifact, unpack
from models.config import PARTS, ModelConfig
from models.network.pretrained import PretrainedForecaster
from models.presets import PRETRAINED

FILE = "pretrained.safetensors"


@cache
def read_pretrained() -> bytes:
    """The artifact of the wheel, as `python -m models.pretraining` wrote it."""
    return files("models").joinpath(FILE).read_bytes()


def load_pretrained(config: ModelConfig, artifact: bytes | None = None) -> Loaded:
    """The network of the wheel with the context, horizon and season of `config`, which knows no series by name.

    Its provenance says which file it came from and how that was made. artifact: another one of
    `python -m models.pretraining`. ValueError where the config asks for what the network has not: other levels than
    those it was trained at.
    """
    wheel = unpack(artifact or read_pretrained())
    if config.quantile_levels != wheel.config.quantile_levels:
        raise ValueError("the pretrained network has the usual quantile levels: leave quantile_levels away")
    parts = dict.fromkeys(PARTS, "")  # those of its kind
    shape = {"kind": PRETRAINED, "layers": 0, "series": 0, "members": 1, "output": "quantiles"}
    chosen = ModelConfig.from_dict(config.to_dict() | parts | shape)
    model = PretrainedForecaster(chosen)
    model.load_state_dict(model.state_dict() | wheel.model.state_dict())
    return Loaded(model.eval(), chosen, (), {"pretrained": describe_pretrained(artifact)})


@cache
def describe_pretrained(artifact: bytes | None = None) -> dict[str, Any]:
    """Which file it is, by its SHA-256, and how it was made."""
    given = artifact or read_pretrained()
    return {"sha256": hash_artifact(given), **unpack(given).provenance}
