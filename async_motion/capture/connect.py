"""Connect to a camera: try each address of its host name in turn, and use TLS if the scheme requires it.

Certificates are not verified: cameras sign their own.
"""

from __future__ import annotations

import socket
import ssl
import time
from urllib.parse import urlsplit

from async_motion.capture.address import Address
from async_motion.capture.sockets import CameraSockets
from async_motion.errors import CameraRefused, CameraUnavailable

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}

TLS_SCHEMES = frozenset({"rtsps", "https"})

MIN_S = 0.1
"""Minimum time for TLS, or for one more address, even if the earlier steps took nearly all of it."""


def connect(address: Address, within_s: float, sockets: CameraSockets | None = None) -> socket.socket:
    """Return a blocking socket to the camera, connected within about `within_s` seconds.

    It is registered in `sockets`. Raises CameraUnavailable, CameraRefused.
    """
    sockets = sockets or CameraSockets()
    deadline = time.monotonic() + within_s
    try:
        parts = urlsplit(address.url)
        host, port = parts.hostname or "", parts.port or PORTS[address.scheme]
    except ValueError:
        raise CameraRefused(f"{address.shown}: no such port") from None
    try:
        camera = _first_that_answers(host, port, deadline)
    except ConnectionRefusedError:
        raise CameraUnavailable(f"{address.shown}: nothing listens there (connection refused)") from None
    except TimeoutError:
        raise CameraUnavailable(f"{address.shown}: timed out") from None
    except socket.gaierror:
        raise CameraUnavailable(f"{address.shown}: its host name is not known") from None
    except (OSError, UnicodeError) as exc:
        name = type(exc).__name__ if isinstance(exc, UnicodeError) else exc.strerror or type(exc).__name__
        raise CameraUnavailable(f"{address.shown}: cannot be reached ({name})") from None
    try:
        camera.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.scheme in TLS_SCHEMES:
            camera.settimeout(max(MIN_S, deadline - time.monotonic()))
            camera = secure = _unverified().wrap_socket(
                camera, server_hostname=host, do_handshake_on_connect=False
            )
            sockets.add(secure)  # a cut ends the handshake too
            secure.do_handshake()
    except TimeoutError:
        camera.close()
        raise CameraUnavailable(f"{address.shown}: timed out in the TLS handshake") from None
    except OSError:
        camera.close()
        raise CameraUnavailable(f"{address.shown}: does not speak TLS, or none of our versions") from None
    if not sockets.add(camera):
        camera.close()
        raise CameraUnavailable(f"{address.shown}: the camera was given up")
    camera.settimeout(None)
    return camera


def _first_that_answers(host: str, port: int, deadline: float) -> socket.socket:
    """Connect to the first address that answers; each gets its share of the time. Raises OSError."""
    places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    error = OSError("no address")
    for left, (family, kind, protocol, _, place) in zip(range(len(places), 0, -1), places, strict=True):
        try:
            camera = socket.socket(family, kind, protocol)
            try:
                camera.settimeout(max(MIN_S, (deadline - time.monotonic()) / left))
                camera.connect(place)
            except OSError:
                camera.close()
                raise
        except OSError as exc:
            error = exc
        else:
            return camera
    raise error


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
