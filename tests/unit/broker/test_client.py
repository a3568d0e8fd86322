"""The client against a scripted broker: answers that real brokers give rarely, or only when faulty."""

# ruff: noqa: SLF001  (the options show no password, wherever they are printed)

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from async_motion.broker.client import BrokerClient
from async_motion.broker.connection import packet_size
from async_motion.core.options import MqttProtocol
from async_motion.errors import BrokerRefused, BrokerUnavailable
from tests.support.wait import eventually_async

CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE, DISCONNECT = (
    0x20,
    0x30,
    0x40,
    0x82,
    0x90,
    0xA2,
    0xE0,
)
LOG = "async_motion.broker.client"
QUICK: dict[str, Any] = {
    "retry_first_s": 0.01,
    "retry_max_s": 0.02,
    "refused_first_s": 0.01,
    "refused_max_s": 0.02,
}


@dataclass
class Packet:
    kind: int
    body: bytes

    @property
    def retain(self) -> bool:
        return bool(self.kind & 1)

    @property
    def number(self) -> bytes:
        """The packet identifier (2 bytes) of a PUBLISH with QoS 1, or of a SUBSCRIBE."""
        if self.kind == SUBSCRIBE:
            return self.body[:2]
        size = int.from_bytes(self.body[:2])
        return self.body[2 + size : 4 + size]


@dataclass
class Script:
    """A broker with scripted answers. `on_publish` answers a PUBLISH; by default it is acknowledged."""

    connack: bytes | None = b"\0\0\0"
    publishes: list[Packet] = field(default_factory=list)
    suback: bytes = b"\1"
    """The reason codes of a SUBACK."""
    asked: list[int] = field(default_factory=list)
    """The kinds of the SUBSCRIBE and UNSUBSCRIBE packets; the latter are not answered."""
    connects: int = 0
    on_publish: Callable[[Packet, asyncio.StreamWriter], Awaitable[None]] | None = None
    writer: asyncio.StreamWriter | None = None
    port: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        with contextlib.suppress(OSError, EOFError):
            await read_packet(reader)
            self.connects += 1
            self.came.set()
            if self.connack is not None:
                send(writer, CONNACK, self.connack)
                while True:
                    packet = await read_packet(reader)
                    if packet.kind & 0xF0 == PUBLISH:
                        self.publishes.append(packet)
                        if self.on_publish is not None:
                            await self.on_publish(packet, writer)
                        else:
                            send(writer, PUBACK, packet.number)
                    elif packet.kind == UNSUBSCRIBE:
                        self.asked.append(packet.kind)
                    elif packet.kind == SUBSCRIBE:
                        self.asked.append(packet.kind)
                        send(writer, SUBACK, packet.number + b"\0" + self.suback)
                    elif packet.kind == DISCONNECT:
                        break
        writer.close()


def send(writer: asyncio.StreamWriter, kind: int, body: bytes) -> None:
    head, size = bytes([kind]), len(body)
    while True:
        size, digit = divmod(size, 128)
        head += bytes([digit | (0x80 if size else 0)])
        if not size:
            break
    writer.write(head + body)


async def read_packet(reader: asyncio.StreamReader) -> Packet:
    kind, size, shift = (await reader.readexactly(1))[0], 0, 0
    while True:
        digit = (await reader.readexactly(1))[0]
        size |= (digit & 0x7F) << shift
        shift += 7
        if not digit & 0x80:
            return Packet(kind, await reader.readexactly(size))


def accepted(properties: bytes) -> bytes:
    """Return the body of an MQTT 5 CONNACK (success) with these properties, at most 127 bytes."""
    return b"\0\0" + bytes([len(properties)]) + properties


@contextlib.asynccontextmanager
async def against(script: Script, **options: Any) -> AsyncIterator[BrokerClient]:
    """Run a client against `script` inside the block."""
    async with await asyncio.start_server(script.serve, "127.0.0.1", 0) as server:
        script.port = server.sockets[0].getsockname()[1]
        client = BrokerClient(host="127.0.0.1", port=script.port, **QUICK | options)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(client.run(), name="client")
            try:
                yield client
            finally:
                running.cancel()


