"""Discovery: devices through every change of their life, and no leftovers on the broker."""

# ruff: noqa: SLF001  (the publisher's state between two connects)

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from async_motion.broker.fake import FakeBroker, FakeServer
from async_motion.core import payloads
from async_motion.core.names import DiscoveryTopics, Topics, identities
from async_motion.errors import SpoolError
from async_motion.home_assistant.entities import CameraSite, ServiceInfo
from async_motion.home_assistant.payloads import Payload, camera_payload, hub_payload, without_hub
from async_motion.home_assistant.places import MISSED_DAYS, MISSED_KEY, PLACES_KEY
from async_motion.home_assistant.publisher import DiscoveryPublisher
from tests.support.wait import eventually_async

NOW = datetime(2026, 11, 22, 7, 31, 12, tzinfo=UTC)
PREFIX = "homeassistant"


class Bench:
    """A service of one instance on a broker, as the publisher sees it."""

    def __init__(
        self,
        server: FakeServer,
        cameras: Mapping[str, tuple[str, ...]],
        *,
        instance: str = "edge1",
        base_topic: str = "async_motion",
        identity: str | None = None,
        announce: bool = True,
        memory: dict[str, bytes] | None = None,
        foreign: frozenset[str] = frozenset(),
        now: datetime = NOW,
    ) -> None:
        self.server = server
        self.topics = Topics(f"{base_topic}/{instance}")
        self.at = DiscoveryTopics(PREFIX, identity or instance)
        self.memory = {} if memory is None else memory
        self.spool_trouble: SpoolError | None = None
        self.republished = 0
        self.broker = FakeBroker(server, status_topic=self.topics.status)
        site = ServiceInfo(
            instance=instance, version="0.1.0", topics=self.topics, identity=identity or instance
        )
        retained = {self.topics.status, self.topics.state}
        for name, zones in cameras.items():
            retained.update(self.topics.retained_of(name, zones))
        sites = [CameraSite(name=name, zones=zones) for name, zones in cameras.items()]
        self.payloads = {camera.name: camera_payload(site, camera) for camera in sites}
        self.hub = hub_payload(site)
        self.publisher = DiscoveryPublisher(
            self.broker,
            replace(site, identity=""),
            sites,
            prefix=PREFIX,
            enabled=announce,
            retained=frozenset(retained),
            republish=self.republish,
            remember=self.remember,
            recalled=dict(self.memory),
            foreign=foreign,
            now=lambda: now,
            draw=lambda: 0.5,
            quiet_s=0.02,
            step_s=0.02,
            birth_delay_s=(0.0, 0.02),
            life_s=0.3,
        )

    def republish(self) -> None:
        self.republished += 1

    async def remember(self, key: str, value: bytes) -> None:
        if self.spool_trouble is not None:
            raise self.spool_trouble
        self.memory[key] = value

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the publisher inside the block, which begins after the first announcement."""
        others = self.answering()
        self.broker.connect()
        task = asyncio.create_task(self.publisher.run(), name="discovery")
        living = asyncio.create_task(self.live(), name="state")
        await eventually_async(
            lambda: task.done() or self.answering() > others,
            what="the start",
        )
        try:
            yield
        finally:
            self.broker.lose()
            living.cancel()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def live(self) -> None:
        """Publish the state at intervals, as a service does."""
        while True:
            self.server.take(self.topics.state, b"{}", retain=True)
            await asyncio.sleep(0.02)

    @staticmethod
    def answering() -> int:
        """Return the number of publishers that have announced all and now answer Home Assistant's births."""
        return sum(task.get_name() == "discovery[births]" for task in asyncio.all_tasks())

    def config(self, topic: str) -> Payload | None:
        payload = self.server.retained.get(topic)
        return json.loads(payload) if payload is not None else None

    def said(self, topic: str) -> list[Payload | None]:
        """Return the payloads published on a config topic, oldest first; None for an empty one."""
        return [json.loads(m.payload) if m.payload else None for m in self.server.on(topic)]

    def birth(self) -> None:
        self.server.take("homeassistant/status", b"online")

    def empty(self, topic: str, times: int) -> None:
        """Empty a topic, as Home Assistant does when a device is deleted."""
        for _ in range(times):
            self.server.take(topic, b"", retain=True)


def keys(payload: Payload | None) -> set[str]:
    assert payload is not None
    return set(payload["components"])


# ---- announcing ----


