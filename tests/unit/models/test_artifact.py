"""Artifacts say what is wrong with them; nothing else ever gets out of `unpack`."""

from __future__ import annotations

import contextlib
import json
import resource
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.artifact import ArtifactError, hash_artifact, pack, unpack
from models.config import ModelConfig
from models.network.forecasters import build

CONFIG = ModelConfig(hidden=4, heads=1, layers=1, segment=2, context_length=4, horizon=2, season=2, series=2)
MODEL = build(CONFIG)
ARTIFACT = pack(MODEL, series=["a", "b"], provenance={"train_to": "2026-01-01T00:00:00Z"})


def pack_with(weights: dict[str, torch.Tensor] | None = None, **changes: object) -> bytes:
    header = {"format": 1, "config": CONFIG.to_dict(), "series": ["a", "b"], "provenance": {}, **changes}
    return safetensors.torch.save(weights or MODEL.state_dict(), metadata={"tidecast": json.dumps(header)})


def test_the_hash_is_checked_when_it_is_known() -> None:
    assert unpack(ARTIFACT, sha256=hash_artifact(ARTIFACT)).config == CONFIG
    with pytest.raises(ArtifactError, match="bytes were changed"):
        unpack(ARTIFACT[:-1] + b"\x00", sha256=hash_artifact(ARTIFACT))


def test_names_must_fit_the_config() -> None:
    for names in (["a"], ["a", "a"], ["a", "b", "c"]):
        with pytest.raises(ValueError, match="give as many different names"):
            pack(MODEL, series=names, provenance={})


@pytest.mark.parametrize(
    ("artifact", "words"),
    [
        (b"", "too few"),
        (ARTIFACT[:100], "too few"),
        (ARTIFACT[:-1], "weights cannot be read"),
        (safetensors.torch.save(MODEL.state_dict()), "not a tidecast artifact"),
        (safetensors.torch.save({}, metadata={"tidecast": "[" * 100_000}), "not a tidecast artifact"),
        (pack_with(format=2), "reads format 1"),
        (pack_with(config={"kind": "prophet"}), "kind 'prophet' is unknown"),
        (pack_with(config=3), "does not describe a model"),
        (pack_with(series=["a"]), "names 1 series"),
        (pack_with(series=["a", "a"]), "names a series twice"),
        (pack_with(series=["a", 7]), "no text"),
        (pack_with(config=[]), "does not describe a model"),
        (pack_with(config={**CONFIG.to_dict(), "hidden": 8}), "the config needs"),
        (pack_with({"x": torch.zeros(1)}), "missing or unknown"),
        (pack_with({**MODEL.state_dict(), "head.project.bias": torch.full((13,), torch.nan)}), "not finite"),
    ],
)
def test_a_broken_artifact_says_what_is_wrong(artifact: bytes, words: str) -> None:
    with pytest.raises(ArtifactError, match=words):
        unpack(artifact)


def test_an_artifact_from_before_the_parts_could_be_chosen_still_loads() -> None:
    config = {
        "kind": "attention",
        "cell": "gru",
        "hidden": 4,
        "layers": 2,
        "heads": 1,
        "segment": 2,
        "dropout": 0.1,
        "context_length": 4,
        "horizon": 2,
        "season": 2,
        "calendar_features": 2,
        "series": 2,
        "series_dim": 3,
        "location": "last",
        "quantile_levels": [0.1, 0.5, 0.9],
    }
    recurrent = [f"recur.{kind}_{side}_l0" for kind in ("weight", "bias") for side in ("ih", "hh")]
    names = {
        "tokens.project.weight",
        "tokens.project.bias",
        "series.rows.weight",
        "series.project.weight",
        *(f"encoder.layers.{n}.{name}" for n in (0, 1) for name in (*recurrent, "norm.weight", "norm.bias")),
        "encoder.norm.weight",
        "encoder.norm.bias",
        "queries.position",
        "queries.calendar.weight",
        "queries.calendar.bias",
        "steps.unfold.weight",
        "steps.unfold.bias",
        "steps.calendar.weight",
        "skip.weight",
        *(
            f"attention.{part}.{name}"
            for name in ("weight", "bias")
            for part in ("query_norm", "attend.query", "attend.key_value", "attend.out", "norm", "feed.0", "feed.3")
        ),
        "head.project.weight",
        "head.project.bias",
    }
    weights = build(ModelConfig.from_dict(config), seed=5).state_dict()
    del weights["head.stretch"]  # measured since then
    assert set(weights) == names
    loaded = unpack(pack_with(weights, config=config))
    assert (loaded.config.attention, loaded.config.stack, loaded.config.direction) == (
        "multihead",
        "residual",
        "forward",
    )
    assert loaded.model.state_dict()["head.stretch"].tolist() == [1.0, 1.0]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(ARTIFACT) - 1), st.integers(0, 255))
