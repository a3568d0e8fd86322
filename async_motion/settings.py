"""Settings: `variables.yaml`, the environment and secret files become one frozen tree, or an error.

    YAML nodes ──┐                                            ┌──▶ Settings (frozen)
                 ├──▶ plain data + where each value came from ─┤
    environment ─┘                                            └──▶ SettingsError, one line for each problem

The attribute names are the keys of `config/processor/variables.yaml`, which describes every one of them;
the defaults stand here, and a test holds the two together. Units: durations are float seconds, sizes int
bytes, shares and areas float 0..1. A blank value means the default.

Order of the file: `--config`, `$ASYNC_MOTION_CONFIG`, `config/processor/variables.yaml` under the working
directory, the copy that ships in the package. On top of it, weakest first: `MINIO_ACCESS_KEY` and
`MINIO_SECRET_KEY`, then `ASYNC_MOTION__SECTION__KEY`; each of them also as `…_FILE`, the name of a file that
holds the value (Docker and systemd credentials).

Nothing here opens a camera, a socket or any file but the settings and the `_FILE`s. No text of any problem
holds the value of a secret: secrets are never shown, not even when they are wrong.
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)

from async_motion.core import names
from async_motion.errors import SettingsError

PREFIX = "ASYNC_MOTION__"
CONFIG_VARIABLE = "ASYNC_MOTION_CONFIG"
DEFAULT_PATH = Path("config/processor/variables.yaml")
PLACEHOLDER = "change-me"
"""The secret key that the shipped settings hold: it opens nothing."""

RESERVED_CAMERAS = frozenset({"status", "state"})
"""Words that stand in a camera's place in the topics of the instance."""

_LONGEST_SECRET_FILE = 64 * 1024
_SECRET_PARAMETER = re.compile(r"pass|pwd|token|key|secret|auth|sig", re.IGNORECASE)
_STATIC_KEYS = {"MINIO_ACCESS_KEY": ("minio", "access_key"), "MINIO_SECRET_KEY": ("minio", "secret_key")}

Place = tuple[str | int, ...]
"""Where a value stands in the tree: ``("cameras", "porch", "detect", "masks", 0)``."""


class _EnvText(str):
    """A value from the environment or a secret file: text that stands for whatever type the key has."""

    __slots__ = ()


# ---- one function for each kind of value: what it takes, and what it says of everything else ----


