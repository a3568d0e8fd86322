"""Redirects and references from a camera or a file to other hosts are not followed."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import av.error
import cv2
import numpy as np
import pytest

from async_motion.capture import CameraSource, CaptureSpec, open_source
from async_motion.errors import CameraRefused, CameraUnavailable
from tests.support import rtsp
from tests.support.capture import read
from tests.support.tls import make_authority
from tests.support.trap import Trap
from tests.support.video import make_clip
from tests.support.wait import eventually


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> list[rtsp.AccessUnit]:
    return rtsp.access_units(make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=4, gop=10))


@pytest.fixture
def trap() -> Iterator[Trap]:
    with Trap() as one:
        yield one
        assert one.caught == []


def camera(url: str, **changes: Any) -> CameraSource:
    values = {"stall_timeout_s": 1.0, "open_timeout_s": 5.0, "decode": "all", **changes}
    return open_source(CaptureSpec(camera="porch", source=url, **values))


def redirect(to: str, *, status: str = "302 Moved", first: str = "RTSP/1.0 ") -> str:
    return f"{first}{status}\r\nCSeq: {{cseq}}\r\nLocation: {to}\r\n\r\n"


def test_ffmpeg_by_itself_follows_an_rtsp_redirect() -> None:
    """If this fails, FFmpeg no longer follows redirects: `capture/ffmpeg/rtsp_proxy.py` can be removed."""
    with (
        Trap() as elsewhere,
        rtsp.Scripted(print, replies={"OPTIONS": redirect(f"rtsp://{elsewhere.place}/x")}) as server,
    ):
        with pytest.raises(av.error.FFmpegError):
            av.open(server.url, options={"rtsp_transport": "tcp"}, timeout=(5, 5))
        eventually(lambda: elsewhere.caught)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("method", ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"])
def test_an_rtsp_redirect(trap: Trap, method: str, transport: str) -> None:
    answer = redirect(f"rtsp://{trap.place}/x")
    with rtsp.Scripted(print, replies={method: answer}) as server:
        source = camera(server.url.replace("://", "://me:geheim@"), transport=transport)
        with pytest.raises(CameraUnavailable) as info:
            read(source)
    assert "geheim" not in str(info.value)
    if method != "PLAY":
        assert isinstance(info.value, CameraRefused)
        assert "another address" in str(info.value)


@pytest.mark.parametrize(
    "answer",
    [
        redirect("{to}", status="300 Choose"),
        redirect("{to}", status="301 Moved"),
        redirect("{to}", status="303 See"),
        redirect("{to}", status="305 Proxy"),
        redirect("{to}", status="399 What"),
        redirect("{to}", first=" \t RT\rSP/1\r.0\t\t"),
        redirect("{to}", status="0302 Moved"),
        redirect("{to}", status="+302 Moved"),
        redirect("{to}", status="\v302Moved"),
        redirect("{to}", status="4294967598 Moved"),
        # After interleaved data, which FFmpeg skips.
        "$\0\0\6RTSP/ " + redirect("{to}"),
        "$\0\0\5RTSP/" + redirect("{to}"),
        # After a request of the server, which FFmpeg answers.
        "OPTIONS rtsp://x RTSP/1.0\r\nCSeq: 9\r\n\r\n" + redirect("{to}"),
        # Inside another response with a wrong Content-Length.
        "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nContent-Length: 0\r\n\r\n" + redirect("{to}"),
    ],
)
def test_an_rtsp_redirect_in_disguise(trap: Trap, answer: str) -> None:
    answer = answer.replace("{to}", f"rtsp://{trap.place}/x")
    with (
        rtsp.Scripted(print, replies={"OPTIONS": answer}) as server,
        pytest.raises(CameraRefused, match="another address"),
    ):
        read(camera(server.url))


@pytest.mark.parametrize("scheme", ["http", "rtsps", "file", "concat", "data", "rtmp"])
def test_an_rtsp_redirect_to_another_protocol(trap: Trap, scheme: str) -> None:
    answer = redirect(f"{scheme}://{trap.place}/x")
    with rtsp.Scripted(print, replies={"DESCRIBE": answer}) as server, pytest.raises(CameraRefused):
        read(camera(server.url))


def test_a_camera_that_sends_us_back_to_itself_is_asked_once() -> None:
    with rtsp.Scripted(print) as server:
        server.replies = {"DESCRIBE": redirect(server.url)}
        with pytest.raises(CameraRefused, match="another address"):
            read(camera(server.url))
        assert server.connections == 1


def test_a_description_that_names_other_hosts(trap: Trap, units: list[rtsp.AccessUnit]) -> None:
    body = (
        f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nu=http://{trap.place}/\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"a=control:rtsp://{trap.place}/all\r\nm=video {trap.port} RTP/AVP 96\r\nc=IN IP4 127.0.0.1\r\n"
        "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n"
        f"a=rtcp:{trap.port} IN IP4 127.0.0.1\r\na=control:rtsp://{trap.place}/track\r\n"
    )
    head = (
        "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nContent-Type: application/sdp\r\n"
        f"Content-Base: rtsp://{trap.place}/base/\r\nContent-Location: rtsp://{trap.place}/there\r\n"
        f"Location: rtsp://{trap.place}/x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with rtsp.Scripted(
        lambda client: client.play(units, pace=4), replies={"DESCRIBE": head + body}
    ) as server:
        assert len(read(camera(server.url), 3)) == 3


def test_a_camera_that_asks_us_to_go_elsewhere_while_it_plays(
    trap: Trap, units: list[rtsp.AccessUnit]
) -> None:
    to = f"rtsp://{trap.place}/x"

    def script(client: rtsp.Client) -> None:
        for number, unit in enumerate(units):
            client.send(unit)
            if number == 10:
                client.say(f"REDIRECT {to} RTSP/1.0\r\nCSeq: 7\r\nLocation: {to}\r\n\r\n".encode())
                client.say(redirect(to).replace("{cseq}", "5").encode())
            client.wait(0.02)

    with rtsp.Scripted(script) as server:
        with pytest.raises(CameraUnavailable):
            read(camera(server.url))
        assert server.connections == 1


@pytest.mark.parametrize("pieces", [1, 3], ids=["at once", "byte by byte"])
def test_media_by_udp_goes_to_the_camera_alone(units: list[rtsp.AccessUnit], pieces: int) -> None:
    """SETUP's response names other hosts as source and destination: only the camera gets packets."""
    with Trap("127.0.0.3") as trap, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media:
        media.bind(("127.0.0.1", 0))
        media.settimeout(10)
        port = media.getsockname()[1]
        transport = (
            f"Transport: RTP/AVP/UDP;unicast;client_port={{ports}};so\rurce={trap.host};"
            f"destination={trap.host};server_port={port}-{port + 1};source={trap.host}"
        )
        heard: list[bytes] = []

        def script(client: rtsp.Client) -> None:
            heard.append(media.recv(100))  # FFmpeg sends a first packet, to open the path through NAT
            for number, unit in enumerate(units * 5):
                for packet in rtsp.rtp_packets(unit, number * 10):
                    media.sendto(packet, ("127.0.0.1", client.port))
                client.wait(0.02)

        with rtsp.Scripted(script, udp=transport, piece=None if pieces == 1 else pieces) as server:
            assert read(camera(server.url, transport="udp"), 3)
        assert heard
        assert trap.caught == []


