"""Check hosts, endpoints and camera addresses by their text alone; nothing is resolved or opened."""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr, ValidationInfo

from async_motion.core import names
from async_motion.settings.references import resolved
from async_motion.settings.values import at_home, check_text, shown, structure


def hostname() -> str:
    return names.slug(socket.gethostname())


_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?")


def _is_host(text: str) -> bool:
    if _is_ip(text):
        return True
    # Digits and dots that form no IP address are a typo, not a host name.
    return _HOST.fullmatch(text) is not None and len(text) <= 253 and not re.fullmatch(r"[\d.]+", text)


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


def check_servers(value: object) -> tuple[str, ...]:
    """Return the addresses of NATS servers. No error message shows an address with a login."""
    expected = "expected a list of NATS servers, such as [nats://nats1:4222, nats://nats2:4222]"
    value = structure(value)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{shown(value)}, {expected}")
    servers = []
    for item in value:
        text = check_text(item)
        if "@" in text:
            raise ValueError(f"an address with a login, {expected}; `fleet.credentials` names a file")
        scheme, separator, place = text.partition("://")
        if not separator or scheme not in ("nats", "tls"):
            raise ValueError(f"{shown(text)} has another scheme than nats:// and tls://, {expected}")
        try:
            check_endpoint(place)
        except ValueError:
            raise ValueError(f"{shown(text)} is not an address, {expected}") from None
        servers.append(text)
    return tuple(servers)


def check_page_url(value: object) -> str:
    text = check_text(value)
    expected = "expected the page's address as people open it, such as http://192.0.2.5:8585/"
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in text or " " in text:
        raise ValueError(f"{shown(text) if '@' not in text else 'an address with a login'}, {expected}")
    return text


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


def check_public_endpoint(value: object) -> str:
    """Return the base URL of presigned links: scheme and host alone, as the signature covers the path."""
    text = check_text(value).rstrip("/")
    expected = "expected http:// or https:// with a host alone, such as https://pictures.example.org"
    scheme, separator, host = text.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise ValueError(f"an address without http:// or https://, {expected}")
    if "@" in host:
        raise ValueError(f"an address with a login, {expected}")
    try:
        check_endpoint(host)
    except ValueError:
        raise ValueError(f"{shown(text)} is not such an address, {expected}") from None
    return f"{scheme.lower()}://{host}"


_SCHEMES = ("rtsp", "rtsps", "http", "https")


MAX_NAME, MAX_PATH = 255, 4095
"""Maximum bytes of a file name, and of a path (NAME_MAX, PATH_MAX - 1 on Linux)."""


def check_source(value: object, info: ValidationInfo) -> object:
    """Check a camera's source by its text alone. Error messages never quote it: most hold a password."""
    expected = (
        "expected rtsp://…, rtsps://…, http://…, https://…, the path of a video file or of a folder of "
        "stills, usb:0, /dev/video0 or demo:"
    )
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    value = resolved(value, info)
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError("a number, expected text; for a USB camera write usb: and its number, such as usb:0")
    text = check_text(value)
    if not text.strip():
        raise ValueError(f"empty, {expected}")
    at_home(text)
    if text != text.strip():
        raise ValueError(f"begins or ends with a space, {expected}")
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower()
    if scheme == "usb" and colon:
        if not re.fullmatch(r"\d{1,3}", rest):
            raise ValueError("not the number of a USB camera, expected usb:0, usb:1, …")
    elif rest.startswith("//") and colon:
        if scheme not in _SCHEMES:
            raise ValueError(f"an unknown kind of address, {expected}")
        if not _has_host(text):
            raise ValueError(
                "cannot be read as an address, expected scheme://user:password@host:port/path; in the "
                "password write %40 for @, %2F for /, %3A for :, %23 for #, %3F for ?, in the path %40 for @"
            )
    elif colon and scheme in _SCHEMES:
        raise ValueError(f"the // after the scheme is missing, {expected}")
    elif any(len(part.encode()) > MAX_NAME for part in text.split("/")) or len(text.encode()) > MAX_PATH:
        raise ValueError(f"too long for a path, {expected}")
    return value


def _has_host(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return bool(parts.hostname) and parts.port != 0 and " " not in address and not _hides_login(parts)
    except ValueError:
        return False


def _hides_login(parts: SplitResult) -> bool:
    """Return whether the address is one with a login, of which a raw `/`, `?` or `#` cut off the host.

    A user and a password that begins with digits would pass for a host and its port: shown in the log, and
    looked up by name. An IP address is no user; in the path of another host, @ may be written as %40.
    """
    cut = parts.port is not None and "@" not in parts.netloc and "@" in parts.geturl()
    return cut and not _is_ip(parts.hostname or "")


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