def _shown(value: object) -> str:
    """Return a value as a problem may show it; only for keys that are not secret."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "blank"
    if isinstance(value, Mapping):
        return "a section"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list"
    text = repr(str(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not text, expected text: put it in quotes")
    text = str(value)
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ValueError("holds a control character (a line break or tab?), expected one line of text")
    return text


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, _EnvText) and value.lower() in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        return value.lower() in ("true", "yes", "on", "1")
    raise ValueError(f"{_shown(value)} is neither, expected true or false")


def _one_of(literal: Any) -> PlainValidator:
    choices = get_args(literal)

    def check(value: object) -> str:
        if isinstance(value, str) and str(value) in choices:
            return str(value)
        raise ValueError(f"{_shown(value)} is not known, expected one of {', '.join(choices)}")

    return PlainValidator(check)


def _number_of(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | _EnvText):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _whole(least: int, most: int, unit: str = "") -> PlainValidator:
    expected = f"expected a whole number from {least} to {most}{f' {unit}' if unit else ''}"

    def check(value: object) -> int:
        number = _number_of(value)
        if number is None or not math.isfinite(number) or number != int(number):
            raise ValueError(f"{_shown(value)} is not a whole number, {expected}")
        if not least <= number <= most:
            raise ValueError(f"{_shown(value)} is out of range, {expected}")
        return int(number)

    return PlainValidator(check)


def _number(least: float, most: float, unit: str) -> PlainValidator:
    expected = f"expected a number from {least:g} to {most:g} {unit}"

    def check(value: object) -> float:
        number = _number_of(value)
        if number is None or math.isnan(number):
            raise ValueError(f"{_shown(value)} is not a number, {expected}")
        if not least <= number <= most:
            raise ValueError(f"{_shown(value)} is out of range, {expected}")
        return number

    return PlainValidator(check)


_SECONDS = {
    "ms": 0.001,
    "s": 1.0,
    "sec": 1.0,
    "min": 60.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")


def _quantity(text: str, units: Mapping[str, float]) -> float | None:
    """Return `text` such as ``1h30min`` or ``2 GiB`` in base units, None if it cannot be read."""
    total, at = 0.0, 0
    text = text.strip()
    while match := _QUANTITY.match(text, at):
        if match[2].lower() not in units:
            return None
        total += float(match[1]) * units[match[2].lower()]
        at = match.end()
    return total if text and at == len(text) else None


def _measure(least: str, most: str, units: Mapping[str, float], expected: str) -> Callable[[object], float]:
    low, high = _quantity(least, units), _quantity(most, units)
    assert low is not None
    assert high is not None

    def check(value: object) -> float:
        amount = _quantity(value, units) if isinstance(value, str) else None
        if amount is None:
            bare = _number_of(value)
            if bare is not None and (bare == 0 or units is _BYTES):
                amount = bare
        if amount is None or not math.isfinite(amount):
            why = "has no unit" if _number_of(value) is not None else "cannot be read"
            raise ValueError(f"{_shown(value)} {why}, {expected}")
        if not low <= amount <= high:
            raise ValueError(f"{_shown(value)} is out of range, {expected}")
        return amount

    return check


def _duration(least: str, most: str) -> PlainValidator:
    expected = f"expected a duration from {least} to {most} with its unit (ms, s, min, h, d), such as 10s"
    return PlainValidator(_measure(least, most, _SECONDS, expected))


def _size(least: str, most: str) -> PlainValidator:
    expected = f"expected a size from {least} to {most}, such as 500MB or 2GiB"
    measure = _measure(least, most, _BYTES, expected)
    return PlainValidator(lambda value: int(measure(value)))


def _share_of(value: object) -> float | None:
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip()[:-1]) / 100
        except ValueError:
            return None
    return _number_of(value)


def _share(least: str, most: str) -> PlainValidator:
    low, high = _share_of(least), _share_of(most)
    assert low is not None
    assert high is not None
    expected = f"expected a share from {least} to {most}, such as 0.2% or 0.002"

    def check(value: object) -> float:
        share = _share_of(value)
        if share is None or math.isnan(share):
            raise ValueError(f"{_shown(value)} cannot be read, {expected}")
        if not low <= share <= high:
            raise ValueError(f"{_shown(value)} is out of range, {expected}")
        return share

    return PlainValidator(check)


def _structure(value: object) -> object:
    """Return a value from the environment as the YAML that it holds, everything else as it is."""
    if not isinstance(value, _EnvText):
        return value
    try:
        return yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        # The text may hold a camera's address with its password: the parser's words are not repeated.
        raise ValueError("cannot be read, expected YAML or JSON") from None


def _polygon(value: object) -> tuple[tuple[float, float], ...]:
    expected = "expected three or more points [x, y], each a share of the picture from 0 to 1"
    value = _structure(value)
    if not isinstance(value, list | tuple) or len(value) < 3:
        what = f"{len(value)} points" if isinstance(value, list | tuple) else _shown(value)
        raise ValueError(f"{what}, {expected}")
    points = []
    for point in value:
        if not isinstance(point, list | tuple) or len(point) != 2:
            raise ValueError(f"{_shown(point)} is not a point, {expected}")
        x, y = (_share_of(side) for side in point)
        if x is None or y is None or not (0 <= x <= 1 and 0 <= y <= 1):
            raise ValueError(f"the point {point} does not lie in the picture, {expected}")
        points.append((x, y))
    (x0, y0), *rest = points
    dx, dy = max(((x - x0, y - y0) for x, y in rest), key=lambda d: abs(d[0]) + abs(d[1]))
    if all(abs(dx * (y - y0) - dy * (x - x0)) < 1e-9 for x, y in rest):
        raise ValueError(f"all points lie on one line, {expected}")
    return tuple(points)


def _polygons(value: object) -> tuple[tuple[tuple[float, float], ...], ...]:
    value = _structure(value)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{_shown(value)}, expected a list of polygons: [[[0, 0], [1, 0], [1, 0.1]], …]")
    return tuple(_polygon(polygon) for polygon in value)


def _name(value: str) -> str:
    if not names.is_name(value):
        raise ValueError("not a name, expected 1 to 64 of a-z, 0-9, _ and - (`name:` may say more)")
    return value


def _camera_name(value: str) -> str:
    if value in RESERVED_CAMERAS:
        raise ValueError(
            f"this word has a meaning of its own in the topics, expected a name other than "
            f"{' and '.join(sorted(RESERVED_CAMERAS))}"
        )
    return _name(value)


def _instance(value: object) -> str:
    return _name(_text(value))


def _hostname() -> str:
    return names.slug(socket.gethostname())


_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?")


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        # A dotted number that is no IP address is a slip of the pen, not a name.
        return _HOST.fullmatch(text) is not None and len(text) <= 253 and not re.fullmatch(r"[\d.]+", text)
    return True


def _host(value: object) -> str:
    text = _text(value)
    expected = "expected a host name or IP address alone"
    if "://" in text:
        raise ValueError(f"an address with a scheme, {expected} (TLS and the port have keys of their own)")
    if text.count(":") == 1:
        raise ValueError(f"a host with a port, {expected} (the port has a key of its own)")
    if not _is_host(text):
        raise ValueError(f"not a host, {expected}")
    return text


def _endpoint(value: object) -> str:
    text = _text(value)
    expected = "expected host or host:port alone, such as localhost:9000"
    if "://" in text:
        scheme = text.partition("://")[0].lower()
        hint = {"https": "`minio.secure: true`", "http": "`minio.secure: false`"}.get(
            scheme, "`minio.secure`"
        )
        raise ValueError(f"an address with a scheme, {expected}; {hint} says whether TLS is used")
    if "/" in text or "?" in text or "#" in text:
        raise ValueError(
            f"an address with a path, {expected}; `minio.bucket` and `minio.prefix` name the place"
        )
    if "@" in text:
        raise ValueError(f"an address with a login, {expected}; `minio.access_key` has a key of its own")
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::(\d{1,5}))?", text)
    if match is None or not _is_host(match[1] or match[2]):
        raise ValueError(f"{_shown(text)} is not an address, {expected}")
    if match[3] is not None and not 1 <= int(match[3]) <= 65535:
        raise ValueError(f"port {match[3]} is out of range, expected a port from 1 to 65535")
    return text


def _topic(value: object) -> str:
    text = _text(value)
    expected = "expected a topic such as async_motion or home/cameras"
    if "+" in text or "#" in text:
        raise ValueError(f"{_shown(text)} holds a wildcard (+ or #), {expected}")
    if not text or text.startswith(("/", "$")) or text.endswith("/") or "//" in text:
        raise ValueError(f"{_shown(text)} has an empty level or begins with $, {expected}")
    if len(text.encode()) > 256:
        raise ValueError(f"longer than 256 bytes, {expected}")
    return text


def _bucket(value: object) -> str:
    text = _text(value)
    if (
        not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", text)
        or ".." in text
        or re.fullmatch(r"[\d.]+", text)
    ):
        raise ValueError(
            f"{_shown(text)} is not a bucket's name, expected 3 to 63 of a-z, 0-9, - and ., "
            "with a letter or digit at both ends"
        )
    return text


def _prefix(value: object) -> str:
    text = _text(value)
    parts = text.split("/")
    if text.startswith("/") or "" in parts[:-1] or {".", ".."} & set(parts) or "\\" in text:
        raise ValueError(f"{_shown(text)} is not a prefix, expected the beginning of a key such as cameras/")
    if len(text.encode()) > 256:
        raise ValueError("longer than 256 bytes, expected the beginning of a key such as cameras/")
    return text


def _region(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ValueError(f"{_shown(text)} is not a region, expected one such as us-east-1")
    return text


def _encryption(value: object) -> str:
    text = _text(value)
    if text in ("none", "sse-s3") or re.fullmatch(r"sse-kms:[\x21-\x7e]+", text):
        return text
    raise ValueError(f"{_shown(text)} is not known, expected none, sse-s3 or sse-kms:<key id>")


def _path_style(value: object) -> bool | Literal["auto"]:
    if isinstance(value, str) and value == "auto":
        return "auto"
    try:
        return _flag(value)
    except ValueError:
        raise ValueError(f"{_shown(value)} is not known, expected auto, true or false") from None


def _protocol(value: object) -> int:
    if str(value) == "5" and not isinstance(value, bool):
        return 5
    if str(value) == "3.1.1":
        return 4
    raise ValueError(f"{_shown(value)} is not known, expected 5 or 3.1.1")


def _file(value: object) -> Path:
    text = _text(value)
    if not text:
        raise ValueError("empty, expected a path")
    return Path(text).expanduser()


def _spool_path(value: object) -> str:
    return ":memory:" if value == ":memory:" else str(_file(value))


_SCHEMES = ("rtsp", "rtsps", "http", "https")


def _source(value: object) -> object:
    """Check a camera's source by its text alone. No message shows it: most sources carry a password."""
    expected = (
        "expected rtsp://…, rtsps://…, http://…, https://…, the path of a video file or of a folder of "
        "stills, usb:0, /dev/video0 or demo:"
    )
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError("a number, expected text; for a USB camera write usb: and its number, such as usb:0")
    text = _text(value)
    if not text.strip():
        raise ValueError(f"empty, {expected}")
    if text != text.strip():
        raise ValueError(f"begins or ends with a space, {expected}")
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower()
    if scheme == "usb" and colon:
        if not re.fullmatch(r"\d{1,3}", rest):
            raise ValueError("not the number of a USB camera, expected usb:0, usb:1, …")
    elif rest.startswith("//") and colon:
        if scheme not in _SCHEMES:
            raise ValueError(f"a kind of address that is not known, {expected}")
        try:
            parts = urlsplit(text)
            usable = bool(parts.hostname) and parts.port != 0 and " " not in text
        except ValueError:
            usable = False
        if not usable:
            raise ValueError(
                "cannot be read as an address, expected scheme://user:password@host:port/path; in the "
                "password write %40 for @, %2F for /, %3A for :, %23 for #, %3F for ?"
            )
    elif colon and scheme in _SCHEMES:
        raise ValueError(f"the // after the scheme is missing, {expected}")
    return value


