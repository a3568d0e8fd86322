"""Cameras as sources of frames: one adapter for each kind of source, all behind `open_source`.

    spec ──open_source──▶ CameraSource ──frames()──▶ one connection ──▶ frames; the oldest waiting is dropped
                              │
                              └─ one daemon thread for each connection: opens, decodes, picks by PTS;
                                 with `isolation: process`, a child process does so (see `worker`)

The effect of a bad camera is bounded here: in time (the event loop watches its thread and abandons it when it
hangs), in memory (pixels, packets, frames in hand-over) and in reach (no address but its own).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from async_motion.capture.address import SUFFIXES, Address, SourceKind, parse
from async_motion.capture.clock import PtsClock
from async_motion.capture.container import ContainerFacts, read_facts
from async_motion.capture.handover import CaptureCounters, FrameSink
from async_motion.capture.main_stream import MainStream
from async_motion.capture.readers.demo import DemoReader
from async_motion.capture.readers.stills import StillsReader
from async_motion.capture.readers.usb import UsbReader
from async_motion.capture.readers.video import VideoReader
from async_motion.capture.selective.activity import DetectorFeedback
from async_motion.capture.source import CameraSource
from async_motion.capture.spec import CaptureSpec
from async_motion.capture.worker.parent import IsolatedFeedback, IsolatedMainStream, IsolatedReader
from async_motion.errors import SettingsError

__all__ = [
    "SUFFIXES",
    "CameraSource",
    "CaptureCounters",
    "CaptureSpec",
    "ContainerFacts",
    "open_source",
    "read_facts",
]


def open_source(spec: CaptureSpec) -> CameraSource:
    """Return the source that `spec` describes. Nothing is opened yet: `frames()` does that.

    Raises SettingsError when an address or `isolation: process` is not supported.
    """
    live = is_live(spec)
    if spec.isolation == "process":
        if sys.platform != "linux":
            raise SettingsError("capture.isolation: process needs Linux, expected thread")
        _record_address(spec)
        isolated = IsolatedReader(spec)
        return CameraSource(
            spec,
            isolated,
            live=live,
            record=IsolatedMainStream(isolated) if spec.record_source is not None else None,
            feedback=IsolatedFeedback(isolated),
            release=isolated.aclose,
            is_free=isolated.cut,
        )
    feedback = DetectorFeedback()
    return CameraSource(
        spec, reader_of(spec, feedback), live=live, record=main_stream_of(spec), feedback=feedback
    )


def is_live(spec: CaptureSpec) -> bool:
    """Return whether the newest frame wins: False only for a file or a folder with `speed: max`."""
    return parse(spec.source).live or spec.speed == "real"


def reader_of(spec: CaptureSpec, feedback: DetectorFeedback) -> Callable[[FrameSink, PtsClock], None]:
    """Return the reader of the watched stream, to be called in this process. Raises SettingsError."""
    address = parse(spec.source)
    match address.kind:
        case SourceKind.DEMO:
            return DemoReader(spec)
        case SourceKind.USB:
            return UsbReader(int(address.url), spec)
        case SourceKind.STILLS:
            return StillsReader(Path(address.url), spec)
        case SourceKind.FILE | SourceKind.RTSP | SourceKind.HTTP:
            return VideoReader(address, spec, feedback)


def main_stream_of(spec: CaptureSpec) -> MainStream | None:
    """Return the receiver of the main stream, None if the camera has none. Raises SettingsError."""
    address = _record_address(spec)
    return None if address is None else MainStream(address, spec)


def _record_address(spec: CaptureSpec) -> Address | None:
    if spec.record_source is None:
        return None
    address = parse(spec.record_source)
    if address.kind not in (SourceKind.RTSP, SourceKind.HTTP):
        raise SettingsError(f"record_source: {address.shown}: expected rtsp(s):// or http(s)://")
    return address
