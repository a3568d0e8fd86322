"""The settings of one camera's capture: plain values, frozen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from async_motion.capture.sockets import CameraSockets
from async_motion.core.options import (
    DECODE,
    DECODER_THREADS,
    FPS,
    HWACCEL,
    ISOLATION,
    MAX_PIXELS,
    OPEN_TIMEOUT_S,
    PROCESS_MEMORY,
    RING_BYTES,
    RING_S,
    SPEED,
    STALL_TIMEOUT_S,
    TRANSPORT,
    Decode,
    HwAccel,
    Isolation,
    Speed,
    Transport,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSpec:
    """How one camera is read.

    `source` is an `rtsp://`, `rtsps://`, `http://` or `https://` URL, the path of a video file or of a
    folder of stills, `usb:<n>`, `/dev/video<n>`, or `demo:`. It may hold a password and is never shown.
    `record_source` is the main stream of the same camera, from which stills are taken.
    `fps` is how many frames a second are handed out (`inf`: every one); they are chosen by PTS.
    `max_pixels` bounds one frame, `ring_bytes` and `ring_seconds` the undecoded packets that are kept.
    `speed: max` reads a file as fast as it is consumed, without dropping frames. `loop` restarts a file or a
    folder when it has ended. `threads` is the number of decoder threads. With `isolation: process` the camera
    is read in a separate process, whose private memory is limited to `process_memory` bytes. `monotonic` and
    `wall` are the two clocks; a separate process uses the system's. `sockets` registers the connections to
    the camera from this process. Raises ValueError for values out of range.
    """

    camera: str
    source: str = field(repr=False)
    record_source: str | None = field(default=None, repr=False)
    fps: float = FPS
    transport: Transport = TRANSPORT
    decode: Decode = DECODE
    hwaccel: HwAccel = HWACCEL
    open_timeout_s: float = OPEN_TIMEOUT_S
    stall_timeout_s: float = STALL_TIMEOUT_S
    max_pixels: int = MAX_PIXELS
    speed: Speed = SPEED
    loop: bool = True
    ring_bytes: int = RING_BYTES
    ring_seconds: float = RING_S
    threads: int = DECODER_THREADS
    isolation: Isolation = ISOLATION
    process_memory: int = PROCESS_MEMORY
    monotonic: Callable[[], float] = field(default=time.monotonic, repr=False)
    wall: Callable[[], float] = field(default=time.time, repr=False)
    sockets: CameraSockets = field(default_factory=CameraSockets, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.fps > 0:
            raise ValueError(f"fps: {self.fps!r}: expected more than 0")
        if not (self.open_timeout_s > 0 and self.stall_timeout_s > 0):
            raise ValueError("open_timeout_s and stall_timeout_s: expected more than 0")
