"""Parse what the broker and the spool hold about devices announced earlier.

Any client may retain anything below our discovery topics, and a spool may hold an older release's data. Each
function here returns well-formed values, or none. Pure: the time is passed in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from async_motion.core import payloads, strict_json
from async_motion.core.names import STATUS, DiscoveryTopics, Topics, is_name
from async_motion.home_assistant.payloads import Payload
from async_motion.home_assistant.removal import removal_of

PLACES_KEY: Final = "announcer/places"
MISSED_KEY: Final = "announcer/missed"

MAX_CONFIG_BYTES: Final = 256 * 1024
"""Maximum size of a device's payload; 500 components take 100 KiB."""
MAX_MEMORY_BYTES: Final = 8 * 1024 * 1024
MAX_TOPIC_BYTES: Final = 1024
MAX_PLACES: Final = 8
MISSED_DAYS: Final = 30

_UNUSABLE = re.compile(r"[+#\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class AnnouncedPlace:
    """Where this service has announced itself, remembered so that a renamed service can clear it.

    `foreign` are its retained topics outside `base`.
    """

    base: str
    prefix: str
    identity: str
    foreign: frozenset[str] = frozenset()

    @property
    def topics(self) -> Topics:
        return Topics(self.base)

    @property
    def discovery(self) -> DiscoveryTopics:
        return DiscoveryTopics(self.prefix, self.identity)

    def to_json(self) -> dict[str, Any]:
        return {
            "base": self.base,
            "prefix": self.prefix,
            "identity": self.identity,
            "foreign": sorted(self.foreign),
        }

    @staticmethod
    def from_json(data: object) -> AnnouncedPlace:
        """Return the place that `to_json` returned. Raises ValueError for anything else."""
        if not isinstance(data, dict) or not isinstance(data.get("foreign"), list):
            raise ValueError("not a place")
        base, prefix, identity = data.get("base"), data.get("prefix"), data.get("identity")
        topics = [base, prefix, *data["foreign"]]
        # An identity is a name, or a name with a short hash.
        if not isinstance(identity, str) or not is_name(identity[:64]) or not all(map(is_topic, topics)):
            raise ValueError("not a place")
        return AnnouncedPlace(str(base), str(prefix), identity, frozenset(data["foreign"]))


def is_topic(text: object) -> bool:
    """Return whether `text` is a valid topic that can also be part of a filter."""
    if not isinstance(text, str) or not text or text.startswith("$") or _UNUSABLE.search(text):
        return False
    try:
        return len(text.encode()) <= MAX_TOPIC_BYTES
    except UnicodeEncodeError:
        return False


def read_config(payload: bytes) -> Payload | None:
    """Return a device's payload read from the broker; None if it is not one.

    In the result `device` and `components` are objects, and each component is an object with a platform.
    """
    try:
        config = strict_json.parse_object(payload, max_bytes=MAX_CONFIG_BYTES)
    except ValueError:
        return None
    components = config.get("components")
    if not isinstance(config.get("device"), dict) or not isinstance(components, dict):
        return None
    well_formed = (
        isinstance(component, dict) and isinstance(component.get("platform"), str)
        for component in components.values()
    )
    return config if all(well_formed) else None


def owner(payload: Mapping[str, Any]) -> str | None:
    """Return the base topic of the service that announced `payload`; None if it names none."""
    try:
        topic = payload["availability"][0]["topic"]
    except (KeyError, IndexError, TypeError):
        return None
    if not isinstance(topic, str) or not topic.endswith(STATUS) or not is_topic(topic):
        return None
    return topic.removesuffix(STATUS) or None


def read_places(recalled: Mapping[str, bytes]) -> list[AnnouncedPlace]:
    """Return the places of earlier runs, at most `MAX_PLACES`, the last run's first."""
    found = _recall(recalled, PLACES_KEY).get("places")
    places = []
    for data in found[:MAX_PLACES] if isinstance(found, list) else ():
        try:
            places.append(AnnouncedPlace.from_json(data))
        except ValueError:
            continue
    return places


def read_missed(recalled: Mapping[str, bytes], now: datetime) -> dict[str, tuple[datetime, Payload]]:
    """Return removals that Home Assistant may have missed: config topic -> (since, payload before)."""
    return dict(_missed(_recall(recalled, MISSED_KEY), now))


def _missed(data: Mapping[str, Any], now: datetime) -> Iterator[tuple[str, tuple[datetime, Payload]]]:
    for topic, entry in data.items():
        if not is_topic(topic) or not isinstance(entry, dict):
            continue
        try:
            since = payloads.parse_iso(str(entry.get("since")))
        except ValueError:
            continue
        before = entry.get("before")
        if not isinstance(before, dict) or now - since >= timedelta(days=MISSED_DAYS):
            continue
        if removal_of(before, None) is not None:
            yield topic, (since, before)


def _recall(recalled: Mapping[str, bytes], key: str) -> dict[str, Any]:
    try:
        return strict_json.parse_object(recalled.get(key, b"{}"), max_bytes=MAX_MEMORY_BYTES)
    except ValueError:
        return {}
