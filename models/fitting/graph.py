"""A training step recorded once as a CUDA graph and replayed: one launch instead of some hundred."""

from __future__ import annotations

from collections.abc import Callable

import torch

from models.fitting.step import TrainingStep

WARM_UP = 3
"""Steps on a side stream before recording: libraries choose kernels and take their memory then."""
EAGER, GRAPH = "eager", "cuda graph"
MODE = "thread_local"
"""NCCL's watchdog thread may ask for events while we record; only this thread's calls can spoil the recording."""


def choose_path(step: TrainingStep, wish: str) -> tuple[Callable[[], None], str]:
    """What makes a step, and its name for people: "cuda graph", "eager", or "eager: why no graph could be recorded".

    Both give the same losses: recording leaves weights, averages, optimiser and generators as they were.
    """
    if wish == "off" or step.device.type != "cuda":
        return step.make, EAGER
    return try_recording(step)


def try_recording(step: TrainingStep) -> tuple[Callable[[], None], str]:
    """Record the step, or go on without."""
    begun = step.save()
    try:
        warm_up(step)
        step.restore(begun)
        return record(step), GRAPH
    except RuntimeError as error:  # torch raises its CUDA errors as such
        step.restore(begun)
        words = str(error).strip().splitlines() or [type(error).__name__]
        return step.make, f"{EAGER}: no CUDA graph could be recorded ({words[0][:200]})"


def warm_up(step: TrainingStep) -> None:
    """Make a few steps on a side stream, the last one where waiting for the device is an error.

    What would spoil a recording fails here, where it does no harm yet.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            for number in range(WARM_UP):
                if number == WARM_UP - 1:
                    torch.cuda.set_sync_debug_mode("error")
                step.differentiate()
                step.update()
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.cuda.current_stream().wait_stream(stream)


def record(step: TrainingStep) -> Callable[[], None]:
    """Record the step; with several ranks as two graphs, so that what they exchange stays outside."""
    if step.ranks.world == 1:
        return _record(step, step.make).replay
    first = _record(step, step.differentiate)
    second = _record(step, step.update, pool=first)

    def make() -> None:
        first.replay()
        step.exchange()
        second.replay()

    return make


def _record(
    step: TrainingStep, part: Callable[[], object], pool: torch.cuda.CUDAGraph | None = None
) -> torch.cuda.CUDAGraph:
    # The outer stream context: torch.cuda.graph does not leave its own when ending a recording fails.
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    graph.register_generator_state(step.generator)
    try:
        with (
            torch.cuda.stream(stream),
            torch.cuda.graph(graph, stream=stream, pool=pool.pool() if pool else None, capture_error_mode=MODE),
        ):
            part()
    except RuntimeError:
        graph.reset()  # releases the generators
        raise
    return graph
