"""A broker in memory, behind the same interface as `BrokerClient`: for tests of everything that publishes.

`FakeServer` is the broker: what it retains, who listens, whom it refuses. `FakeBroker` is a client of it.
With `FakeBroker()` alone a test has both, connected from the first moment, without a task:

    broker = FakeBroker()
    await deliver(record, store, broker)
    assert broker.server.on("async_motion/edge1/porch/frame")
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from aiomqtt import Topic

from async_motion.broker.client import Handler
from async_motion.broker.connection import packet_size
from async_motion.broker.retained import Retained
from async_motion.errors import BrokerRefused, BrokerUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeMessage:
    """A message that the server has taken."""

    topic: str
    payload: bytes
    retain: bool


@dataclass(slots=True)
class FakeServer:
    """The broker's side. Everything happens at once, in the order of the calls.

    `messages` are all that it took, oldest first; `retained` is what it retains. `max_packet` is the
    announced limit in bytes. `refuse` holds topic filters to which nobody may publish; `refuse_login` a
    reason, or None.
    """

    messages: list[FakeMessage] = field(default_factory=list)
    retained: dict[str, bytes] = field(default_factory=dict)
    max_packet: int | None = None
    refuse: set[str] = field(default_factory=set)
    refuse_login: str | None = None
    up: bool = True
    clients: list[FakeBroker] = field(default_factory=list)

    def on(self, topic_filter: str) -> list[FakeMessage]:
        """Return what was published on the topics that match, oldest first."""
        return [message for message in self.messages if Topic(message.topic).matches(topic_filter)]

    def take(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Take a message, from a client or from the test, and hand it to all who listen."""
        self.messages.append(FakeMessage(topic=topic, payload=payload, retain=retain))
        if retain and payload:
            self.retained[topic] = payload
        elif retain:
            self.retained.pop(topic, None)
        for client in list(self.clients):
            client.deliver(topic, payload, retained=False)

    def stop(self, *, keep_retained: bool = True) -> None:
        """Go away, with or without what was retained."""
        self.up = False
        for client in list(self.clients):
            client.lose("connection lost")
        if not keep_retained:
            self.retained.clear()

    def start(self) -> None:
        """Come back: clients that run, and those that run without a task, connect again."""
        self.up = True


