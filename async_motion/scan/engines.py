"""What runs the tasks: this process, processes of this machine, or a Ray cluster.

All of them run `scan_recording` on the same values and give the same outcomes. A process that dies takes one
recording with it: the outcome says so, and another process takes its place.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Protocol, Self

import cv2

from async_motion.scan.model import ScanOutcome, ScanTask
from async_motion.scan.task import OnShare, scan_recording

log = logging.getLogger(__name__)

SHARE_STEP = 0.01
"""How much further a task must be before it says so again."""
DIED = "the process that read it died ({why}): the file crashes the decoder, or there is no memory for it"


class Engine(Protocol):
    """Runs tasks, `slots` of them at a time. `async with` starts it, and at the end stops what still runs."""

    @property
    def slots(self) -> int: ...

    async def run(self, task: ScanTask, on_share: OnShare) -> ScanOutcome:
        """Run a task. `on_share` may never be called."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class InProcess:
    """One task at a time, in this process and its event loop."""

    slots = 1

    async def __aenter__(self) -> Self:
        """Leave the other cores to others."""
        cv2.setNumThreads(1)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: a task that was cancelled has ended."""

    async def run(self, task: ScanTask, on_share: OnShare) -> ScanOutcome:
        """Run it here."""
        return await scan_recording(task, on_share)


class Processes:
    """`slots` processes, each started afresh: a fork would copy the threads' locks."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._children: list[_Child] = []
        self._idle: asyncio.LifoQueue[_Child] = asyncio.LifoQueue()
        self._threads = ThreadPoolExecutor(slots, "scan")

    async def __aenter__(self) -> Self:
        """Start the processes."""
        for _ in range(self.slots):
            self._add()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes, at work or not: what was at work is done again by the next scan."""
        for child in self._children:
            child.end()
        self._threads.shutdown(wait=True)

    async def run(self, task: ScanTask, on_share: OnShare) -> ScanOutcome:
        """Run it in an idle process."""
        child = await self._idle.get()
        loop = asyncio.get_running_loop()

        def told(share: float) -> None:
            loop.call_soon_threadsafe(on_share, share)

        outcome = await loop.run_in_executor(self._threads, child.run, task, told)
        if outcome is None:
            why = child.end()
            self._children.remove(child)
            self._add()
            return ScanOutcome(recording=task.recording, problem=DIED.format(why=why))
        self._idle.put_nowait(child)
        return outcome

    def _add(self) -> None:
        child = _Child()
        self._children.append(child)
        self._idle.put_nowait(child)


class _Child:
    """One process and the pipe to it."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, task: ScanTask, on_share: Callable[[float], None]) -> ScanOutcome | None:
        """Run a task; return None when the process died. Blocks."""
        try:
            self._pipe.send(task)
            while True:
                said = self._pipe.recv()
                if isinstance(said, ScanOutcome):
                    return said
                on_share(said)
        except (EOFError, OSError):
            return None

    def end(self) -> str:
        """End the process; return how it ended."""
        if self._process.exitcode is None:
            self._process.join(0.2)
        self._process.kill()
        self._process.join(10)
        self._pipe.close()
        code = self._process.exitcode
        if code is not None and code < 0:
            return signal.Signals(-code).name
        return f"exit code {code}"


def serve(pipe: Connection) -> None:
    """Run the tasks that come through a pipe, until it ends or its other end dies."""
    # Ctrl-C reaches every process of the terminal; the parent ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, name="parent", daemon=True).start()
    cv2.setNumThreads(1)
    logging.disable(logging.INFO)
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(asyncio.run(scan_recording(task, _in_steps(pipe.send))))


def _in_steps(tell: Callable[[float], object]) -> OnShare:
    last = 0.0

    def on_share(share: float) -> None:
        nonlocal last
        if share >= last + SHARE_STEP:
            last = share
            tell(share)

    return on_share


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
