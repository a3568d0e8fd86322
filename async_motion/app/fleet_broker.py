"""A worker's connections to the broker, behind the face of one client.

    connection   for                                                        client id
    worker       subscriptions, announcements under an older lease          async_motion-{instance}-{worker}
    camera …     all that its owner publishes about it                      async_motion-{instance}--{camera}
    =instance    status and state of the instance, Home Assistant devices   async_motion-{instance}

- A camera's client id belongs to the camera: the next owner's connection ends the last one's, whatever that
  one believes. What was in flight there never arrives.
- The will waits for longer than a failover takes, and a handover says no goodbye: nothing blinks.
- Retained topics of cameras that are not ours are left alone: calls about them do nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from async_motion.broker.client import BrokerClient, Handler
from async_motion.core.names import Topics
from async_motion.errors import BrokerUnavailable
from async_motion.fleet.worker import INSTANCE

log = logging.getLogger(__name__)

READY_S = 5.0
"""How long an announcement waits for a connection that has just begun."""
POLL_S = 0.05

Connect = Callable[[str], BrokerClient]
"""Returns the client of a camera, or of `INSTANCE`, not running yet."""


@dataclass(slots=True)
class _Line:
    client: BrokerClient
    running: asyncio.Task[None]
    leaving: bool = False
    """Its camera is being handed over: that it stops here says nothing about it."""


class FleetBroker:
    """Publish through the connection of whom a topic speaks. `cameras` are all that the settings name.

    `frigate_topic` is the other place of motion, None without one.
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
        """Keep the worker's connection until cancelled; then end those of the cameras that are left."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self.worker.run()
        finally:
            self._tasks = None

    def open(self, owner: str) -> None:
        """Begin to speak for a camera, or for `INSTANCE`."""
        assert self._tasks is not None
        client = self._connect(owner)
        running = self._tasks.create_task(client.run(), name=f"broker[{owner}]")
        self._lines[owner] = _Line(client, running)

    def leave(self, owner: str) -> None:
        """Publish no more that a camera is offline: it is being handed over."""
        if owner in self._lines:
            self._lines[owner].leaving = True

    async def close(self, owner: str) -> None:
        """Publish what is left about a camera, and end its connection without a goodbye."""
        line = self._lines.pop(owner, None)
        if line is not None:
            line.running.cancel()
            await asyncio.wait([line.running])

    # -- the face of one client

    @property
    def connected(self) -> bool:
        """Whether the worker's own connection stands."""
        return self.worker.connected

    @property
    def max_packet(self) -> int | None:
        """The largest packet that the broker takes, in bytes; None: unknown."""
        return self.worker.max_packet

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1 as the owner. Raises BrokerUnavailable, also where another worker is the owner.

        A retained message about what is not ours is left to its owner.
        """
        owner = self._owner_of(topic)
        line = self._lines.get(owner)
        if line is None:
            if retain:
                return
            raise BrokerUnavailable(f"{owner}: it is another worker's now")
        try:
            async with asyncio.timeout(READY_S):
                while not line.client.connected:  # noqa: ASYNC110 - it may come and go
                    await asyncio.sleep(POLL_S)
        except TimeoutError as exc:
            raise BrokerUnavailable(f"{owner}: its connection is not there yet") from exc
        await line.client.publish(topic, payload, retain=retain)

    def retain(self, topic: str, payload: bytes | str) -> None:
        """Keep `payload` retained on the broker, where the topic speaks of what is ours."""
        owner = self._owner_of(topic)
        line = self._lines.get(owner)
        if line is None:
            return
        if line.leaving and topic in (self._topics.camera_status(owner), self._topics.camera_state(owner)):
            return
        line.client.retain(topic, payload)

    def forget(self, topic: str) -> None:
        """Clear a retained topic: of what is ours, or a leftover, where we speak for the instance."""
        line = self._lines.get(self._owner_of(topic)) or self._lines.get(INSTANCE)
        if line is not None:
            line.client.forget(topic)

    def release(self, topic: str) -> None:
        """Retain nothing on a topic any more, and publish nothing there."""
        for line in self._lines.values():
            line.client.release(topic)

    def subscribe(self, topic_filter: str, handler: Handler) -> None:
        """Call `handler` for every message that matches; of commands, for those to cameras of ours."""
        if topic_filter == self._topics.commands:
            wrapped = self._wrapped[topic_filter, handler] = self._for_ours(handler)
            handler = wrapped
        self.worker.subscribe(topic_filter, handler)

    def unsubscribe(self, topic_filter: str, handler: Handler) -> None:
        """Call `handler` no longer for what matches."""
        self.worker.unsubscribe(topic_filter, self._wrapped.pop((topic_filter, handler), handler))

    def on_connect(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each connect of the worker's own connection."""
        self.worker.on_connect(callback)

    def off_connect(self, callback: Callable[[], None]) -> None:
        """Call `callback` after a connect no longer."""
        self.worker.off_connect(callback)

    def _for_ours(self, handler: Handler) -> Handler:
        def of_ours(topic: str, payload: bytes, retained: bool) -> None:
            target = self._topics.parse_command(topic)
            # A command to another worker's camera is its own; one to no camera at all is told by all.
            if target is None or target[0] in self._lines or target[0] not in self._cameras:
                handler(topic, payload, retained)

        return of_ours

    def _owner_of(self, topic: str) -> str:
        """Return the camera that a topic speaks of, else `INSTANCE`."""
        for base in self._bases:
            if topic.startswith(base):
                camera, separator, _ = topic[len(base) :].partition("/")
                if separator and camera in self._cameras:
                    return camera
        return INSTANCE


Until = Callable[[], bool]


async def insist(publish: Callable[[], Awaitable[None]], until: Until, *, every_s: float = 1.0) -> bool:
    """Publish until it is acknowledged, and return True; False once `until` says that it is not ours."""
    while not until():
        try:
            await publish()
        except BrokerUnavailable as exc:
            log.debug("fleet: published again in %.0f s: %s", every_s, exc)
            await asyncio.sleep(every_s)
        else:
            return True
    return False
