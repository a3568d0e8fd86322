"""Judge a fleet: who has a connection to which camera when, and everything that was announced.

The connections are read from the kernel (`/proc/PID/net/tcp` of each worker): a worker cannot hide one.
A frozen worker captures nothing: its connections count again once it runs.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

EVERY_S = 0.1
ESTABLISHED = "01"


def connected_ports(pid: int) -> set[int]:
    """Return the remote TCP ports of all connections in a process's namespace that are established."""
    try:
        lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return set()
    rows = [line.split() for line in lines]
    return {int(row[2].partition(":")[2], 16) for row in rows if row[3] == ESTABLISHED}


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of time (monotonic, seconds) on one camera. `excused` tells why it is no fault."""

    camera: int
    begin_s: float
    end_s: float
    workers: tuple[str, ...] = ()
    excused: str | None = None

    @property
    def length_s(self) -> float:
        return self.end_s - self.begin_s


@dataclass
class ConnectionOracle:
    """Watch the connections to the cameras, which are their ports, in a thread.

    `pids` returns the running workers by name; `frozen` are those that are stopped now, `thawed` tells when
    one ran again. During an excuse there may be no owner: without a majority of the NATS servers no lease can
    be written. A gap counts from the end of the last excuse in it, and from the last of the `faults`
    (monotonic, seconds) in it: a second fault may hit the next owner before it has connected. The time
    without a NATS leader counts; `leaderless` only tells which gaps it has made long.
    """

    cameras: range
    pids: Callable[[], Mapping[str, int]]
    frozen: set[str] = field(default_factory=set)
    thawed: dict[str, float] = field(default_factory=dict)
    gaps: list[Span] = field(default_factory=list)
    overlaps: list[Span] = field(default_factory=list)
    owners: dict[int, tuple[str, ...]] = field(default_factory=dict)
    excuses: list[tuple[float, float]] = field(default_factory=list)
    """When the excuses that have ended began, and when they ended."""
    faults: list[float] = field(default_factory=list)
    leaderless: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="oracle", daemon=True)
        self._alone: dict[int, float] = {}
        self._together: dict[int, tuple[float, tuple[str, ...]]] = {}
        self.excuse: str | None = "start"
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)

    def begin_excuse(self, why: str) -> None:
        """From now on a camera may be without an owner."""
        self.excuse, self._since = why, time.monotonic()

    def end_excuse(self) -> None:
        if self.excuse is not None:
            self.excuses.append((self._since, time.monotonic()))
            self.excuse = None

    def freeze(self, worker: str) -> None:
        """Regard a worker as frozen: it captures nothing."""
        self.frozen.add(worker)

    def thaw(self, worker: str) -> None:
        """Regard a worker as running again."""
        self.thawed[worker] = time.monotonic()
        self.frozen.discard(worker)

    def led_s(self, gap: Span) -> float:
        """Return the length of a gap without the times in which the NATS servers had no leader."""
        return gap.length_s - sum(
            max(0.0, min(gap.end_s, until) - max(gap.begin_s, since)) for since, until in self.leaderless
        )

    def covered(self) -> bool:
        """Return whether each camera has exactly one worker connected, and none is frozen."""
        return not self.frozen and all(len(self.owners.get(camera, ())) == 1 for camera in self.cameras)

    def _run(self) -> None:
        while not self._ended.wait(EVERY_S):
            self._look(time.monotonic())

    def _look(self, now: float) -> None:
        found: dict[int, list[str]] = defaultdict(list)
        for name, pid in self.pids().items():
            if name not in self.frozen:
                for port in connected_ports(pid):
                    found[port].append(name)
        for camera in self.cameras:
            names = tuple(sorted(found.get(camera, ())))
            self.owners[camera] = names
            if names:
                begin = self._alone.pop(camera, None)
                if begin is not None:
                    begin = max([begin, *self._excused_until(begin), *(at for at in self.faults if at < now)])
                    self.gaps.append(
                        Span(camera=camera, begin_s=min(begin, now), end_s=now, excused=self.excuse)
                    )
            else:
                self._alone.setdefault(camera, now)
            if len(names) > 1:
                self._together.setdefault(camera, (now, names))
            elif camera in self._together:
                begin, workers = self._together.pop(camera)
                recent = [name for name in workers if begin - self.thawed.get(name, 0.0) < 5 * EVERY_S]
                self.overlaps.append(
                    Span(
                        camera=camera,
                        begin_s=begin,
                        end_s=now,
                        workers=workers,
                        excused=f"{recent[0]} was frozen" if recent else None,
                    )
                )

    def _excused_until(self, begin: float) -> list[float]:
        """Return the ends of the excuses that a gap with this begin has seen."""
        return [until for _, until in self.excuses if begin < until]
