"""Which RTSP answers reach FFmpeg before PLAY; `integration/test_reach.py` tests it with FFmpeg itself."""

from __future__ import annotations

import hashlib
import re
import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.capture.address import Address, parse
from async_motion.capture.connect import connect
from async_motion.capture.ffmpeg import rtsp_proxy
from async_motion.capture.ffmpeg.media_relay import MediaRelay
from async_motion.capture.ffmpeg.rtsp_proxy import (
    CHUNK,
    MAX_TALK,
    LoginTranslator,
    _Handshake,
    _pointed_at,
)
from async_motion.capture.login import Login
from async_motion.capture.meter import ByteMeter
from async_motion.capture.sockets import CameraSockets
from async_motion.capture.spec import CaptureSpec
from async_motion.errors import CameraRefused, CameraUnavailable


def atoi(word: bytes) -> int:
    """Return the integer that C's `atoi` parses at the start of `word`."""
    found = re.match(rb"[ \t\v\f\r\n]*([+-]?\d+)", word)
    return int(found[1]) if found else 0


def statuses(data: bytes) -> list[int]:
    """Return the status of each complete answer that FFmpeg's parser would find in `data`."""
    seen: list[int] = []
    at = 0

    def line() -> bytes:
        nonlocal at
        found = b""
        while True:
            byte = data[at : at + 1]
            if not byte:
                raise EOFError
            at += 1
            if byte == b"\n":
                return found.partition(b"\0")[0]
            if byte == b"$" and not found:
                at += 3 + int.from_bytes(data[at + 1 : at + 3], "big")
            elif byte != b"\r" and len(found) < 4095:
                found += byte

    try:
        while True:
            status, length = 0, 0
            if first := line():
                words = [word for word in re.split(rb"[ \t]+", first) if word]
                if words and words[0].startswith(b"RTSP/") and len(words) > 1:
                    status = atoi(words[1])
                while header := line():
                    if header.lower().startswith(b"content-length:"):
                        length = atoi(header[15:])
            seen.append(status)
            at += max(0, length)
    except EOFError:
        return seen


PIECES = st.sampled_from(
    [
        b"RTSP/1.0 302 Moved\r\n",
        b"RTSP/1.0 200 OK\r\n",
        b"RTSP/",
        b"RT\rSP/",
        b"1.0",
        b" ",
        b"\t",
        b"302",
        b"200",
        b"3",
        b"+",
        b"0",
        b"\v",
        b"\0",
        b"\r",
        b"\n",
        b"\r\n",
        b"$\0\0\4",
        b"$\0\0\6RTSP/ ",
        b"abcd",
        b"CSeq: 1\r\n",
        b"Content-Length: 4\r\n",
        b"OPTIONS * RTSP/1.0\r\n",
    ]
)


@given(st.lists(PIECES, max_size=30).map(b"".join), st.integers(1, 40))
def test_no_answer_that_leads_away_is_heard_to_its_end(data: bytes, step: int) -> None:
    talk = _Handshake(None)
    heard = b""
    try:
        for start in range(0, len(data), step):
            heard += talk.answered(data[start : start + step])
    except CameraRefused:
        pass
    else:
        assert heard == data
    assert not [status for status in statuses(heard) if 300 <= status < 400]


@pytest.mark.parametrize(
    "head",
    [
        "RTSP/1.0 200 OK",
        "RTSP/1.0 401 Unauthorized",
        "RTSP/1.0 454 Session Not Found",
        "RTSP/1.0 503 Busy",
        "RTSP/1.0 200 OK\r\nServer: Acme RTSP/2.0 Media Server",
        "RTSP/1.0 200 OK\r\nServer: GStreamer RTSP server",
    ],
)
def test_what_cameras_say_passes_as_it_is(head: str) -> None:
    answer = f"{head}\r\nCSeq: 1\r\n\r\n".encode()
    assert _Handshake(None).answered(answer) == answer
    assert _Handshake(MediaRelay("192.0.2.1", socket.AF_INET, ByteMeter())).answered(answer) == answer


def test_the_source_of_media_is_the_camera_itself_whatever_the_pieces() -> None:
    answer = (
        b"RTSP/1.0 200 OK\r\nTransport: RTP/AVP;unicast;so\rurce=198.51.100.7;server_port=5000-5001\r\n\r\n"
    )
    for step in range(1, len(answer) + 1):
        with MediaRelay("192.0.2.1", socket.AF_INET, ByteMeter()) as media:
            talk = _Handshake(media)
            asked = media.asked(
                b"SETUP rtsp://x RTSP/1.0\r\nTransport: RTP/AVP;client_port=6000-6001\r\n\r\n"
            )
            assert not talk.asked(asked)
            ports = asked.partition(b"client_port=")[2].strip()
            heard = b"".join(talk.answered(answer[at : at + step]) for at in range(0, len(answer), step))
            heard += talk.rest()
        assert ports != b"6000-6001"
        assert b"source=198" not in heard
        assert b";source=127.0.0.1;server_port=" + ports + b";" in heard


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize("port", [b"", b";server_port=5000-5001"])
def test_media_by_udp_is_refused_without_a_server_port(port: bytes, step: int) -> None:
    answer = b"RTSP/1.0 200 OK\r\nTransport: RTP/AVP;unicast;client_port=6000-6001" + port + b"\r\n\r\n"
    by_udp, by_tcp = _Handshake(MediaRelay("192.0.2.1", socket.AF_INET, ByteMeter())), _Handshake(None)
    for talk in (by_udp, by_tcp):
        assert not talk.asked(b"SETUP rtsp://x RTSP/1.0\r\n\r\n")
        for at in range(0, len(answer), step):
            talk.answered(answer[at : at + step])
    play = b"PLAY rtsp://x RTSP/1.0\r\n"
    assert by_tcp.asked(play)
    if port:
        assert by_udp.asked(play)
    else:
        with pytest.raises(CameraRefused, match=r"capture\.transport: tcp"):
            by_udp.asked(play)