def test_any_changed_byte_is_an_artifact_error_or_a_model(position: int, byte: int) -> None:
    changed = ARTIFACT[:position] + bytes([byte]) + ARTIFACT[position + 1 :]
    try:
        unpack(changed)
    except ArtifactError:
        return


def claim(**tensor: object) -> bytes:
    """Bytes whose header claims a tensor of its own kind, with eight bytes of data behind it."""
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **tensor}
    ours = json.dumps({"format": 1, "config": CONFIG.to_dict(), "series": ["a", "b"], "provenance": {}})
    header = json.dumps({"__metadata__": {"tidecast": ours}, "head.stretch": entry}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


@pytest.mark.parametrize(
    "artifact",
    [
        claim(shape=[25_000_000_000], data_offsets=[0, 100_000_000_000]),
        claim(shape=[25_000_000_000]),
        claim(shape=[2**40, 2**40]),
        claim(shape=[-2]),
        claim(shape=["2"]),
        claim(shape=[]),
        claim(dtype="F64"),
        claim(dtype="F128"),
        claim(data_offsets=[8, 0]),
        claim(data_offsets=[0, 16]),
        claim(data_offsets=[0]),
        claim(unknown=1),
        (2**63).to_bytes(8, "little") + ARTIFACT[8:],
        (100_000_001).to_bytes(8, "little") + bytes(100_000_001),
        *(
            pack_with(config={**CONFIG.to_dict(), **change})
            for change in (
                {"hidden": 1_000_000},
                {"series_dim": 10**10},
                {"horizon": 10**12},
                {"calendar_features": 10**12},
                {"layers": 10**6},
                {"members": 10**6},
                {"hidden": 10**25},
                {"heads": 10**25, "hidden": 10**25},
                {"context_length": 10**12, "season": 10**9},
                {"past_covariates": [str(i) for i in range(50_000)]},
                {"segment": 10**12, "context_length": 10**12},
            )
        ),
    ],
)
def test_a_header_that_claims_too_much_is_refused_before_any_of_it_is_allocated(artifact: bytes) -> None:
    had = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**29, had[1]))  # half a gigabyte more than is used now
    try:
        with pytest.raises(ArtifactError, match=r"cannot be read|too few|missing|config needs|can be built|not a tide"):
            unpack(artifact)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, had)


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
numbers = st.integers(-2, 9) | st.sampled_from([10**6, 10**12, 10**25, 2**63]) | plain
configs = st.fixed_dictionaries(
    {},
    optional={
        name: numbers if isinstance(value, int | float) else plain | st.lists(plain, max_size=4)
        for name, value in CONFIG.to_dict().items()
    },
)
values = plain | st.lists(plain, max_size=3) | st.dictionaries(st.text(max_size=4), plain, max_size=3)
headers = st.fixed_dictionaries({}, optional=dict.fromkeys(("format", "series", "provenance", "extra"), values))


@settings(max_examples=300, deadline=None)
@given(configs | values, headers)
def test_any_header_is_an_artifact_error_or_a_model(changes: object, header: dict[str, object]) -> None:
    config = {**CONFIG.to_dict(), **changes} if isinstance(changes, dict) else changes
    try:
        loaded = unpack(pack_with(**{"config": config, **header}))
    except ArtifactError:
        return
    assert len(loaded.series) == loaded.config.series == 2


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(ARTIFACT)), st.binary(max_size=20))
def test_an_artifact_that_is_cut_or_goes_on_is_an_artifact_error(length: int, more: bytes) -> None:
    if (changed := ARTIFACT[:length] + more) != ARTIFACT:
        with contextlib.suppress(ArtifactError):
            unpack(changed)
            assert length == len(ARTIFACT) - len(more), "only bytes that were overwritten can still be a model"
