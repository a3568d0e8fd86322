"""Announce devices to Home Assistant, update and remove them, and clear our leftovers on the broker.

    connected ──▶ look ──▶ identify ──▶ remove what is gone ──▶ announce: hub, cameras ──▶ clear leftovers
                                                 │
    Home Assistant's birth ──▶ a short delay ──▶ show and remove again what it may have missed, announce again

- Leftovers are found by reading the broker, not from memory. At the start, every retained message below our
  topics that no longer belongs there is cleared: of a renamed or removed camera or zone, of an entity of an
  earlier release, of a device after discovery was switched off. Commands are left alone.
- Leaving a component out of a payload does not remove it from Home Assistant; it must be removed while it is
  loaded. MQTT cannot tell whether Home Assistant is running at that moment. So a removed component is
  remembered, announced and removed again at Home Assistant's next birth, and forgotten only then (or after
  `MISSED_DAYS`).
- When the user deletes a device in Home Assistant, it empties the config topic once for each component. The
  device then stays deleted, also over reconnects and births, until the service starts again. If it was the
  hub, the cameras no longer name it: an unknown hub would come back as a nameless device. When the user
  deletes a single entity, Home Assistant empties the topic too, but fewer times, and loses the whole device.
  Then the device is announced again; an unwanted entity can be disabled instead.
- State topics are cleared last: an entity that still subscribes logs an error for an empty message.
- Home Assistant knows a service by its identity, the first name of the instance. So a renamed instance keeps
  its devices, entities, history and user settings, whether or not Home Assistant was running meanwhile. An
  identity belongs to the service that its payloads name. If another service is online there (a copy of this
  one, or a namesake with another base topic), this one uses the next identity.
- When the instance, the base topic or the discovery prefix is renamed, the remembered old place is cleared in
  the same way, unless another service is online there.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from async_motion.core import names, payloads
from async_motion.core.names import Topics
from async_motion.errors import SpoolError
from async_motion.home_assistant.entities import CameraSite, ServiceInfo
from async_motion.home_assistant.payloads import Payload, camera_payload, hub_payload, without_hub
from async_motion.home_assistant.places import (
    MAX_PLACES,
    MISSED_KEY,
    PLACES_KEY,
    AnnouncedPlace,
    owner,
    read_config,
    read_missed,
    read_places,
)
from async_motion.home_assistant.removal import Removal, merged, removal_of

log = logging.getLogger(__name__)

QUIET_S = 1.0
"""Retained messages arrive at once: after this long without one, all have arrived."""
LOOK_S = 15.0
"""Maximum duration of a look at the broker."""
STEP_S = 3.0
"""Time for Home Assistant to process one message before the next."""
BIRTH_DELAY_S = (0.5, 3.0)
"""Range of the random delay (jitter), so that services do not all answer a birth at the same moment."""
MAX_FOUND = 20_000
"""Maximum retained topics from one look; further ones are left until the next start."""
LIFE_S = 20.0
"""How long to wait for a sign of life of another service, which publishes its state every 15 s."""

Handler = Callable[[str, bytes, bool], None]
Remember = Callable[[str, bytes], Awaitable[None]]


class DiscoveryBroker(Protocol):
    """What this package needs of the MQTT client."""

    @property
    def connected(self) -> bool: ...

    def retain(self, topic: str, payload: bytes | str) -> None: ...

    def forget(self, topic: str) -> None: ...

    def release(self, topic: str) -> None: ...

    def subscribe(self, topic_filter: str, handler: Handler) -> None: ...

    def unsubscribe(self, topic_filter: str, handler: Handler) -> None: ...

    def on_connect(self, callback: Callable[[], None]) -> None: ...


class DiscoveryPublisher:
    """Announces `site` and its `cameras` to Home Assistant, and clears leftovers.

    `enabled` is False if discovery is switched off: then devices announced earlier are removed. `retained`
    are all topics under the base on which this service retains a message, `foreign` those outside.
    `republish` publishes every state again. `looked` is called with the topics retained at the start.
    `recalled` holds what earlier runs passed to `remember`.
    """

    def __init__(
        self,
        broker: DiscoveryBroker,
        site: ServiceInfo,
        cameras: Sequence[CameraSite],
        *,
        prefix: str,
        enabled: bool = True,
        retained: frozenset[str],
        republish: Callable[[], None],
        remember: Remember,
        recalled: Mapping[str, bytes] | None = None,
        foreign: frozenset[str] = frozenset(),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        draw: Callable[[], float] = random.random,
        quiet_s: float = QUIET_S,
        step_s: float = STEP_S,
        birth_delay_s: tuple[float, float] = BIRTH_DELAY_S,
        life_s: float = LIFE_S,
        looked: Callable[[Collection[str]], None] = lambda _topics: None,
    ) -> None:
        self._broker = broker
        self._site = site
        self._cameras = cameras
        self._enabled = enabled
        self._retained = retained
        self._republish = republish
        self._remember = remember
        self._now = now
        self._draw = draw
        self._quiet_s = quiet_s
        self._step_s = step_s
        self._birth_delay_s = birth_delay_s
        self._life_s = life_s
        self._looked = looked
        self._configs: dict[str, Payload] = {}
        self._deleted: set[str] = set()
        self._emptied: Counter[str] = Counter()
        places = read_places(recalled or {})
        self._places = set(places)
        self._taken: set[str] = set()
        self._online: set[str] = set()
        """Bases of other services that are alive."""
        self._has_lived = bool(places)
        names_of_ours = names.identities(site.instance, site.topics.base)
        # The first remembered place is that of the last run.
        identities = dict.fromkeys((*(place.identity for place in places[:1]), *names_of_ours))
        self._here, *self._others = (
            AnnouncedPlace(site.topics.base, prefix, identity, foreign) for identity in identities
        )
        self._missed = read_missed(recalled or {}, now())
        self._connected = asyncio.Event()
        self._born = asyncio.Event()
        self._bereft = asyncio.Event()
        broker.on_connect(self._connected.set)

    def change(
        self,
        site: ServiceInfo,
        cameras: Sequence[CameraSite],
        *,
        retained: frozenset[str],
        foreign: frozenset[str],
    ) -> None:
        """Use other cameras and service facts, such as the page's URL, from the next `run` on."""
        self._site = site
        self._cameras = cameras
        self._retained = retained
        self._here = replace(self._here, foreign=foreign)

    async def run(self) -> None:
        """Look, clear, announce; then answer Home Assistant until cancelled. May be run again afterwards."""
        found = await self._look()
        self._looked(found.keys())
        await self._identify(found)
        leftovers = self._sort(found)
        await self._save()
        await self._remove(retained=found)
        self._announce()
        heard = [
            (self._here.discovery.hub, self._on_config),
            (self._here.discovery.cameras, self._on_config),
            *((birth, self._on_birth) for birth in self._here.discovery.births),
        ]
        for topic_filter, handler in heard:
            self._broker.subscribe(topic_filter, handler)
        try:
            await self._clear(leftovers)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._answer_births(), name="discovery[births]")
                tasks.create_task(self._answer_deletions(), name="discovery[deletions]")
        finally:
            for topic_filter, handler in heard:
                self._broker.unsubscribe(topic_filter, handler)

    # ---- the look at the start ----

    async def _look(self) -> dict[str, bytes]:
        """Return everything retained at our places. Restart if the connection is lost meanwhile."""
        while True:
            self._connected.clear()
            if not self._broker.connected:
                await self._connected.wait()
            found = await self._listen(
                topic_filter
                for place in (self._here, *self._others, *self._places)
                for topic_filter in (*place.topics.retained, place.discovery.hub, place.discovery.cameras)
            )
            if self._broker.connected and not self._connected.is_set():
                return found

    async def _listen(self, topic_filters: Iterable[str]) -> dict[str, bytes]:
        loop = asyncio.get_running_loop()
        started = latest = loop.time()
        found: dict[str, bytes] = {}

        def on_message(topic: str, payload: bytes, was_retained: bool) -> None:
            nonlocal latest
            if was_retained and payload:
                # Keep only the payloads that are read here: snapshots are large.
                if topic in found or len(found) < MAX_FOUND:
                    found[topic] = payload if topic.endswith(("/config", "/status")) else b"?"
                latest = loop.time()

        filters = dict.fromkeys(topic_filters)
        for topic_filter in filters:
            self._broker.subscribe(topic_filter, on_message)
        try:
            while loop.time() - started < LOOK_S:
                await asyncio.sleep(self._quiet_s / 10)
                # Our own status is retained before `connected`: as long as it is missing, the broker is slow.
                if self._here.topics.status in found and loop.time() - latest >= self._quiet_s:
                    break
        finally:
            for topic_filter in filters:
                self._broker.unsubscribe(topic_filter, on_message)
        return found

    async def _identify(self, found: Mapping[str, bytes]) -> None:
        """Choose the first identity that no other service uses, and build our devices' payloads with it."""
        owners = {place: self._owners(place, found) for place in (self._here, *self._others)}
        if self._has_lived:
            # A service has one identity: one at our old base with another identity only reuses our name.
            owners[self._here] -= set().union(*(owners[place] for place in self._others))
        bases = set().union(*owners.values())
        bases |= {place.base for place in self._places} - {self._here.base}
        online = {base for base in bases if found.get(Topics(base).status) == b"online"}
        unknown = {Topics(base).status: base for base in bases if Topics(base).status not in found}
        if unknown:
            statuses = await self._listen((self._here.topics.status, *unknown))
            online |= {base for topic, base in unknown.items() if statuses.get(topic) == b"online"}
        self._online = online = await self._living(online) if online else set()
        for place, others in owners.items():
            if not others & online:
                break
            self._taken.add(place.identity)
            log.warning(
                "Home Assistant's devices of %s belong to the service at %s, which is online: left alone",
                place.identity,
                ", ".join(sorted(others & online)),
            )
        self._here = place
        site = replace(self._site, identity=place.identity)
        if self._enabled:
            at = place.discovery
            self._configs = {at.hub: hub_payload(site)}
            self._configs |= {at.camera(c.unique): camera_payload(site, c) for c in self._cameras}

    async def _living(self, bases: Collection[str]) -> set[str]:
        """Return those of `bases` whose service is alive: it publishes a state now.

        A retained "online" proves nothing: the broker may keep it for a service that is long gone.
        """
        living: set[str] = set()
        all_alive = asyncio.Event()

        def on_state(topic: str, _payload: bytes, was_retained: bool) -> None:
            if not was_retained:
                living.update(base for base in bases if topic.startswith(f"{base}/"))
                if living >= set(bases):
                    all_alive.set()

        filters = [f for base in bases for f in (Topics(base).state, Topics(base).camera_state("+"))]
        for topic_filter in filters:
            self._broker.subscribe(topic_filter, on_state)
        try:
            async with asyncio.timeout(self._life_s):
                await all_alive.wait()
        except TimeoutError:
            pass
        finally:
            for topic_filter in filters:
                self._broker.unsubscribe(topic_filter, on_state)
        return living

    def _owners(self, place: AnnouncedPlace, found: Mapping[str, bytes]) -> set[str]:
        """Return the bases of the other services named by the devices under a place's identity."""
        payloads_found = (read_config(found[topic]) for topic in self._configs_at(place, found))
        bases = {owner(payload) for payload in payloads_found if payload is not None}
        return {base for base in bases if base is not None} - {place.base}

    def _sort(self, found: Mapping[str, bytes]) -> set[str]:
        """Note which devices and components are gone; return the topics to clear."""
        clear = {topic for topic in found if self._is_leftover(topic, self._here)} - self._retained
        configs = dict.fromkeys(self._configs_at(self._here, found))
        online_elsewhere = set()
        for place in sorted(self._places - {self._here}, key=repr):
            if place.base != self._here.base:
                if place.base in self._online:
                    remark = "is left alone: another service is online there"
                    log.warning("%s, the former name of this service, %s", place.base, remark)
                    online_elsewhere.add(place)
                    continue
                clear |= {topic for topic in found if self._is_leftover(topic, place)}
            clear |= place.foreign - self._here.foreign
            if place.identity not in self._taken:
                configs |= dict.fromkeys(self._configs_at(place, found))
        self._places = online_elsewhere
        for topic in configs:
            if not self._note_missed(topic, found[topic]) and topic not in self._configs:
                clear.add(topic)
        return clear

    @staticmethod
    def _is_leftover(topic: str, place: AnnouncedPlace) -> bool:
        return topic.startswith(f"{place.base}/") and not topic.endswith("/set")

    @staticmethod
    def _configs_at(place: AnnouncedPlace, found: Mapping[str, bytes]) -> list[str]:
        at = place.discovery
        cameras = at.cameras.split("+")
        return [
            topic
            for topic in found
            if topic == at.hub or (topic.startswith(cameras[0]) and topic.endswith(cameras[1]))
        ]

    def _note_missed(self, topic: str, payload: bytes) -> bool:
        """Remember a device's removed components until Home Assistant has certainly removed them."""
        before = read_config(payload)
        if before is None or removal_of(before, self._configs.get(topic)) is None:
            return False
        known = self._missed.get(topic)
        self._missed[topic] = (self._now(), merged(known[1], before) if known else before)
        return True

    # ---- announcing and removing ----

    def _announce(self) -> None:
        """Announce the hub, then the cameras: naming an unknown hub would create a nameless device."""
        for topic, payload in self._configs.items():
            if topic not in self._deleted and topic not in self._emptied:
                self._say(topic, payload)

    async def _clear(self, leftovers: set[str]) -> None:
        """Clear topics, after Home Assistant has had time to unsubscribe from them."""
        if not leftovers:
            return
        await asyncio.sleep(self._step_s)
        for topic in sorted(leftovers):
            self._broker.forget(topic)
        log.info("cleared %d retained topics of what no longer exists", len(leftovers))

    def _say(self, topic: str, payload: Payload | None) -> None:
        if payload is None:
            self._broker.forget(topic)
            return
        if self._here.discovery.hub in self._deleted:
            payload = without_hub(payload)
        self._broker.retain(topic, payloads.encode(payload))

    async def _remove(self, *, show: bool = False, retained: Container[str] = ()) -> None:
        """Remove from Home Assistant what is gone; with `show`, load it first, after a birth.

        Without `show`, a device whose topic is not `retained` is gone already: another empty message would
        cause a warning in Home Assistant's log.
        """
        removals: dict[str, Removal] = {}
        for topic, (_, before) in list(self._missed.items()):
            removal = removal_of(before, self._configs.get(topic))
            if removal is None or topic in self._deleted:
                del self._missed[topic]  # it is back
            elif show or removal.left is not None or topic in retained:
                removals[topic] = removal
        if not removals:
            return
        if show:
            # Shorter topics first: the hub before the cameras that name it.
            for topic in sorted(removals, key=len):
                self._say(topic, removals[topic].shown)
            await asyncio.sleep(self._step_s)
        for topic, removal in removals.items():
            self._say(topic, removal.struck)
        await asyncio.sleep(self._step_s)
        for topic, removal in removals.items():
            if removal.left is not None:
                self._say(topic, removal.left)
        log.info("Home Assistant: removed what no longer exists from %d devices", len(removals))

    # ---- messages of Home Assistant ----

    def _on_birth(self, _topic: str, payload: bytes, was_retained: bool) -> None:
        if payload == b"online" and not was_retained:
            self._born.set()

    async def _answer_births(self) -> None:
        min_s, max_s = self._birth_delay_s
        while True:
            await self._born.wait()
            await asyncio.sleep(min_s + (max_s - min_s) * self._draw())
            self._born.clear()
            if not self._broker.connected:
                continue  # everything is published again on the next connect
            if self._missed:
                await self._remove(show=True)
                self._missed.clear()
                await self._save()
            self._announce()
            # Home Assistant subscribes to an entity's topics shortly after it has received its config.
            await asyncio.sleep(self._step_s / 3)
            self._republish()
            log.info("Home Assistant has come up: everything was announced again")

    def _on_config(self, topic: str, payload: bytes, was_retained: bool) -> None:
        if not payload and not was_retained and topic in self._configs and topic not in self._deleted:
            self._emptied[topic] += 1
            self._bereft.set()

    async def _answer_deletions(self) -> None:
        while True:
            await self._bereft.wait()
            # Wait until Home Assistant has sent all its messages and removed the entities.
            await asyncio.sleep(self._step_s)
            self._bereft.clear()
            emptied, self._emptied = self._emptied, Counter()
            for topic, times in emptied.items():
                name = self._configs[topic]["device"]["name"]
                if 2 * times > len(self._configs[topic]["components"]):
                    self._deleted.add(topic)
                    # The topic is empty already: another empty message is an error in Home Assistant.
                    self._broker.release(topic)
                    log.info("%s was deleted in Home Assistant; it stays away until the next start", name)
                else:
                    log.info("Home Assistant lost %s with one deleted entity: announced again", name)
            # The hub may have been deleted, or announced again.
            self._announce()

    # ---- memory ----

    async def _save(self) -> None:
        elsewhere = sorted(self._places, key=repr)[: MAX_PLACES - 1]
        here = [where.to_json() for where in (self._here, *elsewhere)]
        missed = {
            topic: {"since": payloads.iso(since), "before": before}
            for topic, (since, before) in self._missed.items()
        }
        try:
            await self._remember(PLACES_KEY, payloads.encode({"places": here}))
            await self._remember(MISSED_KEY, payloads.encode(missed))
        except SpoolError as exc:
            log.warning("cannot save what Home Assistant may have missed, retrying: %s", exc)
