"""Run a scan: recordings in, outcomes out in the same order, from the ledger or from an engine.

recordings ──▶ ledger: known? ──▶ engine, `slots` at a time ──▶ outcomes in the recordings' order
                                                                    └ the index of their days
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import date

from async_motion.errors import AsyncMotionError
from async_motion.scan.engines import Engine
from async_motion.scan.ledger import ScanLedger, days_of, ledger_of
from async_motion.scan.model import Recording, ScanOutcome, ScanSpec, ScanTask
from async_motion.scan.sinks import cancel_all

AHEAD = 256
"""Recordings that may be scanned ahead of the next outcome to yield."""
TELL_EVERY_S = 0.2


class ScanStopped(AsyncMotionError):
    """The scan must stop, as every further recording would fail: the store is down, or the disk is full."""


@dataclass(slots=True)
class ScanProgress:
    """The progress of a scan. Bytes are file sizes; `remembered` recordings come from the ledger."""

    recordings: int
    bytes: int
    done: int = 0
    done_bytes: int = 0
    remembered: int = 0
    remembered_bytes: int = 0
    problems: int = 0
    events: int = 0
    seconds: float = 0.0
    """Seconds of video that this scan has read."""
    began: float = field(default_factory=time.monotonic)
    _shares: dict[str, tuple[float, int]] = field(default_factory=dict)
    """The running recordings, by place: (share done 0..1, bytes)."""

    def at_work(self, recording: Recording, share: float) -> None:
        """Note the share of a running recording that is done, 0..1."""
        self._shares[recording.place] = (share, recording.size)

    def finished(self, outcome: ScanOutcome) -> None:
        """Count a recording as done."""
        recording = outcome.recording
        self._shares.pop(recording.place, None)
        self.done += 1
        self.done_bytes += recording.size
        self.problems += outcome.problem is not None
        self.events += len(outcome.events)
        if outcome.remembered:
            self.remembered += 1
            self.remembered_bytes += recording.size
        else:
            self.seconds += outcome.seconds

    @property
    def share(self) -> float:
        """The share of all bytes that is done, 0..1."""
        running = sum(share * size for share, size in self._shares.values())
        return min(1.0, (self.done_bytes + running) / max(1, self.bytes))

    def left_s(self, now: float) -> float | None:
        """Return the seconds left at the rate so far; None while nothing has been read."""
        running = sum(share * size for share, size in self._shares.values())
        read = self.done_bytes - self.remembered_bytes + running
        if read <= 0 or now <= self.began:
            return None
        return (self.bytes - self.done_bytes - running) * (now - self.began) / read


OnProgress = Callable[[ScanProgress], None]


async def scan(
    recordings: Sequence[Recording],
    specs: Mapping[str, ScanSpec],
    engine: Engine,
    *,
    again: bool = False,
    index_every_s: float = 300.0,
    on_progress: OnProgress = lambda _progress: None,
) -> AsyncGenerator[ScanOutcome, None]:
    """Scan the recordings; yield an outcome for each, in their order.

    `specs` are by camera. `again`: also scan recordings that are in the ledger. `index_every_s`: seconds
    between writes of the index. Raises ScanStopped.
    """
    progress = ScanProgress(len(recordings), sum(each.size for each in recordings))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(engine)
        ledgers = {camera: await stack.enter_async_context(ledger_of(spec)) for camera, spec in specs.items()}
        books = {
            camera: _Book(ledger, await ledger.known(camera))
            for camera, ledger in ledgers.items()
            if ledger is not None
        }
        work = _Work(recordings, specs, books, engine, progress, on_progress, again=again)
        due: dict[str, set[date]] = {camera: set() for camera in specs}
        written = time.monotonic()
        async with aclosing(work.outcomes()) as outcomes:
            async for outcome in outcomes:
                camera = outcome.recording.camera
                if specs[camera].store:
                    due[camera] |= days_of([outcome, *work.replaced(outcome.recording)])
                    if time.monotonic() - written >= index_every_s:
                        await _write_index(books, due)
                        written = time.monotonic()
                yield outcome
        await _write_index(books, due)


@dataclass(frozen=True, slots=True)
class _Book:
    ledger: ScanLedger
    known: set[str]


class _Work:
    """The tasks of one scan, running and done."""

    def __init__(
        self,
        recordings: Sequence[Recording],
        specs: Mapping[str, ScanSpec],
        books: Mapping[str, _Book],
        engine: Engine,
        progress: ScanProgress,
        on_progress: OnProgress,
        *,
        again: bool,
    ) -> None:
        self._recordings = recordings
        self._specs = specs
        self._books = books
        self._engine = engine
        self._progress = progress
        self._on_progress = on_progress
        self._again = again
        self._done: dict[int, ScanOutcome] = {}
        self._next = 0
        """Position of the next recording to take."""
        self._given = 0
        """Position of the next outcome to yield."""
        self._changed = asyncio.Condition()
        self._replaced: dict[str, ScanOutcome] = {}
        self._told = 0.0

    async def outcomes(self) -> AsyncGenerator[ScanOutcome, None]:
        """Yield the outcomes in order. Raises ScanStopped."""
        tasks = [asyncio.create_task(self._take(), name=f"scan {slot}") for slot in range(self._engine.slots)]
        waiting = asyncio.create_task(self._ready(), name="scan next")
        try:
            while self._given < len(self._recordings):
                await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in tasks if task.done()]:
                    task.result()  # re-raise the task's error
                    tasks.remove(task)
                if waiting.done():
                    outcome = self._done.pop(self._given)
                    self._given += 1
                    async with self._changed:
                        self._changed.notify_all()
                    yield outcome
                    waiting = asyncio.create_task(self._ready(), name="scan next")
        finally:
            await cancel_all([waiting, *tasks])

    def replaced(self, recording: Recording) -> list[ScanOutcome]:
        """Return, once, the earlier outcome of a recording that was scanned again: none or one."""
        known = self._replaced.pop(recording.place, None)
        return [] if known is None else [known]

    async def _ready(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._given in self._done)

    async def _take(self) -> None:
        """Scan one recording after the other. Raises ScanStopped."""
        while self._next < len(self._recordings):
            place, self._next = self._next, self._next + 1
            async with self._changed:
                await self._changed.wait_for(lambda place=place: place < self._given + AHEAD)  # type: ignore[misc]
            outcome = await self._one(self._recordings[place])
            if outcome.stops:
                raise ScanStopped(f"{outcome.problem}; the same command continues from here")
            self._progress.finished(outcome)
            self._tell()
            async with self._changed:
                self._done[place] = outcome
                self._changed.notify_all()

    async def _one(self, recording: Recording) -> ScanOutcome:
        spec = self._specs[recording.camera]
        known: ScanOutcome | None = None
        book = self._books.get(recording.camera)
        if book is not None and recording.digest in book.known:
            found = await book.ledger.find(recording, spec)
            if found is not None:
                known, counts = found
                if counts and not self._again:
                    return known
                self._replaced[recording.place] = known

        def on_share(share: float) -> None:
            self._progress.at_work(recording, share)
            self._tell()

        return await self._engine.run(ScanTask(recording=recording, spec=spec, known=known), on_share)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= TELL_EVERY_S:
            self._told = now
            self._on_progress(self._progress)


async def _write_index(books: Mapping[str, _Book], due: Mapping[str, set[date]]) -> None:
    for camera, days in due.items():
        for day in sorted(days):
            await books[camera].ledger.write_index(camera, day)
        days.clear()