def ignore(_topic: str, _payload: bytes, _retained: bool) -> None: ...


async def connected(client: BrokerClient) -> None:
    await eventually_async(lambda: client.connected, what="the connection")


async def troubled(client: BrokerClient) -> str:
    await eventually_async(lambda: str(client.health) != "unavailable: not connected yet", what="a state")
    assert not client.connected
    return str(client.health)


# -- another broker


async def test_it_follows_another_client_to_its_broker_when_run_again() -> None:
    one, other = Script(), Script()
    calls: list[str] = []
    unwanted: list[str] = []

    def never() -> None:
        unwanted.append("called")

    async with (
        await asyncio.start_server(one.serve, "127.0.0.1", 0) as first,
        await asyncio.start_server(other.serve, "127.0.0.1", 0) as second,
    ):
        ports = [server.sockets[0].getsockname()[1] for server in (first, second)]
        clients = [
            BrokerClient(host="127.0.0.1", port=port, status_topic="b/status", **QUICK) for port in ports
        ]
        client = clients[0]
        client.on_connect(lambda: calls.append(client.address))
        client.on_connect(never)
        client.off_connect(never)
        client.retain("b/state", "on")
        for known in ([ports[0]], ports):
            addresses = [f"127.0.0.1:{port}" for port in known]
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(client.run(), name="client")
                await eventually_async(lambda: calls == addresses)  # noqa: B023  (awaited in this turn)
                client.follow(clients[1])
                running.cancel()
    heard = [[packet.body[2 : 2 + packet.body[1]] for packet in script.publishes] for script in (one, other)]
    assert heard == [[b"b/state", b"b/status", b"b/status"]] * 2, "each hears all, and the goodbye"
    assert unwanted == []


# -- limits that the broker announces in its CONNACK


def test_a_packet_up_to_the_announced_size_is_sent_and_one_byte_more_is_refused() -> None:
    async def case() -> None:
        script = Script(connack=accepted(b"\x27" + (200).to_bytes(4)))
        async with against(script) as client:
            await connected(client)
            assert client.max_packet == 200
            payload = bytes(200 - packet_size("am/t", b""))
            await client.publish("am/t", payload)
            with pytest.raises(BrokerRefused, match="201 bytes, the broker accepts at most 200"):
                await client.publish("am/t", payload + b"x")
            assert [packet.body[-len(payload) :] for packet in script.publishes] == [payload]

    asyncio.run(case())


def test_no_more_messages_are_in_flight_than_the_broker_takes() -> None:
    async def case() -> None:
        waiting: list[tuple[Packet, asyncio.StreamWriter]] = []

        async def hold(packet: Packet, writer: asyncio.StreamWriter) -> None:
            waiting.append((packet, writer))

        script = Script(connack=accepted(b"\x21\x00\x03"), on_publish=hold)
        async with against(script) as client:
            await connected(client)
            async with asyncio.TaskGroup() as tasks:
                for number in range(10):
                    tasks.create_task(client.publish("am/t", str(number).encode()), name=f"publish-{number}")
                for done in range(10):
                    await eventually_async(lambda done=done: len(waiting) == min(10, done + 3))  # type: ignore[misc]
                    packet, writer = waiting[done]
                    assert packet.body.endswith(str(done).encode()), "in order"
                    send(writer, PUBACK, packet.number)

    asyncio.run(case())


def test_a_broker_without_retained_messages_gets_them_as_plain_ones() -> None:
    async def case() -> None:
        script = Script(connack=accepted(b"\x25\x00"))
        async with against(script) as client:
            client.retain("am/t", "ON")
            await connected(client)
            await client.publish("am/t", b"OFF", retain=True)
            assert [packet.retain for packet in script.publishes] == [False, False]

    asyncio.run(case())


def test_a_broker_that_acknowledges_nothing_is_refused() -> None:
    async def case() -> None:
        async with against(Script(connack=accepted(b"\x24\x00"))) as client:
            assert "QoS 1 is needed" in await troubled(client)
            assert str(client.health).startswith("refused: ")

    asyncio.run(case())


