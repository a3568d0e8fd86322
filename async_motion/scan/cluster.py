"""Run the tasks on a Ray cluster, one task on each CPU.

When a node dies, Ray retries its task on another node, at most `MAX_RETRIES` times. A retry writes the same
bytes under the same names, and an unfinished recording has no marker. Every node needs async_motion and must
find the recordings under the same paths or in `s3://`. The settings and the store's credentials are sent
with the task.

A Ray cluster runs any code that a client sends. With `RAY_AUTH_MODE=token` (and `RAY_AUTH_TOKEN` or
`RAY_AUTH_TOKEN_PATH`, as Ray reads them) it accepts only clients with the token.
"""

from __future__ import annotations

import asyncio
import logging
import os
from types import TracebackType
from typing import Any, Self

from async_motion.errors import AsyncMotionError, UsageError
from async_motion.scan.model import ScanOutcome, ScanTask
from async_motion.scan.task import OnShare, scan_recording

log = logging.getLogger(__name__)

MAX_RETRIES = 5
LOST = "the cluster gave up on it ({why}): the file crashes the decoder, or its nodes died again and again"


class RayUnavailable(AsyncMotionError):
    """The cluster cannot be reached, or refuses the connection."""


class RayCluster:
    """An engine on the cluster whose head is at `address` (``host:port``; ``auto``: on this machine)."""

    def __init__(self, address: str) -> None:
        """Prepare, without connecting. Raises UsageError if Ray is not installed."""
        try:
            import ray  # noqa: PLC0415  # an extra: only who asks for it needs it
        except ImportError:
            raise UsageError("--ray: Ray is missing: pip install 'async-motion[ray]'") from None
        self._ray: Any = ray
        self._address = address
        self._remote: Any = None
        self._slots = 1

    @property
    def slots(self) -> int:
        """The number of the cluster's CPUs when the engine connected."""
        return self._slots

    async def __aenter__(self) -> Self:
        """Connect. Raises RayUnavailable."""
        ray = self._ray
        if os.environ.get("RAY_AUTH_MODE") != "token":
            log.warning("ray: RAY_AUTH_MODE is not token: anyone who reaches the cluster can run code in it")
        # Ray logs every step, and a refused token with a traceback: only CRITICAL is let through.
        try:
            await asyncio.to_thread(
                ray.init, address=self._address, logging_level=logging.CRITICAL, log_to_driver=False
            )
            cpus = await asyncio.to_thread(lambda: ray.cluster_resources().get("CPU", 1))
        except (ConnectionError, ValueError, RuntimeError, TimeoutError, ray.exceptions.RayError) as exc:
            token = "token" if os.environ.get("RAY_AUTH_MODE") == "token" else "token mode"
            raise RayUnavailable(
                f"--ray: no cluster answers at {self._address}, or it does not take our {token}"
                f" ({type(exc).__name__})"
            ) from None
        self._slots = max(1, int(cpus))
        self._remote = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(run_task)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect, which ends our tasks on the cluster."""
        await asyncio.to_thread(self._ray.shutdown)

    async def run(self, task: ScanTask, on_share: OnShare) -> ScanOutcome:
        """Run a task on any node. `on_share` is not called. A task that Ray gives up is a `problem`."""
        del on_share
        try:
            outcome: ScanOutcome = await self._remote.remote(task)
        except self._ray.exceptions.RayError as exc:
            return ScanOutcome(recording=task.recording, problem=LOST.format(why=type(exc).__name__))
        return outcome


def run_task(task: ScanTask) -> ScanOutcome:
    """Run a task in a worker process of a node."""
    import cv2  # noqa: PLC0415  # in the node's process, not in ours

    cv2.setNumThreads(1)
    return asyncio.run(scan_recording(task))
