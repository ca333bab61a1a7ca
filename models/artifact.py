"""Artifacts: weights, config, series names and provenance in one byte string, without pickle.

Layout: safetensors, whose header carries one key, "tidecast", with a JSON object: {"format", "config",
"series", "provenance"}. One key, because safetensors writes several in no fixed order, and equal models must
have equal hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from models.config import ModelConfig
from models.network.forecasters import Forecaster, build
from models.presets import NAIVE

KEY = "tidecast"
FORMAT = 1


class ArtifactError(ValueError):
    """The bytes are no artifact of ours, or not the requested one; the message says which."""


class Loaded(NamedTuple):
    """An artifact in use: model in eval mode on the CPU; series[i] is the name of embedding row i + 1."""

    model: Forecaster
    config: ModelConfig
    series: tuple[str, ...]
    provenance: dict[str, Any]


def hash_artifact(artifact: bytes) -> str:
    """SHA-256 of the bytes, in hexadecimal: what the registry stores beside them."""
    return hashlib.sha256(artifact).hexdigest()


def pack(model: Forecaster, *, series: Sequence[str], provenance: Mapping[str, Any]) -> bytes:
    """The model as bytes; `series` names embedding rows 1.., `provenance` is any JSON object. Equal models,
    equal bytes.

    ValueError when the names do not fit the config.
    """
    if len(series) != model.config.series or len(set(series)) != len(series):
        raise ValueError(
            f"the model knows {model.config.series} series: give as many different names, not {len(series)}"
        )
    header = {
        "format": FORMAT,
        "config": model.config.to_dict(),
        "series": list(series),
        "provenance": dict(provenance),
    }
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return safetensors.torch.save(weights, metadata={KEY: text})


def unpack(artifact: bytes, *, sha256: str | None = None) -> Loaded:
    """The model of `pack`, bit for bit. ArtifactError for a wrong hash, broken bytes, or weights that do not fit."""
    if sha256 is not None and (actual := hash_artifact(artifact)) != sha256:
        raise ArtifactError(f"hash is {actual}, the registry says {sha256}: the bytes were changed")
    header = _read_header(artifact)
    try:
        config = ModelConfig.from_dict(header["config"])
        series = tuple(header["series"])
        provenance = dict(header["provenance"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"header does not describe a model: {error}") from error
    if not all(isinstance(name, str) for name in series) or len(set(series)) < len(series):
        raise ArtifactError("header names a series twice, or one that is no text")
    if len(series) != config.series:
        raise ArtifactError(f"header names {len(series)} series, the config has {config.series}")
    try:
        weights: dict[str, Tensor] = safetensors.torch.load(artifact)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise ArtifactError(f"weights cannot be read: {error}") from error
    _check_shapes(weights, config)
    model = build(config)
    model.load_state_dict(dict(model.named_buffers()) | weights)  # what an older release did not measure is as at first
    return Loaded(model.eval(), config, series, provenance)


def _read_header(artifact: bytes) -> dict[str, Any]:
    # safetensors reads metadata from files only; its header is 8 bytes of length and that much JSON.
    size = int.from_bytes(artifact[:8], "little")
    if len(artifact) < 8 or size > len(artifact) - 8:
        raise ArtifactError(f"{len(artifact)} bytes are too few for their header: truncated or not an artifact")
    try:
        header = json.loads(artifact[8 : 8 + size])
        ours = json.loads(header["__metadata__"][KEY])
        found = ours["format"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ArtifactError("header is not ours: not a tidecast artifact") from error
    if found != FORMAT:
        raise ArtifactError(f"format {found!r} is unknown: this version reads format {FORMAT}")
    return dict(ours)


def _check_shapes(found: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Compare the weights with a model that has no memory, so that no config can ask for more than its weights take."""
    if config.kind != NAIVE and config.layers * config.members > len(found):  # each layer has a weight of its own
        raise ArtifactError(f"{len(found)} weights are too few for {config.members} members of {config.layers} layers")
    try:
        with torch.device("meta"):
            model = build(config)
    except (RuntimeError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise ArtifactError(f"the config describes no model that can be built: {error}") from error
    needed = model.state_dict()
    if missing := (found.keys() ^ needed.keys()) - {name for name, _ in model.named_buffers() if name not in found}:
        raise ArtifactError(f"weights {sorted(missing)} are missing or unknown")
    for name, weight in found.items():
        if needed[name].shape != weight.shape or needed[name].dtype != weight.dtype:
            raise ArtifactError(
                f"weight {name} is {tuple(weight.shape)} {weight.dtype}, "
                f"the config needs {tuple(needed[name].shape)} {needed[name].dtype}"
            )
        if not bool(torch.isfinite(weight).all()):
            raise ArtifactError(f"weight {name} is not finite")