# -- refusals and lost connections


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (0x84, "refused: the broker does not speak this version of MQTT: set mqtt.protocol"),
        (0x85, "refused: the broker does not accept this mqtt.client_id"),
        (0x86, "refused: wrong mqtt.username or mqtt.password"),
        (0x87, "refused: wrong mqtt.username or mqtt.password, or not authorized to connect"),
        (0x8A, "refused: banned"),
        (0x88, "unavailable: server unavailable"),
        (0x89, "unavailable: server busy"),
        (0x9F, "unavailable: connection rate exceeded"),
    ],
)
def test_a_refused_connection_says_why(code: int, wanted: str) -> None:
    async def case() -> None:
        async with against(Script(connack=bytes([0, code, 0]))) as client:
            assert await troubled(client) == wanted
            error = BrokerRefused if wanted.startswith("refused") else BrokerUnavailable
            with pytest.raises(BrokerUnavailable) as caught:
                await client.publish("am/t", b"x")
            assert type(caught.value) is error

    asyncio.run(case())


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (4, "refused: wrong mqtt.username or mqtt.password"),
        (5, "refused: wrong mqtt.username or mqtt.password, or not authorized to connect"),
        (3, "unavailable: server unavailable"),
    ],
)
def test_so_it_does_with_mqtt_3_1_1(code: int, wanted: str) -> None:
    async def case() -> None:
        async with against(Script(connack=bytes([0, code])), protocol="3.1.1") as client:
            assert await troubled(client) == wanted

    asyncio.run(case())


def test_a_broker_of_3_1_1_alone_points_to_the_setting() -> None:
    async def case() -> None:
        async with against(Script(connack=b"\0\1")) as client:
            assert (
                await troubled(client)
                == "refused: the broker does not speak this version of MQTT: set mqtt.protocol"
            )

    asyncio.run(case())


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_connection_closed_before_its_answer_is_noticed_at_once(protocol: MqttProtocol) -> None:
    async def case() -> None:
        async with against(Script(connack=None), protocol=protocol, timeout_s=3600) as client:
            assert await troubled(client) == "unavailable: closed before it was accepted"

    asyncio.run(case())


def test_a_connection_closed_right_after_its_answer_is_noticed() -> None:
    """The stream ends together with the CONNACK; aiomqtt ignores that and would wait for ever."""

    async def case() -> None:
        class Closing(Script):
            async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await read_packet(reader)
                self.connects += 1
                send(writer, CONNACK, b"\0\0\0")
                writer.close()

        script = Closing()
        async with against(script):
            await eventually_async(lambda: script.connects >= 3, what="more tries")

    asyncio.run(case())


def test_nonsense_in_place_of_mqtt_is_not_a_broker() -> None:
    async def case() -> None:
        class Web(Script):
            async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read(1)
                writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                writer.close()

        async with against(Web(), timeout_s=3600) as client:
            assert (await troubled(client)).startswith("unavailable: ")

    asyncio.run(case())


def test_an_invalid_address_is_refused() -> None:
    async def case() -> None:
        client = BrokerClient(host="a" * 70 + ".example", **QUICK)
        task = asyncio.create_task(client.run(), name="client")
        assert "mqtt.host, mqtt.port" in await troubled(client)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(case())


def test_another_client_with_our_id_is_named() -> None:
    async def case() -> None:
        script = Script()
        async with against(script, refused_first_s=3600, refused_max_s=3600) as client:
            await connected(client)
            assert script.writer is not None
            send(script.writer, DISCONNECT, b"\x8e\x00")
            await eventually_async(lambda: "took over our client id" in str(client.health))
            assert str(client.health).startswith("refused: ")

    asyncio.run(case())


def test_a_refused_publish_says_why_and_the_topic_is_held_back() -> None:
    async def case() -> None:
        async def refuse(packet: Packet, writer: asyncio.StreamWriter) -> None:
            send(writer, PUBACK, packet.number + b"\x97\x00")

        script = Script(on_publish=refuse)
        async with against(script, refused_first_s=3600, refused_max_s=3600) as client:
            await connected(client)
            for _ in range(3):
                with pytest.raises(BrokerRefused, match="am/t: Quota exceeded"):
                    await client.publish("am/t", b"x")
            assert len(script.publishes) == 1
            assert str(client.health) == "refused: am/t: Quota exceeded"

    asyncio.run(case())


