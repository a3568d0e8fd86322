"""One function for each kind of value: what it takes, and what it says of everything else.

Each returns the value in base units (seconds, bytes, shares) or raises ValueError with the words for people:
what is wrong, then what was expected. A value from the environment comes as `EnvText`.
"""

from __future__ import annotations

import ipaddress
import math
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import PlainValidator, SecretStr

from async_motion.core import names
from async_motion.core.events.selection import Keep
from async_motion.core.options import MqttProtocol, PathStyle

RESERVED_CAMERAS = frozenset({"status", "state"})
"""Words that stand in a camera's place in the topics of the instance."""


class EnvText(str):
    """A value from the environment or a secret file: text that stands for whatever type the key has."""

    __slots__ = ()


def shown(value: object) -> str:
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


def check_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not text, expected text: put it in quotes")
    text = str(value)
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ValueError("holds a control character (a line break or tab?), expected one line of text")
    return text


def check_flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, EnvText) and value.lower() in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        return value.lower() in ("true", "yes", "on", "1")
    raise ValueError(f"{shown(value)} is neither, expected true or false")


def one_of(literal: Any) -> PlainValidator:
    choices = get_args(literal)

    def check(value: object) -> str:
        if isinstance(value, str) and str(value) in choices:
            return str(value)
        raise ValueError(f"{shown(value)} is not known, expected one of {', '.join(choices)}")

    return PlainValidator(check)


def number_of(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | EnvText):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def whole_between(least: int, most: int, unit: str = "") -> PlainValidator:
    expected = f"expected a whole number from {least} to {most}{f' {unit}' if unit else ''}"

    def check(value: object) -> int:
        number = number_of(value)
        if number is None or not math.isfinite(number) or number != int(number):
            raise ValueError(f"{shown(value)} is not a whole number, {expected}")
        if not least <= number <= most:
            raise ValueError(f"{shown(value)} is out of range, {expected}")
        return int(number)

    return PlainValidator(check)


def number_between(least: float, most: float, unit: str) -> PlainValidator:
    expected = f"expected a number from {least:g} to {most:g} {unit}"

    def check(value: object) -> float:
        number = number_of(value)
        if number is None or math.isnan(number):
            raise ValueError(f"{shown(value)} is not a number, {expected}")
        if not least <= number <= most:
            raise ValueError(f"{shown(value)} is out of range, {expected}")
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
            bare = number_of(value)
            if bare is not None and (bare == 0 or units is _BYTES):
                amount = bare
        if amount is None or not math.isfinite(amount):
            why = "has no unit" if number_of(value) is not None else "cannot be read"
            raise ValueError(f"{shown(value)} {why}, {expected}")
        if not low <= amount <= high:
            raise ValueError(f"{shown(value)} is out of range, {expected}")
        return amount

    return check


def duration_between(least: str, most: str) -> PlainValidator:
    expected = f"expected a duration from {least} to {most} with its unit (ms, s, min, h, d), such as 10s"
    return PlainValidator(_measure(least, most, _SECONDS, expected))


def size_between(least: str, most: str) -> PlainValidator:
    expected = f"expected a size from {least} to {most}, such as 500MB or 2GiB"
    measure = _measure(least, most, _BYTES, expected)
    return PlainValidator(lambda value: int(measure(value)))


def share_of(value: object) -> float | None:
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip()[:-1]) / 100
        except ValueError:
            return None
    return number_of(value)


def share_between(least: str, most: str) -> PlainValidator:
    low, high = share_of(least), share_of(most)
    assert low is not None
    assert high is not None
    expected = f"expected a share from {least} to {most}, such as 0.2% or 0.002"

    def check(value: object) -> float:
        share = share_of(value)
        if share is None or math.isnan(share):
            raise ValueError(f"{shown(value)} cannot be read, {expected}")
        if not low <= share <= high:
            raise ValueError(f"{shown(value)} is out of range, {expected}")
        return share

    return PlainValidator(check)


def structure(value: object) -> object:
    """Return a value from the environment as the YAML that it holds, everything else as it is."""
    if not isinstance(value, EnvText):
        return value
    try:
        return yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        # The text may hold a camera's address with its password: the parser's words are not repeated.
        raise ValueError("cannot be read, expected YAML or JSON") from None


