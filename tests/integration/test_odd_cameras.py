"""Cameras that violate the standards: wrong times, damaged images, wrong lengths, odd logins."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from async_motion.capture import CameraSource, CaptureSpec, open_source
from async_motion.capture.meter import MAX_FRAME_BYTES
from async_motion.core.model import Frame
from async_motion.errors import CameraRefused, CameraUnavailable
from tests.support import rtsp
from tests.support.capture import read
from tests.support.http_camera import HttpCamera, Visit, answered
from tests.support.video import ground, make_clip

FPS = 10
SLOW_S = 2.0
"""What a slow machine may add to a frame's delay."""


def camera(url: str, **changes: Any) -> CameraSource:
    values = {"fps": float("inf"), "stall_timeout_s": 3.0, **changes}
    return open_source(CaptureSpec(camera="porch", source=url, **values))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[rtsp.AccessUnit]:
    path = make_clip(tmp_path_factory.mktemp("clips") / "plain.mp4", seconds=12, fps=FPS, gop=20, noise=1.0)
    return rtsp.access_units(path)


@pytest.fixture(scope="module")
def reordered(tmp_path_factory: pytest.TempPathFactory) -> list[rtsp.AccessUnit]:
    path = make_clip(
        tmp_path_factory.mktemp("clips") / "b.mp4",
        seconds=12,
        fps=FPS,
        gop=20,
        options={"bf": "3", "preset": "veryfast", "tune": "film"},
    )
    return rtsp.access_units(path)


# Times over RTSP.

Said = Callable[[int, float], float]

ODD: dict[str, Said] = {
    "one leap": lambda number, at: at + (37_600.0 if number == 40 else 0.0),
    "leaps": lambda number, at: at + (37_600.0 if number % 20 == 19 else 0.0),
    "set back": lambda number, at: at + 3600.0 - (25.0 if number >= 40 else 0.0),
    "set forward": lambda number, at: at + (3600.0 if number >= 40 else 0.0),
    "slow": lambda _number, at: at * 0.84,
    "standing still": lambda _number, _at: 1.0,
}


def play(units: list[rtsp.AccessUnit], said: Said) -> rtsp.Script:
    """Return a script that sends in real time, with timestamps that `said` computes from the true ones."""

    def script(client: rtsp.Client) -> None:
        began = time.monotonic()
        for number, unit in enumerate(units):
            client.wait(max(0.0, began + number / FPS - time.monotonic()))
            client.send(rtsp.AccessUnit(unit.nals, said(number, unit.at_s), key=unit.key))
        client.wait(5.0)

    return script


def watched(source: CameraSource, count: int) -> list[tuple[Frame, float]]:
    """Return (frame, time of arrival) for the first `count` frames."""
    came: list[float] = []
    frames = read(source, count, on_frame=lambda _frame: came.append(time.monotonic()))
    return list(zip(frames, came, strict=True))


@pytest.mark.parametrize("decode", ["all", "auto"])
@pytest.mark.parametrize("odd", ODD)
def test_whatever_a_camera_says_of_its_time_nothing_is_of_the_future(
    plain: list[rtsp.AccessUnit], odd: str, decode: str
) -> None:
    with rtsp.Scripted(play(plain, ODD[odd])) as server:
        seen = watched(camera(server.url, decode=decode, fps=5.0), 40)
    late = [came - frame.monotonic for frame, came in seen]
    assert min(late) > -0.1
    assert max(late) < 1.5 + SLOW_S
    gaps = [after.monotonic - before.monotonic for (before, _), (after, _) in pairwise(seen)]
    assert max(gaps[5:]) < 1.0 + SLOW_S
    labels = [frame.captured_at for frame, _ in seen]
    assert labels == sorted(labels)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_frame_that_the_decoder_held_back_has_the_time_of_its_own_packet(
    reordered: list[rtsp.AccessUnit], threads: int
) -> None:
    with rtsp.Scripted(play(reordered, ODD["one leap"])) as server:
        seen = watched(camera(server.url, threads=threads), 80)
    late = [came - frame.monotonic for frame, came in seen]
    assert min(late) > -0.1
    assert max(late) < 1.5 + SLOW_S


