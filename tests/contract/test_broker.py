"""The broker client's contract: on the broker in memory and two real ones, with both versions of MQTT."""

# ruff: noqa: SLF001  (a connection is cut under the client, which offers no way to do so)

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from async_motion.broker.client import BrokerClient, Takeover
from async_motion.broker.embedded import EmbeddedBroker
from async_motion.broker.fake import FakeBroker, FakeServer
from async_motion.core.options import MqttProtocol
from async_motion.errors import BrokerRefused, BrokerUnavailable
from tests.support.mqtt import (
    Certificates,
    Mosquitto,
    Received,
    Recorder,
    Rumqttd,
    Server,
    make_certificates,
    mosquitto,
    retained,
)
from tests.support.wait import eventually_async

STATUS = "am/edge/status"
CLIENT_LOG = "async_motion.broker.client"
QUICK: dict[str, Any] = {
    "retry_first_s": 0.05,
    "retry_max_s": 0.2,
    "refused_first_s": 0.05,
    "refused_max_s": 0.2,
}
Client = BrokerClient | FakeBroker


class Site:
    """A broker and a factory of its clients, so that a case need not know which broker it uses."""

    limit: int | None = None
    """The maximum packet size for clients, in bytes."""

    def client(self, *, status_topic: str | None = STATUS) -> Client:
        raise NotImplementedError

    def watch(self, topic_filter: str) -> contextlib.AbstractContextManager[list[Received]]:
        raise NotImplementedError

    def stop(self) -> None:
        """End at once, and lose everything that was retained."""
        raise NotImplementedError

    def start(self) -> None:
        raise NotImplementedError

    def drop(self, client: Client) -> None:
        """Close this client's connection without a DISCONNECT."""
        raise NotImplementedError


@dataclass
class MemorySite(Site):
    server: FakeServer = field(default_factory=lambda: FakeServer(max_packet=2_000_000))
    limit = 2_000_000

    def client(self, *, status_topic: str | None = STATUS) -> Client:
        return FakeBroker(self.server, status_topic=status_topic)

    @contextlib.contextmanager
    def watch(self, topic_filter: str) -> Any:
        seen: list[Received] = []
        watcher = FakeBroker(self.server)
        watcher.subscribe(
            topic_filter,
            lambda topic, payload, was: seen.append(
                Received(topic=topic, payload=payload, qos=1, retain=was)
            ),
        )
        watcher.connect()
        yield seen

    def stop(self) -> None:
        self.server.stop(keep_retained=False)

    def start(self) -> None:
        self.server.start()

    def drop(self, client: Client) -> None:
        assert isinstance(client, FakeBroker)
        client.lose()