def check_polygon(value: object) -> tuple[tuple[float, float], ...]:
    expected = "expected three or more points [x, y], each a share of the picture from 0 to 1"
    value = structure(value)
    if not isinstance(value, list | tuple) or len(value) < 3:
        what = f"{len(value)} points" if isinstance(value, list | tuple) else shown(value)
        raise ValueError(f"{what}, {expected}")
    points = []
    for point in value:
        if not isinstance(point, list | tuple) or len(point) != 2:
            raise ValueError(f"{shown(point)} is not a point, {expected}")
        x, y = (share_of(side) for side in point)
        if x is None or y is None or not (0 <= x <= 1 and 0 <= y <= 1):
            raise ValueError(f"the point {point} does not lie in the picture, {expected}")
        points.append((x, y))
    (x0, y0), *rest = points
    dx, dy = max(((x - x0, y - y0) for x, y in rest), key=lambda d: abs(d[0]) + abs(d[1]))
    if all(abs(dx * (y - y0) - dy * (x - x0)) < 1e-9 for x, y in rest):
        raise ValueError(f"all points lie on one line, {expected}")
    return tuple(points)


def check_polygons(value: object) -> tuple[tuple[tuple[float, float], ...], ...]:
    value = structure(value)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{shown(value)}, expected a list of polygons: [[[0, 0], [1, 0], [1, 0.1]], …]")
    return tuple(check_polygon(polygon) for polygon in value)


def check_name(value: str) -> str:
    if not names.is_name(value):
        raise ValueError("not a name, expected 1 to 64 of a-z, 0-9, _ and - (`name:` may say more)")
    return value


def check_camera_name(value: str) -> str:
    if value in RESERVED_CAMERAS:
        raise ValueError(
            f"this word has a meaning of its own in the topics, expected a name other than "
            f"{' and '.join(sorted(RESERVED_CAMERAS))}"
        )
    return check_name(value)


def check_instance(value: object) -> str:
    return check_name(check_text(value))


def hostname() -> str:
    return names.slug(socket.gethostname())


_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?")


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        # A dotted number that is no IP address is a slip of the pen, not a name.
        return _HOST.fullmatch(text) is not None and len(text) <= 253 and not re.fullmatch(r"[\d.]+", text)
    return True


def check_host(value: object) -> str:
    text = check_text(value)
    expected = "expected a host name or IP address alone"
    if "://" in text:
        raise ValueError(f"an address with a scheme, {expected} (TLS and the port have keys of their own)")
    if text.count(":") == 1:
        raise ValueError(f"a host with a port, {expected} (the port has a key of its own)")
    if not _is_host(text):
        raise ValueError(f"not a host, {expected}")
    return text


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def check_networks(value: object) -> tuple[Network, ...]:
    expected = "expected a list of addresses or networks, such as [172.30.32.2, 10.0.0.0/8]"
    value = structure(value)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{shown(value)}, {expected}")
    networks: list[Network] = []
    for item in value:
        try:
            networks.append(ipaddress.ip_network(check_text(item), strict=False))
        except ValueError:
            raise ValueError(f"{shown(item)} is not an address or a network, {expected}") from None
    return tuple(networks)


def check_endpoint(value: object) -> str:
    text = check_text(value)
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
        raise ValueError(f"{shown(text)} is not an address, {expected}")
    if match[3] is not None and not 1 <= int(match[3]) <= 65535:
        raise ValueError(f"port {match[3]} is out of range, expected a port from 1 to 65535")
    return text


def check_topic(value: object) -> str:
    text = check_text(value)
    expected = "expected a topic such as async_motion or home/cameras"
    if "+" in text or "#" in text:
        raise ValueError(f"{shown(text)} holds a wildcard (+ or #), {expected}")
    if not text or text.startswith(("/", "$")) or text.endswith("/") or "//" in text:
        raise ValueError(f"{shown(text)} has an empty level or begins with $, {expected}")
    if len(text.encode()) > 256:
        raise ValueError(f"longer than 256 bytes, {expected}")
    return text


