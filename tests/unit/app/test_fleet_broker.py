"""Which connection a message takes, and which messages are not sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest

from async_motion.app import fleet_broker
from async_motion.app.fleet_broker import FleetBroker, insist
from async_motion.broker.client import BrokerClient
from async_motion.broker.fake import FakeBroker
from async_motion.core.names import Topics
from async_motion.errors import BrokerNotReady, BrokerRefused, BrokerUnavailable
from async_motion.fleet.model import INSTANCE

TOPICS = Topics("am/town")


class Connection(FakeBroker):
    """A client that runs until it is cancelled."""

    async def run(self) -> None:
        self.connect()
        await asyncio.Event().wait()


@asynccontextmanager
async def fleet(*owners: str) -> AsyncIterator[tuple[FleetBroker, dict[str, Connection]]]:
    clients: dict[str, Connection] = {"worker": Connection()}

    def connect(owner: str) -> BrokerClient:
        return cast("BrokerClient", clients.setdefault(owner, Connection()))

    worker = cast("BrokerClient", clients["worker"])
    broker = FleetBroker(worker, connect, TOPICS, ("porch", "yard"), frigate_topic="frigate")
    running = asyncio.create_task(broker.run(), name="broker")
    await asyncio.sleep(0)
    for owner in owners:
        broker.open(owner)
    try:
        yield broker, clients
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def said(client: Connection) -> list[tuple[str, bytes]]:
    return [(message.topic, message.payload) for message in client.server.messages]


async def test_each_topic_takes_the_connection_of_its_camera() -> None:
    async with fleet("porch", INSTANCE) as (broker, clients):
        await broker.publish("am/town/porch/frame", b"1")
        await broker.publish("frigate/porch/motion", b"ON", retain=True)
        await broker.publish("am/town/state", b"{}", retain=True)
        await broker.publish("homeassistant/device/x/config", b"{}", retain=True)
    assert said(clients["porch"]) == [("am/town/porch/frame", b"1"), ("frigate/porch/motion", b"ON")]
    assert [topic for topic, _ in said(clients[INSTANCE])] == [
        "am/town/state",
        "homeassistant/device/x/config",
    ]


async def test_what_is_another_workers_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_broker, "READY_S", 0.1)
    async with fleet("porch") as (broker, clients):
        await broker.publish("am/town/yard/snapshot", b"jpeg", retain=True)
        broker.retain("am/town/yard/motion", "ON")
        broker.retain("am/town/state", "{}")
        broker.forget("am/town/yard/zone/old/motion")
        with pytest.raises(BrokerUnavailable, match="yard: another worker owns it now"):
            await broker.publish("am/town/yard/frame", b"1")
    assert said(clients["porch"]) == said(clients["worker"]) == []


async def test_a_camera_that_is_handed_over_is_not_told_to_be_offline() -> None:
    async with fleet("porch") as (broker, clients):
        broker.retain("am/town/porch/status", "online")
        broker.leave("porch")
        broker.retain("am/town/porch/motion", "OFF")
        broker.retain("am/town/porch/status", "offline")
        broker.retain("am/town/porch/state", "{}")
        await asyncio.sleep(0.01)
        await broker.close("porch")
        broker.retain("am/town/porch/motion", "ON")
    assert said(clients["porch"]) == [
        ("am/town/porch/status", b"online"),
        ("am/town/porch/motion", b"OFF"),
    ]


async def test_commands_reach_the_worker_that_has_the_camera() -> None:
    heard: list[str] = []

    def hear(topic: str, _payload: bytes, _retained: bool) -> None:
        heard.append(topic)

    async with fleet("porch") as (broker, clients):
        broker.subscribe(TOPICS.commands, hear)
        await asyncio.sleep(0.01)
        for camera in ("porch", "yard", "nobody"):
            await clients["worker"].publish(TOPICS.command(camera, "detection"), b"ON")
        await asyncio.sleep(0.01)
        broker.unsubscribe(TOPICS.commands, hear)
    assert heard == ["am/town/porch/detection/set", "am/town/nobody/detection/set"]


async def test_an_announcement_waits_for_its_connection_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet_broker, "READY_S", 0.1)
    async with fleet("porch") as (broker, clients):
        await broker.publish("am/town/porch/frame", b"1")
        clients["porch"].lose()
        with pytest.raises(BrokerNotReady, match="porch: its broker connection is not ready"):
            await broker.publish("am/town/porch/frame", b"2")
        clients["worker"].lose()
        with pytest.raises(BrokerUnavailable) as raised:
            await broker.publish("am/town/porch/frame", b"2")
        assert not isinstance(raised.value, BrokerNotReady), "the broker itself is away"


@pytest.mark.parametrize(
    ("loses", "refused", "expected"),
    [
        (("porch",), False, BrokerNotReady),
        (("porch", "worker"), False, BrokerUnavailable),
        ((), False, BrokerUnavailable),
        (("porch",), True, BrokerRefused),
    ],
)
async def test_a_connection_that_ends_during_a_publish_is_the_fault_of_its_camera_alone(
    monkeypatch: pytest.MonkeyPatch, loses: tuple[str, ...], refused: bool, expected: type[BrokerUnavailable]
) -> None:
    async with fleet("porch") as (broker, clients):
        await broker.publish("am/town/porch/frame", b"1")

        async def end(*_args: object, **_options: object) -> None:
            for client in loses:
                clients[client].lose()
            raise BrokerRefused("not authorized") if refused else BrokerUnavailable("connection lost")

        monkeypatch.setattr(clients["porch"], "publish", end)
        with pytest.raises(BrokerUnavailable) as raised:
            await broker.publish("am/town/porch/frame", b"2")
    assert type(raised.value) is expected


async def test_an_announcement_waits_for_a_connection_that_is_not_opened_yet() -> None:
    async with fleet() as (broker, clients), asyncio.TaskGroup() as tasks:
        tasks.create_task(broker.publish("am/town/porch/frame", b"1"), name="publish")
        await asyncio.sleep(0)
        broker.open("porch")
    assert said(clients["porch"]) == [("am/town/porch/frame", b"1")]


async def test_insist_ends_when_it_is_no_longer_ours() -> None:
    tries: list[Any] = []

    async def publish() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise BrokerUnavailable("away")

    assert await insist(publish, lambda: False, every_s=0.01)
    assert len(tries) == 3
    tries.clear()
    assert not await insist(publish, lambda: len(tries) == 2, every_s=0.01)