async def test_the_hub_comes_before_the_cameras() -> None:
    bench = Bench(FakeServer(), {"porch": (), "yard": ()})
    async with bench.running():
        configs = [m.topic for m in bench.server.on(f"{PREFIX}/#")]
        assert configs == [bench.at.hub, bench.at.camera("porch"), bench.at.camera("yard")]
        assert bench.config(bench.at.hub) == bench.hub
        assert bench.config(bench.at.camera("porch")) == bench.payloads["porch"]


async def test_after_a_birth_everything_is_published_again() -> None:
    bench = Bench(FakeServer(), {"porch": ()})
    async with bench.running():
        bench.server.messages.clear()
        bench.birth()
        await eventually_async(lambda: bench.republished)
        assert [m.topic for m in bench.server.on(f"{PREFIX}/device/#")] == [
            bench.at.hub,
            bench.at.camera("porch"),
        ]


async def test_a_retained_birth_and_a_will_are_not_a_birth() -> None:
    server = FakeServer(retained={f"{PREFIX}/status": b"online"})
    bench = Bench(server, {"porch": ()})
    async with bench.running():
        bench.server.take("homeassistant/status", b"offline")
        assert not bench.publisher._born.is_set()
        assert len(bench.said(bench.at.hub)) == 1


async def test_a_lost_connection_during_the_look_makes_it_look_again() -> None:
    server = FakeServer(retained={"async_motion/edge1/gone/status": b"offline"})
    bench = Bench(server, {"porch": ()})
    bench.broker.connect()
    task = asyncio.create_task(bench.publisher.run(), name="discovery")
    async with asyncio.timeout(10):
        while not bench.broker._handlers:  # noqa: ASYNC110  # connection must drop during the look
            await asyncio.sleep(0)
    bench.broker.lose()
    assert not server.on(f"{PREFIX}/#")
    server.retained["async_motion/edge1/late/status"] = b"offline"
    bench.broker.connect()
    gone = {"async_motion/edge1/gone/status", "async_motion/edge1/late/status"}
    await eventually_async(lambda: server.on(bench.at.hub) and not gone & set(server.retained))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# ---- leftovers ----


async def test_what_no_longer_exists_is_cleared_and_nothing_else() -> None:
    kept = {
        "async_motion/edge1/porch/motion": b"OFF",
        "async_motion/edge1/porch/snapshot": b"jpeg",
        "async_motion/edge1/porch/zone/drive/motion": b"OFF",
        "async_motion/edge1/porch/detection/set": b"ON",
        "async_motion/edge1/gone/detection/set": b"ON",
        "async_motion/edge10/porch/motion": b"OFF",
        "async_motion/edge2/gone/motion": b"OFF",
        f"{PREFIX}/device/async_motion_edge2/gone/config": b"{}",
        f"{PREFIX}/device/async_motion_edge10/config": b"{}",
        f"{PREFIX}/sensor/other/config": b"{}",
    }
    leftovers = {
        "async_motion/edge1/porch/zone/lawn/motion": b"ON",
        "async_motion/edge1/porch/of_an_earlier_release": b"1",
        "async_motion/edge1/gone/status": b"online",
        "async_motion/edge1/gone/motion": b"ON",
        "async_motion/edge1/gone/snapshot": b"jpeg",
        "async_motion/edge1/gone/snapshot/frame": b"{}",
        "async_motion/edge1/gone/sensitivity": b"high",
        f"{PREFIX}/device/async_motion_edge1/broken/config": b"{",
    }
    bench = Bench(FakeServer(retained={**kept, **leftovers}), {"porch": ("drive",)})
    async with bench.running():
        assert kept.items() <= bench.server.retained.items()
        assert not leftovers.keys() & bench.server.retained.keys()


async def test_topics_outside_the_base_are_remembered_and_cleared() -> None:
    server = FakeServer(retained={"frigate/porch/motion": b"OFF", "frigate/other/motion": b"ON"})
    first = Bench(server, {"porch": ()}, foreign=frozenset({"frigate/porch/motion"}))
    async with first.running():
        assert "frigate/porch/motion" in server.retained
    second = Bench(server, {"porch": ()}, memory=first.memory)
    async with second.running():
        assert "frigate/porch/motion" not in server.retained
        assert "frigate/other/motion" in server.retained


# ---- removal ----


async def test_a_component_that_went_is_struck_then_left_out_and_its_topic_cleared_after_that() -> None:
    server = FakeServer()
    first = Bench(server, {"porch": ("drive",)})
    async with first.running():
        first.broker.retain("async_motion/edge1/porch/zone/drive/motion", b"OFF")
    server.messages.clear()
    second = Bench(server, {"porch": ()}, memory=first.memory)
    async with second.running():
        struck, left, *_ = second.said(second.at.camera("porch"))
        assert struck is not None
        assert struck["components"]["zone_drive"] == {"platform": "binary_sensor"}
        assert left == second.payloads["porch"]
        order = [m.topic for m in server.messages]
        cleared = order.index("async_motion/edge1/porch/zone/drive/motion")
        assert cleared > order.index(second.at.camera("porch"))