def check_bucket(value: object) -> str:
    text = check_text(value)
    if (
        not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", text)
        or ".." in text
        or re.fullmatch(r"[\d.]+", text)
    ):
        raise ValueError(
            f"{shown(text)} is not a bucket's name, expected 3 to 63 of a-z, 0-9, - and ., "
            "with a letter or digit at both ends"
        )
    return text


def check_prefix(value: object) -> str:
    text = check_text(value)
    parts = text.split("/")
    if text.startswith("/") or "" in parts[:-1] or {".", ".."} & set(parts) or "\\" in text:
        raise ValueError(f"{shown(text)} is not a prefix, expected the beginning of a key such as cameras/")
    if len(text.encode()) > 256:
        raise ValueError("longer than 256 bytes, expected the beginning of a key such as cameras/")
    return text


def check_region(value: object) -> str:
    text = check_text(value)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ValueError(f"{shown(text)} is not a region, expected one such as us-east-1")
    return text


def check_encryption(value: object) -> str:
    text = check_text(value)
    if text in ("none", "sse-s3") or re.fullmatch(r"sse-kms:[\x21-\x7e]+", text):
        return text
    raise ValueError(f"{shown(text)} is not known, expected none, sse-s3 or sse-kms:<key id>")


def check_path_style(value: object) -> PathStyle:
    if isinstance(value, str) and value == "auto":
        return "auto"
    try:
        return check_flag(value)
    except ValueError:
        raise ValueError(f"{shown(value)} is not known, expected auto, true or false") from None


def check_protocol(value: object) -> MqttProtocol:
    for protocol in get_args(MqttProtocol):
        if str(value) == protocol and not isinstance(value, bool):
            return cast(MqttProtocol, protocol)
    raise ValueError(f"{shown(value)} is not known, expected 5 or 3.1.1")


def check_file(value: object) -> Path:
    text = check_text(value)
    if not text:
        raise ValueError("empty, expected a path")
    return Path(text).expanduser()


def check_spool_path(value: object) -> str:
    return ":memory:" if value == ":memory:" else str(check_file(value))


_SCHEMES = ("rtsp", "rtsps", "http", "https")


def check_source(value: object) -> object:
    """Check a camera's source by its text alone. No message shows it: most sources carry a password."""
    expected = (
        "expected rtsp://…, rtsps://…, http://…, https://…, the path of a video file or of a folder of "
        "stills, usb:0, /dev/video0 or demo:"
    )
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError("a number, expected text; for a USB camera write usb: and its number, such as usb:0")
    text = check_text(value)
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


def check_credential(value: object) -> object:
    """Check a login's text; a blank stays blank, which is not the same as the default."""
    if isinstance(value, SecretStr):
        return value
    return (check_text(value) or None) if value is not None else None


@dataclass(frozen=True, slots=True)
class Frames:
    """Which frames of an event are kept. `every_s` is set for `every` alone."""

    kind: Keep
    every_s: float | None = None


@dataclass(frozen=True, slots=True)
class Confirm:
    """Motion counts once `hits` of the last `of` frames showed it."""

    hits: int
    of: int


_every = _measure("100ms", "1h", _SECONDS, "expected a duration from 100ms to 1h with its unit, such as 1s")


def check_frames(value: object) -> Frames:
    value = structure(value)
    if isinstance(value, str) and value in set(Keep) - {Keep.EVERY}:
        return Frames(kind=Keep(value))
    if isinstance(value, Mapping) and list(value) == ["every"]:
        return Frames(kind=Keep.EVERY, every_s=_every(value["every"]))
    raise ValueError(f"{shown(value)} is not known, expected all, first, best or {{every: 1s}}")


def check_confirm(value: object) -> Confirm:
    match = re.fullmatch(r"\s*(\d{1,3})\s*/\s*(\d{1,3})\s*", value) if isinstance(value, str) else None
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= 30:
        raise ValueError(f"{shown(value)} cannot be read, expected M/N with 1 <= M <= N <= 30, such as 2/3")
    return Confirm(int(match[1]), int(match[2]))


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