def _credential(value: object) -> object:
    """Check a login's text; a blank stays blank, which is not the same as the default."""
    if isinstance(value, SecretStr):
        return value
    return (_text(value) or None) if value is not None else None


@dataclass(frozen=True, slots=True)
class Frames:
    """Which frames of an event are kept. `every_s` is set for `every` alone."""

    kind: Literal["all", "first", "best", "every"]
    every_s: float | None = None


@dataclass(frozen=True, slots=True)
class Confirm:
    """Motion counts once `hits` of the last `of` frames showed it."""

    hits: int
    of: int


_every = _measure("100ms", "1h", _SECONDS, "expected a duration from 100ms to 1h with its unit, such as 1s")


def _frames(value: object) -> Frames:
    value = _structure(value)
    if isinstance(value, str) and value in ("all", "first", "best"):
        return Frames(kind=value)  # type: ignore[arg-type]  # narrowed by the line above
    if isinstance(value, Mapping) and list(value) == ["every"]:
        return Frames(kind="every", every_s=_every(value["every"]))
    raise ValueError(f"{_shown(value)} is not known, expected all, first, best or {{every: 1s}}")


def _confirm(value: object) -> Confirm:
    match = re.fullmatch(r"\s*(\d{1,3})\s*/\s*(\d{1,3})\s*", value) if isinstance(value, str) else None
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= 30:
        raise ValueError(f"{_shown(value)} cannot be read, expected M/N with 1 <= M <= N <= 30, such as 2/3")
    return Confirm(int(match[1]), int(match[2]))


