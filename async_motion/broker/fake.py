"""A broker in memory, behind the same interface as `BrokerClient`: for tests of everything that publishes.

`FakeServer` is the broker: retained messages, subscribers, refusals. `FakeBroker` is a client of it.
`FakeBroker()` alone makes both, connected at once, without a task:

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
from async_motion.core.health import PeerHealth, PeerState
from async_motion.errors import BrokerRefused, BrokerUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeMessage:
    """A message that the server has accepted."""

    topic: str
    payload: bytes
    retain: bool


@dataclass(slots=True)
class FakeServer:
    """The broker's side. Everything happens synchronously, in the order of the calls.

    `messages` are all that it accepted, oldest first; `retained` maps topics to payloads. `max_packet` is the
    announced limit in bytes. Publishing to a topic that matches `refuse` is refused; `refuse_login` is the
    reason why connecting is, or None.
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
        """Accept a message, from a client or from the test, and deliver it to all subscribers."""
        self.messages.append(FakeMessage(topic=topic, payload=payload, retain=retain))
        if retain and payload:
            self.retained[topic] = payload
        elif retain:
            self.retained.pop(topic, None)
        for client in list(self.clients):
            client.deliver(topic, payload, retained=False)

    def stop(self, *, keep_retained: bool = True) -> None:
        """Stop, with or without losing what was retained."""
        self.up = False
        for client in list(self.clients):
            client.lose("connection lost")
        if not keep_retained:
            self.retained.clear()

    def start(self) -> None:
        """Start again: clients in `run`, and those without a task, reconnect."""
        self.up = True


class FakeBroker:
    """A client of a `FakeServer`; the promises of `BrokerClient`, without a network.

    Without a server it makes its own and is connected at once. With one it connects in `run`, like the real
    client. `status_topic` is as there, with "online", "offline" and the last will.
    """

    def __init__(self, server: FakeServer | None = None, *, status_topic: str | None = None) -> None:
        self.server = server or FakeServer()
        self.status_topic = status_topic
        self.connected = False
        self._health = PeerHealth(state=PeerState.UNAVAILABLE, problem="not connected yet")
        self._retained = Retained()
        self._handlers: list[tuple[str, Handler]] = []
        self._callbacks: list[Callable[[], None]] = []
        self._refusals: dict[str, str] = {}
        if server is None:
            self.connect()

    @property
    def health(self) -> PeerHealth:
        """The health of the broker."""
        if not self.connected:
            return self._health
        for topic, reason in self._refusals.items():
            return PeerHealth(state=PeerState.REFUSED, problem=f"{topic}: {reason}")
        return PeerHealth()

    @property
    def address(self) -> str:
        """The address that a real broker would have."""
        return "memory:0"

    @property
    def max_packet(self) -> int | None:
        """The server's limit, in bytes."""
        return self.server.max_packet

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish; raises as `BrokerClient` does."""
        # Yield to other tasks, as the real client does.
        await asyncio.sleep(0)
        if retain:
            self._retained.set(topic, payload)
        if not self.connected:
            error = BrokerRefused if self._health.state is PeerState.REFUSED else BrokerUnavailable
            raise error(f"broker {self.address}: {self._health}")
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
        """Forget a retained topic without publishing."""
        self._retained.release(topic)

    def subscribe(self, topic_filter: str, handler: Handler) -> None:
        """Call `handler` for every message that matches."""
        self._handlers.append((topic_filter, handler))
        if self.connected:
            self._deliver_retained(topic_filter, handler)

    def unsubscribe(self, topic_filter: str, handler: Handler) -> None:
        """Stop calling `handler` for what matches."""
        self._handlers.remove((topic_filter, handler))

    def on_connect(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each connect."""
        self._callbacks.append(callback)

    def off_connect(self, callback: Callable[[], None]) -> None:
        """Stop calling `callback`."""
        self._callbacks.remove(callback)

    async def run(self) -> None:
        """Connect whenever the server is up, until cancelled; then publish "offline"."""
        try:
            while True:
                if not self.connected and self.server.refuse_login is not None:
                    self._health = PeerHealth(state=PeerState.REFUSED, problem=self.server.refuse_login)
                elif not self.connected and self.server.up:
                    self.connect()
                elif not self.connected:
                    self._health = PeerHealth(state=PeerState.UNAVAILABLE, problem="connection refused")
                await asyncio.sleep(0.001)
        finally:
            if self.connected and self.status_topic is not None:
                self.server.take(self.status_topic, b"offline", retain=True)
            self.lose("stopped", last_will=False)

    # -- for tests

    def connect(self) -> None:
        """Connect now: subscribe, publish everything retained and "online", call the callbacks."""
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
        self._health = PeerHealth(state=PeerState.UNAVAILABLE, problem=problem)
        self.server.clients.remove(self)
        if last_will and self.status_topic is not None:
            self.server.take(self.status_topic, b"offline", retain=True)

    def deliver(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Pass a message to the handlers, as if it came from the server."""
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
            reason = f"{size} bytes, the broker accepts at most {limit}"
            self._retained.drop(topic, payload)
        elif any(Topic(topic).matches(topic_filter) for topic_filter in self.server.refuse):
            reason = "Not authorized"
        if reason is not None:
            self._refusals[topic] = reason
            raise BrokerRefused(f"{topic}: {reason}")
        self._refusals.pop(topic, None)
        self.server.take(topic, payload, retain=retain)
