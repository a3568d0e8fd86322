"""Ids, object keys and topics: the only module that builds or parses such strings.

event_id    YYYYMMDDTHHMMSSmmmZ-xxxxxx            sorts by time, reads well
frame_id    {event_id}-{seq:06d}
object key  {prefix}{instance}/{camera}/{YYYY}/{MM}/{DD}/{event_id}/{seq:06d}.jpg      UTC
topic       {base_topic}/{instance}/…
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

NAME = re.compile(r"[a-z0-9_-]{1,64}")
"""The valid names of cameras, instances and zones: safe in a key, a topic and an entity id."""

EVENT_ID = re.compile(r"\d{8}T\d{9}Z-[0-9a-f]{6}", re.ASCII)

SETTINGS = ("detection", "sensitivity", "threshold", "min_area")
"""The settings of a camera that can be changed over MQTT."""

STATUS = "/status"
"""The suffix, after a base, of the topic that says whether the service is online."""

PROFILE = "profile"
"""The topic, of a camera with day and night settings, that says which are in force."""


def is_name(text: str) -> bool:
    """Return whether `text` is a valid name for a camera, an instance or a zone."""
    return NAME.fullmatch(text) is not None


def slug(text: str) -> str:
    """Return the name nearest to `text`: ASCII, lower case, at most 64 characters, never empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9_-]+", "-", plain.lower()).strip("-")[:64] or "async-motion"


def identities(instance: str, base: str) -> tuple[str, str]:
    """Return the ids that an instance may have in Home Assistant: its name, and a unique one as fallback."""
    return instance, f"{instance}-{hashlib.sha256(base.encode()).hexdigest()[:6]}"


def event_id(started_at: datetime, random24: int) -> str:
    """Return the id of an event from its start (aware) and 24 random bits."""
    at = started_at.astimezone(UTC)
    return f"{at:%Y%m%dT%H%M%S}{at.microsecond // 1000:03d}Z-{random24 & 0xFFFFFF:06x}"


def event_folder(prefix: str, instance: str, camera: str, event: str) -> str:
    """Return the common prefix of the object keys of an event, with its trailing slash.

    The date is that of the event's start, so that an event which crosses midnight stays together.
    """
    return f"{prefix}{instance}/{camera}/{event[0:4]}/{event[4:6]}/{event[6:8]}/{event}/"


def frame_key(folder: str, seq: int) -> str:
    """Return the object key of frame `seq` in an event's folder."""
    return f"{folder}{seq:06d}.jpg"


def event_key(folder: str) -> str:
    """Return the object key of an event's summary."""
    return f"{folder}event.json"


@dataclass(frozen=True, slots=True)
class Topics:
    """The MQTT topics of one instance. `base` is `{base_topic}/{instance}`."""

    base: str

    @property
    def status(self) -> str:
        return f"{self.base}{STATUS}"

    @property
    def state(self) -> str:
        return f"{self.base}/state"

    def camera_status(self, camera: str) -> str:
        return f"{self.base}/{camera}/status"

    def motion(self, camera: str) -> str:
        return f"{self.base}/{camera}/motion"

    def zone_motion(self, camera: str, zone: str) -> str:
        return f"{self.base}/{camera}/zone/{zone}/motion"

    def frame(self, camera: str) -> str:
        return f"{self.base}/{camera}/frame"

    def event(self, camera: str) -> str:
        return f"{self.base}/{camera}/event"

    def snapshot(self, camera: str) -> str:
        return f"{self.base}/{camera}/snapshot"

    def snapshot_attributes(self, camera: str) -> str:
        """Return the topic for the announcement of the frame that `snapshot` shows next."""
        return f"{self.base}/{camera}/snapshot/attributes"

    def snapshot_frame(self, camera: str) -> str:
        return f"{self.base}/{camera}/snapshot/frame"

    def camera_state(self, camera: str) -> str:
        return f"{self.base}/{camera}/state"

    def memory(self, camera: str) -> str:
        """Return the topic, in a fleet, for what a camera's next owner must know."""
        return f"{self.base}/{camera}/memory"

    @property
    def memories(self) -> str:
        """The filter that matches the memories of all cameras."""
        return self.memory("+")

    def preview(self, camera: str) -> str:
        return f"{self.base}/{camera}/preview"

    def setting(self, camera: str, setting: str) -> str:
        return f"{self.base}/{camera}/{setting}"

    def command(self, camera: str, setting: str) -> str:
        return f"{self.base}/{camera}/{setting}/set"

    @property
    def restart(self) -> str:
        """The command that makes every camera reconnect."""
        return f"{self.base}/restart/set"

    @property
    def reload(self) -> str:
        """The command that makes the service read its settings again."""
        return f"{self.base}/reload/set"

    @property
    def commands(self) -> str:
        """The filter that matches every command to every camera of this instance."""
        return f"{self.base}/+/+/set"

    @property
    def retained(self) -> tuple[str, ...]:
        """The filters that match everything this service retains, and no command to a camera.

        If they overlapped with `commands`, some brokers would deliver each command twice.
        """
        zones = f"{self.base}/+/zone/+/motion"
        snapshots = tuple(f"{self.base}/+/snapshot/{part}" for part in ("attributes", "frame"))
        return (f"{self.base}/+", f"{self.base}/+/+", *snapshots, zones)

    def retained_of(self, camera: str, zones: Iterable[str]) -> tuple[str, ...]:
        """Return every topic on which something about `camera` may be retained."""
        return (
            self.camera_status(camera),
            self.motion(camera),
            *(self.zone_motion(camera, zone) for zone in zones),
            self.snapshot(camera),
            self.snapshot_attributes(camera),
            self.snapshot_frame(camera),
            self.camera_state(camera),
            *(self.setting(camera, setting) for setting in SETTINGS),
        )

    def parse_memory(self, topic: str) -> str | None:
        """Return the camera of a memory's topic, else None."""
        camera = topic[len(self.base) + 1 :].partition("/")[0]
        return camera if topic == self.memory(camera) else None

    def parse_command(self, topic: str) -> tuple[str, str] | None:
        """Return (camera, setting) of a command topic of this instance, else None."""
        if not topic.startswith(f"{self.base}/"):
            return None
        parts = topic[len(self.base) + 1 :].split("/")
        return (parts[0], parts[1]) if len(parts) == 3 and parts[2] == "set" else None


