"""Decoders: bounded in pixels, distrusted after damage, in software where the hardware fails."""

from __future__ import annotations

import asyncio
import logging
from fractions import Fraction
from pathlib import Path
from unittest.mock import MagicMock, patch

import av
import av.error
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from async_motion.capture import CaptureSpec, open_source
from async_motion.capture.ffmpeg.decoding import (
    DISTRUST_S,
    Decoder,
    decoder_of,
    prepare,
    time_base,
    watching_decoder,
)
from async_motion.core.options import HwAccel
from async_motion.errors import CameraRefused, CameraUnavailable
from tests.support.capture import read, take
from tests.support.video import make_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=8, fps=10, gop=80)


def decoded(clip: Path, spoilt: set[int]) -> tuple[list[float], int]:
    """Return the PTS that are decoded when the packets `spoilt` are cut short, and the number of losses."""
    lost = 0

    def count() -> None:
        nonlocal lost
        lost += 1

    times = []
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        spec = CaptureSpec(camera="porch", source=str(clip))
        decoder = Decoder(prepare(stream.codec_context, spec), time_base(stream), count)
        for number, packet in enumerate(container.demux(stream)):
            if number in spoilt:
                damaged = bytes(packet)[: packet.size // 2] + bytes(packet.size - packet.size // 2)
                packet.update(damaged)
            times += [pts for pts, _ in decoder.decode(packet if packet.size else None) if pts is not None]
    return times, lost


def test_all_is_well(clip: Path) -> None:
    times, lost = decoded(clip, set())
    assert times == pytest.approx([number / 10 for number in range(80)])
    assert lost == 0


def test_what_is_predicted_from_damage_is_not_trusted_for_a_while(clip: Path) -> None:
    times, lost = decoded(clip, {20})
    assert lost > 0
    # No second keyframe in this clip: frames are trusted again after DISTRUST_S, when they have healed.
    assert not [at for at in times if 2.0 <= at < 2.0 + DISTRUST_S - 0.2]
    assert times[-1] == pytest.approx(7.9)


def test_a_decoder_of_its_own_sees_the_same(clip: Path) -> None:
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        spec = CaptureSpec(camera="porch", source=str(clip))
        decoder = Decoder(decoder_of(stream, spec), time_base(stream), lambda: None)
        packets = [packet for packet in container.demux(stream) if packet.size]
    assert sum(1 for packet in packets for _ in decoder.decode(packet)) >= 79


def test_more_pixels_than_allowed_are_refused(clip: Path) -> None:
    with av.open(str(clip)) as container:
        spec = CaptureSpec(camera="porch", source=str(clip), max_pixels=1000)
        with pytest.raises(CameraRefused, match="320x240: more than 1000 pixels"):
            prepare(container.streams.video[0].codec_context, spec)


@pytest.mark.parametrize("hwaccel", ["vaapi", "videotoolbox", "cuda", "drm"])
def test_hardware_that_is_not_there_is_reported_once_and_software_stands_in(
    clip: Path, hwaccel: HwAccel, caplog: pytest.LogCaptureFixture
) -> None:
    spec = CaptureSpec(camera="porch", source=str(clip), hwaccel=hwaccel, speed="max", loop=False, fps=10.0)
    source = open_source(spec)
    # Simulate the missing device, on machines that have it too.
    with (
        patch("async_motion.capture.ffmpeg.decoding.HWAccel", side_effect=RuntimeError("no device")),
        caplog.at_level(logging.WARNING),
    ):
        frames = read(source)
    assert len(frames) >= 80 - 1
    said = [one.getMessage() for one in caplog.records]
    assert len([text for text in said if hwaccel in text and "decoding in software" in text]) == 1


@pytest.mark.parametrize("hwaccel", ["vaapi", "videotoolbox", "cuda", "drm"])
def test_whatever_hardware_there_is_the_frames_come(clip: Path, hwaccel: HwAccel) -> None:
    changes = {"speed": "max", "loop": False, "fps": 10.0, "decode": "all"}
    frames = read(open_source(CaptureSpec(camera="porch", source=str(clip), hwaccel=hwaccel, **changes)))  # type: ignore[arg-type]
    plain = read(open_source(CaptureSpec(camera="porch", source=str(clip), **changes)))  # type: ignore[arg-type]
    assert len(frames) == len(plain)
    assert np.abs(frames[20].luma.astype(int) - plain[20].luma).mean() < 2


def test_software_is_not_asked_why(clip: Path) -> None:
    with av.open(str(clip)) as container:
        _, reason = watching_decoder(
            container.streams.video[0], CaptureSpec(camera="porch", source=str(clip))
        )
    assert reason is None


def test_hardware_unknown_to_this_build_is_distinguished(clip: Path) -> None:
    spec = CaptureSpec(camera="porch", source=str(clip), hwaccel="videotoolbox")
    with (
        patch("async_motion.capture.ffmpeg.decoding.hwdevices_available", return_value=["cuda"]),
        av.open(str(clip)) as container,
    ):
        _, reason = watching_decoder(container.streams.video[0], spec)
    assert reason == "this build of FFmpeg has no such devices"


def test_hardware_that_makes_no_frame_is_given_up(clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        """A decoder whose device accepts packets, then fails."""

        def __init__(self, context: VideoCodecContext) -> None:
            self.codec = context.codec
            self.name = context.name

        def decode(self, _packet: object) -> list[VideoFrame]:
            raise av.error.ExternalError(542398533, "the device is lost")

    def on_hardware(stream: VideoStream, spec: CaptureSpec) -> tuple[object, str | None]:
        return (
            (Broken(stream.codec_context), None) if spec.hwaccel != "none" else watching_decoder(stream, spec)
        )

    spec = CaptureSpec(camera="porch", source=str(clip), hwaccel="cuda", speed="max", loop=False, fps=10.0)
    source = open_source(spec)

    async def run() -> int:
        with pytest.raises(CameraRefused, match="no frame that can be decoded"):
            await take(source)
        return len(await take(source)) + len(await take(source))

    with (
        patch("async_motion.capture.readers.video.watching_decoder", on_hardware),
        caplog.at_level(logging.WARNING),
    ):
        assert asyncio.run(run()) == 160
    assert [one.getMessage() for one in caplog.records] == [
        "porch: hwaccel cuda: it decodes nothing of this stream; decoding in software"
    ]


def test_a_lack_of_memory_is_not_mistaken_for_damage() -> None:
    class Poor:
        def decode(self, _packet: object) -> list[VideoFrame]:
            raise av.error.MemoryError(12, "Cannot allocate memory")

    decoder = Decoder(Poor(), Fraction(1, 90_000), lambda: pytest.fail("not damaged"))  # type: ignore[arg-type]
    with pytest.raises(CameraUnavailable, match="more memory than is available"):
        list(decoder.decode(None))


@pytest.mark.parametrize(
    "error", [av.error.InvalidDataError, av.error.PermissionError, av.error.ExternalError, av.error.OSError]
)
def test_whatever_a_damaged_packet_makes_of_the_decoder_it_is_counted(
    clip: Path, error: type[av.error.FFmpegError]
) -> None:
    lost = []
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        context = MagicMock(spec=VideoCodecContext)
        context.decode.side_effect = error(1, "no", "")
        decoder = Decoder(context, time_base(stream), lambda: lost.append(1))
        assert list(decoder.decode(next(container.demux(stream)))) == []
    assert lost == [1]