def test_a_reset_after_packets_is_noticed_at_once() -> None:
    """uvloop stops watching a socket that was reset, even if unread packets are left in it."""

    async def case() -> None:
        async def breaks(_packet: Packet, writer: asyncio.StreamWriter) -> None:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            for number in range(8):
                send(writer, PUBLISH, b"\0\1a\0" + bytes([number]))
            writer.transport.abort()

        script = Script(on_publish=breaks)
        async with against(script, keepalive_s=3600, timeout_s=3600) as client:
            await eventually_async(lambda: client.connected, what="the connection")
            with pytest.raises(BrokerUnavailable, match="connection lost"):
                await asyncio.wait_for(client.publish("a", b"1"), 10)

    uvloop.run(case())


@pytest.mark.parametrize("takes", [300, 4_000, 100_000])
@pytest.mark.parametrize("acknowledges", [True, False])
def test_a_broker_that_cuts_at_large_packets_costs_few_connections(
    takes: int, acknowledges: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """With MQTT 3.1.1 a broker closes the connection on a packet above its limit and gives no reason."""

    async def case() -> None:
        async def cut(packet: Packet, writer: asyncio.StreamWriter) -> None:
            if len(packet.body) > takes:
                # A reset may discard acknowledgements that were already sent.
                writer.close() if acknowledges else writer.transport.abort()
            else:
                took.add(packet.body[2 : 2 + int.from_bytes(packet.body[:2])])
                send(writer, PUBACK, packet.number)

        took: set[bytes] = set()
        script = Script(connack=b"\0\0", on_publish=cut)
        async with against(script, protocol="3.1.1", status_topic="am/status") as client:
            sizes = [1, 2, 50, 200, 900, 2_600, 3_900, 9_000, 9_100, 50_000, 200_000]
            for size in sizes:
                client.retain(f"am/{size}", bytes([1]) * size)
            frames = [f"frame {number}".encode() + bytes(100) for number in range(32)]

            async def announce(frame: bytes) -> None:
                while True:
                    try:
                        return await client.publish("am/frame", frame)
                    except BrokerUnavailable:
                        await asyncio.sleep(0.01)

            async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
                for frame in frames:
                    tasks.create_task(announce(frame), name="announce")
            await eventually_async(lambda: client.max_packet is not None, what="a limit")
            await connected(client)
            limit = client.max_packet
            assert limit is not None
            # `takes` counts the body, the limit the whole packet: at most 9 bytes more.
            assert takes <= limit + 9
            fits = {
                f"am/{size}".encode() for size in sizes if packet_size(f"am/{size}", bytes(size)) <= takes
            }
            assert len(fits) > 3
            await eventually_async(lambda: fits <= took, what="all that the broker takes")
            connects = script.connects
            assert connects < 15
            # Once the limit is known, the client refuses larger packets itself, and the connection stays up.
            with pytest.raises(BrokerRefused, match="at most"):
                await client.publish("am/snapshot", bytes(300_000))
            for frame in frames:
                await client.publish("am/frame", frame)
            assert script.connects == connects
        assert "is the client id used twice" not in caplog.text
        assert "closes on large packets" in caplog.text

    asyncio.run(case())


def test_a_limit_that_was_learned_is_retried_when_the_broker_comes_back() -> None:
    async def case() -> None:
        takes = 1000

        async def cut(packet: Packet, writer: asyncio.StreamWriter) -> None:
            if len(packet.body) > takes:
                writer.close()
            else:
                send(writer, PUBACK, packet.number)

        script = Script(connack=b"\0\0", on_publish=cut)
        async with against(script, protocol="3.1.1") as client:
            client.retain("am/large", bytes([1]) * 5000)
            await eventually_async(lambda: client.max_packet is not None, what="a limit")
            takes = 10_000
            client._packets.doubt()  # as after a time without a listening broker
            assert script.writer is not None
            script.writer.close()
            await eventually_async(lambda: any(len(p.body) > 5000 for p in script.publishes[-2:]))
            await connected(client)
            await client.publish("am/large2", bytes(9000))
            assert client.max_packet is None

    asyncio.run(case())


# -- incoming messages


def test_a_retained_message_without_a_connection_fails_once() -> None:
    async def case() -> None:
        problems: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))

        async def cut(_packet: Packet, writer: asyncio.StreamWriter) -> None:
            writer.close()

        script = Script(connack=accepted(b""), on_publish=cut)
        async with against(script) as client:
            with pytest.raises(BrokerUnavailable):
                await client.publish("a", b"b", retain=True)
            await eventually_async(lambda: script.connects > 1, what="another connection")
        gc.collect()
        assert not problems

    asyncio.run(case())