# ---- the tree ----

Flag = Annotated[bool, PlainValidator(_flag)]
Text = Annotated[str, PlainValidator(_text)]
OptionalText = Annotated[str | None, PlainValidator(lambda value: _text(value) or None)]
OptionalFile = Annotated[Path | None, PlainValidator(_file)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_credential)]
Topic = Annotated[str, PlainValidator(_topic)]
Port = Annotated[int, _whole(1, 65535)]
Quality = Annotated[int, _whole(1, 100)]
Polygon = tuple[tuple[float, float], ...]

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "text", "json"]
Credentials = Literal["static", "env", "aws"]
WhenFull = Literal["drop_oldest", "drop_newest"]
Transport = Literal["tcp", "udp"]
Decode = Literal["auto", "all", "keyframes"]
HwAccel = Literal["none", "vaapi", "videotoolbox", "cuda", "drm"]
Isolation = Literal["thread", "process"]
Speed = Literal["real", "max"]
Sensitivity = Literal["low", "medium", "high"]


class Section(BaseModel):
    """A part of the tree: frozen, no unknown keys, a blank value means the default."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    keeps_blank: ClassVar[frozenset[str]] = frozenset()
    """Keys for which a blank value is not the default."""

    @model_validator(mode="before")
    @classmethod
    def _blank_is_default(cls, value: Any) -> Any:
        if isinstance(value, Section):
            return value
        value = _structure(value)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise ValueError(f"{_shown(value)}, expected a section with keys of its own")
        return {
            str(key): item
            for key, item in value.items()
            if (item is not None and not (isinstance(item, _EnvText) and not item)) or key in cls.keeps_blank
        }


class Log(Section):
    level: Annotated[LogLevel, _one_of(LogLevel)] = "info"
    format: Annotated[LogFormat, _one_of(LogFormat)] = "auto"


class StoreTimeout(Section):
    connect: Annotated[float, _duration("100ms", "2min")] = 3.0
    put: Annotated[float, _duration("1s", "10min")] = 15.0


class Minio(Section):
    """The S3 store. `endpoint` None: the embedded directory store is used instead."""

    keeps_blank = frozenset({"access_key", "secret_key"})

    endpoint: Annotated[str | None, PlainValidator(_endpoint)] = None
    access_key: Annotated[str | None, PlainValidator(_credential)] = "uploader"
    secret_key: OptionalSecret = SecretStr(PLACEHOLDER)
    session_token: OptionalSecret = None
    secure: Flag = False
    ca_file: OptionalFile = None
    region: Annotated[str, PlainValidator(_region)] = "us-east-1"
    bucket: Annotated[str, PlainValidator(_bucket)] = "motion"
    prefix: Annotated[str, PlainValidator(_prefix)] = ""
    create_bucket: Flag = True
    path_style: Annotated[bool | Literal["auto"], PlainValidator(_path_style)] = "auto"
    presign: Annotated[float | None, _duration("1s", "7d")] = None
    credentials: Annotated[Credentials, _one_of(Credentials)] = "static"
    concurrency: Annotated[int, _whole(1, 64, "uploads at once")] = 8
    timeout: StoreTimeout = StoreTimeout()
    tags: Flag = False
    encryption: Annotated[str, PlainValidator(_encryption)] = "none"


class Directory(Section):
    path: Annotated[Path, PlainValidator(_file)] = Path("data/objects")


class Tls(Section):
    enabled: Flag = False
    ca_file: OptionalFile = None
    cert_file: OptionalFile = None
    key_file: OptionalFile = None
    insecure: Flag = False


class Discovery(Section):
    enabled: Flag = True
    prefix: Topic = "homeassistant"
    preview_every: Annotated[float | None, _duration("1s", "1h")] = None


class Snapshot(Section):
    enabled: Flag = True
    max_width: Annotated[int, _whole(64, 8192, "pixels")] = 1280
    quality: Quality = 80


class Mqtt(Section):
    """The broker. `host` None: the embedded broker is used. `protocol` is 5, or 4 for MQTT 3.1.1."""

    host: Annotated[str | None, PlainValidator(_host)] = None
    port: Port = 1883
    username: OptionalText = None
    password: OptionalSecret = None
    client_id: OptionalText = None
    keepalive: Annotated[float, _duration("5s", "18h")] = 30.0
    protocol: Annotated[int, PlainValidator(_protocol)] = 5
    base_topic: Topic = "async_motion"
    update_every: Annotated[float, _duration("100ms", "1min")] = 1.0
    state_every: Annotated[float, _duration("1s", "1h")] = 15.0
    tls: Tls = Tls()
    discovery: Discovery = Discovery()
    snapshot: Snapshot = Snapshot()
    frigate_topic: Annotated[str | None, PlainValidator(_topic)] = None


class Spool(Section):
    """The outbox on disk. `path` is text: the name of a file, or ``:memory:``."""

    path: Annotated[str, PlainValidator(_spool_path)] = "data/spool.db"
    max_bytes: Annotated[int, _size("1MiB", "1000TiB")] = 2 * 2**30
    max_age: Annotated[float, _duration("1s", "3650d")] = 7 * 86400.0
    when_full: Annotated[WhenFull, _one_of(WhenFull)] = "drop_oldest"
    backlog_share: Annotated[float, _share("1%", "100%")] = 0.5
    delayed_after: Annotated[float, _duration("1s", "1h")] = 10.0


class Web(Section):
    host: Annotated[str, PlainValidator(_host)] = "127.0.0.1"
    port: Port = 8585
    token: OptionalSecret = None


class Capture(Section):
    transport: Annotated[Transport, _one_of(Transport)] = "tcp"
    decode: Annotated[Decode, _one_of(Decode)] = "auto"
    hwaccel: Annotated[HwAccel, _one_of(HwAccel)] = "none"
    isolation: Annotated[Isolation, _one_of(Isolation)] = "thread"
    open_timeout: Annotated[float, _duration("500ms", "2min")] = 10.0
    stall_timeout: Annotated[float, _duration("500ms", "5min")] = 5.0
    max_pixels: Annotated[int, _whole(4096, 268435456, "pixels")] = 33554432
    speed: Annotated[Speed, _one_of(Speed)] = "real"
    loop: Flag = True
    ring_bytes: Annotated[int, _size("1MiB", "4GiB")] = 32 * 2**20
    ring_seconds: Annotated[float, _duration("1s", "5min")] = 10.0
    threads: Annotated[int, _whole(1, 16, "threads")] = 1


class Zone(Section):
    polygon: Annotated[Polygon, BeforeValidator(_polygon)]
    sensitivity: Annotated[Sensitivity | None, _one_of(Sensitivity)] = None
    min_area: Annotated[float | None, _share("0%", "100%")] = None


class Detect(Section):
    enabled: Flag = True
    fps: Annotated[float, _number(0.1, 60, "frames a second")] = 5.0
    sensitivity: Annotated[Sensitivity, _one_of(Sensitivity)] = "medium"
    threshold: Annotated[float | None, _number(1, 255, "grey levels")] = None
    min_area: Annotated[float, _share("0%", "100%")] = 0.002
    max_area: Annotated[float, _share("0.1%", "100%")] = 0.9
    masks: Annotated[tuple[Polygon, ...], BeforeValidator(_polygons)] = ()
    zones: Annotated[Mapping[Annotated[str, AfterValidator(_name)], Zone], BeforeValidator(_structure)] = {}


class Event(Section):
    frames: Annotated[Frames, BeforeValidator(_frames)] = Frames("every", 1.0)
    max_frames: Annotated[int, _whole(1, 100000, "frames")] = 300
    pre: Annotated[float, _duration("0s", "1min")] = 1.0
    pre_bytes: Annotated[int, _size("1MiB", "4GiB")] = 64 * 2**20
    confirm: Annotated[Confirm, BeforeValidator(_confirm)] = Confirm(2, 3)
    off_delay: Annotated[float, _duration("0s", "1h")] = 10.0
    max_length: Annotated[float, _duration("1s", "24h")] = 300.0
    cool_down: Annotated[float, _duration("0s", "24h")] = 0.0


class Jpeg(Section):
    quality: Quality = 85
    max_width: Annotated[int | None, _whole(64, 16384, "pixels")] = None


class Camera(Section):
    """A camera. Its sources are secrets: they carry passwords."""

    name: OptionalText = None
    enabled: Flag = True
    source: Annotated[SecretStr, BeforeValidator(_source)]
    record_source: Annotated[SecretStr | None, BeforeValidator(_source)] = None
    capture: Capture = Capture()
    detect: Detect = Detect()
    event: Event = Event()
    jpeg: Jpeg = Jpeg()


def _cameras(value: object) -> object:
    """Return the cameras as written, or the demonstration camera where there are none."""
    value = _structure(value)
    return value or {"demo": {"source": "demo:"}}


class Settings(Section):
    """Everything that can be set. Made by `load`, which also holds the values against each other."""

    instance: Annotated[str, PlainValidator(_instance)] = Field(default_factory=_hostname)
    shutdown_grace: Annotated[float, _duration("0s", "10min")] = 10.0
    log: Log = Log()
    minio: Minio = Minio()
    directory: Directory = Directory()
    mqtt: Mqtt = Mqtt()
    spool: Spool = Spool()
    web: Web = Web()
    cameras: Annotated[
        Mapping[Annotated[str, AfterValidator(_camera_name)], Camera], BeforeValidator(_cameras)
    ] = {"demo": Camera(source=SecretStr("demo:"))}

    _origin: str = PrivateAttr(default="defaults")

    @property
    def origin(self) -> str:
        """Where the settings came from, in words: the file, and the names of the variables that were used."""
        return self._origin

    def secrets(self) -> frozenset[str]:
        """Return every text that no log may show: keys, passwords and tokens, also those within sources."""
        return frozenset(_secrets(self)) - {"", PLACEHOLDER}


def _secrets(value: object) -> Iterator[str]:
    if isinstance(value, Camera):
        # A source is secret for what is in it: `demo:` and a file's name may be said.
        for source in (value.source, value.record_source):
            if source is not None:
                yield from _secrets_in_address(source.get_secret_value())
    elif isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _secrets(item)


def _secrets_in_address(source: str) -> Iterator[str]:
    """Give the password and the query of an address, as written and as meant, and the tokens in the query."""
    if "://" in source:
        parts = urlsplit(source)
        for text in (parts.password or "", parts.query):
            yield from (text, unquote(text))
        yield from (value for key, value in parse_qsl(parts.query) if _SECRET_PARAMETER.search(key))


# ---- from text to the tree ----


def find(config: Path | None, env: Mapping[str, str]) -> Path | None:
    """Return the settings file that `load` will read; None when there is none, and all is embedded."""
    if config is not None:
        return config
    if env.get(CONFIG_VARIABLE):
        return Path(env[CONFIG_VARIABLE]).expanduser()
    return DEFAULT_PATH if DEFAULT_PATH.is_file() else shipped()


def shipped() -> Path | None:
    """Return the settings file that came with the package, or, in a checkout, stands beside it."""
    here = Path(__file__).resolve()
    for path in (here.with_name("variables.yaml"), here.parents[1] / DEFAULT_PATH):
        if path.is_file():
            return path
    return None


def load(config: Path | None, env: Mapping[str, str]) -> Settings:
    """Return the settings from the file that `find` names and from `env` on top of it.

    Raises SettingsError with every problem found, those of the file in the order of its lines.
    """
    document = _Document()
    path = find(config, env)
    if path is not None:
        document.read(path)
    document.overlay(env)
    try:
        settings = Settings.model_validate(document.data)
    except ValidationError as exc:
        for error in exc.errors(include_url=False, include_input=False):
            place, text = _explain(error["loc"], error["type"], error.get("ctx", {}), error["msg"])
            document.problem(place, text)
    else:
        for place, text in _contradictions(settings):
            document.problem(place, text)
        if not document.problems:
            settings._origin = document.origin(path)
            return settings
    raise SettingsError(*document.sorted_problems())


_LAST = 10**9
"""Stands for a line beyond every file: the environment's problems come after the file's."""


class _Document:
    """The plain data of the settings, and for each value the file and line, or the variable, it came from."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.problems: list[tuple[int, str]] = []
        self._file = ""
        self._lines: dict[Place, int] = {}
        self._variables: dict[Place, str] = {}

    def origin(self, path: Path | None) -> str:
        file = str(path) if path is not None else "defaults"
        used = sorted(set(self._variables.values()))
        return f"{file}, with {', '.join(used)} from the environment" if used else file

    def problem(self, place: Place, text: str) -> None:
        """Note what is wrong at `place`, with the nearest origin: its own, one within it, one around it."""
        key = _dotted(place)
        for depth in range(len(place), -1, -1):
            near = place[:depth]
            within = (
                v
                for p, v in self._variables.items()
                if near and near not in self._lines and p[:depth] == near
            )
            if variable := self._variables.get(near) or next(within, None):
                self.problems.append((_LAST, f"{variable}: {key}: {text}"))
                return
            if line := self._lines.get(near):
                self._at(line, f"{key}: {text}")
                return
        self.problems.append((0, f"{self._file or 'settings'}: {key}: {text}"))

    def sorted_problems(self) -> list[str]:
        return [text for _, text in sorted(self.problems, key=lambda problem: problem[0])]

    def _at(self, line: int, text: str) -> None:
        self.problems.append((line, f"{self._file}:{line}: {text}"))

    # -- the file --

    def read(self, path: Path) -> None:
        """Take in a YAML file. What cannot be read at all raises at once, everything else is noted."""
        self._file = str(path)
        try:
            content = path.read_bytes()
        except OSError as exc:
            raise SettingsError(f"{path}: cannot be read ({exc.strerror}), expected a settings file") from exc
        try:
            loader = yaml.SafeLoader(content)
            try:
                root = loader.get_single_node()
                data = self._plain(loader, root, (), ()) if root is not None else None
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as exc:
            mark = exc.problem_mark or exc.context_mark
            where = f"{path}:{mark.line + 1}" if mark else f"{path}"
            raise SettingsError(f"{where}: broken YAML: {_safe_words(exc)}") from None
        except yaml.reader.ReaderError as exc:
            line = content[: exc.position].count(b"\n") + 1 if isinstance(exc.position, int) else 1
            raise SettingsError(f"{path}:{line}: broken YAML: {exc.reason}, expected UTF-8 text") from None
        if data is None:
            data = {}
        if not isinstance(data, dict):
            raise SettingsError(f"{path}:1: {_shown(data)}, expected keys such as `minio:` and `cameras:`")
        self.data = data

    def _plain(self, loader: yaml.SafeLoader, node: yaml.Node, place: Place, above: tuple[int, ...]) -> Any:
        """Return the plain data of a node, with the lines noted and the keys as they are written."""
        line = node.start_mark.line + 1
        self._lines.setdefault(place, line)
        if id(node) in above:
            self.problem(place, "an alias that holds itself, expected a value")
            return None
        above = (*above, id(node))
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(loader, item, (*place, i), above) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, place, above)
        try:
            return loader.construct_object(node)
        except ValueError:
            self.problem(place, "cannot be read, expected text: put it in quotes")
            return None

    def _mapping(
        self, loader: yaml.SafeLoader, node: yaml.MappingNode, place: Place, above: tuple[int, ...]
    ) -> dict[str, Any]:
        own: dict[str, Any] = {}
        first: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                is_list = isinstance(value_node, yaml.SequenceNode)
                merged.extend(value_node.value if is_list else [value_node])
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._at(line, f"{_dotted(place)}: a key that is no text, expected `key: value`")
                continue
            # As written, not as YAML 1.1 reads it: a camera may be called `on` or `1`.
            key = key_node.value
            if key in own:
                self._at(
                    line,
                    f"{_dotted((*place, key))}: stands twice, expected once (first in line {first[key]})",
                )
                continue
            first[key] = line
            self._lines[(*place, key)] = line
            own[key] = self._plain(loader, value_node, (*place, key), above)
        for other in merged:  # YAML's `<<: *anchor`: what is written here wins, then the first that is named
            data = self._plain(loader, other, place, above)
            if isinstance(data, dict):
                own = {**data, **own}
            else:
                self._at(
                    other.start_mark.line + 1,
                    f"{_dotted(place)}: `<<` wants a section, expected `<<: *anchor`",
                )
        return own

    # -- the environment --

    def overlay(self, env: Mapping[str, str]) -> None:
        """Put the values from the environment over those of the file."""
        for variable, place in _STATIC_KEYS.items():
            for source in (variable, f"{variable}_FILE"):
                if env.get(source):
                    self._take(env, source, place, from_file=source != variable, twin=variable)
        variables = [variable for variable in env if variable.startswith(PREFIX)]
        # Shorter first: a section as a whole, then what is set within it.
        for variable in sorted(variables, key=lambda v: (v.count("__"), v)):
            *above, last = variable.removeprefix(PREFIX).lower().split("__")
            named, stem = (*above, last), (*above, last.removesuffix("_file"))
            from_file = last.endswith("_file") and _exists(stem) and not _exists(named)
            twin = variable.removesuffix("_FILE") if from_file else variable
            self._take(env, variable, stem if from_file else named, from_file=from_file, twin=twin)

    def _take(
        self, env: Mapping[str, str], variable: str, place: Place, *, from_file: bool, twin: str
    ) -> None:
        key = _dotted(place)
        if from_file and env.get(twin):
            self.problems.append((_LAST, f"{variable}: {key}: {twin} is set too, expected one of the two"))
            return
        value = env[variable]
        if from_file:
            try:
                value = _secret_file(Path(value))
            except OSError as exc:
                why = f"cannot read {env[variable]} ({exc.strerror})"
                self.problems.append((_LAST, f"{variable}: {key}: {why}, expected a file with the value"))
                return
            except ValueError as exc:
                self.problems.append((_LAST, f"{variable}: {key}: {env[variable]} {exc}"))
                return
        self._put(place, _EnvText(value), variable)

    def _put(self, place: Place, value: _EnvText, variable: str) -> None:
        node: dict[str, Any] = self.data
        at: Place = ()
        for part in place[:-1]:
            part = _same_name(node, str(part))
            at = (*at, part)
            child = node.get(part)
            if isinstance(child, _EnvText):
                try:
                    child = _structure(child)
                except ValueError as exc:
                    self.problem(at, str(exc))
                    return
            if child is None:
                child = {}
            if not isinstance(child, dict):
                return  # the section itself is wrong, and that will be said
            node[part] = child
            node = child
        last = _same_name(node, str(place[-1]))
        node[last] = value
        self._variables[(*at, last)] = variable


