"""The training step: it never waits for the device, can be recorded, and is the same in bfloat16 and float32."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from models.config import LOSSES, OPTIMIZERS, ModelConfig, TrainConfig
from models.fitting import graph
from models.fitting.fit import fit
from models.fitting.graph import choose_path, try_recording
from models.fitting.losses import sum_error
from models.fitting.sampling import Windows, cut_with_truth, hide_some, list_windows
from models.fitting.step import TrainingStep
from models.network.forecasters import Single, build
from models.network.precision import choose_precision, recur
from models.network.scaling import find_scale
from models.presets import KINDS, NAIVE
from tests.unit.models.panels import make_panel

CPU = torch.device("cpu")
NO_GPU = "there is no GPU on this machine"
CONFIG = ModelConfig(
    hidden=8,
    heads=2,
    layers=1,
    segment=6,
    context_length=24,
    horizon=6,
    season=6,
    series=4,
    series_dim=4,
    calendar_features=3,
)
TRAIN = TrainConfig(steps=20, batch_size=16, validate_every=5, validation_steps=12, learning_rate=1e-2)
SIZES = {"context_length": CONFIG.context_length, "horizon": CONFIG.horizon}
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero", "lift_fresh", "lift")
"""Operations that read a tensor on the host, have a shape that depends on values, or bring a new tensor from there."""


class NeverWaits(TorchDispatchMode):
    """Fails on an operation that would make a GPU's host wait, or could not be recorded."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in WAITS, f"{name} waits for the device"
        if name.startswith("index") and isinstance(args[1], list | tuple):
            assert all(each is None or each.dtype != torch.bool for each in args[1]), f"{name} by a mask waits"
        out = func(*args, **kwargs or {})
        devices = {each.device for each in (*args, out) if isinstance(each, torch.Tensor) and each.dim()}
        assert len(devices) <= 1, f"{name} between {devices} waits"
        return out


def make_windows(device: torch.device = CPU) -> Windows:
    panel = make_panel(series=4, steps=[90, 70, 30, 13], season=6, noise=0.2, features=3)
    return list_windows(panel.to(device), held_back=12, season=6, **SIZES)


def make_step(config: TrainConfig = TRAIN, *, device: torch.device = CPU, **changes: Any) -> TrainingStep:
    precision = changes.pop("precision", torch.float32)
    output = "quantiles" if config.loss == "pinball" else "point"
    model, average = (build(replace(CONFIG, output=output, **changes), seed=1).to(device) for _ in range(2))
    assert isinstance(model, Single)
    generator = torch.Generator(device).manual_seed(0)
    return TrainingStep(model.train(), average, make_windows(device), config, generator=generator, precision=precision)


def losses(step: TrainingStep, make: Any, count: int = 5) -> list[float]:
    found = []
    for number in range(1, count + 1):
        step.choose(1e-2 / number, 0.1)
        make()
        found.append(step.read_loss())
    return found


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != NAIVE])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_no_part_of_a_step_waits_for_the_device(kind: str, precision: torch.dtype) -> None:
    step = make_step(kind=kind, precision=precision)
    step.choose(1e-3, 0.1)
    with NeverWaits():
        step.make()
    assert math.isfinite(step.read_loss())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_loss_and_no_update_of_weights_waits_for_the_device(loss: str, optimizer: str) -> None:
    step = make_step(replace(TRAIN, loss=loss, optimizer=optimizer))
    step.choose(1e-3, 0.1)
    with NeverWaits():
        step.differentiate()
        if optimizer == "adamw":
            step.update()  # the counters of the others are read on a CPU; on a GPU they are capturable
    assert math.isfinite(float(step.loss))


@pytest.mark.parametrize("broken", [lambda x: float(x[0]), lambda x: x[x > 0], lambda x: torch.tensor([1.0]) + x])
def test_the_watch_sees_what_would_wait(broken: Any) -> None:
    with pytest.raises(AssertionError, match="waits"), NeverWaits():
        broken(torch.ones(2))


