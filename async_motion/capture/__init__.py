"""Cameras as sources of frames: one adapter for each kind of source, all behind one door.

    spec ──open_source──▶ CameraSource ──frames()──▶ one connection ──▶ frames, newest first to survive
                              │
                              └─ one daemon thread for each connection: opens, decodes, picks by media time

What a camera can do to us is bounded here: in time (its thread is watched by the event loop and left behind
when it hangs), in memory (pixels, packets, frames in hand-over) and in reach (no address but its own).
"""

from __future__ import annotations

from pathlib import Path

from async_motion.capture.address import Kind, parse
from async_motion.capture.attention import Interest
from async_motion.capture.demo import DemoReader
from async_motion.capture.link import Counters
from async_motion.capture.record import RecordStream
from async_motion.capture.source import CameraSource, Reader
from async_motion.capture.spec import CaptureSpec
from async_motion.capture.stills import StillsReader
from async_motion.capture.usb import UsbReader
from async_motion.capture.video import VideoReader
from async_motion.errors import SettingsError

__all__ = ["CameraSource", "CaptureSpec", "Counters", "open_source"]


def open_source(spec: CaptureSpec) -> CameraSource:
    """Return the source that `spec` describes. Nothing is opened yet: `frames()` does that.

    Raises SettingsError when the address is of a kind that is not supported.
    """
    address = parse(spec.source)
    interest = Interest()
    reader: Reader
    match address.kind:
        case Kind.DEMO:
            reader = DemoReader(spec)
        case Kind.USB:
            reader = UsbReader(int(address.url), spec)
        case Kind.STILLS:
            reader = StillsReader(Path(address.url), spec)
        case Kind.FILE | Kind.RTSP | Kind.HTTP:
            reader = VideoReader(address, spec, interest)
    live = address.live or spec.speed == "real"
    return CameraSource(spec, reader, live=live, record=_record(spec), interest=interest)


def _record(spec: CaptureSpec) -> RecordStream | None:
    if spec.record_source is None:
        return None
    address = parse(spec.record_source)
    if address.kind not in (Kind.RTSP, Kind.HTTP):
        raise SettingsError(f"record_source: {address.shown}: expected rtsp(s):// or http(s)://")
    return RecordStream(address, spec)
