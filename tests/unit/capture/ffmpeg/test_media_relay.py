"""RTP over UDP between FFmpeg and a camera, both played by sockets; `test_rtsp.py` has FFmpeg itself."""

from __future__ import annotations

import re
import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from async_motion.capture.ffmpeg.media_relay import MediaRelay
from async_motion.capture.meter import ByteMeter
from async_motion.errors import CameraRefused


class Stage:
    """A relay, FFmpeg's two sockets, and the camera's two, all on the loopback."""

    def __init__(self, stack: ExitStack, meter: ByteMeter, host: str = "127.0.0.1") -> None:
        def pair(address: str) -> list[socket.socket]:
            sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in "12"]
            for one in sockets:
                one.bind((address, 0))
                one.settimeout(30)
            return sockets

        self.ffmpeg, self.camera = pair("127.0.0.1"), pair("127.0.0.1")
        self.selector = stack.enter_context(selectors.DefaultSelector())
        self.relay = stack.enter_context(MediaRelay(host, socket.AF_INET, meter))
        self.relay.register(self.selector)
        self.request = b"Transport: RTP/AVP;client_port=%d-%d\r\n" % self.ports(self.ffmpeg)
        found = re.search(rb"client_port=(\d+)-(\d+)", self.relay.asked(self.request))
        assert found is not None
        self.at = [("127.0.0.1", int(port)) for port in found.groups()]
        self.relay.answered(b"Transport: RTP/AVP;server_port=%d-%d\r\n" % self.ports(self.camera))

    @staticmethod
    def ports(sockets: list[socket.socket]) -> tuple[int, ...]:
        return tuple(one.getsockname()[1] for one in sockets)

    def turn(self) -> None:
        """Wait for packets and pass them on."""
        ready: set[object] = {key.fileobj for key, _ in self.selector.select(30)}
        self.relay.pass_on(ready)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.mark.parametrize("index", [0, 1], ids=["RTP", "RTCP"])
def test_packets_pass_both_ways(stack: ExitStack, index: int) -> None:
    stage = Stage(stack, ByteMeter())
    stage.camera[index].sendto(b"media", stage.at[index])
    stage.turn()
    assert stage.ffmpeg[index].recvfrom(100) == (b"media", stage.at[index])
    stage.ffmpeg[index].sendto(b"report", stage.at[index])
    stage.turn()
    assert stage.camera[index].recvfrom(100) == (b"report", stage.at[index])


def test_the_ports_of_a_track_are_even_and_the_next_and_stay(stack: ExitStack) -> None:
    stage = Stage(stack, ByteMeter())
    rtp, rtcp = (port for _, port in stage.at)
    assert (rtp % 2, rtcp) == (0, rtp + 1)
    again = stage.relay.asked(stage.request)
    assert b"client_port=%d-%d" % (rtp, rtcp) in again, "a login asks a second time"
    assert stage.relay.transport.endswith(b"server_port=%d-%d;camera_port=" % (rtp, rtcp))


def test_another_host_is_not_heard(stack: ExitStack) -> None:
    stage = Stage(stack, ByteMeter(), host="127.0.0.9")
    stage.camera[0].sendto(b"forged", stage.at[0])
    stage.turn()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as camera:
        camera.bind(("127.0.0.9", 0))
        camera.sendto(b"media", stage.at[0])
        stage.turn()
    assert stage.ffmpeg[0].recv(100) == b"media"


def test_a_frame_that_never_ends_is_bounded(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("async_motion.capture.meter.MAX_FRAME_BYTES", 100_000)
    meter = ByteMeter()
    meter.reset()
    stage = Stage(stack, meter)
    for _ in range(9):
        stage.camera[0].sendto(bytes(10_000), stage.at[0])
        stage.turn()
    meter.reset()
    for _ in range(10):
        stage.camera[0].sendto(bytes(10_000), stage.at[0])
        stage.turn()
    stage.camera[0].sendto(b"x", stage.at[0])
    with pytest.raises(CameraRefused, match="without completing a frame"):
        stage.turn()


def test_reports_wait_for_the_ports_of_the_camera(stack: ExitStack) -> None:
    stage = Stage(stack, ByteMeter())
    stage.relay.answered(b"Transport: RTP/AVP;server_port=99999-0\r\n")
    stage.ffmpeg[0].sendto(b"punch", stage.at[0])
    stage.turn()
    stage.relay.answered(b"Transport: RTP/AVP;server_port=%d\r\n" % stage.ports(stage.camera)[0])
    stage.ffmpeg[0].sendto(b"again", stage.at[0])
    stage.turn()
    assert stage.camera[0].recv(100) == b"again"
