"""`all`, `keyframes` and `auto`: what is decoded, and that `auto` delivers the same motion as `all`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from async_motion.capture import CaptureSpec, open_source
from async_motion.capture.ffmpeg.decoding import Decoder, VideoPacket
from async_motion.capture.selective.activity import KeyframeActivity, PacketActivity
from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.model import Detection, Frame
from tests.support.capture import read
from tests.support.video import Place, scene, write_clip

SIZE = (320, 240)
FPS = 10
LENGTH_S = 40
EVENT_S = 24.0
"""When motion begins: late enough for `auto` to have left its first seconds, in which it decodes all."""


def crossings(*spans: tuple[float, float], share: float = 0.2) -> Any:
    """Return a box that crosses the image during each span (start, end), in seconds."""
    width, height = SIZE
    side = int(height * share)

    def place(at_s: float) -> Place | None:
        for start, end in spans:
            if start <= at_s < end:
                along = (at_s - start) / (end - start)
                return int(along * (width - side)), (height - side) // 2, side, side
        return None

    return place


def clip(
    path: Path, *spans: tuple[float, float], gop_s: float = 2.0, noise: float = 1.0, **more: Any
) -> Path:
    images = scene(seconds=LENGTH_S, fps=FPS, size=SIZE, noise=noise, box=crossings(*spans))
    return write_clip(path, images, fps=FPS, gop=int(gop_s * FPS), **more)


@contextmanager
def counted() -> Iterator[list[VideoPacket]]:
    """Record every packet that is decoded."""
    packets: list[VideoPacket] = []
    decode = Decoder.decode

    def spy(self: Decoder, packet: VideoPacket | None) -> Any:
        if packet is not None:
            packets.append(packet)
        return decode(self, packet)

    with patch.object(Decoder, "decode", spy):
        yield packets


def watch(
    path: Path,
    *,
    decode: str,
    told: bool = True,
    told_until_s: float = float("inf"),
    settings: DetectorSettings = DetectorSettings(),  # noqa: B008 - frozen
    **changes: Any,
) -> list[tuple[Frame, Detection]]:
    """Read a clip and feed each frame to a detector, as the pipeline does."""
    values: dict[str, Any] = {"fps": 5.0, "speed": "max", "loop": False, "decode": decode, **changes}
    spec = CaptureSpec(
        camera="porch", source=str(path), monotonic=lambda: 0.0, wall=lambda: 1_700_000_000.0, **values
    )

    async def run() -> list[tuple[Frame, Detection]]:
        source = open_source(spec)
        detector = Detector(settings)
        judged = []
        async for frame in source.frames():
            detection = detector.update(frame.luma, frame.monotonic)
            if told and frame.monotonic < told_until_s:
                source.judged(frame.monotonic, detection)
            judged.append((frame, detection))
        await source.aclose()
        return judged

    return asyncio.run(run())


def pts(packet: VideoPacket) -> float:
    """Return a packet's PTS in seconds."""
    assert packet.pts is not None
    return round(float(packet.pts * packet.time_base), 3)


def moved(judged: list[tuple[Frame, Detection]]) -> list[float]:
    return [round(frame.monotonic, 3) for frame, detection in judged if detection.motion]


def test_an_idle_camera_is_decoded_at_its_keyframes_alone(tmp_path: Path) -> None:
    path = clip(tmp_path / "idle.mp4")
    with counted() as packets:
        frames = watch(path, decode="auto")
    late = [packet for packet in packets if pts(packet) >= 14]
    assert len(late) <= (LENGTH_S - 14) / 2 + 2
    gaps = [after.monotonic - before.monotonic for (before, _), (after, _) in pairwise(frames)]
    assert min(gaps) > 0
    assert max(gaps) <= 2.01  # keyframes arrive, so detector and snapshots stay fresh


