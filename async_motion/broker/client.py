"""The MQTT client of the service: one object for its whole life, across connections.

    run() ──▶ connect ──▶ subscribe ──▶ publish all retained ──▶ "online" ──▶ connected, callbacks
      ▲                                                                              │
      └────────────── wait: backoff, longer after a refusal ◀── lost ────────────────┘

- Works without a broker from the start: `publish` then fails at once, `retain` remembers.
- "online" follows everything retained, so a subscriber that waits for it finds every state in place. Command
  topics are subscribed before it, so no early command is lost.
- The last will is "offline", and so is the goodbye. A broker may detect late that an *earlier* connection of
  ours is dead; its will then overwrites our "online". We subscribe to our own status and publish it again.
- A refusal concerns one topic: a topic that the ACL forbids is held back (refusals.py) and does not block the
  others.
- Handlers and callbacks are called from the event loop, in order. An exception in one goes to the loop's
  exception handler; the connection continues.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from aiomqtt import Topic

from async_motion.broker.connection import (
    Connection,
    Incoming,
    Options,
    PacketTooLarge,
    again,
    packet_size,
)
from async_motion.broker.packet_limit import PacketLimit
from async_motion.broker.refusals import Refusals
from async_motion.broker.retained import Retained, RetainedChange
from async_motion.core.backoff import Backoff
from async_motion.core.health import PeerHealth, PeerState
from async_motion.core.options import KEEPALIVE_S, MQTT_PORT, MQTT_PROTOCOL, MqttProtocol
from async_motion.core.outage import OutageLog
from async_motion.core.rates import LogThrottle
from async_motion.errors import BrokerRefused, BrokerUnavailable
from async_motion.tls import TlsFiles

log = logging.getLogger(__name__)

Handler = Callable[[str, bytes, bool], None]
"""(topic, payload, retained): a retained message was there before we subscribed."""

TURN_S: Final = 0.1
"""How often a client asks whether the client id is its own."""

SETTLED_S: Final = 10.0
"""A connection that lasted this long resets the backoff."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """A client id that moves between hosts: the next host's connection ends the one before.

    The will waits for `will_delay_s`, so that a failover does not show as an outage; for the same reason the
    client leaves without a goodbye. `may_connect` is asked before each connection: a host that has lost the
    id must not take it back. `will_topic`: where the will goes, None: the status topic.
    """

    will_delay_s: float
    may_connect: Callable[[], bool]
    will_topic: str | None = None


class BrokerClient:
    """A client that connects and reconnects while `run` runs.

    `tls`, `ca_file`, `cert_file`, `key_file`, `insecure` are as in `mqtt.tls`. `status_topic` is retained as
    "online" and "offline". `client_id`: pass the same one after a restart, so that the broker drops the
    previous connection; by default it is random. `retry_first_s` to `retry_max_s` bound the waits between
    attempts, `refused_first_s` to `refused_max_s` those after a refusal, which only a person can fix.
    `timeout_s` bounds each answer, `stop_timeout_s` the whole goodbye. Sizes are in bytes: `max_incoming` is
    the largest payload accepted, `max_packet` the largest packet of a broker that does not announce it.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int = MQTT_PORT,
        username: str | None = None,
        password: str | None = None,
        client_id: str | None = None,
        protocol: MqttProtocol = MQTT_PROTOCOL,
        keepalive_s: float = KEEPALIVE_S,
        tls: bool = False,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        insecure: bool = False,
        status_topic: str | None = None,
        birth: bytes = b"online",
        will: bytes = b"offline",
        connect_timeout_s: float = 5.0,
        timeout_s: float = 10.0,
        stop_timeout_s: float = 3.0,
        max_incoming: int = 1 << 20,
        max_packet: int | None = None,
        retry_first_s: float = 1.0,
        retry_max_s: float = 5.0,
        refused_first_s: float = 10.0,
        refused_max_s: float = 30.0,
        draw: Callable[[], float] = random.random,
        takeover: Takeover | None = None,
    ) -> None:
        files = TlsFiles(ca_file=ca_file, cert_file=cert_file, key_file=key_file, insecure=insecure)
        self._options = Options(
            host=host,
            port=port,
            client_id=client_id or f"async_motion-{secrets.token_hex(4)}",
            username=username,
            password=password,
            protocol=protocol,
            keepalive_s=keepalive_s,
            tls=files if tls else None,
            will_topic=(takeover and takeover.will_topic) or status_topic,
            will=will,
            will_delay_s=None if takeover is None else max(1, math.ceil(takeover.will_delay_s)),
            connect_timeout_s=connect_timeout_s,
            timeout_s=timeout_s,
            max_incoming=max_incoming,
            max_packet=max_packet,
        )
        self._birth = birth
        self._status_topic = status_topic
        self._takeover = takeover
        self._stop_timeout_s = stop_timeout_s
        self._retry = Backoff(draw=draw, first_s=retry_first_s, max_s=retry_max_s)
        self._refused_retry = Backoff(draw=draw, first_s=refused_first_s, max_s=refused_max_s)
        self._retained = Retained()
        self._handlers: list[tuple[str, Handler]] = []
        self._new_filters: list[str] = []
        self._old_filters: list[str] = []
        self._callbacks: list[Callable[[], None]] = []
        refused_backoff = partial(Backoff, draw=draw, first_s=refused_first_s, max_s=refused_max_s)
        self._refusals, self._refused_filters = Refusals(refused_backoff), Refusals(refused_backoff)
        self._packets = PacketLimit()
        self._outage = OutageLog(self._now)
        self._deferred: list[RetainedChange] = []
        """Retained changes that may be too large for the broker: sent one at a time, after all others."""
        self._trial = asyncio.Lock()
        """Held while a message is in flight that may be too large for the broker."""
        self._connection: Connection | None = None
        self._wake = asyncio.Event()
        self._opened_at: float | None = None
        self._short_lived = 0
        self._status_due = False
        self._throttle = LogThrottle()
        self._health = PeerHealth(state=PeerState.UNAVAILABLE, problem="not connected yet")
        """The health while there is no connection."""
        self._max_packet = max_packet
        if status_topic is not None:
            self.subscribe(status_topic, self._on_status)

    # -- state

    @property
    def connected(self) -> bool:
        """True once everything retained is published, until the connection ends."""
        return self._connection is not None and self._connection.error is None

    @property
    def health(self) -> PeerHealth:
        """The health of the broker: OK while there is a connection and it refuses nothing."""
        if self._connection is None:
            return self._health
        if self._connection.error is not None:
            return _health_of(self._connection.error)
        refusals = str(self._refusals)
        return PeerHealth(state=PeerState.REFUSED, problem=refusals) if refusals else PeerHealth()

    @property
    def address(self) -> str:
        """The broker's `host:port`."""
        return self._options.address

    @property
    def max_packet(self) -> int | None:
        """The largest packet that the broker accepts, in bytes, announced or learned; None: unknown."""
        limits = (self._max_packet, self._packets.limit)
        return min((limit for limit in limits if limit is not None), default=None)

    # -- publish and subscribe

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1 and return after a PUBACK that reports success.

        Raises BrokerUnavailable without a connection, when it is lost, or without an answer: the message may
        or may not have arrived. Raises BrokerRefused for a failure code and for a packet above the broker's
        limit. With `retain` the payload is remembered as by `retain`, even without a connection, and is
        published in order with the other retained changes.
        """
        _check_topic(topic)
        if retain:
            await self._publish_retained(topic, payload)
            return
        connection = self._connection
        if connection is None:
            raise self._away()
        held = self._refusals.held(topic, self._now())
        if held is not None:
            raise BrokerRefused(f"{topic}: {held}")
        try:
            if self._packets.needs_trial(packet_size(topic, payload)):
                async with self._trial:
                    await (await connection.send(topic, payload, retain=False))
            else:
                await (await connection.send(topic, payload, retain=False))
        except PacketTooLarge as exc:
            self._refusals.refused(topic, _reason(topic, exc), self._now(), hold=False)
            raise
        except BrokerRefused as exc:
            self._refusals.refused(topic, _reason(topic, exc), self._now())
            raise
        self._refusals.taken(topic)

    async def _publish_retained(self, topic: str, payload: bytes) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def outcome(error: BrokerUnavailable | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        if self._connection is None:
            self._retained.set(topic, payload)
            raise self._away()
        self._retained.set(topic, payload, outcome)
        self._wake.set()
        await done

    def retain(self, topic: str, payload: bytes | str) -> None:
        """Keep `payload` retained on the broker, now and after each connect. Never blocks, never fails."""
        _check_topic(topic)
        self._retained.set(topic, payload.encode() if isinstance(payload, str) else payload)
        self._wake.set()

    def forget(self, topic: str) -> None:
        """Clear a retained topic on the broker, now or on the next connect."""
        _check_topic(topic)
        self._retained.set(topic, b"")
        self._refusals.taken(topic)
        self._wake.set()

    def release(self, topic: str) -> None:
        """Forget a retained topic without publishing: another client has cleared it."""
        self._retained.release(topic)

    def subscribe(self, topic_filter: str, handler: Handler) -> None:
        """Call `handler` for every message that matches, now and after each connect.

        Where two filters overlap, a broker may deliver a message once for each.
        """
        known = any(topic_filter == other for other, _ in self._handlers)
        self._handlers.append((topic_filter, handler))
        if not known:
            self._new_filters.append(topic_filter)
            self._wake.set()

    def unsubscribe(self, topic_filter: str, handler: Handler) -> None:
        """Stop calling `handler` for what matches. Messages in flight may still arrive."""
        self._handlers.remove((topic_filter, handler))
        if any(topic_filter == other for other, _ in self._handlers):
            return
        self._refused_filters.taken(topic_filter)
        if topic_filter in self._new_filters:
            self._new_filters.remove(topic_filter)
        self._old_filters.append(topic_filter)
        self._wake.set()

    def on_connect(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each connect, once everything retained is published."""
        self._callbacks.append(callback)

    def off_connect(self, callback: Callable[[], None]) -> None:
        """Stop calling `callback`."""
        self._callbacks.remove(callback)

    def follow(self, other: BrokerClient) -> None:
        """Connect from the next connection on as `other` would: to its broker, with its login.

        What is retained and subscribed stays ours. End `run` and call it again to change at once: the old
        broker then hears the goodbye.
        """
        self._options = other._options
        self._max_packet = other._max_packet
        self._packets = PacketLimit()
        self._refusals.clear()
        self._retry.reset()
        self._refused_retry.reset()

    async def run(self) -> None:
        """Stay connected until cancelled; then publish pending changes and "offline", and disconnect."""
        while True:
            await self._wait_for_turn()
            try:
                await self._connect_and_serve()
            except BrokerUnavailable as exc:
                await asyncio.sleep(self._note_failure(exc))

    async def _wait_for_turn(self) -> None:
        """Return when the client id is ours to use."""
        takeover = self._takeover
        # A lease is known by asking the clock: there is no event to wait for.
        while takeover is not None and not takeover.may_connect():  # noqa: ASYNC110
            await asyncio.sleep(TURN_S)

    # -- one connection

    async def _connect_and_serve(self) -> None:
        """Run one connection. Raises the reason why it could not be made or why it ended."""
        self._opened_at = None
        options = replace(self._options, max_packet=self._known_limit())
        connection = Connection(options, self._packets.acknowledged)
        await connection.open()
        self._opened_at = self._now()
        self._max_packet = connection.limits.max_packet
        lost = BrokerUnavailable("stopped")
        try:
            # No task of this group may raise: a TaskGroup that collects an error swallows a cancellation that
            # arrives at the same moment.
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(self._talk(connection), name="broker-send")
                lost = await connection.receive(self._dispatch)
                sending.cancel()
        finally:
            self._leave(lost)
            await connection.close()
        if connection.cut is not None and self._packets.cut(connection.cut):
            limit = self._packets.limit
            log.warning("broker %s: closes on large packets; sending %d bytes at most", self.address, limit)
        raise lost

    async def _talk(self, connection: Connection) -> None:
        """Publish everything retained, then changes, in order; when cancelled, say goodbye."""
        self._retained.came_back()
        self._old_filters.clear()
        self._refused_filters.clear()
        self._new_filters = list(dict.fromkeys(topic_filter for topic_filter, _ in self._handlers))
        try:
            await self._ask_new(connection)
            sent = await self._say_new(connection)
            if sent:
                await asyncio.wait(sent)
            await self._say_status(connection, self._birth)
            self._arrive(connection, len(sent))
            while True:
                await self._say_deferred(connection)
                await self._wait_for_news()
                await self._ask_new(connection)
                await self._say_new(connection)
                if self._status_due:
                    await self._say_status(connection, self._birth)
        except BrokerUnavailable as exc:
            log.debug("broker %s: stopped sending: %s", self.address, exc)  # `receive` returns the reason
        except asyncio.CancelledError:
            self._connection = None
            await self._say_goodbye(connection)
            raise

    async def _wait_for_news(self) -> None:
        """Return when there is a change to publish, or a refused topic or subscription to try again."""
        due = (self._refusals.next_due(), self._refused_filters.next_due())
        retry_at = min((at for at in due if at is not None), default=None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(retry_at):
                await self._wake.wait()
                self._wake.clear()
        for topic in self._refusals.due(self._now()):
            self._retained.repeat(topic)
        self._new_filters += self._refused_filters.due(self._now())

    async def _ask_new(self, connection: Connection) -> None:
        """Send pending subscriptions and unsubscriptions."""
        while self._old_filters:
            connection.unsubscribe(self._old_filters.pop(0))
        while self._new_filters:
            topic_filter = self._new_filters.pop(0)
            try:
                await connection.subscribe(topic_filter)
            except BrokerRefused as exc:
                if self._refused_filters.refused(topic_filter, str(exc), self._now()):
                    log.warning("broker %s: %s; it is tried again", self.address, exc)
            else:
                self._refused_filters.taken(topic_filter)

    async def _say_new(self, connection: Connection) -> list[asyncio.Future[None]]:
        """Send pending changes; return the futures that their PUBACKs resolve."""
        sent = []
        while self._retained.pending:
            # Wait for a slot before taking a change: a taken change must be sent even when we are cancelled.
            await connection.slot()
            change = self._retained.next()
            if change is None:
                connection.give_back_slot()
                break
            done = self._put(connection, change)
            if done is not None:
                sent.append(done)
        return sent

    def _put(self, connection: Connection, change: RetainedChange) -> asyncio.Future[None] | None:
        held = self._refusals.held(change.topic, self._now())
        if held is not None:
            connection.give_back_slot()
            self._tell(change, BrokerRefused(f"{change.topic}: {held}"))
            return None
        behind = any(change.topic == other.topic for other in self._deferred)
        if behind or self._packets.needs_trial(packet_size(change.topic, change.payload)):
            connection.give_back_slot()
            self._defer(change)
            return None
        return self._send(connection, change)

    def _defer(self, change: RetainedChange) -> None:
        """Queue a change for a trial. It replaces older ones of its topic that no caller awaits."""
        older = [other for other in self._deferred if other.topic != change.topic or other.outcome]
        self._deferred = [*older, change]

    async def _say_deferred(self, connection: Connection) -> None:
        """Send the next change that may be too large, unless one is in flight."""
        while self._deferred and not self._trial.locked():
            await connection.slot()
            if not self._deferred or self._trial.locked():
                connection.give_back_slot()
                return
            change = min(self._deferred, key=lambda change: len(change.payload))
            change = next(other for other in self._deferred if other.topic == change.topic)
            self._deferred.remove(change)
            await self._trial.acquire()
            done = None
            try:
                done = self._send(connection, change)
            finally:
                if done is None:
                    self._trial.release()
            if done is not None:
                done.add_done_callback(self._end_trial)

    def _end_trial(self, _done: asyncio.Future[None]) -> None:
        self._trial.release()
        self._wake.set()

    def _send(self, connection: Connection, change: RetainedChange) -> asyncio.Future[None] | None:
        """Send one change in its slot; return the future of its PUBACK, or None when it is too large."""
        try:
            done = connection.put(change.topic, change.payload, retain=True)
        except PacketTooLarge as exc:
            if self._packets.limit is None:  # a learned limit may rise: the payload is kept for that
                self._retained.drop(change.topic, change.payload)
            self._settle(change, exc)
            return None
        except BrokerUnavailable as exc:
            self._settle(change, exc)
            raise
        done.add_done_callback(functools.partial(self._answered, change))
        return done

    def _answered(self, change: RetainedChange, done: asyncio.Future[None]) -> None:
        error = done.exception()
        assert error is None or isinstance(error, BrokerUnavailable)
        self._settle(change, error)

    def _settle(self, change: RetainedChange, error: BrokerUnavailable | None) -> None:
        """Record the outcome of a retained change; report it to the caller, or log it where none waits."""
        if error is None:
            self._retained.acknowledged(change)
            self._refusals.taken(change.topic)
        elif isinstance(error, BrokerRefused):
            reason = _reason(change.topic, error)
            hold = not isinstance(error, PacketTooLarge)
            news = self._refusals.refused(change.topic, reason, self._now(), hold=hold)
            if news and change.outcome is None:
                log.warning("broker %s: refused %s: %s", self.address, change.topic, reason)
        self._tell(change, error)

    def _tell(self, change: RetainedChange, error: BrokerUnavailable | None) -> None:
        if change.outcome is not None:
            change.outcome(error)

    async def _say_status(self, connection: Connection, payload: bytes) -> None:
        self._status_due = False
        topic = self._status_topic
        if topic is None:
            return
        done = await connection.send(topic, payload, retain=True)
        await asyncio.wait([done])
        if isinstance(error := done.exception(), BrokerRefused):
            self._settle(RetainedChange(topic=topic, payload=payload), error)

    async def _say_goodbye(self, connection: Connection) -> None:
        """Publish pending changes and "offline", within `stop_timeout_s`."""
        if connection.error is not None:
            return
        try:
            async with asyncio.timeout(self._stop_timeout_s):
                sent = await self._say_new(connection)
                if sent:
                    await asyncio.wait(sent)
                if self._takeover is not None:
                    # Without DISCONNECT: the will is published unless the next host comes before its delay.
                    connection.abort(BrokerUnavailable("handed over"))
                    return
                await self._say_status(connection, self._options.will)
        except TimeoutError:
            connection.abort(
                BrokerUnavailable("publishing the last status took too long")
            )  # the last will is published
        except BrokerUnavailable as exc:
            log.debug("broker %s: lost while publishing the last status: %s", self.address, exc)

    def _dispatch(self, message: Incoming) -> None:
        topic = Topic(message.topic)
        loop = asyncio.get_running_loop()
        for topic_filter, handler in self._handlers:
            if topic.matches(topic_filter):
                loop.call_soon(handler, message.topic, message.payload, message.retained)

    def _on_status(self, _topic: str, payload: bytes, retained: bool) -> None:
        if payload == self._options.will and not retained and self.connected:
            more = self._throttle.admit(payload, asyncio.get_running_loop().time())
            if more is not None:
                log.info("broker %s: stale last will received; publishing online again%s", self.address, more)
            self._status_due = True
            self._wake.set()

    # -- changes of state

    def _arrive(self, connection: Connection, published: int) -> None:
        loop = asyncio.get_running_loop()
        self._connection = connection
        secure = ", TLS" if self._options.tls else ""
        log.info(
            "broker %s: connected (MQTT %s%s), %d retained messages published",
            self.address,
            self._options.protocol,
            secure,
            published,
        )
        for callback in self._callbacks:
            loop.call_soon(callback)

    def _leave(self, lost: BrokerUnavailable) -> None:
        self._connection = None
        self._health = _health_of(lost)
        deferred, self._deferred = self._deferred, []
        for change in (*deferred, *self._retained.went_away()):
            self._settle(change, again(lost))

    def _note_failure(self, exc: BrokerUnavailable) -> float:
        """Remember and log why there is no connection; return the seconds to wait."""
        refused = isinstance(exc, BrokerRefused)
        hint = ""
        if self._opened_at is None:
            # No connection was made: the next one may reach another broker, or a repaired one.
            self._refusals.clear()
            self._packets.doubt()
            self._short_lived = 0
        elif self._now() - self._opened_at > SETTLED_S:
            self._retry.reset()
            self._refused_retry.reset()
            self._outage.over()
            self._short_lived = 0
        else:
            self._short_lived += 1
            if self._packets.suspects is not None:
                hint = f" (while sending {self._packets.suspects} bytes or more: too large for it?)"
            elif self._short_lived >= 3 and not refused and not str(self._refusals):
                hint = f" ({self._short_lived} times soon after connecting: is the client id used twice?)"
        delay_s = (self._refused_retry if refused else self._retry).next_s()
        self._health = _health_of(exc)
        suffix = self._outage.failed(f"{self._health}{hint}")
        level = logging.DEBUG if suffix is None else logging.WARNING
        message = "broker %s: %s%s; next try in %.1f s%s"
        log.log(level, message, self.address, self._health, hint, delay_s, suffix or "")
        return delay_s

    def _known_limit(self) -> int | None:
        limits = (self._options.max_packet, self._packets.limit)
        return min((limit for limit in limits if limit is not None), default=None)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _away(self) -> BrokerUnavailable:
        health = self.health
        error = BrokerRefused if health.state is PeerState.REFUSED else BrokerUnavailable
        return error(f"broker {self.address}: {health}")


def _health_of(error: BrokerUnavailable) -> PeerHealth:
    state = PeerState.REFUSED if isinstance(error, BrokerRefused) else PeerState.UNAVAILABLE
    return PeerHealth(state=state, problem=str(error))


def _reason(topic: str, error: BrokerRefused) -> str:
    return str(error).removeprefix(f"{topic}: ")


def _check_topic(topic: str) -> None:
    """Raise ValueError for a topic that cannot be published to: a bug of the caller."""
    if not topic or "+" in topic or "#" in topic or "\0" in topic or len(topic.encode()) > 65535:
        raise ValueError(f"not a topic: {topic!r}")
