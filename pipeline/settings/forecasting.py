"""Tables of tidecast.toml for forecasters: the network, and how it is fitted."""

from typing import Literal

from pydantic import Field

from pipeline.settings.values import Seconds, Section

SearchKey = Literal["kind", "layers", "hidden", "segment", "location", "dropout", "learning_rate"]


class ModelSettings(Section):
    """The network that the retraining job fits; what is left away is chosen by kind."""

    kind: Literal["rnn", "lstm", "gru", "bidirectional", "stacked", "attention"] = "attention"
    cell: Literal["rnn", "lstm", "gru"] | None = None
    layers: int | None = Field(None, ge=1, le=4)
    direction: Literal["forward", "bidirectional"] | None = None
    stack: Literal["plain", "residual"] | None = None
    attention: Literal["none", "multihead", "additive"] | None = None
    decoder: Literal["queries", "recurrent", "dense"] | None = None
    hidden: int = Field(64, ge=1)
    heads: int = Field(4, ge=1)
    segment: int | None = Field(None, ge=1)
    rectify: bool = False
    dropout: float = Field(0.1, ge=0, lt=1)
    calendar: Literal["auto", "all", "none"] = "auto"
    location: Literal["auto", "mean", "last", "validate"] = "auto"
    spread: Literal["window", "series"] = "window"
    series_dim: int = Field(16, ge=0)
    non_negative: Literal["auto", "on", "off"] = "auto"


class TrainingSettings(Section):
    """How it is fitted."""

    loss: Literal["pinball", "mse", "mae", "huber"] = "pinball"
    optimizer: Literal["adamw", "adam", "rmsprop"] = "adamw"
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    steps: int = Field(3000, ge=1)
    patience: int = Field(24, ge=1)
    refit: float = Field(0.5, ge=0, le=10)
    batch: int = Field(128, ge=1)
    learning_rate: float = Field(5e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    ema: float = Field(0.995, ge=0, lt=1)
    seed: int = 0
    members: int = Field(1, ge=1, le=20)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    graph: Literal["auto", "off"] = "auto"
    rank_timeout: Seconds = 300.0
    threads: int = Field(0, ge=0)
    budget: Seconds = 3600.0
    history: int = Field(8760, ge=1)
    validation_steps: int | None = Field(None, ge=1)
    validation_stride: int | None = Field(None, ge=1)
    scaled: bool = True
    max_rows: int = Field(20_000_000, ge=1000)
    mode: Literal["cold", "warm", "fine-tune"] = "cold"
    warm_steps: int | None = Field(None, ge=1)
    recent: Seconds = 30 * 86_400.0
    fine_tune_rate: float = Field(0.1, gt=0, le=1)
    search: int = Field(0, ge=0, le=100)
    search_over: tuple[SearchKey, ...] = ("layers", "hidden", "segment", "location", "dropout", "learning_rate")