def test_sampling_scaling_and_loss_bring_nothing_from_the_host_to_a_gpu() -> None:
    windows, levels = make_windows(), CONFIG.quantile_levels
    total = len(windows)
    with FakeTensorMode(allow_non_fake_inputs=True), NeverWaits(), torch.no_grad():  # a GPU's shapes without a GPU

        def shaped(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            return torch.empty(value.shape, dtype=value.dtype, device="cuda")

        panel = type(windows.panel)(
            **{each.name: shaped(getattr(windows.panel, each.name)) for each in dataclasses.fields(windows.panel)}
        )
        there = Windows(panel, shaped(windows.first), shaped(windows.cumulative), shaped(windows.scale))
        generator = torch.Generator()
        rows, ends = there.draw(16, total, generator)
        batch, truth = cut_with_truth(there, rows, ends, **SIZES)
        batch = hide_some(batch, generator, ids=0.1, histories=0.1)
        scale = find_scale(batch.target, batch.observed, "last")
        quantiles = scale.invert(torch.empty((16, CONFIG.horizon, len(levels)), device="cuda"))
        probability = torch.empty(len(levels), device="cuda")
        for loss in LOSSES:
            error, count = sum_error(quantiles, truth, levels, loss=loss, relative=1.0, probability=probability)
            assert (error.device.type, count.device.type) == ("cuda", "cuda")


def test_restoring_repeats_the_fit_with_every_tensor_where_it_was() -> None:
    for optimizer in OPTIMIZERS:
        step = make_step(replace(TRAIN, optimizer=optimizer))
        begun, places = step.save(), [weight.data_ptr() for weight in step.weights]
        first = losses(step, step.make)
        step.restore(begun)
        assert losses(step, step.make) == first
        assert [weight.data_ptr() for weight in step.weights] == places


class Recording:
    """Stands for torch.cuda.CUDAGraph on a CPU: recording runs code but no kernel, replaying runs the kernels."""

    def __init__(self) -> None:
        self.step: TrainingStep
        self.registered: list[torch.Generator] = []

    def register_generator_state(self, generator: torch.Generator) -> None:
        self.registered.append(generator)

    def replay(self) -> None:
        assert self.registered == [self.step.generator]
        self.step.make()

    def reset(self) -> None:
        self.registered.clear()


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace what recording asks of a GPU; the list says in which order it was asked."""
    said: list[str] = []

    class Stream:
        def wait_stream(self, other: object) -> None:
            said.append("wait")

    @contextlib.contextmanager
    def record(recording: Recording, **options: object) -> Iterator[None]:
        said.append("record")
        begun = recording.step.save()
        yield
        recording.step.restore(begun)

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", said.append)
    monkeypatch.setattr(torch.cuda, "graph", record)
    return said


def bind(monkeypatch: pytest.MonkeyPatch, step: TrainingStep) -> None:
    def make() -> Recording:
        recording = Recording()
        recording.step = step
        return recording

    monkeypatch.setattr(torch.cuda, "CUDAGraph", make)


def test_a_recorded_step_has_the_losses_of_the_eager_one(card: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    eager, recorded = make_step(), make_step()
    bind(monkeypatch, recorded)
    wanted = losses(eager, eager.make)
    recorded.restore(make_step().save())  # the dropout of the first one has moved the random state on
    torch.manual_seed(9)
    recorded_state = recorded.save()
    make, path = try_recording(recorded)
    assert path == "cuda graph"
    assert card == ["wait", "error", "default", "wait", "record"]
    found = losses(recorded, make)
    eager.restore(recorded_state)
    assert losses(eager, eager.make) == found != wanted


def test_what_cannot_be_recorded_goes_on_eagerly_to_the_same_losses(
    card: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    eager, other = make_step(), make_step()
    bind(monkeypatch, other)
    begun = eager.save()
    wanted = losses(eager, eager.make)
    torch.set_rng_state(begun.dropout)
    monkeypatch.setattr(graph, "_record", refuse)
    make, path = try_recording(other)
    assert path == ("eager: no CUDA graph could be recorded (operation not permitted when stream is capturing)")
    assert losses(other, make) == wanted


def test_there_is_no_graph_on_a_cpu() -> None:
    step = make_step()
    assert choose_path(step, "auto") == (step.make, "eager")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != NAIVE])
def test_bfloat16_learns_what_float32_learns(kind: str) -> None:
    full, low = (
        losses(step, step.make, 20)
        for step in (make_step(kind=kind, dropout=0.0, precision=each) for each in (torch.float32, torch.bfloat16))
    )
    assert full != low
    assert low == pytest.approx(full, rel=0.03)


def test_huge_values_stay_finite_in_bfloat16_and_weights_stay_in_float32() -> None:
    step = make_step(precision=torch.bfloat16)
    panel = step.windows.panel
    panel.target.mul_(1e25)
    step.windows.scale.mul_(1e25)
    assert all(math.isfinite(loss) for loss in losses(step, step.make))
    assert {weight.dtype for weight in step.weights} == {torch.float32}
    assert all(bool(weight.isfinite().all()) for weight in step.weights)


@pytest.mark.parametrize("cell", [torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM])
@pytest.mark.parametrize("both", [False, True])
def test_a_recurrent_layer_is_the_same_function_in_bfloat16(cell: type[torch.nn.RNNBase], both: bool) -> None:
    layer = cell(8, 8, batch_first=True, bidirectional=both)
    states = torch.randn(3, 5, 8)
    wanted = recur(layer, states)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = recur(layer, states)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=0.05, atol=0.02)
    found.float().sum().backward()
    assert all(weight.grad is not None and weight.grad.dtype == torch.float32 for weight in layer.parameters())


def test_precisions_by_name_and_a_fit_says_which_one_it_had() -> None:
    assert choose_precision("auto", CPU) == choose_precision("float32", CPU) == torch.float32
    assert choose_precision("bfloat16", CPU) == torch.bfloat16
    with pytest.raises(ValueError, match="precision 'half' is unknown"):
        replace(TRAIN, precision="half")
    with pytest.raises(ValueError, match="graph 'on' is unknown"):
        replace(TRAIN, graph="on")
    model = build(CONFIG)
    assert isinstance(model, Single)
    config = replace(TRAIN, precision="bfloat16", steps=2)
    report = fit(model, make_windows().panel, config, device=CPU, on_progress=lambda _: None)
    assert (report.precision, report.path, report.processes) == ("bfloat16", "eager", 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != NAIVE])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_graph_and_eager_path_have_the_same_losses(kind: str, precision: str) -> None:
    histories = []
    for wish, path in (("auto", "cuda graph"), ("off", "eager")):
        model = build(replace(CONFIG, kind=kind), seed=1)
        assert isinstance(model, Single)
        config = replace(TRAIN, precision=precision, graph=wish)
        panel = make_windows().panel
        report = fit(model, panel, config, device=torch.device("cuda"), on_progress=lambda _: None)
        assert report.path == path
        histories.append([each.loss for each in report.history])
    assert histories[0] == pytest.approx(histories[1], rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_on_a_gpu_every_optimizer_can_be_recorded(optimizer: str) -> None:
    step = make_step(replace(TRAIN, optimizer=optimizer), device=torch.device("cuda"), dropout=0.0)
    begun = step.save()
    wanted = losses(step, step.make)
    step.restore(begun)
    make, path = try_recording(step)
    assert path == "cuda graph"
    assert losses(step, make) == pytest.approx(wanted, rel=1e-3)