async def test_a_home_assistant_that_was_away_sees_what_went_so_that_it_can_go() -> None:
    server = FakeServer()
    first = Bench(server, {"porch": ("drive",), "yard": ()})
    async with first.running():
        pass
    second = Bench(server, {"porch": ()}, memory=first.memory)
    async with second.running():
        assert second.config(second.at.camera("yard")) is None
    # Home Assistant comes back only after the next restart.
    third = Bench(server, {"porch": ()}, memory=first.memory)
    async with third.running():
        server.messages.clear()
        third.birth()
        await eventually_async(lambda: third.republished)
        shown, struck, left, again = third.said(third.at.camera("porch"))
        assert shown is not None
        assert shown["components"]["zone_drive"] == first.payloads["porch"]["components"]["zone_drive"]
        assert struck is not None
        assert struck["components"]["zone_drive"] == {"platform": "binary_sensor"}
        assert left == again == third.payloads["porch"]
        assert third.said(third.at.camera("yard")) == [first.payloads["yard"], None]
        # It is shown and struck only once.
        server.messages.clear()
        third.birth()
        await eventually_async(lambda: third.republished == 2)
        assert third.said(third.at.camera("porch")) == [third.payloads["porch"]]
        assert not third.said(third.at.camera("yard"))
    assert json.loads(first.memory[MISSED_KEY]) == {}


async def test_what_came_back_is_not_removed() -> None:
    server = FakeServer()
    memory: dict[str, bytes] = {}
    for cameras in ({"porch": ("drive",), "yard": ()}, {"porch": ()}):
        bench = Bench(server, cameras, memory=memory)
        async with bench.running():
            pass
    back = Bench(server, {"porch": ("drive",), "yard": ()}, memory=memory)
    async with back.running():
        server.messages.clear()
        back.birth()
        await eventually_async(lambda: back.republished)
        assert back.said(back.at.camera("yard")) == [back.payloads["yard"]]
        assert back.said(back.at.camera("porch")) == [back.payloads["porch"]]


async def test_what_was_missed_is_forgotten_after_a_month() -> None:
    server = FakeServer()
    memory: dict[str, bytes] = {}
    async with Bench(server, {"porch": (), "yard": ()}, memory=memory).running():
        pass
    async with Bench(server, {"porch": ()}, memory=memory).running():
        assert json.loads(memory[MISSED_KEY])
    late = Bench(server, {"porch": ()}, memory=memory, now=NOW + timedelta(days=MISSED_DAYS))
    async with late.running():
        assert json.loads(memory[MISSED_KEY]) == {}


async def test_discovery_switched_off_takes_every_device_away() -> None:
    server = FakeServer()
    memory: dict[str, bytes] = {}
    async with Bench(server, {"porch": ()}, memory=memory).running():
        assert len(server.retained) >= 2
    off = Bench(server, {"porch": ()}, memory=memory, announce=False)
    async with off.running():
        assert not [topic for topic in server.retained if topic.startswith(PREFIX)]


async def test_a_renamed_instance_is_the_same_devices_with_other_topics() -> None:
    server = FakeServer()
    memory: dict[str, bytes] = {}
    first = Bench(server, {"porch": ()}, memory=memory)
    async with first.running():
        first.broker.retain(first.topics.motion("porch"), b"OFF")
    server.messages.clear()
    second = Bench(server, {"porch": ()}, instance="edge2", identity="edge1", memory=memory)
    async with second.running():
        assert not [topic for topic in server.retained if topic.startswith(first.topics.base + "/")]
        assert second.said(first.at.hub) == [second.hub]
        assert second.said(first.at.camera("porch")) == [second.payloads["porch"]]
        # Home Assistant gets the new topics before the old ones are cleared.
        order = [m.topic for m in server.messages]
        assert order.index(second.at.camera("porch")) < order.index(first.topics.motion("porch"))
    for key in ("unique_id", "default_entity_id"):
        before, after = (
            {k: c.get(key) for k, c in bench.payloads["porch"]["components"].items()}
            for bench in (first, second)
        )
        assert before == after
    assert second.hub["device"]["identifiers"] == first.hub["device"]["identifiers"]
    assert second.hub["device"]["name"] != first.hub["device"]["name"]
    # The device stays the same after the next start, and after another rename.
    for instance in ("edge2", "edge3"):
        later = Bench(server, {"porch": ()}, instance=instance, identity="edge1", memory=memory)
        async with later.running():
            configs = {topic for topic in server.retained if topic.startswith(PREFIX)}
            assert configs == {later.at.hub, later.at.camera("porch")}
            assert later.config(later.at.hub) == later.hub