def test_a_camera_that_names_no_port_for_media_by_udp() -> None:
    """FFmpeg alone would send its RTCP reports to a port of this machine."""
    transport = "Transport: RTP/AVP/UDP;unicast;client_port={ports}"
    with (
        rtsp.Scripted(print, udp=transport) as server,
        pytest.raises(CameraRefused, match=r"names no UDP port for media.*capture\.transport: tcp"),
    ):
        read(camera(server.url, transport="udp"))


def test_a_source_that_is_named_before_it_is_asked_for() -> None:
    early = "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nTransport: RTP/AVP/UDP;unicast;so\rurce=127.0.0.3\r\n\r\n"
    with (
        rtsp.Scripted(print, replies={"OPTIONS": early}) as server,
        pytest.raises(CameraRefused, match="another address for its media"),
    ):
        read(camera(server.url, transport="udp"))


def test_a_camera_that_talks_without_end() -> None:
    endless = "RTSP/1.0 200 OK\r\n" + "X-Padding: " + "x" * 2_000_000
    with (
        rtsp.Scripted(print, replies={"OPTIONS": endless}) as server,
        pytest.raises(CameraRefused, match="sends endless answers"),
    ):
        read(camera(server.url))


def test_rtsps(tmp_path: Path, units: list[rtsp.AccessUnit]) -> None:
    tls = make_authority(tmp_path).server_context()
    with rtsp.Scripted(lambda client: client.play(units, pace=4), tls=tls) as server:
        assert len(read(camera(server.url), 5)) == 5
        assert len(read(camera(server.url, transport="udp"), 5)) == 5
    with (
        rtsp.Scripted(print) as plain,
        pytest.raises(CameraUnavailable, match="TLS"),
    ):
        read(camera(plain.url.replace("rtsp:", "rtsps:"), open_timeout_s=1.0))