# Other faults over RTSP.


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_an_access_unit_that_never_ends_is_bounded(isolation: str, plain: list[rtsp.AccessUnit]) -> None:
    sent = 0

    def script(client: rtsp.Client) -> None:
        nonlocal sent
        client.play(plain[:20], pace=4)
        fragment = bytes([0x7C, 0x05]) + b"\x55" * 60_000
        header = bytes([0x80, 96]) + bytes(2) + (9_000_000).to_bytes(4) + b"\x12\x34\x56\x78"
        client.say(b"$\0" + (len(header) + 3).to_bytes(2) + header + bytes([0x7C, 0x85, 0x88]))
        for number in range(40_000):
            packet = bytes([0x80, 96]) + (number % 65536).to_bytes(2) + header[4:] + fragment
            client.say(b"$\0" + len(packet).to_bytes(2) + packet)
            sent += len(packet)

    with (
        rtsp.Scripted(script) as server,
        pytest.raises(CameraRefused, match="32 MiB without completing a frame"),
    ):
        read(camera(server.url, isolation=isolation, stall_timeout_s=10.0))
    assert sent < 2 * MAX_FRAME_BYTES


def test_an_access_unit_that_never_ends_is_bounded_by_udp_too(plain: list[rtsp.AccessUnit]) -> None:
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media:
        media.bind(("127.0.0.1", 0))
        port = media.getsockname()[1]

        def script(client: rtsp.Client) -> None:
            nonlocal sent
            number = 0
            for unit in plain[:20]:
                for packet in rtsp.rtp_packets(unit, number):
                    media.sendto(packet, ("127.0.0.1", client.port))
                    number += 1
                client.wait(0.02)
            header = (9_000_000).to_bytes(4) + b"\x12\x34\x56\x78"
            parts = [bytes([0x7C, 0x85, 0x88])] + [bytes([0x7C, 0x05]) + b"\x55" * 60_000] * 4000
            for part in parts:
                packet = bytes([0x80, 96]) + (number % 65536).to_bytes(2) + header + part
                media.sendto(packet, ("127.0.0.1", client.port))
                sent += len(packet)
                number += 1
                client.wait(0.002)

        transport = f"Transport: RTP/AVP/UDP;unicast;client_port={{ports}};server_port={port}-{port + 1}"
        with (
            rtsp.Scripted(script, udp=transport) as server,
            pytest.raises(CameraRefused, match="MiB without completing a frame"),
        ):
            read(camera(server.url, transport="udp", stall_timeout_s=60.0))
    assert sent < 6 * MAX_FRAME_BYTES, "the network may lose some, and the bound counts what has come"


@pytest.mark.parametrize("algorithms", [("MD5",), ("SHA-256",), ("MD5", "SHA-256"), ("SHA-256", "MD5")])
@pytest.mark.parametrize("piece", [None, 7])
def test_a_digest_login(plain: list[rtsp.AccessUnit], algorithms: tuple[str, ...], piece: int | None) -> None:
    with rtsp.Scripted(lambda client: client.play(plain), digest=algorithms, piece=piece) as server:
        assert len(read(camera(server.url.replace("://", "://viewer:secret@")), 5)) == 5
        with pytest.raises(CameraRefused, match=r"wrong user or password \(401\)"):
            read(camera(server.url.replace("://", "://viewer:wrong@")))


def test_a_login_that_is_not_supported_is_not_called_a_wrong_password(plain: list[rtsp.AccessUnit]) -> None:
    with (
        rtsp.Scripted(lambda client: client.play(plain), digest=["SHA-512-256"]) as server,
        pytest.raises(CameraRefused, match=r"not supported \(SHA-512-256\)"),
    ):
        read(camera(server.url.replace("://", "://viewer:secret@")))


def test_the_video_track_that_sends_is_taken(plain: list[rtsp.AccessUnit]) -> None:
    with rtsp.Scripted(lambda client: client.play(plain), mute_track=True) as server:
        frames = read(camera(server.url, open_timeout_s=20.0), 5)
    assert frames[0].codec == "h264"
    assert frames[0].luma.shape == (240, 320)


def test_a_keyframe_that_comes_late_is_waited_for(plain: list[rtsp.AccessUnit]) -> None:
    def script(client: rtsp.Client) -> None:
        end = client.play(plain[1:20], pace=2)
        for _ in range(6):  # longer than four stall time-outs of 0.3 s
            end = client.play(plain[1:20], start_s=end, pace=3)
        client.play(plain, start_s=end)

    # The parameter sets come in the SDP, as with such cameras.
    with rtsp.Scripted(script, parameter_sets=plain[0].nals[:2]) as server:
        frames = read(camera(server.url, stall_timeout_s=0.3), 5)
    assert len(frames) == 5


