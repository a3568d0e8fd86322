"""One connection to a broker, from CONNECT to its end. A lost connection is never reused.

aiomqtt implements the protocol. Four gaps are closed here, through the paho client inside it
(`Client._client` is private: the dependency is pinned to 2.5):

- The reason code of each PUBACK is checked: with MQTT 5 an ACL refuses a publish only there.
- A publish that waits for its PUBACK fails as soon as the connection ends, not at its time-out.
- A packet is buffered only up to our limit, whatever length the peer declares.
- The limits announced in the CONNACK (packet size, messages in flight, retained messages) are respected.

A missing PUBACK ends the *connection*: paho would otherwise deliver the message later on this connection,
after the caller has given up and sent it again. A new connection starts with an empty queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiomqtt
from paho.mqtt.client import (
    MQTT_CLEAN_START_FIRST_ONLY,
    MQTT_ERR_CONN_LOST,
    MQTT_ERR_SUCCESS,
    Client,
)
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from async_motion.broker.tls import broker_context
from async_motion.core.options import KEEPALIVE_S, MQTT_PROTOCOL, SLOWEST_BYTES_PER_S, MqttProtocol
from async_motion.errors import BrokerRefused, BrokerUnavailable
from async_motion.tls import TlsFiles, cause

log = logging.getLogger(__name__)
paho_log = log.getChild("paho")
# It logs as errors what we handle and report as a lost connection.
paho_log.setLevel(logging.CRITICAL)

MAX_IN_FLIGHT: Final = 16
"""Publishes that wait for their PUBACK at the same time: more are not faster."""

MAX_HEAD: Final = 128 * 1024
"""Bytes that may precede a message's payload: topic and properties."""
CHUNK: Final = 64 * 1024

SESSION_MARGIN_S: Final = 30
"""How much longer than the will's delay a session lives."""

_REFUSALS: Final = frozenset(
    {0x81, 0x82, 0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x8E, 0x90, 0x95, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9D}
)
"""Reason codes of CONNACK and DISCONNECT that retrying does not cure: a person must act."""