def _same_name(node: Mapping[str, Any], part: str) -> str:
    """Return the key that `part` means: a variable's name cannot hold the hyphen of ``front-door``."""
    return part if part in node else next((key for key in node if key.replace("-", "_") == part), part)


def _secret_file(path: Path) -> str:
    """Return the text of a secret file without its last line break. Raises OSError, ValueError."""
    with path.open("rb") as file:
        content = file.read(_LONGEST_SECRET_FILE + 1)
    if len(content) > _LONGEST_SECRET_FILE:
        raise ValueError("is longer than 64 KiB, expected a file with the value alone")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text, expected a file with the value alone") from None
    return text.removesuffix("\n").removesuffix("\r")


def _safe_words(exc: yaml.MarkedYAMLError) -> str:
    """Return what the parser says, without quoting from the file: the line may hold a password."""
    words = exc.problem or exc.context or "cannot be read"
    return re.sub(r"'(?!<)[^'\\s]{2,}'", "…", words)


def _dotted(place: Place) -> str:
    """Return `place` as people write it: ``cameras.porch.detect.masks[0]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".") or "settings"


def _section_at(place: Place) -> tuple[type[Section], bool] | None:
    """Return the model of the section at `place`, and whether its keys are free names (cameras, zones).

    None: there is no section.
    """
    section: type[Section] = Settings
    named = False
    for part in place:
        if named:
            named = False
            continue
        field = section.model_fields.get(str(part))
        if field is None:
            return None
        inner = [field.annotation, *get_args(field.annotation)]
        models = [kind for kind in inner if isinstance(kind, type) and issubclass(kind, Section)]
        if not models:
            return None
        named = models[0] is not field.annotation
        section = models[0]
    return section, named


def _exists(place: Place) -> bool:
    """Say whether a key of this name can be set at `place`."""
    found = _section_at(place[:-1])
    return found is not None and (found[1] or str(place[-1]) in found[0].model_fields)


def _explain(place: Place, kind: str, ctx: Mapping[str, Any], message: str) -> tuple[Place, str]:
    """Return the place and the words for one of pydantic's errors."""
    if place and place[-1] == "[key]":
        place = place[:-1]
    if "error" in ctx:
        return place, str(ctx["error"])
    if kind == "missing":
        return place[:-1], f"`{place[-1]}` is missing, expected `{place[-1]}: …`"
    if kind == "extra_forbidden":
        found = _section_at(place[:-1])
        known = list(found[0].model_fields) if found else []
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        if near:
            return place, f"unknown key, expected {near[0]}?"
        return place, f"unknown key, expected one of {', '.join(known)}"
    if kind in ("dict_type", "mapping_type", "model_type"):
        return place, "not a section, expected a section with keys of its own"
    return place, message


