"""How many CPU cores are free for a fit: what this process may use, less what others use of it.

    cores that are allowed (affinity, one thread each) | quota of the container | idle in a short look -> the least

One thread too many is far worse than one too few: torch's threads wait for each other at the end of every operation, so
a single one that has no core holds up all of them.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

LOOK = 0.5
"""Seconds that are looked at: a stream's worker works in turns of that length."""
NEARLY = 0.25
"""Share of a core that others may use while it still counts as free: no machine is wholly idle."""
Ticks = dict[int, tuple[int, int]]
"""Of each CPU the ticks that it was idle, and all of its ticks."""


def count_threads(wish: int) -> int:
    """Threads for a fit in this process: `wish`, or for 0 its part of the free cores beside others of a torchrun."""
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return wish or max(1, count_free() // max(1, beside))


def count_free(
    root: Path = Path("/"),
    *,
    allowed: Iterable[int] | None = None,
    look: Callable[[float], None] = time.sleep,
    load: Callable[[], float] | None = None,
) -> int:
    """Count the free cores, at least 1; `allowed`: the CPUs that this process may run on, as the system says.

    `look` waits so many seconds, between two readings of what is busy. Where the system does not tell (macOS, Windows),
    the `load` average of a minute is taken off the CPUs.
    """
    cpus = set(_list_allowed() if allowed is None else allowed)
    groups = {place: quota for place in _list_groups(root) if (quota := _read_quota(place)) is not None}
    before, used = _read_ticks(root), {place: _read_used(place) for place in groups}
    if not cpus & before.keys():
        return max(1, math.floor(len(cpus) - (load or _read_load)() + NEARLY))
    look(LOOK)
    after = _read_ticks(root)
    cores = {frozenset(_list_siblings(root, cpu)) for cpu in cpus}
    free = [sum(min(_find_idle(before, after, cpu) for cpu in core) for core in cores)]
    free += [quota - max(0.0, _read_used(place) - used[place]) / LOOK for place, quota in groups.items()]
    return max(1, math.floor(min(free) + NEARLY))


def _list_allowed() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _read_load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _list_siblings(root: Path, cpu: int) -> set[int]:
    """List the CPUs of the same core: two threads of a fit on one core are no faster than one."""
    found = {cpu}
    for part in _read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            found |= set(range(int(first), int(last if last.isdigit() else first) + 1))
    return found


def _read_ticks(root: Path) -> Ticks:
    ticks = {}
    for line in _read(root / "proc/stat").splitlines():
        name, *counts = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and len(counts) >= 5:
            user, nice, system, idle, waiting, *others = (int(count) for count in counts[:8])
            ticks[int(name[3:])] = (idle + waiting, user + nice + system + idle + waiting + sum(others))
    return ticks


def _find_idle(before: Ticks, after: Ticks, cpu: int) -> float:
    if cpu not in before or cpu not in after:
        return 1.0  # a sibling that is switched off takes nothing
    idle, total = (new - old for new, old in zip(after[cpu], before[cpu], strict=True))
    return min(max(idle / total, 0.0), 1.0) if total > 0 else 1.0  # a CPU that sleeps may count no tick


def _list_groups(root: Path) -> list[Path]:
    """List the folders of this process's control groups that may limit its CPU time, and those above them."""
    found = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        if kinds and "cpu" not in kinds.split(","):
            continue
        top = root / "sys/fs/cgroup" / kinds  # version 2 has no kinds
        place = top / path.lstrip("/")
        found += [place, *(above for above in place.parents if above == top or top in above.parents)]
    return found


def _read_quota(place: Path) -> float | None:
    """Cores' worth of time that a control group may take; None for any."""
    limit, _, period = _read(place / "cpu.max").partition(" ")
    if not limit:
        limit, period = _read(place / "cpu.cfs_quota_us"), _read(place / "cpu.cfs_period_us")
    if not (limit.isdigit() and period.isdigit() and int(limit) and int(period)):  # "max", -1
        return None
    return int(limit) / int(period)


def _read_used(place: Path) -> float:
    """Seconds of CPU that a control group has used; 0 where it does not say."""
    counts = dict(line.split(" ", 1) for line in _read(place / "cpu.stat").splitlines() if " " in line)
    if counts.get("usage_usec", "").isdigit():
        return int(counts["usage_usec"]) / 1e6
    used = _read(place / "cpuacct.usage")
    return int(used) / 1e9 if used.isdigit() else 0.0


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