_ADVICE: Final = {
    0x84: "the broker does not speak this version of MQTT: set mqtt.protocol",
    0x85: "the broker does not accept this mqtt.client_id",
    0x86: "wrong mqtt.username or mqtt.password",
    0x87: "wrong mqtt.username or mqtt.password, or not authorized to connect",  # mosquitto: for all of them
    0x8E: "another client took over our client id: does a second instance run under this name?",
    0x95: "a packet was larger than the broker accepts",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to connect. The broker publishes `will`, retained, when the connection ends without DISCONNECT.

    `will_delay_s` lets the broker wait for that long, in case the client id connects again (MQTT 5 alone).
    """

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    protocol: MqttProtocol = MQTT_PROTOCOL
    keepalive_s: float = KEEPALIVE_S
    tls: TlsFiles | None = None
    will_topic: str | None = None
    will: bytes = b"offline"
    will_delay_s: int | None = None
    connect_timeout_s: float = 5.0
    timeout_s: float = 10.0
    max_incoming: int = 1 << 20
    max_packet: int | None = None

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the broker announced. `max_packet` is in bytes; None: no limit (always so with MQTT 3.1.1)."""

    max_packet: int | None = None
    in_flight: int = MAX_IN_FLIGHT
    retain: bool = True
    acknowledges: bool = True
    """False: the broker accepts only QoS 0, and so acknowledges nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A message from the broker. `retained`: it was there before we subscribed."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(slots=True, kw_only=True)
class _Waiting:
    """A publish without its PUBACK. It holds its slot until then, even when its caller is cancelled."""

    topic: str
    size: int
    done: asyncio.Future[None]
    deadline: asyncio.TimerHandle


def packet_size(topic: str, payload: bytes) -> int:
    """Return the size of the PUBLISH packet in bytes, at most 3 too large."""
    # Fixed header and length, topic with its length, packet id, length of the properties.
    return 5 + 2 + len(topic.encode()) + 2 + 1 + len(payload)


class PacketTooLarge(BrokerRefused):
    """The payload, not its topic, is at fault. Nothing was sent."""


def again(error: BrokerUnavailable) -> BrokerUnavailable:
    """Return a copy, so that re-raising does not pile up tracebacks."""
    return type(error)(str(error))


def _asked(done: asyncio.Future[None]) -> None:
    # Mark the exception as retrieved: not every caller awaits this future.
    if not done.cancelled():
        done.exception()


def _is_broken(sock: socket.socket | None) -> bool:
    """Return whether both directions of a socket are closed, or it was reset."""
    if sys.platform == "win32" or sock is None or sock.fileno() < 0:
        return False  # without uvloop the loop keeps polling by itself
    poll = select.poll()
    poll.register(sock, 0)  # errors and hang-ups are always reported
    return bool(poll.poll(0))


def stop_if_cancelled() -> None:
    """Raise CancelledError when this task has been cancelled.

    aiomqtt waits for answers with `asyncio.wait_for`, which on Python 3.11 swallows a cancellation that comes
    in the same moment as the answer.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Connection:
    """One connection: `open`, `receive` in a task of its own, `send` from anywhere; `close` on every path."""

    def __init__(self, options: Options, acknowledged: Callable[[int], None] = lambda _size: None) -> None:
        self._options = options
        self._acknowledged = acknowledged
        self._client: aiomqtt.Client | None = None
        self._paho: Any = None
        self._loop = asyncio.get_running_loop()
        self.error: BrokerUnavailable | None = None
        """Why the connection has ended; None while it stands."""
        self.cut: tuple[int, ...] | None = None
        """The sizes of the packets in flight when the peer ended the connection without a reason."""
        self._refused = False
        """A publish was refused: brokers that then cut the connection do not mean a packet's size."""
        self._opening = False
        self._lost_early = False
        self._accept: Any = None
        self._release: Any = None
        self._receive_bytes: Any = None
        self._deliver: Any = None
        self._waiting: dict[int, _Waiting] = {}
        self._bytes_waiting = 0
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self.limits = Limits()

    # -- life

    async def open(self) -> None:
        """Connect. Raises BrokerUnavailable or BrokerRefused; then nothing is left open."""
        options = self._options
        context = await broker_context(options.tls) if options.tls else None
        self._client = client = self._make_client(context)
        self._opening = True
        entering = asyncio.create_task(client.__aenter__(), name=f"broker-connect[{options.address}]")
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            # paho connects in a thread that cannot be interrupted: wait for it (connect_timeout_s), but not
            # for an answer.
            self.error = BrokerUnavailable("stopped")
            while not entering.done():
                self._shut_socket()
                await asyncio.wait([entering], timeout=0.05)
            self._shut_socket()
            if not entering.cancelled():
                entering.exception()  # mark it as retrieved
            raise
        except aiomqtt.MqttError as exc:
            self._shut_socket()
            raise self._explain(exc) from exc
        except ValueError as exc:
            raise BrokerRefused(f"mqtt.host, mqtt.port: {self._options.address} is not an address") from exc
        finally:
            self._opening = False
        if self._lost_early:
            raise BrokerUnavailable("connection lost")
        if not self.limits.acknowledges:
            await self.close()
            raise BrokerRefused("the broker acknowledges nothing (maximum QoS 0): QoS 1 is needed")

    def _make_client(self, context: ssl.SSLContext | None) -> aiomqtt.Client:
        options = self._options
        five = options.protocol == "5"
        properties = None
        if five:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = options.max_incoming
        delayed = five and options.will_delay_s is not None
        will = None
        if options.will_topic is not None:
            of_will = None
            if delayed:
                of_will = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
                of_will.WillDelayInterval = options.will_delay_s
            will = aiomqtt.Will(options.will_topic, options.will, qos=1, retain=True, properties=of_will)
        if properties is not None and delayed:
            # A will outlives its connection only within a session, and only a session that is taken over
            # (no clean start) keeps the will from being published.
            properties.SessionExpiryInterval = (options.will_delay_s or 0) + SESSION_MARGIN_S
        client = aiomqtt.Client(
            options.host,
            options.port,
            username=options.username,
            password=options.password,
            logger=paho_log,
            identifier=options.client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if five else aiomqtt.ProtocolVersion.V311,
            clean_start=False if delayed else MQTT_CLEAN_START_FIRST_ONLY,
            will=will,
            keepalive=max(1, round(options.keepalive_s)),
            timeout=options.timeout_s,
            properties=properties,
            tls_context=context,
            # paho would otherwise use ssl.match_hostname, which Python 3.12 removed.
            tls_insecure=True if options.tls and options.tls.insecure else None,
            max_inflight_messages=MAX_IN_FLIGHT,
            max_queued_incoming_messages=10_000,
            # Small packets both ways: with Nagle's algorithm they wait 40 ms for each other's
            # acknowledgements.
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        paho: Any = client._client  # noqa: SLF001  # aiomqtt offers no reason code of a PUBACK; pinned
        self._paho = paho
        paho.connect_timeout = options.connect_timeout_s
        self._accept, paho.on_connect = paho.on_connect, self._on_connect
        self._release, paho.on_disconnect = paho.on_disconnect, self._on_disconnect
        paho.on_publish = self._on_publish
        paho.on_unsubscribe = None
        paho.on_socket_register_write = self._on_want_write
        paho.loop_read = self._read
        self._receive_bytes, paho._sock_recv = paho._sock_recv, self._receive_bounded  # noqa: SLF001
        self._deliver, paho.on_message = paho.on_message, self._on_message
        return client

    async def close(self) -> None:
        """Disconnect, if still connected, so that the broker discards the last will."""
        if self._client is None:
            return
        client, self._client = self._client, None
        if self.error is None:
            self._fail(BrokerUnavailable("disconnected"))
            with contextlib.suppress(aiomqtt.MqttError):
                await client.__aexit__(None, None, None)
        self._shut_socket()
        stop_if_cancelled()

    def abort(self, error: BrokerUnavailable) -> None:
        """End the connection without a goodbye: waiting publishes fail with `error`, `receive` returns it."""
        if self.error is None:
            self._fail(error)
            self._shut_socket()

    def _end_by_peer(self, error: BrokerUnavailable) -> None:
        if self.error is None and not isinstance(error, BrokerRefused) and not self._refused:
            self.cut = tuple(waiting.size for waiting in self._waiting.values())
        self.abort(error)

    def _fail(self, error: BrokerUnavailable) -> None:
        self.error = error
        for waiting in self._waiting.values():
            waiting.deadline.cancel()
            if not waiting.done.done():
                waiting.done.set_exception(again(error))
            self._slots.release()
        self._waiting.clear()

    def _shut_socket(self) -> None:
        # The event loop then reads the end of the stream; paho and aiomqtt clean up as after any loss.
        sock = self._paho.socket() if self._paho is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    # -- messages

    async def receive(self, handle: Callable[[Incoming], None]) -> BrokerUnavailable:
        """Hand every incoming message to `handle`, in order, until the connection ends; return why."""
        assert self._client is not None, "call open() first"
        try:
            async for message in self._client.messages:
                payload = message.payload
                if len(payload) > self._options.max_incoming:
                    taken = self._options.max_incoming
                    log.warning("broker: dropped a message of more than %d bytes on %s", taken, message.topic)
                    continue
                handle(Incoming(topic=str(message.topic), payload=payload, retained=message.retain))
        except aiomqtt.MqttError as exc:
            self._end_by_peer(self._explain(exc))
        return self.error or BrokerUnavailable("connection lost")

    async def subscribe(self, topic_filter: str) -> None:
        """Subscribe with QoS 1. Raises BrokerRefused when not authorized, BrokerUnavailable."""
        assert self._client is not None, "call open() first"
        try:
            codes = await self._client.subscribe(topic_filter, qos=1)
            stop_if_cancelled()
            if not codes:  # paho passes on a SUBACK without any
                raise aiomqtt.MqttError("no reason code")
        except aiomqtt.MqttError as exc:
            error = BrokerUnavailable(f"subscribing to {topic_filter} failed")
            self.abort(error)
            raise error from exc
        code = codes[0]
        number = code if isinstance(code, int) else int(code.value)
        if number >= 0x80:
            raise BrokerRefused(f"subscribing to {topic_filter}: {code}")

    def unsubscribe(self, topic_filter: str) -> None:
        """Send an UNSUBSCRIBE. Raises BrokerUnavailable.

        Behind a flood of messages its UNSUBACK comes late. Nothing depends on it, so it is not awaited.
        """
        result, _ = self._paho.unsubscribe(topic_filter)
        if result != MQTT_ERR_SUCCESS:
            error = BrokerUnavailable(f"unsubscribing from {topic_filter} failed")
            self.abort(error)
            raise error

    async def send(self, topic: str, payload: bytes, *, retain: bool) -> asyncio.Future[None]:
        """Wait for a slot and `put`."""
        self._check_size(topic, payload)
        await self.slot()
        return self.put(topic, payload, retain=retain)

    async def slot(self) -> None:
        """Wait, in order, until one more message may be in flight. Raises BrokerUnavailable when it ends."""
        await self._slots.acquire()
        if self.error is not None:
            self._slots.release()
            raise again(self.error)

    def give_back_slot(self) -> None:
        """Return a slot unused."""
        self._slots.release()

    def put(self, topic: str, payload: bytes, *, retain: bool) -> asyncio.Future[None]:
        """Send one message with QoS 1 in a slot; return the future that its PUBACK resolves.

        Messages leave in the order of the calls. Raises PacketTooLarge for a packet above the broker's limit,
        before a byte of it is sent, and BrokerUnavailable when the connection has ended; both free the
        slot. The future raises BrokerRefused for a failure code, BrokerUnavailable when the connection ends.
        """
        try:
            self._check_size(topic, payload)
            if self.error is not None:
                raise again(self.error)
            info = self._paho.publish(topic, payload, qos=1, retain=retain and self.limits.retain)
            if info.rc != MQTT_ERR_SUCCESS:
                self._end_by_peer(BrokerUnavailable("connection lost"))
                raise BrokerUnavailable("connection lost")
        except BrokerUnavailable:
            self._slots.release()
            raise
        size = packet_size(topic, payload)
        self._bytes_waiting += size
        allowed_s = self._options.timeout_s + self._bytes_waiting / SLOWEST_BYTES_PER_S
        done: asyncio.Future[None] = self._loop.create_future()
        done.add_done_callback(_asked)
        self._waiting[info.mid] = _Waiting(
            topic=topic,
            size=size,
            done=done,
            deadline=self._loop.call_later(allowed_s, self._overdue, allowed_s),
        )
        return done

    def _check_size(self, topic: str, payload: bytes) -> None:
        max_size, size = self.limits.max_packet, packet_size(topic, payload)
        if max_size is not None and size > max_size:
            raise PacketTooLarge(f"{topic}: {size} bytes, the broker accepts at most {max_size}")

    def _overdue(self, allowed_s: float) -> None:
        self.abort(BrokerUnavailable(f"no acknowledgement within {allowed_s:.0f} s"))

    # -- paho's callbacks, in the event loop's thread

    def _on_connect(self, paho: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        in_flight = min(MAX_IN_FLIGHT, getattr(properties, "ReceiveMaximum", MAX_IN_FLIGHT))
        self._slots = asyncio.Semaphore(in_flight)
        sizes = (self._options.max_packet, getattr(properties, "MaximumPacketSize", None))
        self.limits = Limits(
            max_packet=min((size for size in sizes if size is not None), default=None),
            in_flight=in_flight,
            retain=bool(getattr(properties, "RetainAvailable", 1)),
            acknowledges=getattr(properties, "MaximumQoS", 1) >= 1,
        )
        self._accept(paho, userdata, flags, reason, properties)

    def _on_disconnect(
        self, paho: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        if self._opening:
            # Closed before its CONNACK: aiomqtt would wait until its time-out. Closed just after it: aiomqtt
            # would miss it.
            self._lost_early = True
            self._accept(paho, userdata, None, reason, properties)
        else:
            # aiomqtt stores a failure in a future that is never awaited once we have ended the connection.
            self._release(paho, userdata, flags, reason if self.error is None else 0, properties)

    def _read(self, *arguments: Any) -> Any:
        """Read as paho does; drain a broken socket to its end.

        uvloop stops watching a socket at an error, after one read. If a packet preceded the error, the loss
        would go unnoticed until the keepalive expires.
        """
        try:
            outcome = Client.loop_read(self._paho, *arguments)
            while outcome == MQTT_ERR_SUCCESS and _is_broken(self._paho.socket()):
                outcome = Client.loop_read(self._paho)
        except Exception as exc:  # noqa: BLE001 - paho parses what the network sends, and names no errors
            self.abort(BrokerUnavailable(f"the broker sent malformed MQTT ({type(exc).__name__})"))
            return self._paho._loop_rc_handle(MQTT_ERR_CONN_LOST)  # noqa: SLF001
        return outcome

    def _receive_bounded(self, size: int) -> bytes:
        """Receive at most `size` bytes for paho, and discard a packet's bytes beyond our limit.

        MQTT 3.1.1 cannot announce a limit to the broker. `receive` drops the truncated message for its
        length. It is acknowledged, so that the broker does not send it again for ever.
        """
        packet = self._paho._in_packet  # noqa: SLF001
        max_size = self._options.max_incoming + MAX_HEAD
        if packet["have_remaining"]:
            del packet["packet"][max_size:]
            size = min(size, CHUNK)
        received: bytes = self._receive_bytes(size)
        return received

    def _on_message(self, paho: Any, userdata: Any, message: Any) -> None:
        try:
            message.topic.encode()
        except UnicodeError:
            log.warning("broker %s: dropped a message: its topic is not UTF-8", self._options.address)
            return
        self._deliver(paho, userdata, message)

    def _on_want_write(self, _paho: Any, _userdata: Any, sock: socket.socket) -> None:
        # Also called from the connecting thread.
        self._loop.call_soon_threadsafe(self._add_writer, sock)

    def _add_writer(self, sock: socket.socket) -> None:
        # The socket may be closed by now and its descriptor reused: aiomqtt would watch the wrong one for
        # ever.
        if self._paho.socket() is sock and sock.fileno() >= 0:
            self._loop.add_writer(sock.fileno(), self._write)

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # the reader fails with it too
            self._paho.loop_write()

    def _on_publish(self, _paho: Any, _userdata: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        waiting = self._waiting.pop(mid, None)
        if waiting is None:
            return
        waiting.deadline.cancel()
        self._bytes_waiting -= waiting.size
        self._slots.release()
        if waiting.done.done():
            return  # its caller was cancelled
        if reason.is_failure:
            self._refused = True
            waiting.done.set_exception(BrokerRefused(f"{waiting.topic}: {reason}"))
        else:
            self._acknowledged(waiting.size)
            waiting.done.set_result(None)

    def _explain(self, exc: aiomqtt.MqttError) -> BrokerUnavailable:
        """Return, in an operator's words, why a connection could not be made, or ended."""
        code = getattr(exc, "rc", None) or getattr(exc.__cause__, "rc", None)
        if isinstance(code, ReasonCode):
            words = _ADVICE.get(code.value, str(code).lower())
            if code.value in _REFUSALS:
                return BrokerRefused(words)
            if code.value == 0x80:  # paho's name for a connection that just ended
                words = "closed before it was accepted" if self._opening else "connection lost"
            return BrokerUnavailable(words)
        origin = exc.__cause__ or exc.__context__
        if isinstance(origin, ssl.SSLError) and self._options.tls is not None:
            host, files = self._options.host, self._options.tls
            return BrokerRefused(cause(origin, peer="broker", host=host, section="mqtt.tls", files=files))
        if isinstance(origin, TimeoutError) or str(exc) == "Operation timed out":
            return BrokerUnavailable("no answer")
        if isinstance(origin, OSError):
            words = (origin.strerror or type(origin).__name__).lower()
            tls = self._options.tls is not None and isinstance(origin, ConnectionResetError)
            return BrokerUnavailable(f"{words}: is this a TLS port?" if tls else words)
        return BrokerUnavailable("connection lost")