@pytest.mark.parametrize("codes", [b"", b"\x77"], ids=["none", "unknown"])
def test_a_suback_without_a_valid_reason_code_ends_the_connection_alone(codes: bytes) -> None:
    async def case() -> None:
        script = Script(connack=accepted(b""), suback=codes)
        async with against(script) as client:
            client.subscribe("a", ignore)
            await eventually_async(lambda: script.connects > 1, what="another connection")
            script.suback = b"\1"
            await connected(client)

    asyncio.run(case())


def test_an_unsubscription_without_an_answer_costs_nothing() -> None:
    async def case() -> None:
        script = Script(connack=accepted(b""))
        async with against(script) as client:
            client.subscribe("a", ignore)
            await eventually_async(lambda: script.asked == [SUBSCRIBE])
            client.unsubscribe("a", ignore)
            client.subscribe("b", ignore)
            await eventually_async(lambda: script.asked == [SUBSCRIBE, UNSUBSCRIBE, SUBSCRIBE])
            await client.publish("c", b"d")
            assert script.connects == 1

    asyncio.run(case())


def test_a_message_above_our_bound_is_dropped_and_the_next_one_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def case() -> None:
        script = Script(connack=b"\0\0")
        got: list[bytes] = []
        async with against(script, protocol="3.1.1", max_incoming=100) as client:
            client.subscribe("am/set", lambda _topic, payload, _was: got.append(payload))
            await connected(client)
            assert script.writer is not None
            for payload in (bytes(101), bytes(100), b"x"):
                send(script.writer, PUBLISH, len(b"am/set").to_bytes(2) + b"am/set" + payload)
            await eventually_async(lambda: got == [bytes(100), b"x"])

    asyncio.run(case())
    assert "dropped a message of more than 100 bytes on am/set" in caplog.text


def test_a_message_of_200_mb_takes_no_memory_and_the_next_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    """MQTT 3.1.1 has no maximum packet size: any client may retain that much on a topic of ours."""

    async def case() -> int:
        script = Script(connack=b"\0\0")
        got: list[bytes] = []
        async with against(script, protocol="3.1.1", keepalive_s=3600) as client:
            client.subscribe("am/set", lambda _topic, payload, _was: got.append(payload))
            await connected(client)
            writer = script.writer
            assert writer is not None
            head = len(b"am/set").to_bytes(2) + b"am/set" + b"\0\7"
            left = 200_000_000
            tracemalloc.start()
            size = len(head) + left
            digits = [size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21]
            writer.write(bytes([PUBLISH | 2, *digits]) + head)
            chunk = bytes(1 << 16)
            while left:
                writer.write(chunk[:left])
                left -= min(left, len(chunk))
                await writer.drain()
            send(writer, PUBLISH, head[:-2] + b"x")
            await eventually_async(lambda: got == [b"x"], within_s=60)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert script.connects == 1
            return peak

    assert asyncio.run(case()) < 8 << 20
    assert "dropped a message of more than" in caplog.text