# MJPEG and others over HTTP.


def jpeg(number: int = 0, *, size: tuple[int, int] = (320, 240)) -> bytes:
    image = ground(*size)
    cv2.rectangle(image, (number, 80), (number + 50, 140), (255, 255, 255), -1)
    done, data = cv2.imencode(".jpg", image)
    assert done
    return data.tobytes()


Part = Callable[[int], bytes]


def part(data: bytes, length: int | None = None) -> bytes:
    head = "" if length is None else f"Content-Length: {length}\r\n"
    return f"Content-Type: image/jpeg\r\n{head}\r\n".encode() + data + b"\r\n"


def multipart(
    parts: Part, *, boundary: bytes = b"--frame\r\n", first: bytes = b"--frame\r\n"
) -> Callable[[Visit], None]:
    """Return an answer that sends a part every 0.1 s."""

    def answer(visit: Visit) -> None:
        visit.send(
            b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n" + first
        )
        for number in range(600):
            visit.send(parts(number) + boundary)
            visit.wait(1 / FPS)

    return answer


def whole(number: int) -> bytes:
    data = jpeg(number % 100)
    return part(data, len(data))


def cut(number: int) -> bytes:
    data = jpeg(number % 100)
    data = data[: len(data) * 6 // 10] if number % 3 == 2 else data
    return part(data, len(data))


def zeroed(number: int) -> bytes:
    data = jpeg(number % 100)
    data = data[: len(data) // 2] + bytes(len(data) // 2) if number % 3 == 2 else data
    return part(data, len(data))


def without_its_middle(number: int) -> bytes:
    data = jpeg(number % 100)
    data = data[: len(data) // 2] + data[len(data) * 3 // 4 :] if number % 3 == 2 else data
    return part(data, len(data))


SHAPES: dict[str, Callable[[Visit], None]] = {
    "whole": multipart(whole),
    "without a first boundary": multipart(whole, first=b""),
    "without dashes": multipart(whole, boundary=b"frame\r\n", first=b"frame\r\n"),
    "without lengths": multipart(lambda number: part(jpeg(number % 100))),
    "a wrong length": multipart(lambda number: part(jpeg(number % 100), 10)),
    "garbage behind": multipart(lambda number: part(jpeg(number % 100) + b"\xaa" * 512)),
    "empty parts": multipart(lambda number: part(b"", 0) if number % 4 == 3 else whole(number)),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_mjpeg_as_browsers_show_it(shape: str, isolation: str) -> None:
    with HttpCamera(SHAPES[shape]) as server:
        source = camera(server.url, isolation=isolation)
        seen = watched(source, 15)
    gaps = [after.monotonic - before.monotonic for (before, _), (after, _) in pairwise(seen)]
    assert max(gaps) < 0.3 + SLOW_S
    assert seen[0][0].luma.shape == (240, 320)
    assert source.counters.corrupt == 0


@pytest.mark.parametrize("damage", [cut, zeroed, without_its_middle])
def test_a_damaged_jpeg_is_neither_judged_nor_kept(damage: Part) -> None:
    with HttpCamera(multipart(damage)) as server:
        source = camera(server.url)
        frames = read(source, 15)
    assert source.counters.corrupt >= 4
    still = ground(320, 240)[:, :, 0].astype(int)
    for frame in frames:
        # Below the moving box, each frame equals the still scene.
        assert np.abs(frame.bgr()[150:, :, 0].astype(int) - still[150:]).mean() < 6


def test_a_jpeg_address_is_asked_again_and_again() -> None:
    with HttpCamera(lambda visit: visit.send(answered("image/jpeg", jpeg(visit.number % 100)))) as server:
        source = camera(server.url, fps=8.0)
        seen = watched(source, 12)
    gaps = [after.monotonic - before.monotonic for (before, _), (after, _) in pairwise(seen)]
    assert np.median(gaps) == pytest.approx(1 / 8, abs=0.08)
    assert server.connections == 1, "it is kept where the camera keeps it"


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_jpeg_address_may_be_asked_seldom(isolation: str) -> None:
    with HttpCamera(lambda visit: visit.send(answered("image/jpeg", jpeg(visit.number)))) as server:
        # Each wait is longer than the stall time-out.
        frames = read(camera(server.url, fps=0.7, stall_timeout_s=0.5, isolation=isolation), 3)
    assert len(frames) == 3


def test_a_jpeg_address_that_fails_later_is_lost_with_its_reason() -> None:
    def answer(visit: Visit) -> None:
        visit.send(answered("image/jpeg", jpeg()) if visit.number < 4 else answered("x", status="503 Busy"))

    with HttpCamera(answer) as server, pytest.raises(CameraUnavailable, match="internal error"):
        read(camera(server.url, fps=10.0))


@pytest.mark.parametrize("kind", ["application/octet-stream", "text/plain", "image/*", ""])
def test_a_jpeg_address_is_polled_whatever_it_is_called(kind: str) -> None:
    with HttpCamera(lambda visit: visit.send(answered(kind, jpeg(visit.number % 100)))) as server:
        frames = read(camera(server.url, fps=10.0), 4)
    assert len(frames) == 4


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("image/png", cv2.imencode(".png", ground(64, 48))[1].tobytes(), "a PNG image, expected JPEG"),
        ("text/html", b"<html><body>Please log in</body></html>", "a web page, expected JPEG"),
        ("image/jpeg", b"<html><body>Please log in</body></html>", "a web page, expected JPEG"),
        ("image/jpeg", b"", "sends nothing"),
        ("image/jpeg", jpeg(size=(640, 480)), "images of 640x480, more than max_pixels"),
    ],
)
@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_what_cannot_be_read_is_named_at_once(kind: str, body: bytes, said: str, isolation: str) -> None:
    with (
        HttpCamera(lambda visit: visit.send(answered(kind, body))) as server,
        pytest.raises(CameraUnavailable, match=said),
    ):
        read(camera(server.url, isolation=isolation, max_pixels=320 * 240))


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_part_that_never_ends_is_bounded(isolation: str) -> None:
    sent = 0

    def answer(visit: Visit) -> None:
        nonlocal sent
        visit.send(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
        visit.send(b"--frame\r\nContent-Length: 2000000000\r\n\r\n" + jpeg()[:2000])
        while sent < 10 * MAX_FRAME_BYTES:
            visit.send(b"\x55" * 65536)
            sent += 65536

    with HttpCamera(answer) as server, pytest.raises(CameraUnavailable, match="32 MiB without a whole JPEG"):
        read(camera(server.url, isolation=isolation, stall_timeout_s=10.0))
    assert sent < 2 * MAX_FRAME_BYTES


def test_a_container_whose_block_never_ends_is_bounded(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "x.mkv", seconds=1)
    sent = 0

    def answer(visit: Visit) -> None:
        nonlocal sent
        visit.send(b"HTTP/1.0 200 OK\r\nContent-Type: video/x-matroska\r\n\r\n" + clip.read_bytes())
        visit.send(bytes.fromhex("1f43b67501ffffffffffffffe78100a308773594008100008000"))
        while sent < 10 * MAX_FRAME_BYTES:
            visit.send(b"\x55" * 65536)
            sent += 65536

    with (
        HttpCamera(answer) as server,
        pytest.raises(CameraRefused, match=r"(32|64) MiB without completing a frame"),
    ):
        read(camera(server.url, stall_timeout_s=10.0))
    assert sent < 3 * MAX_FRAME_BYTES


def test_a_transport_stream_over_http(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "x.ts", seconds=4, fps=FPS).read_bytes()

    def answer(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(clip), 1880):
            piece = clip[start : start + 1880]
            visit.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            visit.wait(0.002)
        visit.send(b"0\r\n\r\n")

    with HttpCamera(answer) as server:
        frames = read(camera(server.url), 20)
    assert frames[0].codec == "h264"


def test_a_reader_that_waits_for_a_slow_camera_stops_at_once() -> None:
    with HttpCamera(lambda visit: visit.wait(60)) as server:
        source = camera(server.url, stall_timeout_s=30.0, open_timeout_s=1.0)
        with pytest.raises(CameraUnavailable, match="did not open"):
            read(source)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and any(
            one.name == "capture[porch]" for one in threading.enumerate()
        ):
            time.sleep(0.05)
    assert source.stuck == 0