class FakeBroker:
    """A client of a `FakeServer`; the same promises as `BrokerClient`, without a network.

    Without a server it makes its own and is connected at once. With one it connects in `run`, as the real
    one. `status_topic`: as the real one's, with its "online", "offline" and last will.
    """

    def __init__(self, server: FakeServer | None = None, *, status_topic: str | None = None) -> None:
        self.server = server or FakeServer()
        self.status_topic = status_topic
        self.connected = False
        self._trouble = "unavailable: not connected yet"
        self._retained = Retained()
        self._handlers: list[tuple[str, Handler]] = []
        self._callbacks: list[Callable[[], None]] = []
        self._refusals: dict[str, str] = {}
        if server is None:
            self.connect()

    @property
    def state(self) -> str:
        """`connected`, `unavailable: why` or `refused: why`."""
        if not self.connected:
            return self._trouble
        for topic, reason in self._refusals.items():
            return f"refused: {topic}: {reason}"
        return "connected"

    @property
    def address(self) -> str:
        """Where the broker would be."""
        return "memory:0"

    @property
    def max_packet(self) -> int | None:
        """The server's limit, in bytes."""
        return self.server.max_packet

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish; raises as the real one does."""
        # The real one always gives way to other tasks here.
        await asyncio.sleep(0)
        if retain:
            self._retained.set(topic, payload)
        if not self.connected:
            refused = self._trouble.startswith("refused")
            raise (BrokerRefused if refused else BrokerUnavailable)(f"broker {self.address}: {self._trouble}")
        if retain:
            self._say_next()
        else:
            self._send(topic, payload, retain=False)

    def retain(self, topic: str, payload: bytes | str) -> None:
        """Keep `payload` retained, now and after each connect."""
        self._retained.set(topic, payload.encode() if isinstance(payload, str) else payload)
        self._say_all()

    def forget(self, topic: str) -> None:
        """Clear a retained topic, now or on the next connect."""
        self._retained.set(topic, b"")
        self._refusals.pop(topic, None)
        self._say_all()

    def release(self, topic: str) -> None:
        """Retain nothing on a topic any more, and say nothing there."""
        self._retained.release(topic)

    def subscribe(self, topic_filter: str, handler: Handler) -> None:
        """Call `handler` for every message that matches."""
        self._handlers.append((topic_filter, handler))
        if self.connected:
            self._deliver_retained(topic_filter, handler)

    def unsubscribe(self, topic_filter: str, handler: Handler) -> None:
        """Call `handler` no longer for what matches."""
        self._handlers.remove((topic_filter, handler))

    def on_connect(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each connect."""
        self._callbacks.append(callback)

    async def run(self) -> None:
        """Connect whenever the server is up, until cancelled; then say "offline"."""
        try:
            while True:
                if not self.connected and self.server.refuse_login is not None:
                    self._trouble = f"refused: {self.server.refuse_login}"
                elif not self.connected and self.server.up:
                    self.connect()
                elif not self.connected:
                    self._trouble = "unavailable: connection refused"
                await asyncio.sleep(0.001)
        finally:
            if self.connected and self.status_topic is not None:
                self.server.take(self.status_topic, b"offline", retain=True)
            self.lose("stopped", last_will=False)

    # -- for tests

    def connect(self) -> None:
        """Connect now: subscribe, say everything retained, "online", callbacks."""
        if self.connected:
            return
        self.connected = True
        self._refusals.clear()
        self.server.clients.append(self)
        for topic_filter, handler in list(self._handlers):
            self._deliver_retained(topic_filter, handler)
        self._retained.came_back()
        self._say_all()
        if self.status_topic is not None:
            self.server.take(self.status_topic, b"online", retain=True)
        for callback in list(self._callbacks):
            callback()

    def lose(self, problem: str = "connection lost", *, last_will: bool = True) -> None:
        """Lose the connection now; the server then publishes the last will."""
        if not self.connected:
            return
        self.connected = False
        self._retained.went_away()
        self._trouble = f"unavailable: {problem}"
        self.server.clients.remove(self)
        if last_will and self.status_topic is not None:
            self.server.take(self.status_topic, b"offline", retain=True)

    def deliver(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Hand a message to the handlers, as if it came from the server."""
        for topic_filter, handler in list(self._handlers):
            if Topic(topic).matches(topic_filter):
                handler(topic, payload, retained)

    def _deliver_retained(self, topic_filter: str, handler: Handler) -> None:
        for topic, payload in list(self.server.retained.items()):
            if Topic(topic).matches(topic_filter):
                handler(topic, payload, True)

    def _say_all(self) -> None:
        while self._retained.pending:
            with suppress(BrokerRefused):
                self._say_next()

    def _say_next(self) -> None:
        change = self._retained.next()
        if change is not None:
            self._send(change.topic, change.payload, retain=True)
            self._retained.acknowledged(change)

    def _send(self, topic: str, payload: bytes, *, retain: bool) -> None:
        limit, size = self.server.max_packet, packet_size(topic, payload)
        reason = None
        if limit is not None and size > limit:
            reason = f"{size} bytes, the broker takes {limit} at most"
            self._retained.drop(topic, payload)
        elif any(Topic(topic).matches(topic_filter) for topic_filter in self.server.refuse):
            reason = "Not authorized"
        if reason is not None:
            self._refusals[topic] = reason
            raise BrokerRefused(f"{topic}: {reason}")
        self._refusals.pop(topic, None)
        self.server.take(topic, payload, retain=retain)