@pytest.mark.parametrize(
    "noise",
    [
        b"\x30\x05\0\2\xff\xfexy",  # a topic that is not UTF-8
        b"\x30\x03\0\x09a",  # a topic longer than its packet
        b"\x30\x00",
        b"\x40\x00",
        b"\x90\x01\x00",
        b"\xf0\x01\x00",
        b"\x30\xff\xff\xff\xff\xff",
        b"\x62\x02\0\1",
        b"\x00\x00",
    ],
)
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_bytes_that_are_not_mqtt_are_skipped_or_end_only_the_connection(
    noise: bytes, protocol: MqttProtocol
) -> None:
    async def case() -> None:
        script = Script(connack=b"\0\0" if protocol == "3.1.1" else b"\0\0\0")
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
        async with against(script, protocol=protocol, **QUICK) as client:
            await connected(client)
            assert script.writer is not None
            script.writer.write(noise)
            await asyncio.sleep(0.05)

            async def works() -> bool:
                try:
                    await client.publish("am/frame", b"x")
                except BrokerUnavailable:
                    return False
                return True

            await eventually_async(works, what="a publish")
        assert faults == []

    asyncio.run(case())


def test_a_refused_subscription_is_tried_again_and_the_others_hold(caplog: pytest.LogCaptureFixture) -> None:
    async def case() -> None:
        asked: list[bytes] = []

        class Choosy(Script):
            async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await read_packet(reader)
                send(writer, CONNACK, b"\0\0")
                with contextlib.suppress(EOFError):
                    while True:
                        packet = await read_packet(reader)
                        if packet.kind == SUBSCRIBE:
                            asked.append(packet.body)
                            allowed = b"\1" if b"mine" in packet.body or len(asked) > 4 else b"\x80"
                            send(writer, SUBACK, packet.number + allowed)
                writer.close()

        script = Choosy()
        async with against(script, protocol="3.1.1") as client:
            client.subscribe("theirs/#", lambda *_: None)
            client.subscribe("mine/#", lambda *_: None)
            await connected(client)
            await eventually_async(lambda: len(asked) == 5, what="the subscription that is granted")
        assert [b"mine" in body for body in asked] == [False, True, False, False, False]

    asyncio.run(case())
    assert caplog.text.count("subscribing to theirs/#") == 1
    assert "mine" not in caplog.text


@pytest.mark.parametrize("steps", range(40))
def test_a_stop_in_the_very_moment_of_an_answer_is_not_lost(
    steps: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def case() -> None:
        script = Script()
        async with await asyncio.start_server(script.serve, "127.0.0.1", 0) as server:
            client = BrokerClient(host="127.0.0.1", port=server.sockets[0].getsockname()[1], **QUICK)
            for number in range(3):
                client.subscribe(f"am/{number}", lambda *_: None)
            task = asyncio.create_task(client.run(), name="client")
            await script.came.wait()
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task], timeout=20)
            assert task.cancelled()

    asyncio.run(case())
    gc.collect()
    assert not [record for record in caplog.records if "never retrieved" in record.message]


# -- repr and log lines


def test_no_password_is_shown() -> None:
    client = BrokerClient(host="127.0.0.1", username="edge", password="correct horse")
    assert "horse" not in repr(client._options)


def test_an_outage_is_a_warning_for_each_reason_and_one_info_on_recovery(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, LOG)

    async def case() -> None:
        script = Script()
        async with against(script) as client:
            await connected(client)
            script.connack = None
            assert script.writer is not None
            script.writer.close()
            await eventually_async(lambda: script.connects >= 4, what="tries")
            warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
            reasons = {record.message.partition(";")[0] for record in warnings}
            assert 1 <= len(warnings) == len(reasons) <= 2, "lost, and then not to be made"
            assert all("next try in" in record.message for record in warnings)
            script.connack = b"\0\0\0"
            await connected(client)

    asyncio.run(case())
    recoveries = [record.message for record in caplog.records if record.levelno == logging.INFO]
    assert len(recoveries) == 2
    assert all("connected (MQTT 5), 0 retained messages published" in message for message in recoveries)


def test_waits_grow_from_try_to_try_and_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, LOG)

    async def case() -> None:
        script = Script(connack=None)
        options = {"retry_first_s": 0.02, "retry_max_s": 0.1, "draw": lambda: 0.999}
        async with against(script, **options):
            await eventually_async(lambda: script.connects >= 6, what="tries")

    asyncio.run(case())
    tries = [record.args for record in caplog.records if "next try" in record.msg]
    waits = [args[-2] for args in tries if isinstance(args, tuple)]
    assert [f"{wait:.2f}" for wait in waits[:5]] == ["0.02", "0.04", "0.08", "0.10", "0.10"]