@pytest.mark.parametrize(("noise", "max_s"), [(0.3, 2.01), (8.0, 1.01)])
def test_every_keyframe_is_looked_at_where_the_packets_tell_nothing(
    tmp_path: Path, noise: float, max_s: float
) -> None:
    path = clip(tmp_path / "idle.mp4", gop_s=1.0, noise=noise)
    with counted() as packets:
        watch(path, decode="auto")
    times = [pts(packet) for packet in packets if pts(packet) >= 20]
    assert all(time == int(time) for time in times)
    assert max(after - before for before, after in pairwise(times)) == pytest.approx(max_s, abs=0.02)


@pytest.mark.parametrize(("noise", "idles"), [(0.3, True), (8.0, False)])
def test_without_a_qp_it_idles_only_where_the_packets_tell(tmp_path: Path, noise: float, idles: bool) -> None:
    # H.265, or an H.264 header that cannot be parsed.
    path = clip(tmp_path / "idle.mp4", gop_s=1.0, noise=noise)
    with counted() as packets, patch("async_motion.capture.readers.video._qp_of", lambda _stream: no_qp):
        watch(path, decode="auto")
    late = sum(pts(packet) >= 20 for packet in packets)
    assert late <= 11 if idles else late == (LENGTH_S - 20) * FPS


def no_qp(_packet: VideoPacket) -> None:
    """Return no QP of any packet."""


def test_what_was_seen_is_not_decoded_again(tmp_path: Path) -> None:
    # The scene moves all the time, and the detector ignores it.
    path = clip(tmp_path / "masked.mp4", *((at, at + 2.7) for at in np.arange(12.0, LENGTH_S, 3.0)))
    everywhere = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    with counted() as packets:
        watch(path, decode="auto", settings=DetectorSettings(masks=(everywhere,)))
    between = [pts(packet) for packet in packets if not packet.is_keyframe]
    assert len(between) > LENGTH_S * FPS / 2
    assert len(between) == len(set(between))


@pytest.mark.parametrize("until_s", [11.0, float("inf")])
def test_while_detection_is_off_no_sign_is_taken_for_meaningless(tmp_path: Path, until_s: float) -> None:
    path = clip(tmp_path / "off.mp4", *((at, at + 1.7) for at in np.arange(14.0, 34.0, 6.0)))
    everywhere = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    with (
        patch.object(KeyframeActivity, "forgive") as scene_learns,
        patch.object(PacketActivity, "forgive") as weights_learn,
    ):
        watch(
            path,
            decode="auto",
            told_until_s=until_s,
            settings=DetectorSettings(masks=(everywhere,), rest_s=4),
        )
    assert (scene_learns.call_count + weights_learn.call_count > 0) == (until_s > LENGTH_S)


