"""A worker's connections to the broker, behind the interface of one client.

    connection   for                                                        client id
    worker       subscriptions, announcements under an older lease          async_motion-{instance}-{worker}
    camera …     everything that its owner publishes about it               async_motion-{instance}--{camera}
    =instance    status and state of the instance, Home Assistant devices   async_motion-{instance}

- A client id belongs to the camera: when the next owner connects, the broker closes the last owner's
  connection, even if that worker still believes it owns the camera. Messages in flight there are lost.
- The will delay is longer than a failover, and a handover sends no DISCONNECT: no camera shows offline.
- Retained topics of other workers' cameras are left alone: calls about them do nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from async_motion.broker.client import BrokerClient, Handler
from async_motion.core.names import Topics
from async_motion.errors import BrokerNotReady, BrokerRefused, BrokerUnavailable
from async_motion.fleet.model import INSTANCE

log = logging.getLogger(__name__)

READY_S = 5.0
"""How long a publish waits for a new connection to be established."""
POLL_S = 0.05
CLOSE_S = 10.0
"""How long a connection may take to publish what is left, and to end."""

Connect = Callable[[str], BrokerClient]
"""Returns the client for a camera, or for `INSTANCE`, not yet running."""


@dataclass(slots=True)
class _Line:
    client: BrokerClient
    running: asyncio.Task[None]
    leaving: bool = False
    """The camera is being handed over: its stop here must not publish that it is offline."""


class FleetBroker:
    """Publishes each topic through its owner's connection. `cameras` are all cameras in the settings.

    `frigate_topic` is the base of the additional motion topics; None: there are none.
    """

    def __init__(
        self,
        worker: BrokerClient,
        connect: Connect,
        topics: Topics,
        cameras: Collection[str],
        *,
        frigate_topic: str | None = None,
    ) -> None:
        self.worker = worker
        self._connect = connect
        self._topics = topics
        self._cameras = frozenset(cameras)
        self._bases = tuple(f"{base}/" for base in (topics.base, frigate_topic) if base)
        self._lines: dict[str, _Line] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._wrapped: dict[tuple[str, Handler], Handler] = {}

    # -- life

    async def run(self) -> None:
        """Run the worker's connection until cancelled; then end the remaining connections of cameras."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self.worker.run()
        finally:
            self._tasks = None

    def open(self, owner: str) -> None:
        """Open the connection for a camera, or for `INSTANCE`."""
        assert self._tasks is not None
        client = self._connect(owner)
        running = self._tasks.create_task(client.run(), name=f"broker[{owner}]")
        self._lines[owner] = _Line(client, running)

    def leave(self, owner: str) -> None:
        """Stop publishing a camera's status and state: it is being handed over."""
        if owner in self._lines:
            self._lines[owner].leaving = True

    async def close(self, owner: str) -> None:
        """Publish what is left for a camera or `INSTANCE`, then end its connection without a DISCONNECT.

        Returns within twice `CLOSE_S`.
        """
        line = self._lines.pop(owner, None)
        if line is None:
            return
        for _ in range(2):  # on Python 3.11 a library may swallow a cancellation
            line.running.cancel()
            await asyncio.wait([line.running], timeout=CLOSE_S)
            if line.running.done():
                return
        log.warning("fleet: %s: its broker connection does not end", owner)

    # -- the interface of one client

    @property
    def connected(self) -> bool:
        """Whether the worker's own client is connected."""
        return self.worker.connected

    @property
    def max_packet(self) -> int | None:
        """The largest packet that the broker accepts, in bytes; None: unknown."""
        return self.worker.max_packet

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1 through the owner's connection.

        Raises BrokerUnavailable; BrokerNotReady if only the owner's connection is at fault, also because
        another worker is the owner. A retained message for another worker's camera is dropped: its owner
        publishes it.
        """
        owner = self._owner_of(topic)
        line = self._lines.get(owner)
        if line is None and retain:
            return
        try:
            async with asyncio.timeout(READY_S):
                while line is None or not line.client.connected:
                    await asyncio.sleep(POLL_S)  # it may come and go
                    line = self._lines.get(owner)
        except TimeoutError as exc:
            error = BrokerNotReady if self.worker.connected else BrokerUnavailable
            why = "another worker owns it now" if line is None else "its broker connection is not ready"
            raise error(f"{owner}: {why}") from exc
        try:
            await line.client.publish(topic, payload, retain=retain)
        except BrokerRefused:
            raise
        except BrokerUnavailable as exc:
            if self.worker.connected and not line.client.connected:
                raise BrokerNotReady(f"{owner}: its broker connection has ended: {exc}") from exc
            raise

    def retain(self, topic: str, payload: bytes | str) -> None:
        """Keep `payload` retained on the broker; ignore topics of other workers' cameras."""
        owner = self._owner_of(topic)
        line = self._lines.get(owner)
        if line is None:
            return
        if line.leaving and topic in (self._topics.camera_status(owner), self._topics.camera_state(owner)):
            return
        line.client.retain(topic, payload)

    def forget(self, topic: str) -> None:
        """Clear a retained topic: one of ours, or any leftover if this worker speaks for the instance."""
        line = self._lines.get(self._owner_of(topic)) or self._lines.get(INSTANCE)
        if line is not None:
            line.client.forget(topic)

    def release(self, topic: str) -> None:
        """Stop retaining a message on a topic, without publishing there."""
        for line in self._lines.values():
            line.client.release(topic)

    def subscribe(self, topic_filter: str, handler: Handler) -> None:
        """Call `handler` for every message that matches; for commands, only those to our cameras."""
        if topic_filter == self._topics.commands:
            wrapped = self._wrapped[topic_filter, handler] = self._for_ours(handler)
            handler = wrapped
        self.worker.subscribe(topic_filter, handler)

    def unsubscribe(self, topic_filter: str, handler: Handler) -> None:
        """Stop calling `handler` for messages that match."""
        self.worker.unsubscribe(topic_filter, self._wrapped.pop((topic_filter, handler), handler))

    def on_connect(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each connect of the worker's own connection."""
        self.worker.on_connect(callback)

    def off_connect(self, callback: Callable[[], None]) -> None:
        """Stop calling `callback` after a connect."""
        self.worker.off_connect(callback)

    def _for_ours(self, handler: Handler) -> Handler:
        def of_ours(topic: str, payload: bytes, retained: bool) -> None:
            target = self._topics.parse_command(topic)
            # The owner handles a command to its camera; every worker reports one to an unknown camera.
            if target is None or target[0] in self._lines or target[0] not in self._cameras:
                handler(topic, payload, retained)

        return of_ours

    def _owner_of(self, topic: str) -> str:
        """Return the camera that a topic belongs to, else `INSTANCE`."""
        for base in self._bases:
            if topic.startswith(base):
                camera, separator, _ = topic[len(base) :].partition("/")
                if separator and camera in self._cameras:
                    return camera
        return INSTANCE


Until = Callable[[], bool]


async def insist(publish: Callable[[], Awaitable[None]], until: Until, *, every_s: float = 1.0) -> bool:
    """Retry `publish` until it is acknowledged and return True; return False once `until()` is true."""
    while not until():
        try:
            await publish()
        except BrokerUnavailable as exc:
            log.debug("fleet: publishing again in %.0f s: %s", every_s, exc)
            await asyncio.sleep(every_s)
        else:
            return True
    return False
