"""Configs refuse what cannot work, say what to change, and survive JSON."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from models.config import QUANTILE_LEVELS, ModelConfig, TrainConfig
from models.presets import PRESETS, Kind


def test_configs_survive_json() -> None:
    beside = {"past_covariates": ("wind",), "future_covariates": ("price", "holiday"), "static_covariates": ("size",)}
    model = ModelConfig(cell="lstm", series=3, horizon=7, quantile_levels=(0.1, 0.5, 0.9), **beside)
    assert model.covariates == (1, 2, 1)
    assert ModelConfig.from_dict(json.loads(json.dumps(model.to_dict()))) == model
    train = TrainConfig(steps=3, max_seconds=2.5)
    assert TrainConfig.from_dict(json.loads(json.dumps(train.to_dict()))) == train
    assert ModelConfig.from_dict({}) == ModelConfig()


def test_a_kind_chooses_the_parts_that_are_left_away() -> None:
    parts = ("cell", "layers", "direction", "stack", "attention", "decoder")

    def choose(**fields: Any) -> list[Any]:
        config = ModelConfig(**fields)
        assert ModelConfig.from_dict(config.to_dict()) == config
        return [getattr(config, part) for part in parts]

    assert choose(kind="rnn") == ["rnn", 1, "forward", "plain", "none", "queries"]
    assert choose(kind="lstm") == ["lstm", 1, "forward", "plain", "none", "queries"]
    assert choose(kind="gru") == ["gru", 1, "forward", "plain", "none", "queries"]
    assert choose(kind="bidirectional") == ["lstm", 1, "bidirectional", "plain", "none", "queries"]
    assert choose(kind="stacked") == ["gru", 2, "forward", "residual", "none", "queries"]
    assert choose(kind="attention") == ["gru", 2, "forward", "residual", "multihead", "queries"]
    assert choose(kind="rnn", cell="lstm", layers=3, decoder="dense")[:2] == ["lstm", 3]


def test_each_kind_that_settings_may_name_has_a_preset() -> None:
    assert get_args(Kind) == tuple(PRESETS)


def test_thirteen_levels_around_the_median() -> None:
    assert len(QUANTILE_LEVELS) == 13
    assert [round(1.0 - level, 6) for level in reversed(QUANTILE_LEVELS)] == list(QUANTILE_LEVELS)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"kind": "prophet"},
            "use one of rnn, lstm, gru, bidirectional, stacked, attention, pretrained, seasonal_naive",
        ),
        ({"cell": "mamba"}, "use one of rnn, lstm, gru"),
        ({"layers": -1}, "whole number of at least 1"),
        ({"direction": "sideways"}, "use one of forward, bidirectional"),
        ({"stack": "high"}, "use one of plain, residual"),
        ({"attention": "divided"}, "use one of none, multihead, additive"),
        ({"decoder": "json"}, "use one of queries, recurrent, dense"),
        ({"decoder": "dense"}, "or attention 'none'"),
        ({"kind": "bidirectional", "hidden": 9, "heads": 1}, "must be even"),
        ({"location": "median"}, "use one of mean, last"),
        ({"segment": 20}, "use a segment of 21"),
        ({"heads": 3}, "does not divide hidden"),
        ({"horizon": 0}, "whole number of at least 1"),
        ({"horizon": True}, "whole number of at least 1"),
        ({"season": 24.0}, "whole number of at least 1"),
        ({"series": -1}, "whole number of at least 0"),
        ({"dropout": 1.0}, "number from 0 to 0.95"),
        ({"dropout": float("nan")}, "number from 0 to 0.95"),
        ({"quantile_levels": [0.1, 0.9]}, "contain 0.5"),
        ({"quantile_levels": [0.5, 0.1]}, "must ascend"),
        ({"quantile_levels": [0.0, 0.5]}, "between 0 and 1"),
        ({"past_covariates": ["wind"], "static_covariates": ["wind"]}, "covariates wind, wind must be different names"),
        ({"future_covariates": [""]}, "must be different names"),
        ({"depth": 3}, "has no field depth"),
    ],
)
def test_a_model_that_cannot_work_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ModelConfig.from_dict(fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"steps": 0}, "at least 1"),
        ({"seed": -1}, "at least 0"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"ema": 1.0}, "ema"),
        ({"id_dropout": 1.5}, "from 0 to 1"),
        ({"max_seconds": 0}, "max_seconds"),
        ({"epochs": 3}, "has no field epochs"),
    ],
)
def test_a_fit_that_cannot_work_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrainConfig.from_dict(fields)
