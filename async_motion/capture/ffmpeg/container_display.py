"""What a container says about the display of a video track: cropping, rotation, mirroring.

FFmpeg keeps it with the track and hands it to the track's own decoder alone (cropping not even to that), and
PyAV gives no access to it. But FFmpeg's Matroska muxer writes all of it into a file's header. So a header is
written to memory for the track, and the elements are read from there (RFC 9559, 5.1.4.1.28).
"""

from __future__ import annotations

import io
import struct

import av
from av.video.stream import VideoStream

from async_motion.capture.display import Display, aspect_of

SEGMENT, TRACKS, TRACK, VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
CROP_LEFT, CROP_TOP, CROP_RIGHT, CROP_BOTTOM = 0x54CC, 0x54BB, 0x54DD, 0x54AA
PROJECTION, YAW, ROLL = 0x7670, 0x7673, 0x7675

_TURNS = {0: 0, 90: 3, 180: 2, -180: 2, -90: 1, 270: 1}
"""Counterclockwise degrees -> clockwise quarter turns."""


def container_display(stream: VideoStream) -> Display:
    """Return the container's display parameters of a track; none if its codec does not fit into Matroska."""
    video = _video_element(stream)
    left, top, right, bottom = (
        int.from_bytes(video.get(one, b"")) for one in (CROP_LEFT, CROP_TOP, CROP_RIGHT, CROP_BOTTOM)
    )
    projection = _elements(video.get(PROJECTION, b""))
    return Display(
        turns=_TURNS.get(round(_number(projection.get(ROLL, b""))), 0),
        mirrored=round(abs(_number(projection.get(YAW, b"")))) == 180,
        aspect=aspect_of(stream.sample_aspect_ratio),
        crop=(left, top, right, bottom),
    )


def _video_element(stream: VideoStream) -> dict[int, bytes]:
    """Return the elements of the track's Video element in the header that FFmpeg writes for it."""
    header = io.BytesIO()
    try:
        with av.open(header, "w", format="matroska") as container:
            container.add_stream_from_template(stream)
            container.start_encoding()
    except (av.FFmpegError, ValueError):
        return {}
    data = header.getvalue()
    for name in (SEGMENT, TRACKS, TRACK, VIDEO):
        data = _elements(data).get(name, b"")
    return _elements(data)


def _elements(data: bytes) -> dict[int, bytes]:
    """Return the EBML elements (RFC 8794) at the top level of `data`, by id."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at]:
        width = 9 - data[at].bit_length()
        name = int.from_bytes(data[at : at + width])
        at += width
        if at >= len(data) or not data[at]:
            break
        width = 9 - data[at].bit_length()
        unknown = (1 << 7 * width) - 1
        size = int.from_bytes(data[at : at + width]) & unknown
        at += width
        end = len(data) if size == unknown else at + size
        found[name] = data[at:end]
        at = end
    return found


def _number(data: bytes) -> float:
    """Return an EBML float of 4 or 8 bytes; 0 if it is empty."""
    form = {4: ">f", 8: ">d"}.get(len(data))
    return float(struct.unpack(form, data)[0]) if form else 0.0
