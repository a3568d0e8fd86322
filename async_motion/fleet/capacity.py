"""The capacity of this machine and the cost of each camera, both in cores.

- *Capacity*: the processor time that this process may use (affinity, control group), limited by its memory
  at `MEMORY_PER_CORE`.
- *Cost*: the processor time of this process and its children, divided among the cameras in proportion to the
  pixels that were decoded and judged for each. Work for all of them (delivery, the page) is included.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

MEMORY_PER_CORE: Final = 512 << 20
"""Bytes needed by the cameras of one core: about ten at 720p, with their pre-roll."""
WINDOW_S: Final = 10.0
"""Minimum length of a measurement of cost."""
SMOOTHING: Final = 0.5
"""Weight of the newest window in the exponential moving average of a cost."""
MIN_COST: Final = 0.001

_GROUP: Final = Path("/sys/fs/cgroup")


def measured_capacity(group: Path = _GROUP) -> float:
    """Return the cores that this process may use, > 0."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _words(group / "cpu.max")
    with suppress(ValueError, IndexError, ZeroDivisionError):
        cores = min(cores, int(quota[0]) / int(quota[1]))
    memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(ValueError, IndexError):
        memory = min(memory, float(int(_words(group / "memory.max")[0])))
    return round(max(0.1, min(cores, memory / MEMORY_PER_CORE)), 2)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def processor_s() -> float:
    """Return the processor time of this process and of its living children, in seconds."""
    total = time.process_time()
    for children in Path("/proc/self/task").glob("*/children"):
        for child in _words(children):
            with suppress(OSError, ValueError, IndexError):
                # The command's name, in parentheses, may hold spaces.
                fields = Path("/proc", child, "stat").read_text().rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


class CostMeter:
    """Measures the cost of each camera. `work` returns the pixels judged so far, by camera."""

    def __init__(
        self,
        work: Callable[[], Mapping[str, float]],
        *,
        clock: Callable[[], float] = time.monotonic,
        spent_s: Callable[[], float] = processor_s,
    ) -> None:
        self._work = work
        self._clock = clock
        self._spent_s = spent_s
        self._costs: dict[str, float] = {}
        self._since, self._spent, self._done = clock(), spent_s(), dict(work())

    def cost(self, camera: str) -> float | None:
        """Return a camera's cost in cores; None if it was not measured yet."""
        self._measure()
        return self._costs.get(camera)

    def _measure(self) -> None:
        now = self._clock()
        length_s = now - self._since
        if length_s < WINDOW_S:
            return
        spent, done = self._spent_s(), dict(self._work())
        work = {
            camera: pixels - self._done[camera]
            for camera, pixels in done.items()
            if camera in self._done and pixels > self._done[camera]
        }
        used = max(0.0, spent - self._spent) / length_s
        total = sum(work.values())
        costs = {camera: max(MIN_COST, used * part / total) for camera, part in work.items()}
        self._costs = {
            camera: SMOOTHING * cost + (1 - SMOOTHING) * self._costs.get(camera, cost)
            for camera, cost in costs.items()
        }
        self._since, self._spent, self._done = now, spent, done