@pytest.mark.parametrize("gop_s", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("late_s", [0.0, 1.1, 3.9])
def test_nothing_is_seen_later_than_with_all(tmp_path: Path, gop_s: float, late_s: float) -> None:
    path = clip(tmp_path / "busy.mp4", (EVENT_S + late_s, EVENT_S + late_s + 3), gop_s=gop_s)
    every = watch(path, decode="all")
    with counted() as packets:
        auto = watch(path, decode="auto")
    assert moved(every)
    assert moved(auto)[0] == moved(every)[0]
    assert len(moved(auto)) >= 0.9 * len(moved(every))
    if gop_s < 4:
        assert len(packets) < 0.75 * LENGTH_S * FPS
    # The frames are identical.
    lumas = {round(frame.monotonic, 3): frame.luma.tobytes() for frame, _ in every}
    same = [lumas.get(round(frame.monotonic, 3)) == frame.luma.tobytes() for frame, _ in auto]
    assert sum(same) >= 0.8 * len(same)


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_what_comes_and_goes_between_two_keyframes(tmp_path: Path, noise: float) -> None:
    path = clip(tmp_path / "short.mp4", (EVENT_S + 0.6, EVENT_S + 3.0), gop_s=4.0, noise=noise)
    every, auto = watch(path, decode="all"), watch(path, decode="auto")
    assert moved(every)
    assert moved(auto)[0] == moved(every)[0]


def test_packets_give_the_sign_before_the_next_keyframe(tmp_path: Path) -> None:
    path = clip(tmp_path / "early.mp4", (EVENT_S + 0.6, EVENT_S + 3.0), gop_s=4.0, noise=0.3)
    with counted() as packets:
        judged = watch(path, decode="auto")
    order = [pts(packet) for packet in packets]
    assert 20.4 not in order  # idle in the GOP before
    # The GOP that began at 24 s is decoded from its start, without waiting for the keyframe at 28 s.
    assert order.index(25.0) < order.index(28.0)
    assert moved(judged)[0] < EVENT_S + 1.5


def test_frames_that_are_reordered(tmp_path: Path) -> None:
    options = {"bf": "2", "tune": "film", "preset": "veryfast", "sc_threshold": "0"}
    path = clip(tmp_path / "b.mp4", (EVENT_S + 1.1, EVENT_S + 4), options=options)
    every, auto = watch(path, decode="all"), watch(path, decode="auto")
    assert moved(auto)[0] == moved(every)[0]
    assert all(before.monotonic < after.monotonic for (before, _), (after, _) in pairwise(auto))


def test_without_a_word_from_the_detector_it_goes_by_its_own_evidence(tmp_path: Path) -> None:
    path = clip(tmp_path / "busy.mp4", (EVENT_S + 1.1, EVENT_S + 4))
    every = watch(path, decode="all")
    with counted() as packets:
        auto = watch(path, decode="auto", told=False)
    assert moved(auto)[0] == moved(every)[0]
    assert len(packets) < 0.75 * LENGTH_S * FPS


@pytest.mark.parametrize("bound", [{"ring_seconds": 3.0}, {"ring_bytes": 100_000}])
def test_gops_that_do_not_fit_into_the_ring_are_decoded_in_full(
    tmp_path: Path, bound: dict[str, Any]
) -> None:
    path = clip(tmp_path / "long.mp4", (EVENT_S + 1.1, EVENT_S + 4), gop_s=20.0)
    every, auto = watch(path, decode="all"), watch(path, decode="auto", **bound)
    assert moved(auto)[0] == moved(every)[0]
    late = [frame for frame, _ in auto if frame.monotonic > 20.5]
    assert len(late) == len([frame for frame, _ in every if frame.monotonic > 20.5])


def test_a_codec_of_single_frames_decodes_just_what_is_wanted(tmp_path: Path) -> None:
    images = scene(seconds=10, fps=25, size=(160, 120))
    path = write_clip(tmp_path / "x.avi", images, fps=25, codec="mjpeg", pixels="yuvj420p")
    spec = CaptureSpec(camera="porch", source=str(path), fps=5.0, speed="max", loop=False)
    with counted() as packets:
        frames = read(open_source(spec))
    assert 50 <= len(frames) <= 51
    assert len(packets) == len(frames)


def test_damage_in_a_gop_that_is_decoded_later_is_not_shown(tmp_path: Path) -> None:
    good = clip(tmp_path / "good.h264", (EVENT_S + 1.1, EVENT_S + 4))
    data = bytearray(good.read_bytes())
    at = int(len(data) * 0.53)
    data[at : at + 4000] = bytes(4000)
    bad = tmp_path / "bad.h264"
    bad.write_bytes(data)
    lumas = {frame.luma.tobytes() for frame, _ in watch(good, decode="all", fps=float("inf"))}
    shown = watch(bad, decode="auto", fps=float("inf"))
    assert shown
    assert all(frame.luma.tobytes() in lumas for frame, _ in shown)


def test_frames_of_a_burst_all_arrive(tmp_path: Path) -> None:
    path = clip(tmp_path / "busy.mp4", (EVENT_S + 1.1, EVENT_S + 4), gop_s=4.0)
    auto = watch(path, decode="auto")
    burst = np.array([frame.monotonic for frame, _ in auto if EVENT_S + 1.1 <= frame.monotonic < EVENT_S + 4])
    assert np.diff(burst).max() <= 0.21