async def test_a_copy_of_a_service_that_is_online_gets_devices_of_its_own() -> None:
    server = FakeServer()
    memory: dict[str, bytes] = {}
    first = Bench(server, {"porch": ()}, memory=memory)
    async with first.running():
        first.broker.retain(first.topics.motion("porch"), b"OFF")
    before = {topic: payload for topic, payload in server.retained.items() if "edge1" in topic}
    before[first.topics.status] = server.retained[first.topics.status] = b"online"
    copy = Bench(server, {"porch": ()}, instance="edge2", memory=memory)
    living = asyncio.create_task(first.live(), name="the first's state")
    async with copy.running():
        assert before.items() <= server.retained.items()
        assert copy.config(copy.at.hub) == copy.hub
    living.cancel()
    assert {place["identity"] for place in json.loads(memory[PLACES_KEY])["places"]} == {"edge1", "edge2"}
    server.retained[first.topics.status] = b"offline"
    async with Bench(server, {"porch": ()}, instance="edge2", memory=memory).running():
        assert not [topic for topic in server.retained if "edge1" in topic]


async def test_a_namesake_of_a_renamed_service_does_not_take_its_devices() -> None:
    server = FakeServer()
    memory: dict[str, bytes] = {}
    async with Bench(server, {"porch": ()}, memory=memory).running():
        pass
    renamed = Bench(server, {"porch": ()}, instance="edge2", identity="edge1", memory=memory)
    async with renamed.running():
        _, another = identities("edge1", "async_motion/edge1")
        namesake = Bench(server, {"yard": ()}, instance="edge1", identity=another)
        for _ in range(2):
            async with namesake.running():
                assert namesake.config(namesake.at.hub) == namesake.hub
                assert namesake.config(namesake.at.camera("yard")) == namesake.payloads["yard"]
                assert renamed.config(renamed.at.hub) == renamed.hub
                assert renamed.config(renamed.at.camera("porch")) == renamed.payloads["porch"]
            namesake = Bench(server, {"yard": ()}, instance="edge1", identity=another, memory=namesake.memory)


async def test_two_that_swap_their_names_keep_their_devices() -> None:
    server = FakeServer()
    memories: tuple[dict[str, bytes], dict[str, bytes]] = ({}, {})
    for instance, camera, memory in zip(("edge1", "edge2"), ("porch", "yard"), memories, strict=True):
        async with Bench(server, {camera: ()}, instance=instance, memory=memory).running():
            pass
    for _ in range(2):
        porch = Bench(server, {"porch": ()}, instance="edge2", identity="edge1", memory=memories[0])
        yard = Bench(server, {"yard": ()}, instance="edge1", identity="edge2", memory=memories[1])
        async with porch.running(), yard.running():
            configs = {topic for topic in server.retained if topic.startswith(PREFIX)}
            assert configs == {porch.at.hub, porch.at.camera("porch"), yard.at.hub, yard.at.camera("yard")}
            assert porch.config(porch.at.camera("porch")) == porch.payloads["porch"]
            assert yard.config(yard.at.camera("yard")) == yard.payloads["yard"]


async def test_two_of_one_name_with_different_base_topics_do_not_share_devices() -> None:
    server = FakeServer()
    first = Bench(server, {"porch": ()}, base_topic="a")
    async with first.running():
        _, another = identities("edge1", "b/edge1")
        second = Bench(server, {"porch": ()}, base_topic="b", identity=another)
        async with second.running():
            assert first.config(first.at.hub) == first.hub
            assert second.config(second.at.hub) == second.hub


async def test_a_stale_online_does_not_take_our_devices() -> None:
    server = FakeServer()
    bench = Bench(server, {"porch": ()})
    stranger = Bench(server, {"porch": ()}, base_topic="else")
    server.retained[bench.at.hub] = payloads.encode(stranger.hub)
    server.retained[stranger.topics.status] = b"online"
    server.retained[stranger.topics.state] = b"{}"
    async with bench.running():
        assert bench.config(bench.at.hub) == bench.hub
        assert bench.config(bench.at.camera("porch")) == bench.payloads["porch"]


