"""The last fence: a thread that frees a camera when the event loop does not.

    set(camera, due) ── `early_s` before `due` ──▶ cut(camera) ── not free when due ──▶ end()

The event loop stops a camera before its lease can be another worker's. A loop that is blocked, a stop that
hangs and a reader that does not return would let two workers capture at once. So this thread cuts the
camera's connections itself. If that does not free the camera, the process ends: its sockets end with it, and
what it accepted is on its disk.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

TICK_S = 0.1
"""How often a camera that was cut is looked at."""
LOOK_S = 1.0
"""How often the clock is read at least: after a suspend, a timer fires late."""


@dataclass(slots=True)
class _Guarded:
    due: float
    cut_at: float | None = None


class LeaseGuard:
    """Watch over the cameras of one worker. `start` it; `stop` it when the worker has left.

    `cut(camera)` ends a camera's connections at once and returns whether it is free; it must not wait.
    `end(camera)` ends the process. Both are called in this thread. `clock` is the clock of the leases.
    """

    def __init__(
        self,
        *,
        cut: Callable[[str], bool],
        end: Callable[[str], None],
        early_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._cut = cut
        self._end = end
        self._early_s = early_s
        self._clock = clock
        self._changed = threading.Condition()
        """Guards all below."""
        self._guarded: dict[str, _Guarded] = {}
        self._stopping = False

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="fleet: guard", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end once no camera is guarded."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def set(self, camera: str, due: float) -> None:
        """Guard a camera: it must be free at `due`. A later `due` postpones that, unless it was cut."""
        with self._changed:
            guarded = self._guarded.get(camera)
            if guarded is None:
                guarded = self._guarded[camera] = _Guarded(math.inf)
            if due < guarded.due:
                self._changed.notify()
            guarded.due = due

    def clear(self, camera: str) -> None:
        """Stop guarding a camera: it is free."""
        with self._changed:
            self._guarded.pop(camera, None)
            self._changed.notify()

    def has_cut(self, camera: str) -> bool:
        """Return whether a camera's connections were cut: this worker must give it up."""
        with self._changed:
            guarded = self._guarded.get(camera)
            return guarded is not None and guarded.cut_at is not None

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stopping and not self._guarded:
                    return
                self._changed.wait(self._pause_s())
                due = [
                    (camera, guarded)
                    for camera, guarded in self._guarded.items()
                    if guarded.due - self._early_s <= self._clock()
                ]
                for _, guarded in due:
                    if guarded.cut_at is None:
                        guarded.cut_at = self._clock()
            # Without the lock: the event loop takes it.
            for camera, guarded in due:
                if self._cut(camera):
                    if self._stopping:
                        self.clear(camera)
                elif self._is_over(guarded):
                    self._end(camera)

    def _pause_s(self) -> float:
        if any(guarded.cut_at is not None for guarded in self._guarded.values()):
            return TICK_S
        first = min((guarded.due for guarded in self._guarded.values()), default=None)
        if first is None:
            return LOOK_S
        return min(LOOK_S, max(0.0, first - self._early_s - self._clock()))

    def _is_over(self, guarded: _Guarded) -> bool:
        """Return whether the process must end now.

        A camera that was cut late, after a suspend, has `early_s` from its cut.
        """
        assert guarded.cut_at is not None
        return self._clock() >= max(guarded.due, guarded.cut_at + self._early_s)