def test_talk_has_an_end() -> None:
    talk = _Handshake(None)
    talk.answered(bytes(MAX_TALK))
    with pytest.raises(CameraRefused, match="endless answers"):
        talk.answered(b"x")


@pytest.mark.parametrize("endless", [b"RTSP/", b"RTSP/ ", b"RTSP/\t\t"])
def test_no_answer_is_slow_to_look_through(endless: bytes) -> None:
    data = endless * (CHUNK // len(endless))
    began = time.thread_time()
    _Handshake(None).answered(data)
    assert time.thread_time() - began < 2, "of milliseconds; each that is more stops the whole service"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def test_a_camera_that_hangs_up_at_once_is_unavailable(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hung_up(address: Address, within_s: float, sockets: CameraSockets) -> socket.socket:
        ours = connect(address, within_s, sockets)
        theirs, _ = listener.accept()
        # With a linger time of 0, `close` sends a reset (RST).
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        select.select([ours], [], [], 60)
        opened.append(ours)
        return ours

    opened: list[socket.socket] = []
    monkeypatch.setattr(rtsp_proxy, "connect", hung_up)
    spec = spec_of(listener, "rtsp", transport="udp")
    with pytest.raises(CameraUnavailable, match="cannot be reached") as caught:
        rtsp_proxy.RtspProxy(parse(spec.source), spec)
    assert "geheim" not in str(caught.value)
    assert opened[0].fileno() == -1


def spec_of(listener: socket.socket, scheme: str, **changes: Any) -> CaptureSpec:
    port = listener.getsockname()[1]
    return CaptureSpec(camera="porch", source=f"{scheme}://u:geheim@127.0.0.1:{port}/s", **changes)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rtsp://192.0.2.1/s", "rtsp://127.0.0.1:9/s"),
        ("rtsps://u:p%40@cam:322/s?x=a@b", "rtsp://u:p%40@127.0.0.1:9/s?x=a@b"),
        ("rtsp://u:p@x@[2001:db8::1]:554", "rtsp://u:p@x@127.0.0.1:9"),
    ],
)
def test_the_login_and_the_path_stay(url: str, expected: str) -> None:
    assert _pointed_at(url, "127.0.0.1:9") == expected


@given(realm=st.text(st.sampled_from('ab\\",= Digest\t'), max_size=30))
def test_no_realm_ends_the_login(realm: str) -> None:
    translator = LoginTranslator(Login("viewer", "secret"))
    translator.answered(
        b'RTSP/1.0 401 No\r\nWWW-Authenticate: Digest algorithm="SHA-256", nonce="5a", realm="%s"\r\n\r\n'
        % realm.encode()
    )
    # FFmpeg unescapes the realm, and repeats it as it is.
    said = re.sub(r"\\(.)", r"\1", realm)
    request = f'DESCRIBE rtsp://h/x RTSP/1.0\r\nAuthorization: Digest realm="{said}", response="0"\r\n\r\n'
    assert translator.asked(request.encode()).startswith(b"DESCRIBE rtsp://h/x RTSP/1.0\r\n")


def test_a_realm_in_any_charset_logs_in() -> None:
    realm = "Hof für Gäste"
    translator = LoginTranslator(Login("viewer", "secret"))
    translator.answered(
        b'RTSP/1.0 401 No\r\nWWW-Authenticate: Digest algorithm=SHA-256, nonce="5a", realm="%s"\r\n\r\n'
        % realm.encode()
    )
    request = (
        f'DESCRIBE rtsp://h/ü RTSP/1.0\r\nAuthorization: Digest username="viewer", realm="{realm}", '
        'nonce="5a", uri="rtsp://h/ü", response="0", algorithm="MD5"\r\n\r\n'
    )

    def sha256(*parts: str) -> str:
        return hashlib.sha256(":".join(parts).encode()).hexdigest()

    response = sha256(sha256("viewer", realm, "secret"), "5a", sha256("DESCRIBE", "rtsp://h/ü"))
    sent = translator.asked(request.encode()).decode()
    assert f'response="{response}"' in sent
    assert f'realm="{realm}"' in sent
