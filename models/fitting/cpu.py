"""Switches of a process that trains or scores on a CPU; an entry point calls `tune_cpu` once, before any
tensor work.

Denormals and page faults make recurrent training 2 to 10 times slower than need be (measured: 48 to 515
windows/s).
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from models.fitting.cores import count_threads

# glibc's malloc.h: keep tensors of up to 32 MiB (the largest value it takes) on the heap, and give the heap back late.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_MALLOC = ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 512 << 20), (_M_TOP_PAD, 64 << 20))


@dataclass(frozen=True, slots=True)
class CpuSwitches:
    """What is active: denormals flushed in every thread (self-tested), glibc malloc tuned, threads of the pool."""

    flush_denormal: bool
    malloc: bool
    threads: int


def tune_cpu(threads: int) -> CpuSwitches:
    """Sets the switches and says which took. Threads inherit the flush mode, so call it before torch's pool exists."""
    flush = torch.set_flush_denormal(True)
    malloc = _tune_malloc()
    torch.set_num_threads(threads)
    return CpuSwitches(flush and _flushes_everywhere(), malloc, threads)


@contextmanager
def fitting_threads(wish: int) -> Iterator[int]:
    """For the length of a block, compute on `wish` threads, or for 0 on as many as there are free cores.

    For a process that is not ours, such as a notebook: it has its own number back afterwards.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count_threads(wish))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def _flushes_everywhere() -> bool:
    tiny = torch.full((1 << 20,), 1e-40)  # large enough for torch to use every thread
    return not bool((tiny * 0.5).any())


def _tune_malloc() -> bool:
    name = ctypes.util.find_library("c")
    library = ctypes.CDLL(name) if name else None
    mallopt = getattr(library, "mallopt", None)  # musl and macOS have none
    if mallopt is None:
        return False
    took = [
        mallopt(option, value) == 1 for option, value in _MALLOC
    ]  # a list: every option is set, whatever the others
    return all(took)
