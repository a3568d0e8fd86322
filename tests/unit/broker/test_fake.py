"""What `FakeBroker` offers to tests beyond the contract that it shares with the real brokers."""

from __future__ import annotations

import asyncio

import pytest

from async_motion.broker.fake import FakeBroker, FakeServer
from async_motion.errors import BrokerRefused, BrokerUnavailable
from tests.support.wait import eventually_async


def test_it_works_without_a_server_and_without_a_task() -> None:
    async def case() -> None:
        broker = FakeBroker()
        await broker.publish("am/edge/porch/frame", b"1")
        broker.retain("am/edge/porch/motion", "ON")
        assert [m.payload for m in broker.server.on("am/+/porch/#")] == [b"1", b"ON"]
        assert broker.server.retained == {"am/edge/porch/motion": b"ON"}

    asyncio.run(case())


def test_an_outage_and_its_end() -> None:
    async def case() -> None:
        broker = FakeBroker(status_topic="am/status")
        calls: list[str] = []
        broker.on_connect(lambda: calls.append(str(broker.health)))
        broker.lose("switched off")
        assert str(broker.health) == "unavailable: switched off"
        assert broker.server.retained["am/status"] == b"offline"
        with pytest.raises(BrokerUnavailable, match="switched off"):
            await broker.publish("am/t", b"x")
        broker.retain("am/motion", "ON")
        broker.retain("am/motion", "OFF")
        broker.connect()
        assert calls == ["ok"]
        assert [m.payload for m in broker.server.on("am/motion")] == [b"OFF"]

    asyncio.run(case())


def test_refusals_by_topic_and_by_size() -> None:
    async def case() -> None:
        server = FakeServer(max_packet=100, refuse={"am/forbidden/#"})
        broker = FakeBroker(server)
        broker.connect()
        with pytest.raises(BrokerRefused, match="Not authorized"):
            await broker.publish("am/forbidden/t", b"x")
        with pytest.raises(BrokerRefused, match="at most"):
            await broker.publish("am/t", bytes(100), retain=True)
        broker.retain("am/forbidden/motion", "ON")
        assert str(broker.health) == "refused: am/forbidden/t: Not authorized"
        server.refuse.clear()
        broker.lose()
        broker.connect()
        assert server.retained == {"am/forbidden/motion": b"ON"}

    asyncio.run(case())


def test_a_refused_login() -> None:
    async def case() -> None:
        server = FakeServer(refuse_login="wrong password")
        broker = FakeBroker(server)
        task = asyncio.create_task(broker.run(), name="client")
        await eventually_async(lambda: str(broker.health) == "refused: wrong password")
        with pytest.raises(BrokerRefused):
            await broker.publish("am/t", b"x")
        server.refuse_login = None
        await eventually_async(lambda: broker.connected)
        task.cancel()
        await asyncio.wait([task])
        assert not broker.connected

    asyncio.run(case())


def test_the_test_can_speak_as_the_broker() -> None:
    broker = FakeBroker()
    got: list[tuple[str, bytes, bool]] = []
    broker.subscribe("am/+/set", lambda *message: got.append(message))
    broker.server.take("am/a/set", b"1")
    broker.server.take("am/b/set", b"2", retain=True)
    broker.subscribe("am/b/#", lambda *message: got.append(message))
    assert got == [("am/a/set", b"1", False), ("am/b/set", b"2", False), ("am/b/set", b"2", True)]
