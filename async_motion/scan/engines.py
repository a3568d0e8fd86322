"""Engines that run the tasks: in this process, in processes of this machine, or on a Ray cluster.

All of them run `scan_recording` on the same values and return the same outcomes. A process that dies costs
one recording: its outcome names the cause, and a new process replaces it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Protocol, Self

import cv2

from async_motion.scan.model import ScanOutcome, ScanTask
from async_motion.scan.task import OnShare, scan_recording

log = logging.getLogger(__name__)

SHARE_STEP = 0.01
"""The progress, as a share, after which a child process reports again."""
DIED = "the process that read it died ({why}): the file crashes the decoder, or there is no memory for it"


class Engine(Protocol):
    """Runs up to `slots` tasks at a time. `async with` starts it; its exit stops the tasks that still run."""

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
        """Limit OpenCV to one thread."""
        cv2.setNumThreads(1)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: a cancelled task has already ended."""

    async def run(self, task: ScanTask, on_share: OnShare) -> ScanOutcome:
        """Run a task in this event loop."""
        return await scan_recording(task, on_share)


class Processes:
    """`slots` spawned processes. A fork would copy locks that other threads hold."""

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
        """Kill the processes. The next scan repeats the recordings that were interrupted."""
        for child in self._children:
            child.end()
        self._threads.shutdown(wait=True)

    async def run(self, task: ScanTask, on_share: OnShare) -> ScanOutcome:
        """Run a task in an idle process. A process that dies is replaced; its outcome is a `problem`."""
        child = await self._idle.get()
        loop = asyncio.get_running_loop()

        def report(share: float) -> None:
            loop.call_soon_threadsafe(on_share, share)

        outcome = await loop.run_in_executor(self._threads, child.run, task, report)
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
    """A child process and the pipe to it."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=serve, args=(theirs,), daemon=True)
        with _interrupts_blocked():
            self._process.start()
        theirs.close()

    def run(self, task: ScanTask, on_share: Callable[[float], None]) -> ScanOutcome | None:
        """Run a task; return None if the process died. Blocks."""
        try:
            self._pipe.send(task)
            while True:
                answer = self._pipe.recv()
                if isinstance(answer, ScanOutcome):
                    return answer
                on_share(answer)
        except (EOFError, OSError):
            return None

    def end(self) -> str:
        """Kill the process unless it has exited; return its signal's name or its exit code. Blocks."""
        if self._process.exitcode is None:
            self._process.join(0.2)
        self._process.kill()
        self._process.join(10)
        self._pipe.close()
        code = self._process.exitcode
        if code is not None and code < 0:
            return signal.Signals(-code).name
        return f"exit code {code}"


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Hold SIGINT back, also for good in a process that is started here.

    Ctrl-C reaches every process of the terminal. A child must not act on it, not even while it imports: its
    parent ends it.
    """
    # multiprocessing starts this process with the first child, and unblocks SIGINT when it has.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(pipe: Connection) -> None:
    """Run the tasks that arrive through a pipe, until it is closed or the parent dies."""
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