@dataclass(frozen=True, slots=True)
class DiscoveryTopics:
    """The MQTT discovery topics of one service. `prefix` is Home Assistant's, without a trailing slash.

    Identity and camera are separate topic levels: joined in one, two pairs could make the same name.
    """

    prefix: str
    identity: str

    @property
    def hub(self) -> str:
        return f"{self.prefix}/device/async_motion_{self.identity}/config"

    def camera(self, camera: str) -> str:
        return f"{self.prefix}/device/async_motion_{self.identity}/{camera}/config"

    @property
    def cameras(self) -> str:
        """The filter that matches the devices of all cameras of this service."""
        return self.camera("+")

    @property
    def births(self) -> tuple[str, ...]:
        """The topics of Home Assistant's birth message: its default one does not follow a custom prefix."""
        return tuple(dict.fromkeys((f"{self.prefix}/status", "homeassistant/status")))


UNREADABLE = "(unreadable address)"


def redact_url(url: str) -> str:
    """Return the harmless parts of `url`, fit for a log: scheme, host and port.

    Cameras take passwords in the user information, in the query and in the path (`/user=admin&password=…`),
    so none of these is shown. Everything before the last "@" is treated as secret, because people put
    passwords with "/", "?" and "#" into URLs unescaped. A URL that cannot be parsed becomes `UNREADABLE`. The
    path of a file or the number of a device is returned unchanged.
    """
    _, separator, _ = url.partition("://")
    if not separator:
        return url if "@" not in url else UNREADABLE
    parts = _parts(url)
    if parts is None:
        return UNREADABLE
    scheme, login, place, path, query = parts
    return f"{scheme}://{'***@' if login else ''}{place}{'/…' if path.strip('/') or query else ''}"


def place_of_url(url: str) -> str:
    """Return the identity of an address: `url` without its login and query, which may change.

    Only compare or hash it, never show it: the path may hold a password.
    """
    parts = _parts(url) if "://" in url else None
    if parts is None:
        return redact_url(url)
    scheme, login, place, path, query = parts
    return urlunsplit((scheme, f"{'***@' if login else ''}{place}", path, "***" if query else "", ""))


def _parts(url: str) -> tuple[str, bool, str, str, bool] | None:
    """Return (scheme, has a login, host and port, path, has a query); None if `url` is not a URL."""
    scheme, _, rest = url.partition("://")
    _, login, place = rest.rpartition("@")
    try:
        parts = urlsplit(f"{scheme}://{place}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    host = f"[{host}]" if ":" in host else host
    shown = f"{host}{f':{port}' if port is not None else ''}"
    return parts.scheme, bool(login), shown, parts.path, bool(parts.query or parts.fragment)
