"""What an address in the settings means, and what may be reached through it.

By default FFmpeg follows playlists, redirects, `concat:` and dozens of protocols. So each scheme has a list
of allowed protocols, the containers are listed or forced, and redirects are refused (by `rtsp_proxy`, and by
`http`, which reads HTTP). A camera cannot make us connect to any address but its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from async_motion.capture.spec import CaptureSpec
from async_motion.core.names import redact_url
from async_motion.core.options import DEMO_SOURCE, Transport
from async_motion.errors import SettingsError

CONTAINERS = "asf,avi,flv,h264,hevc,ivf,matroska,mjpeg,mov,mpeg,mpegts,mpegvideo,mpjpeg,nut,ogg"
"""Allowed containers of a file or an HTTP answer: they hold video, and none refers to another address."""

SUFFIXES = frozenset(
    {".avi", ".flv", ".h264", ".h265", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov"}
    | {".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"}
)
"""Suffixes of the files in a folder that count as video."""


class SourceKind(Enum):
    """How a source is read."""

    RTSP = "rtsp"
    HTTP = "http"
    FILE = "file"
    STILLS = "stills"
    USB = "usb"
    DEMO = "demo"


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed source. `url` may hold a password; `shown` does not and is fit for a log."""

    kind: SourceKind
    url: str = field(repr=False)
    shown: str

    @property
    def scheme(self) -> str:
        """The scheme before `://`, in lower case; empty for a path or a device."""
        return self.url.partition("://")[0].lower() if "://" in self.url else ""

    @property
    def live(self) -> bool:
        """Whether it runs in real time: it cannot be paused or read again."""
        return self.kind in (SourceKind.RTSP, SourceKind.HTTP, SourceKind.USB, SourceKind.DEMO)


def parse(source: str) -> Address:
    """Return the address in `source`. Raises SettingsError for an unsupported scheme or a missing host.

    The file system tells a folder from a file. A path that does not exist counts as a file; opening it
    reports the error.
    """
    shown = redact_url(source)
    if source.startswith(DEMO_SOURCE):
        return Address(SourceKind.DEMO, source, shown)
    if device := re.fullmatch(r"(?:usb:|/dev/video)(\d+)", source):
        return Address(SourceKind.USB, device[1], shown)
    scheme = source.partition("://")[0].lower() if "://" in source else ""
    if scheme in ("rtsp", "rtsps", "http", "https"):
        try:
            host = urlsplit(source).hostname
        except ValueError:  # its text holds the password
            raise SettingsError(f"source: {shown}: expected {scheme}://host/path") from None
        if not host:
            raise SettingsError(f"source: {shown}: no host in it, expected {scheme}://host/path")
        kind = SourceKind.RTSP if scheme.startswith("rtsp") else SourceKind.HTTP
        return Address(kind, source, shown)
    if scheme not in ("", "file"):
        raise SettingsError(
            f"source: {scheme}:// is not supported, expected rtsp(s)://, http(s)://, usb:0, demo:, a video "
            "file or a folder of images"
        )
    path = Path(source.removeprefix("file://")).expanduser()
    return Address(SourceKind.STILLS if path.is_dir() else SourceKind.FILE, str(path), str(path))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to open a source with FFmpeg: a container that is forced (or None) and options."""

    url: str = field(repr=False)
    container: str | None
    options: dict[str, str] = field(repr=False)


def transport_of(address: Address, spec: CaptureSpec) -> Transport:
    """Return the transport for an RTSP camera's media: TCP for `rtsps://`, so that TLS covers it."""
    return "tcp" if address.scheme == "rtsps" else spec.transport


def attempt_of(address: Address, spec: CaptureSpec) -> Attempt:
    """Return how FFmpeg opens an RTSP, HTTP or file source."""
    if address.kind is SourceKind.RTSP:
        # Also for rtsps://: TLS ends in the proxy.
        options = {
            "protocol_whitelist": "rtsp,tcp,udp,rtp",
            "rtsp_transport": spec.transport,
            "allowed_media_types": "video",
            # Otherwise FFmpeg measures the frame rate over 20 frames before it returns the first packet.
            "fpsprobesize": "0",
            # Microseconds. Bounds each socket call, also those on closing, which PyAV does not bound.
            "timeout": str(int(spec.stall_timeout_s * 1e6)),
        }
        if spec.transport == "udp":
            # A keyframe comes as a burst that the default socket buffer of many systems cannot hold.
            options["buffer_size"] = str(2 * 1024 * 1024)
        return Attempt(address.url, None, options)
    if address.kind is SourceKind.HTTP:
        # Its bytes come from our own connection: FFmpeg needs no protocol, and none is allowed.
        options = {"protocol_whitelist": "none", "format_whitelist": CONTAINERS, "fpsprobesize": "0"}
        return Attempt("", None, options)
    # Without the prefix, FFmpeg would take the beginning of some file names for a protocol.
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    return Attempt(f"file:{address.url}", None, options)
