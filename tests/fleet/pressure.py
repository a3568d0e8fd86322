"""What the machine took from a fleet: how long its processes waited for a processor, and all for the disk.

The kernel counts both: `/proc/PID/task/*/schedstat` and `/proc/pressure/io`. A gap is the machine's only if
these figures say so.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

EVERY_S = 0.5


def waited_s(pid: int) -> float:
    """Return how long a process's main thread has waited for a processor, in seconds."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def disk_s(path: Path = Path("/proc/pressure/io")) -> float:
    """Return how long some process of this machine has waited for a disk, in seconds; 0 if unknown."""
    try:
        return int(path.read_text().splitlines()[0].rpartition("=")[2]) / 1e6
    except (OSError, ValueError, IndexError):
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    at: float
    disk_s: float
    waited_s: Mapping[tuple[str, int], float]


class PressureLog:
    """Read the figures twice a second, in a thread. `pids` returns the running processes by name."""

    def __init__(self, pids: Callable[[], Mapping[str, int]], clock: Callable[[], float]) -> None:
        self._pids = pids
        self._clock = clock
        self._readings: list[_Reading] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pressure", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.read()

    def read(self) -> None:
        """Add a reading."""
        waits = {(name, pid): waited_s(pid) for name, pid in self._pids().items()}
        self._readings.append(_Reading(at=self._clock(), disk_s=disk_s(), waited_s=waits))

    def during(self, begin_s: float, end_s: float) -> str:
        """Return in words what was waited for between two moments."""
        span = [reading for reading in self._readings if begin_s <= reading.at <= end_s]
        if len(span) < 2:
            return "not measured"
        first, last = span[0], span[-1]
        waits = [
            (seconds - first.waited_s[process], process[0])
            for process, seconds in last.waited_s.items()
            if process in first.waited_s
        ]
        longest, name = max(waits, default=(0.0, "none"))
        late = max(after.at - before.at for before, after in itertools.pairwise(span)) - EVERY_S
        return (
            f"of {last.at - first.at:.1f} s: {longest:.2f} s for a processor ({name}),"
            f" {last.disk_s - first.disk_s:.2f} s for a disk, the oracle {max(late, 0.0):.2f} s late"
        )