def _contradictions(settings: Settings) -> Iterator[tuple[Place, str]]:
    """Say where values that are right by themselves do not go together."""
    minio, mqtt, web = settings.minio, settings.mqtt, settings.web
    if minio.endpoint is not None and minio.credentials == "static":
        for key in ("access_key", "secret_key"):
            if not getattr(minio, key):
                variable = f"MINIO_{key.upper()}"
                yield (
                    ("minio", key),
                    f"blank though `endpoint` is set, expected the uploader's key here, in {variable} or in "
                    f"{variable}_FILE, or `credentials: env` or `aws`",
                )
    if minio.ca_file is not None and not minio.secure:
        yield ("minio", "ca_file"), "set though TLS is off, expected `secure: true` with it"
    tls = mqtt.tls
    if not tls.enabled:
        for key in ("ca_file", "cert_file", "key_file"):
            if getattr(tls, key) is not None:
                yield ("mqtt", "tls", key), "set though TLS is off, expected `enabled: true` with it"
    elif (tls.cert_file is None) != (tls.key_file is None):
        there, other = ("cert_file", "key_file") if tls.key_file is None else ("key_file", "cert_file")
        yield ("mqtt", "tls", there), f"set alone, expected `{other}` with it"
    if mqtt.password is not None and mqtt.username is None:
        yield ("mqtt", "password"), "set alone, expected `username` with it"
    if mqtt.frigate_topic == f"{mqtt.base_topic}/{settings.instance}":
        yield ("mqtt", "frigate_topic"), "is this instance's own topic, expected another"
    if web.token is None and not _is_loopback(web.host):
        yield (
            ("web", "host"),
            f"{_shown(web.host)} can be reached from other machines, expected `web.token` with it, "
            "or 127.0.0.1",
        )
    for name, camera in settings.cameras.items():
        yield from _camera_contradictions(("cameras", name), camera)


def _camera_contradictions(place: Place, camera: Camera) -> Iterator[tuple[Place, str]]:
    detect, event = camera.detect, camera.event
    if detect.min_area >= detect.max_area:
        yield (*place, "detect", "min_area"), "not below `max_area`, expected a smaller share"
    for name, zone in detect.zones.items():
        if zone.min_area is not None and zone.min_area >= detect.max_area:
            yield (
                (*place, "detect", "zones", name, "min_area"),
                "not below the camera's `max_area`, expected a smaller share",
            )
    if camera.record_source is not None and event.pre > camera.capture.ring_seconds:
        yield (
            (*place, "event", "pre"),
            "reaches back further than `capture.ring_seconds`, expected a shorter time or a longer ring",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