HOSTILE = (
    b"[" * 5000,
    b"NaN",
    b'"\\ud800"',
    b'{"device": {}, "components": {"a": {"platform": "sensor", "name": NaN}}}',
    b'{"device": {}, "components": {"a": {"platform": "sensor", "name": "\\ud800"}}}',
    b'{"device": {"name": 3}, "components": [], "availability": [{"topic": "+/#/status"}]}',
    b'{"device": {}, "components": {}, "availability": [{"topic": "x\\u0000/status"}]}',
    b'{"device": {}, "components": {}, "availability": [{"topic": "' + b"x" * 70_000 + b'/status"}]}',
    b'{"device": {}, "components": {"a": 1}, "availability": [{"topic": "/status"}]}',
    b'{"components": {"a": {"platform": "sensor", "x": 1e999}}}',
    b"{}" * 200_000,
    b"\xff\xfe",
)


@pytest.mark.parametrize("payload", HOSTILE, ids=range(len(HOSTILE)))
async def test_nothing_retained_below_our_topics_ends_the_start(payload: bytes) -> None:
    server = FakeServer()
    bench = Bench(server, {"porch": ()})
    for topic in (bench.at.hub, bench.at.camera("porch"), bench.at.camera("gone"), bench.topics.motion("x")):
        server.retained[topic] = payload
    async with bench.running():
        assert bench.config(bench.at.hub) == bench.hub
        assert bench.config(bench.at.camera("porch")) == bench.payloads["porch"]
        assert bench.at.camera("gone") not in server.retained
        bench.birth()
        await eventually_async(lambda: bench.republished)


async def test_devices_of_a_service_that_is_gone_are_taken_over() -> None:
    server = FakeServer()
    async with Bench(server, {"porch": (), "yard": ()}, base_topic="a").running():
        pass
    second = Bench(server, {"porch": ()}, base_topic="b")  # no memory: its spool was lost
    async with second.running():
        assert second.config(second.at.hub) == second.hub
        assert second.config(second.at.camera("yard")) is None


# ---- deletion by the user ----


async def test_a_deleted_device_stays_away_until_the_next_start() -> None:
    server = FakeServer()
    bench = Bench(server, {"porch": (), "yard": ()})
    topic = bench.at.camera("yard")
    async with bench.running():
        bench.empty(topic, times=len(bench.payloads["yard"]["components"]))
        bench.birth()
        await eventually_async(lambda: topic in bench.publisher._deleted)
        await eventually_async(lambda: bench.republished)
        emptied = bench.said(topic).count(None)
        assert emptied == len(bench.payloads["yard"]["components"]), "Home Assistant's own, not ours"
        bench.broker.lose()
        bench.broker.connect()
        assert topic not in server.retained
        assert bench.at.camera("porch") in server.retained
    async with Bench(server, {"porch": (), "yard": ()}, memory=bench.memory).running():
        assert topic in server.retained


async def test_without_their_hub_the_cameras_name_none() -> None:
    bench = Bench(FakeServer(), {"porch": ()})
    async with bench.running():
        bench.empty(bench.at.hub, times=len(bench.hub["components"]))
        await eventually_async(lambda: bench.at.hub in bench.publisher._deleted)
        await eventually_async(
            lambda: bench.config(bench.at.camera("porch")) == without_hub(bench.payloads["porch"])
        )
        assert bench.at.hub not in bench.server.retained


async def test_a_single_deleted_entity_does_not_cost_its_device() -> None:
    bench = Bench(FakeServer(), {"porch": ()})
    async with bench.running():
        bench.empty(bench.at.camera("porch"), times=4)
        await eventually_async(lambda: bench.config(bench.at.camera("porch")) == bench.payloads["porch"])
        assert not bench.publisher._deleted


# ---- memory ----


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"[]",
        b"{",
        b'{"places": [{}]}',
        b'{"places": 3}',
        b'{"t": {"since": 1, "before": []}}',
        b'{"t": 1}',
    ],
)
async def test_a_memory_that_cannot_be_read_is_ignored(junk: bytes) -> None:
    bench = Bench(FakeServer(), {"porch": ()}, memory={PLACES_KEY: junk, MISSED_KEY: junk})
    async with bench.running():
        assert bench.at.hub in bench.server.retained
    assert json.loads(bench.memory[MISSED_KEY]) == {}


async def test_a_spool_in_trouble_does_not_keep_devices_away(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(FakeServer(), {"porch": ()})
    bench.spool_trouble = SpoolError("disk full")
    async with bench.running():
        assert bench.at.hub in bench.server.retained
    assert any("disk full" in line for line in caplog.messages)
