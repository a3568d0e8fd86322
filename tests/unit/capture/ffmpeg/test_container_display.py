"""What a container says about its picture reaches every decoder, also those that FFmpeg does not tell."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from async_motion.capture import CaptureSpec
from async_motion.capture.clock import Stamp
from async_motion.capture.display import AS_CODED, Display
from async_motion.capture.ffmpeg.container_display import container_display
from async_motion.capture.ffmpeg.decoding import Decoder, decoder_of, prepare, time_base
from async_motion.capture.ffmpeg.frames import frame_of
from tests.support.video import remuxed, write_clip

WIDTH, HEIGHT = 160, 120
STAMP = Stamp(datetime(2026, 1, 1, tzinfo=UTC), 0.0)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    image[:40, :40] = 250
    image[80:, :20] = 10
    return write_clip(tmp_path_factory.mktemp("clips") / "plain.mp4", [image] * 3)


def displayed(path: Path) -> tuple[Any, Any, Display]:
    """Return the first luma by the track's own decoder and by a separate one, and the display parameters."""
    seen = []
    spec = CaptureSpec(camera="porch", source=str(path))
    display = AS_CODED
    for own in (True, False):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            display = container_display(stream)
            context = prepare(stream.codec_context, spec) if own else decoder_of(stream, spec)
            decoder = Decoder(context, time_base(stream), lambda: None, container=display)
            packets = [packet for packet in container.demux(stream) if packet.size]
            frames = [frame for packet in (*packets, None) for _, frame in decoder.decode(packet)]
            seen.append(frame_of("porch", STAMP, frames[0], display=decoder.display_of(frames[0])).luma)
    return seen[0], seen[1], display


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_and_mirroring(
    plain: Path, tmp_path: Path, degrees: int, mirrored: bool, suffix: str
) -> None:
    def turn(stream: Any) -> None:
        stream.set_display_rotation(degrees, hflip=mirrored)

    own, separate, _ = displayed(remuxed(plain, tmp_path / f"turned.{suffix}", turn))
    with av.open(str(plain)) as container:
        coded = next(container.decode(video=0)).to_ndarray()[:HEIGHT]
    expected = np.rot90(coded, degrees // 90)
    expected = expected[:, ::-1] if mirrored else expected
    assert np.array_equal(own, expected)
    assert np.array_equal(separate, expected)


def test_cropping(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "cropped.mp4"
    path.write_bytes(with_clean_aperture(plain.read_bytes(), left=16, top=8, right=32, bottom=24))
    again = remuxed(path, tmp_path / "cropped.mkv")
    for cropped in (path, again):
        own, separate, display = displayed(cropped)
        assert display == Display(crop=(16, 8, 32, 24))
        assert own.shape == separate.shape == (HEIGHT - 32, WIDTH - 48)
        assert own[:20, :20].min() > 200, "what is left of the white corner"
        assert np.array_equal(own, separate)


@pytest.mark.parametrize("name", ["x.mkv", "x.avi", "x.ts", "x.h264", "x.mjpeg"])
def test_a_container_without_a_word_about_it(tmp_path: Path, name: str) -> None:
    codec, pixels = ("mjpeg", "yuvj420p") if name.endswith("mjpeg") else ("h264", "yuv420p")
    image = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    path = write_clip(tmp_path / name, [image] * 3, codec=codec, pixels=pixels)
    with av.open(str(path)) as container:
        assert container_display(container.streams.video[0]) == AS_CODED


def with_clean_aperture(mp4: bytes, *, left: int, top: int, right: int, bottom: int) -> bytes:
    """Return an MP4 with a clap box (ISO/IEC 14496-12, 12.1.4); its index must follow its media."""
    data = bytearray(mp4)

    def find(start: int, end: int, name: bytes) -> tuple[int, int]:
        while start < end:
            (size,) = struct.unpack_from(">I", data, start)
            if data[start + 4 : start + 8] == name:
                return start, start + size
            start += size
        raise KeyError(name)

    boxes, start, end = [], 0, len(data)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        start, end = find(start, end, name)
        boxes.append(start)
        start += 16 if name == b"stsd" else 8
    width, height = WIDTH - left - right, HEIGHT - top - bottom
    numbers = (width, 1, height, 1, left - right, 2, top - bottom, 2)
    for box in boxes:
        struct.pack_into(">I", data, box, struct.unpack_from(">I", data, box)[0] + 40)
    data[end:end] = struct.pack(">I4s8i", 40, b"clap", *numbers)
    return bytes(data)