@dataclass
class RealSite(Site):
    server: Server
    version: MqttProtocol
    limit: int | None

    def client(self, *, status_topic: str | None = STATUS) -> Client:
        return BrokerClient(
            host="127.0.0.1",
            port=self.server.port,
            protocol=self.version,
            status_topic=status_topic,
            max_packet=self.limit,
            max_incoming=4 << 20,
            **QUICK,
        )

    @contextlib.contextmanager
    def watch(self, topic_filter: str) -> Any:
        with Recorder(self.server.port, (topic_filter,), self.version) as recorder:
            yield recorder.messages

    def stop(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server.start()

    def drop(self, client: Client) -> None:
        assert isinstance(client, BrokerClient)
        connection = client._connection
        assert connection is not None
        connection._shut_socket()


@pytest.fixture(params=["memory", "rumqttd-5", "rumqttd-3.1.1", "mosquitto-5", "mosquitto-3.1.1"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "memory":
        yield MemorySite()
        return
    kind, _, version = request.param.partition("-")
    server: Server
    if kind == "rumqttd":
        server = Rumqttd(tmp_path, max_packet=2_000_000)
    else:
        # It announces its limit in MQTT 5; in 3.1.1 the client must be told.
        server = Mosquitto(tmp_path, max_packet_size=2_000_000)
    announced = kind == "mosquitto" and version == "5"
    with server:
        yield RealSite(server, "5" if version == "5" else "3.1.1", None if announced else 2_000_000)


@contextlib.asynccontextmanager
async def running(
    client: Client, *, wait: bool = True
) -> AsyncIterator[Callable[[], Coroutine[Any, Any, None]]]:
    """Run `client` while the context is open; yield a function that stops it earlier."""
    task = asyncio.create_task(client.run(), name="client")

    async def stop() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    try:
        if wait:
            await eventually_async(lambda: client.connected or task.done(), what="the connection")
        yield stop
    finally:
        await stop()


def texts(messages: list[Received], topic: str) -> list[str]:
    return [message.payload.decode() for message in list(messages) if message.topic == topic]


async def until(messages: list[Received], topic: str, wanted: list[str]) -> None:
    """Wait until the payloads received on `topic` are exactly `wanted`."""
    await eventually_async(lambda: len(texts(messages, topic)) >= len(wanted), what=f"{wanted} on {topic}")
    assert texts(messages, topic) == wanted


def test_a_publish_returns_once_it_is_acknowledged_and_arrives(site: Site) -> None:
    async def case() -> None:
        client = site.client()
        with site.watch("am/#") as seen:
            async with running(client):
                assert client.health.ok
                await client.publish("am/edge/porch/frame", b'{"key": 1}')
                await until(seen, "am/edge/porch/frame", ['{"key": 1}'])
                assert not seen[-1].retain

    asyncio.run(case())


def test_away_from_the_first_moment(site: Site) -> None:
    async def case() -> None:
        site.stop()
        client = site.client()
        assert not client.connected
        with pytest.raises(BrokerUnavailable):
            await client.publish("am/t", b"before run")
        async with running(client, wait=False):
            await eventually_async(lambda: str(client.health).startswith("unavailable: connection refused"))
            with pytest.raises(BrokerUnavailable, match="connection refused"):
                await client.publish("am/t", b"away")
            client.retain("am/edge/porch/motion", "ON")
            site.start()
            await eventually_async(lambda: client.connected, what="the connection")
            await client.publish("am/t", b"there")
            assert client.health.ok
            with site.watch("am/#") as seen:
                await until(seen, "am/edge/porch/motion", ["ON"])
        assert not client.connected
        with pytest.raises(BrokerUnavailable):
            await client.publish("am/t", b"after")

    asyncio.run(case())


def test_everything_retained_is_published_again_in_order_and_online_last(site: Site) -> None:
    async def case() -> None:
        client = site.client()
        client.retain("am/config", "c")
        client.retain("am/edge/porch/motion", "OFF")
        called: list[str] = []
        client.on_connect(lambda: called.append(str(client.health)))
        async with running(client):
            await eventually_async(lambda: called == ["ok"])
            await client.publish("am/edge/porch/snapshot", b"picture", retain=True)
            client.retain("am/edge/porch/motion", "ON")
            client.forget("am/config")
            client.retain("am/config", "c2")
            site.stop()
            await eventually_async(lambda: not client.connected, what="the loss")
            client.retain("am/edge/porch/motion", "between")
            client.retain("am/edge/porch/motion", "OFF")
            client.forget("am/old")
            site.start()
            await eventually_async(lambda: client.connected, what="the connection")
            with site.watch("am/#") as seen:
                await eventually_async(lambda: len(seen) >= 4, what="what is retained")
                assert {m.topic: m.payload for m in seen} == {
                    "am/config": b"c2",
                    "am/edge/porch/motion": b"OFF",
                    "am/edge/porch/snapshot": b"picture",
                    STATUS: b"online",
                }
                assert all(message.retain for message in seen)
            await eventually_async(lambda: called == ["ok"] * 2)

    asyncio.run(case())


def test_a_new_connection_publishes_everything_in_the_order_of_the_first_retain(site: Site) -> None:
    async def case() -> None:
        client = site.client()
        topics = [f"am/{name}" for name in ("zeta", "alpha", "mid", "beta")]
        for topic in topics:
            client.retain(topic, "1")
        client.retain("am/zeta", "2")
        with site.watch("am/#") as seen:
            async with running(client):
                await until(seen, STATUS, ["online"])
                assert [message.topic for message in seen] == [*topics, STATUS]

    asyncio.run(case())


def test_changes_go_out_in_order_and_none_is_left_out(site: Site) -> None:
    async def case() -> None:
        client = site.client()
        with site.watch("am/#") as seen:
            async with running(client):
                said = []
                for number in range(60):
                    for state in ("ON", "OFF"):
                        client.retain("am/edge/porch/motion", f"{state} {number}")
                        said.append(f"{state} {number}")
                await client.publish("am/last", b"x", retain=True)
                await until(seen, "am/edge/porch/motion", said)
                await eventually_async(lambda: texts(seen, "am/last") == ["x"])
                assert seen[-1].topic == "am/last"

    asyncio.run(case())


def test_forget_clears_the_topic_now_and_after_an_absence(site: Site) -> None:
    async def case() -> None:
        client = site.client(status_topic=None)
        async with running(client):
            await client.publish("am/one", b"1", retain=True)
            await client.publish("am/two", b"2", retain=True)
            client.forget("am/one")
            await client.publish("am/mark", b"", retain=False)
            with site.watch("am/#") as seen:
                await eventually_async(lambda: texts(seen, "am/two") == ["2"])
                assert texts(seen, "am/one") == []
        client.forget("am/two")  # while disconnected
        async with running(client):
            with site.watch("am/#") as seen:
                await client.publish("am/mark", b"m")
                await until(seen, "am/mark", ["m"])
                assert texts(seen, "am/two") == []

    asyncio.run(case())


def test_the_last_will_after_a_lost_connection_and_online_again(site: Site) -> None:
    async def case() -> None:
        client = site.client()
        with site.watch(STATUS) as seen:
            async with running(client):
                await until(seen, STATUS, ["online"])
                site.drop(client)
                await eventually_async(lambda: "offline" in texts(seen, STATUS), what="the last will")
                await eventually_async(
                    lambda: client.connected and texts(seen, STATUS)[-1] == "online", what="online again"
                )

    asyncio.run(case())


def test_a_clean_stop_says_what_is_left_and_then_offline(site: Site) -> None:
    async def case() -> None:
        client = site.client()
        with site.watch("am/#") as seen:
            async with running(client) as stop:
                await until(seen, STATUS, ["online"])
                client.retain("am/edge/porch/motion", "OFF")
                await stop()
            await until(seen, STATUS, ["online", "offline"])
            assert texts(seen, "am/edge/porch/motion") == ["OFF"]
            assert [message.topic for message in seen][-1] == STATUS
        assert str(client.health) == "unavailable: stopped"

    asyncio.run(case())


def test_handlers_get_what_matches_and_know_what_was_retained(site: Site) -> None:
    async def case() -> None:
        client = site.client()
        got: list[tuple[str, bytes, bool]] = []
        client.subscribe("am/edge/+/+/set", lambda *message: got.append(message))
        writer = site.client(status_topic=None)
        async with running(writer):
            await writer.publish("am/edge/porch/threshold/set", b"old", retain=True)
            async with running(client):
                await eventually_async(lambda: len(got) == 1)
                await writer.publish("am/edge/porch/other", b"no")
                await writer.publish("am/edge/porch/detection/set", b"ON")
                await eventually_async(lambda: len(got) == 2)
                late: list[tuple[str, bytes, bool]] = []
                client.subscribe("homeassistant/status", lambda *message: late.append(message))
                # Subscriptions and changes are sent in order: this is retained after the subscription.
                await client.publish("am/mark", b"m", retain=True)
                await writer.publish("homeassistant/status", b"online")
                await eventually_async(lambda: len(late) == 1)
        assert got == [
            ("am/edge/porch/threshold/set", b"old", True),
            ("am/edge/porch/detection/set", b"ON", False),
        ]
        assert late == [("homeassistant/status", b"online", False)]

    asyncio.run(case())


def test_subscriptions_hold_after_the_broker_was_away(site: Site) -> None:
    async def case() -> None:
        client, writer = site.client(), site.client(status_topic=None)
        got: list[bytes] = []
        client.subscribe("am/set", lambda _topic, payload, _was: got.append(payload))
        async with running(client), running(writer):
            site.stop()
            await eventually_async(lambda: not (client.connected or writer.connected), what="the loss")
            site.start()
            await eventually_async(lambda: client.connected and writer.connected, what="the connections")
            await writer.publish("am/set", b"again")
            await eventually_async(lambda: got == [b"again"])

    asyncio.run(case())


def test_a_thousand_messages_by_sixteen_publishers_keep_each_publishers_order(site: Site) -> None:
    async def case() -> None:
        client = site.client()
        with site.watch("am/load/#") as seen:
            async with running(client):

                async def publisher(number: int) -> None:
                    for count in range(1000 // 16 + 1):
                        await client.publish(f"am/load/{number}", str(count).encode())

                async with asyncio.TaskGroup() as tasks:
                    for number in range(16):
                        tasks.create_task(publisher(number), name=f"publisher-{number}")
                total = 16 * (1000 // 16 + 1)
                await eventually_async(lambda: len(seen) == total, what=f"{total} messages")
                for number in range(16):
                    assert texts(seen, f"am/load/{number}") == [str(n) for n in range(1000 // 16 + 1)]

    asyncio.run(case())


def test_a_large_payload_passes_and_one_above_the_limit_is_refused_before_it_is_sent(site: Site) -> None:
    async def case() -> None:
        client = site.client()
        with site.watch("am/big") as seen:
            async with running(client):
                assert client.max_packet == 2_000_000
                await client.publish("am/big", bytes(1_500_000))
                await eventually_async(lambda: len(seen) == 1)
                assert len(seen[0].payload) == 1_500_000
                for retain in (False, True):
                    with pytest.raises(BrokerRefused, match="the broker accepts at most 2000000"):
                        await client.publish("am/big", bytes(2_000_000), retain=retain)
                client.retain("am/too_big", bytes(2_000_001))
                await client.publish("am/big", b"next")
                await eventually_async(lambda: len(seen) == 2)
                assert client.connected, "the connection lives on"
                assert str(client.health).startswith("refused: am/too_big")

    asyncio.run(case())


def test_a_message_is_not_delivered_again_because_the_broker_was_away(site: Site) -> None:
    async def case() -> None:
        client = site.client()
        with site.watch("am/frame") as seen:
            async with running(client):
                await client.publish("am/frame", b"1")
                connects: list[bool] = []
                client.on_connect(lambda: connects.append(True))
                site.drop(client)
                await eventually_async(lambda: connects, what="the connection")
                await client.publish("am/frame", b"2")
                await until(seen, "am/frame", ["1", "2"])

    asyncio.run(case())


def test_an_invalid_topic_is_a_bug_of_the_caller() -> None:
    client = BrokerClient(host="127.0.0.1")
    for topic in ("", "am/#", "am/+/x", "a\0"):
        with pytest.raises(ValueError, match="not a topic"):
            client.retain(topic, "x")


# -- faults of a real broker


@pytest.fixture(params=["rumqttd-5", "mosquitto-5", "mosquitto-3.1.1"])
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    kind, _, version = request.param.partition("-")
    server = Rumqttd(tmp_path) if kind == "rumqttd" else Mosquitto(tmp_path)
    with server:
        yield RealSite(server, "5" if version == "5" else "3.1.1", None)


def test_a_broker_that_dies_in_mid_publish_fails_all_publishes_long_before_their_time_out(
    real: RealSite,
) -> None:
    async def case() -> None:
        client = BrokerClient(
            host="127.0.0.1",
            port=real.server.port,
            protocol=real.version,
            status_topic=STATUS,
            timeout_s=3600,
            **QUICK,
        )
        async with running(client):
            real.server.pause()
            outcomes: list[BaseException | None] = []

            async def publish() -> None:
                try:
                    await client.publish("am/frame", b"x")
                except BrokerUnavailable as exc:
                    outcomes.append(exc)

            async with asyncio.TaskGroup() as tasks:
                for number in range(40):  # more than may be in flight: the others are queued
                    tasks.create_task(publish(), name=f"publish-{number}")
                connection = client._connection
                assert connection is not None
                await eventually_async(lambda: len(connection._waiting) == 16, what="publishes in flight")
                real.server.kill()
            assert len(outcomes) == 40
            assert not client.connected
            real.server.start()
            await eventually_async(lambda: client.connected, what="the connection")
            assert client.health.ok

    asyncio.run(case())


def test_a_silent_broker_is_noticed_within_the_keepalive_and_comes_back_by_itself(
    real: RealSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, CLIENT_LOG)

    async def case() -> None:
        client = BrokerClient(
            host="127.0.0.1",
            port=real.server.port,
            protocol=real.version,
            status_topic=STATUS,
            keepalive_s=1,
            timeout_s=2,
            **QUICK,
        )
        async with running(client):
            real.server.pause()
            await eventually_async(lambda: str(client.health).startswith("unavailable"), what="the silence")
            real.server.resume()
            await eventually_async(lambda: client.connected, what="the connection")
            await client.publish("am/frame", b"x")
        # The will of the old connection may come late and replace our "online".
        found = await asyncio.to_thread(retained, real.server.port, STATUS)
        assert found == {STATUS: b"offline"}, "the goodbye"

    asyncio.run(case())
    levels = [record.levelname for record in caplog.records]
    assert levels[0] == "INFO", "connected"
    assert "WARNING" in levels
    assert levels[-1] == "INFO", "recovered"


def test_a_publish_that_gets_no_answer_ends_the_connection_and_fails(real: RealSite) -> None:
    async def case() -> None:
        client = BrokerClient(
            host="127.0.0.1",
            port=real.server.port,
            protocol=real.version,
            status_topic=STATUS,
            timeout_s=0.5,
            **QUICK,
        )
        async with running(client):
            real.server.pause()
            with pytest.raises(BrokerUnavailable, match="no acknowledgement"):
                await client.publish("am/frame", b"x")
            assert not client.connected
            real.server.resume()
            await eventually_async(lambda: client.connected, what="the connection")

    asyncio.run(case())


def test_a_stale_offline_is_corrected(real: RealSite) -> None:
    async def case() -> None:
        client = real.client()
        async with running(client):
            with Recorder(real.server.port, (STATUS,), real.version) as recorder:
                recorder.publish(STATUS, b"offline", retain=True)
                await eventually_async(lambda: recorder.texts(STATUS)[-2:] == ["offline", "online"])
            assert (await asyncio.to_thread(retained, real.server.port, STATUS)) == {STATUS: b"online"}

    asyncio.run(case())


def test_a_handler_that_raises_does_not_end_the_connection(real: RealSite) -> None:
    async def case() -> None:
        faults: list[BaseException | None] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: faults.append(context.get("exception"))
        )
        client = real.client()
        got: list[bytes] = []

        def handler(_topic: str, payload: bytes, _was: bool) -> None:
            if payload == b"bad":
                raise RuntimeError("a bug")
            got.append(payload)

        client.subscribe("am/set", handler)
        async with running(client):
            connection = client._connection if isinstance(client, BrokerClient) else None
            await client.publish("am/set", b"bad")
            await client.publish("am/set", b"good")
            await eventually_async(lambda: got == [b"good"])
            assert isinstance(client, BrokerClient)
            assert client._connection is connection
        assert [type(fault) for fault in faults] == [RuntimeError]

    asyncio.run(case())


def test_a_stop_while_the_broker_is_silent_is_bounded(real: RealSite) -> None:
    async def case() -> None:
        client = BrokerClient(
            host="127.0.0.1",
            port=real.server.port,
            protocol=real.version,
            status_topic=STATUS,
            stop_timeout_s=0.3,
            timeout_s=3600,
            **QUICK,
        )
        async with running(client) as stop:
            real.server.pause()
            client.retain("am/edge/porch/motion", "OFF")
            await stop()
            assert str(client.health) == "unavailable: stopped"
        real.server.resume()

        async def offline() -> bool:
            return await asyncio.to_thread(retained, real.server.port, STATUS) == {STATUS: b"offline"}

        await eventually_async(offline, what="the last will, which says it for us")

    asyncio.run(case())


def test_a_stop_while_the_connection_is_being_made_leaves_nothing_behind(real: RealSite) -> None:
    async def case() -> None:
        real.server.pause()
        client = real.client()
        async with running(client, wait=False) as stop:
            await asyncio.sleep(0)
            await stop()
        real.server.resume()
        assert [task.get_name() for task in asyncio.all_tasks()] == [asyncio.current_task().get_name()]  # type: ignore[union-attr]

    asyncio.run(case())


@pytest.mark.parametrize("steps", range(12))
def test_a_stop_in_the_very_moment_of_a_loss_is_not_lost(tmp_path: Path, steps: int) -> None:
    with mosquitto(tmp_path) as server:

        async def case() -> None:
            client = BrokerClient(host="127.0.0.1", port=server.port, status_topic=STATUS, **QUICK)
            task = asyncio.create_task(client.run(), name="client")
            await eventually_async(lambda: client.connected, what="the connection")
            connection = client._connection
            assert connection is not None
            connection.abort(BrokerUnavailable("lost"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task], timeout=20)
            assert task.cancelled()

        asyncio.run(case())


# -- refusals


def test_mosquitto_refuses_a_login_and_takes_us_when_it_is_fixed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, CLIENT_LOG)
    with mosquitto(tmp_path, login=("edge", "right horse")) as server:

        async def case(version: MqttProtocol) -> None:
            client = BrokerClient(
                host="127.0.0.1",
                port=server.port,
                username="edge",
                password="wrong horse",
                protocol=version,
                **QUICK,
            )
            server.set_password("edge", "right horse")
            server.reload()
            async with running(client, wait=False):
                await eventually_async(lambda: str(client.health).startswith("refused: "), what="the refusal")
                with pytest.raises(BrokerRefused):
                    await client.publish("am/t", b"x")
                await eventually_async(
                    lambda: len([r for r in caplog.records if "refused" in r.message]) >= 3, what="more tries"
                )
                server.set_password("edge", "wrong horse")
                server.reload()
                await eventually_async(lambda: client.connected, what="the login")
            warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
            assert len(warnings) == 1, "said once, however often it is tried"
            assert "horse" not in caplog.text
            caplog.clear()

        asyncio.run(case("5"))
        asyncio.run(case("3.1.1"))


ACL = "topic readwrite #\ntopic deny am/forbidden/#\n"


def test_mosquitto_refuses_a_topic_by_reason_code_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # mosquitto 2.0.11 refuses with the reason code and then closes the connection as well.
    caplog.set_level(logging.WARNING, CLIENT_LOG)
    with mosquitto(tmp_path, acl=ACL) as server:

        async def case() -> None:
            client = BrokerClient(
                host="127.0.0.1",
                port=server.port,
                status_topic=STATUS,
                **QUICK | {"refused_first_s": 3600, "refused_max_s": 3600},
            )
            client.retain("am/forbidden/motion", "ON")
            client.retain("am/edge/porch/motion", "ON")

            async def publish(topic: str, *, retain: bool = False) -> None:
                """Publish; retry if the connection is lost."""

                async def sent() -> bool:
                    try:
                        await client.publish(topic, b"x", retain=retain)
                    except BrokerRefused:
                        raise
                    except BrokerUnavailable:
                        return False
                    return True

                await eventually_async(sent, what=f"a publish on {topic}")

            async with running(client):
                await eventually_async(
                    lambda: str(client.health) == "refused: am/forbidden/motion: Not authorized"
                )
                client.retain("am/forbidden/motion", "OFF")
                with pytest.raises(BrokerRefused, match="am/forbidden/frame: Not authorized"):
                    await publish("am/forbidden/frame")
                with pytest.raises(BrokerRefused, match="am/forbidden/snapshot: Not authorized"):
                    await publish("am/forbidden/snapshot", retain=True)
                await publish("am/edge/porch/frame")
                assert "(and 2 more topics)" in str(client.health)
                # From now on they are held back: they cost neither an attempt nor a connection.
                connection = client._connection
                for _ in range(3):
                    with pytest.raises(BrokerRefused, match="am/forbidden/frame: Not authorized"):
                        await client.publish("am/forbidden/frame", b"x")
                    client.retain("am/forbidden/motion", "ON")
                    await client.publish("am/edge/porch/frame", b"x", retain=True)
                assert client._connection is connection

        asyncio.run(case())
    refusals = [r.message for r in caplog.records if "refused am/forbidden/motion" in r.message]
    assert len(refusals) == 1


def test_a_refused_topic_is_retried_and_taken_when_it_is_allowed(tmp_path: Path) -> None:
    with mosquitto(tmp_path, acl=ACL) as server:

        async def case() -> None:
            client = BrokerClient(host="127.0.0.1", port=server.port, status_topic=STATUS, **QUICK)
            client.retain("am/forbidden/motion", "ON")
            async with running(client):
                await eventually_async(lambda: str(client.health).startswith("refused: am/forbidden/motion"))
                server.allow("topic readwrite #\n")
                await eventually_async(lambda: client.health.ok, what="the right")
                found = await asyncio.to_thread(retained, server.port, "am/forbidden/#")
                assert found == {"am/forbidden/motion": b"ON"}

        asyncio.run(case())


def test_two_clients_with_one_id_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with mosquitto(tmp_path) as server:

        async def case() -> None:
            first, second = (
                BrokerClient(host="127.0.0.1", port=server.port, client_id="same", **QUICK) for _ in range(2)
            )
            async with running(first), running(second):
                await eventually_async(
                    lambda: "is the client id used twice?" in caplog.text or "took over" in caplog.text
                )

        asyncio.run(case())


# -- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_tls_with_a_home_made_authority_and_a_client_certificate(
    tmp_path: Path, certificates: Certificates, version: MqttProtocol
) -> None:
    with mosquitto(tmp_path, certificates=certificates, client_certificate=True) as server:

        async def case() -> None:
            client = BrokerClient(
                host="127.0.0.1",
                port=server.port,
                protocol=version,
                tls=True,
                ca_file=str(certificates.ca),
                cert_file=str(certificates.client),
                key_file=str(certificates.client_key),
                status_topic=STATUS,
                **QUICK,
            )
            got: list[bytes] = []
            client.subscribe("am/big", lambda _topic, payload, _was: got.append(payload))
            async with running(client):
                await client.publish("am/big", bytes(300_000))
                await eventually_async(lambda: [len(payload) for payload in got] == [300_000])
                server.kill()
                await eventually_async(lambda: not client.connected, what="the loss")
                server.start()
                await eventually_async(lambda: client.connected, what="the connection")

        asyncio.run(case())


def _tls_refusals(certificates: Certificates, tmp_path: Path) -> dict[str, tuple[dict[str, Any], str]]:
    missing = str(tmp_path / "missing.pem")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    ca = str(certificates.ca)
    return {
        "other authority": ({"ca_file": str(certificates.other_ca)}, "certificate is not trusted"),
        "system's authorities": ({}, "certificate is not trusted"),
        "missing ca": ({"ca_file": missing}, f"mqtt.tls.ca_file: {missing}: no such file"),
        "nonsense ca": ({"ca_file": str(nonsense)}, "no certificate in PEM form"),
        "missing key": (
            {"ca_file": ca, "cert_file": str(certificates.client), "key_file": missing},
            "mqtt.tls.key_file",
        ),
        "wrong key": (
            {"ca_file": ca, "cert_file": str(certificates.client), "key_file": str(certificates.server_key)},
            "expected a certificate and its unencrypted key",
        ),
    }


def test_a_tls_failure_is_reported_with_its_setting(tmp_path: Path, certificates: Certificates) -> None:
    with mosquitto(tmp_path / "m", certificates=certificates) as server:

        async def refused(options: dict[str, Any], wanted: str) -> None:
            client = BrokerClient(host="127.0.0.1", port=server.port, tls=True, **options, **QUICK)
            async with running(client, wait=False):
                await eventually_async(lambda: str(client.health) != "unavailable: not connected yet")
                assert str(client.health).startswith("refused: ")
                assert wanted in str(client.health)

        for options, wanted in _tls_refusals(certificates, tmp_path).values():
            asyncio.run(refused(options, wanted))

        async def insecure() -> None:
            client = BrokerClient(host="127.0.0.1", port=server.port, tls=True, insecure=True, **QUICK)
            async with running(client):
                await client.publish("am/t", b"x")

        asyncio.run(insecure())


def test_a_missing_client_certificate_is_not_a_failed_login(
    tmp_path: Path, certificates: Certificates
) -> None:
    with mosquitto(tmp_path, certificates=certificates, client_certificate=True) as server:

        async def case() -> None:
            client = BrokerClient(
                host="127.0.0.1", port=server.port, tls=True, ca_file=str(certificates.ca), **QUICK
            )
            async with running(client, wait=False):
                await eventually_async(lambda: str(client.health) != "unavailable: not connected yet")
                assert not client.connected

        asyncio.run(case())


def test_a_plain_port_is_not_a_tls_port(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as server:

        async def case() -> None:
            client = BrokerClient(host="127.0.0.1", port=server.port, tls=True, **QUICK)
            async with running(client, wait=False):
                await eventually_async(lambda: str(client.health) != "unavailable: not connected yet")
                assert "TLS" in str(client.health)

        asyncio.run(case())


# -- the embedded broker


def test_the_embedded_broker_speaks_both_versions_on_one_port_and_outlives_its_child() -> None:
    async def case() -> None:
        broker = EmbeddedBroker(port=0)
        async with broker as (host, port):
            five = BrokerClient(host=host, port=port, status_topic=STATUS, **QUICK)
            three = BrokerClient(host=host, port=port, protocol="3.1.1", **QUICK)
            got: list[bytes] = []
            three.subscribe(STATUS, lambda _topic, payload, _was: got.append(payload))
            async with running(three), running(five):
                await eventually_async(lambda: b"online" in got)
                first = broker.pid
                assert first is not None
                os.kill(first, signal.SIGKILL)
                await eventually_async(lambda: broker.pid not in (None, first), what="another child")
                got.clear()
                await eventually_async(lambda: three.connected and five.connected and b"online" in got)
            last = broker.pid
        assert broker.pid is None
        assert last is not None
        with pytest.raises(ProcessLookupError):
            os.kill(last, 0)

    asyncio.run(case())


def test_a_real_broker_that_cuts_at_large_packets_is_served_with_small_ones(tmp_path: Path) -> None:
    """With MQTT 3.1.1, mosquitto does not announce its limit; discovery payloads of 9 KB exceed this one."""

    async def case() -> None:
        with (
            Mosquitto(tmp_path, max_packet_size=4000) as server,
            Recorder(server.port, ("am/#",)) as recorder,
        ):
            client = BrokerClient(
                host="127.0.0.1", port=server.port, protocol="3.1.1", status_topic="am/status", **QUICK
            )
            sizes = (40, 900, 2_600, 9_000, 9_500, 250_000)
            for size in sizes:
                client.retain(f"am/{size}", b"x" * size)
            frames = [f"frame {number}".encode() for number in range(32)]

            async def announce(frame: bytes) -> None:
                while True:
                    try:
                        return await client.publish("am/frame", frame)
                    except BrokerUnavailable:
                        await asyncio.sleep(0.05)

            running = asyncio.create_task(client.run(), name="client")
            async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
                for frame in frames:
                    tasks.create_task(announce(frame), name="announce")
            await eventually_async(lambda: client.max_packet is not None, what="a limit")
            await eventually_async(lambda: client.connected, what="the connection")
            assert 2_600 < (client.max_packet or 0) < 9_100
            with pytest.raises(BrokerRefused, match="at most"):
                await client.publish("am/large", bytes(9_000))
            for frame in frames:
                await client.publish("am/frame", frame)
            retained = {message.topic for message in recorder.messages}
            assert {"am/40", "am/900", "am/2600"} <= retained
            running.cancel()
            await asyncio.wait([running])

    asyncio.run(case())


def test_a_client_id_is_taken_over_without_a_last_will(tmp_path: Path) -> None:
    """The next owner of a fleet's camera takes over its client id, and no subscriber sees `offline`."""

    async def case() -> None:
        ours = {"first": True, "next": True}

        def client(name: str) -> BrokerClient:
            return BrokerClient(
                host="127.0.0.1",
                port=server.port,
                client_id="am-town--porch",
                retry_first_s=0.05,
                takeover=Takeover(
                    will_delay_s=2.0,
                    may_connect=lambda: ours[name],
                    will_topic="am/town/porch/status",
                ),
            )

        first, second = client("first"), client("next")
        first.retain("am/town/porch/status", "online")
        with Recorder(server.port, ("am/#",)) as world:
            async with running(first):
                ours["first"] = False
                async with running(second):
                    await eventually_async(lambda: not first.connected, what="the end of the first one")
                    await asyncio.sleep(2.5)  # longer than the will's delay
                    assert second.connected, "the first one must not come back"
                    assert texts(world.messages, "am/town/porch/status") == ["online"]
            # No other client takes over: the will is published after its delay.
            await eventually_async(
                lambda: texts(world.messages, "am/town/porch/status") == ["online", "offline"],
                what="the will",
            )

    with Mosquitto(tmp_path) as server:
        asyncio.run(case())