def test_the_proxy_ends_with_its_connection(units: list[rtsp.AccessUnit]) -> None:
    def proxies() -> int:
        return sum(thread.name == "rtsp_proxy[porch]" for thread in threading.enumerate())

    async def run(source: CameraSource) -> None:
        frames = source.frames()
        await anext(frames)
        assert proxies() == 1
        await frames.aclose()
        await source.aclose()

    with rtsp.Scripted(lambda client: client.play(units, pace=2)) as server:
        asyncio.run(run(camera(server.url)))
        eventually(lambda: proxies() == 0, what="the proxy's end")
        assert server.connections == 1


# HTTP


class Pointing(BaseHTTPRequestHandler):
    """Sends `answer` (status, headers, body) to every request."""

    answer: tuple[int, dict[str, str], bytes]
    visits = 0

    def do_GET(self) -> None:
        type(self).visits += 1
        status, headers, body = self.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


LISTS = {
    "application/vnd.apple.mpegurl": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{to}/a.ts\n",
    "application/x-mpegurl": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{to}/b.m3u8\n",
    "application/dash+xml": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        '<BaseURL>{to}/</BaseURL><Period><AdaptationSet mimeType="video/mp4"><Representation id="1">'
        "<SegmentList><SegmentURL "
        'media="{to}/s.mp4"/></SegmentList></Representation></AdaptationSet></Period></MPD>'
    ),
    "text/plain": "ffconcat version 1.0\nfile '{to}/c.mp4'\n",
    "application/sdp": "v=0\no=- 0 0 IN IP4 {host}\ns=x\nc=IN IP4 {host}\nt=0 0\nm=video {port} RTP/AVP 96\n",
    "video/x-ms-asf": "[Reference]\nRef1={to}/d.asf\n",
    "video/quicktime": "\0\0\0\x2crmra\0\0\0\x24rmda\0\0\0\x1crdrf\0\0\0\0url \0\0\0\x08{to}",
    "application/smil": '<smil><body><video src="{to}/e.mp4"/></body></smil>',
}


def serve(answer: tuple[int, dict[str, str], bytes]) -> ThreadingHTTPServer:
    handler = type("Handler", (Pointing,), {"answer": answer, "visits": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_an_http_redirect(trap: Trap, status: int) -> None:
    with serve((status, {"Location": f"http://{trap.place}/x", "Content-Length": "0"}, b"")) as server:
        with pytest.raises(CameraUnavailable):
            read(camera(f"http://127.0.0.1:{server.server_port}/video"))
        server.shutdown()


@pytest.mark.parametrize("kind", LISTS)
def test_a_playlist(trap: Trap, tmp_path: Path, kind: str) -> None:
    """Over HTTP, as a file, and as an image in a folder."""
    text = LISTS[kind].format(to=f"http://{trap.place}", host=trap.host, port=trap.port).encode()
    with serve((200, {"Content-Type": kind}, text)) as server:
        with pytest.raises(CameraUnavailable):
            read(camera(f"http://127.0.0.1:{server.server_port}/video"))
        server.shutdown()
    for name in ("list.m3u8", "list.mp4", "list.sdp", "list.mpd", "http:list.mov"):
        (tmp_path / name).write_bytes(text)
        with pytest.raises(CameraUnavailable):
            read(camera(str(tmp_path / name), loop=False))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "concat:a|b.jpg").write_bytes(text)
    (folder / "data:image.png").write_bytes(text)
    with pytest.raises(CameraRefused):
        read(camera(str(folder), loop=False))


def test_multipart_parts_that_name_a_location(trap: Trap) -> None:
    image = np.full((48, 64, 3), 100, np.uint8)
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    part = (
        f"--frame\r\nContent-Type: image/jpeg\r\nContent-Location: http://{trap.place}/x\r\n"
        f"Location: http://{trap.place}/x\r\nContent-Length: {len(jpeg)}\r\n\r\n"
    ).encode() + jpeg
    headers = {
        "Content-Type": "multipart/x-mixed-replace; boundary=frame",
        "Refresh": f"0; url=http://{trap.place}/x",
    }
    with serve((200, headers, (part + b"\r\n") * 5)) as server:
        with pytest.raises(CameraUnavailable):
            read(camera(f"http://127.0.0.1:{server.server_port}/video", fps=float("inf")))
        server.shutdown()
