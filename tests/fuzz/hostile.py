"""Hostile servers: one connection of HTTP or RTSP, drawn for each case."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tests.fuzz.mutate import mutated
from tests.support.rtsp import AccessUnit, rtp_packets

MIB = 1 << 20
MAX_SENT = 1024 * MIB
"""Bytes that one answer sends at most, of the gigabytes that it announces: the service sets the bound."""

Answer = Callable[[socket.socket, random.Random], None]


class Server:
    """Answers each connection with `answer`, which a case may replace."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _connection, _draw: None
        self.seed = ""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def hang_up(self) -> None:
        """Close the connections that are still being answered."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop accepting connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        connection.settimeout(10)
        draw = random.Random(self.seed)
        with connection, suppress(OSError):
            self.answer(connection, draw)
            if draw.random() < 0.8:
                while connection.recv(4096):  # all is sent; keep the connection open
                    pass
        self._open.discard(connection)


# HTTP

PLAYLISTS = (
    "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{trap}\n#EXT-X-ENDLIST\n",
    '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{trap}"\n#EXT-X-MAP:URI="{trap}"\n#EXTINF:2,\na.ts\n',
    "ffconcat version 1.0\nfile '{trap}'\n",
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=control:{trap}\n",
    '<?xml version="1.0"?><MPD><BaseURL>{trap}</BaseURL></MPD>',
    "[Reference]\nRef1={trap}\n",
)

KINDS = (
    "multipart/x-mixed-replace; boundary=frame",
    "multipart/x-mixed-replace",
    "multipart/x-mixed-replace; boundary=" + "b" * 5000,
    "image/jpeg",
    "video/mp2t",
    "video/mp4",
    "application/vnd.apple.mpegurl",
    "text/html",
    "\xff\xfe",
)


def http(connection: socket.socket, draw: random.Random, files: dict[str, bytes], trap: str) -> None:
    """Answer a GET with a response that no camera would send."""
    connection.recv(4096)
    jpeg = files["still.jpg"]
    mode = draw.choice(
        ("multipart", "multipart", "bytes", "list", "large", "headers", "part", "redirect", "dimensions")
    )
    if mode == "headers":
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        for number in range(20_000):
            connection.sendall(f"X-{number}: ".encode() + b"y" * draw.choice((1, 200, 5000)) + b"\r\n")
        return
    if mode == "redirect":
        status = draw.choice((301, 302, 303, 307, 308))
        connection.sendall(f"HTTP/1.1 {status} x\r\nLocation: {trap}\r\n\r\n".encode())
        return
    kind = draw.choice(KINDS) if draw.random() < 0.3 else KINDS[0]
    extra = draw.choice(
        (
            "",
            "",
            "",
            "",
            "",
            "",
            f"Location: {trap}\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\n",
        )
    )
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{extra}\r\n".encode("latin-1")
    if draw.random() < 0.1:
        head = mutated(draw, head, jpeg, trap)
    connection.sendall(head)
    if mode == "bytes":
        name = draw.choice(sorted(files))
        connection.sendall(mutated(draw, files[name], files[draw.choice(sorted(files))], trap))
    elif mode == "list":
        connection.sendall(mutated(draw, draw.choice(PLAYLISTS).encode(), jpeg, trap))
    elif mode == "large":
        announced = draw.choice((1 << 30, (1 << 31) - 1, 1 << 32, -1, 10**30))
        connection.sendall(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % announced)
        _pour(connection, jpeg[:200] + bytes(64 * 1024))
    elif mode == "part":
        # Neither a length nor an end: the reader cannot tell where this part stops.
        connection.sendall(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n")
        _pour(connection, jpeg[:-2])
    elif mode == "dimensions":
        at = jpeg.index(b"\xff\xc0") + 5
        for side in (b"\xff\xff\xff\xff", b"\x40\0\x40\0", b"\0\0\0\0", b"\0\1\xff\xff"):
            _part(connection, jpeg[:at] + side + jpeg[at + 4 :])
    else:
        rate = draw.choice((0.0, 0.01, 0.05, 0.3))
        # Until the reader hangs up: FFmpeg needs several parts before it returns the first.
        for _ in range(1000):
            time.sleep(0.004)
            broken, border = jpeg, "--frame"
            length: int | None = len(jpeg)
            if draw.random() < rate:
                broken = mutated(draw, jpeg, files["mjpeg.avi"], trap)
                length = len(broken)
            if draw.random() < rate / 4:
                length = draw.choice((None, 0, 1, len(broken) * 3, -5))
            if draw.random() < rate / 8:
                border = draw.choice(("--", "", "--frame--"))
            _part(connection, broken, length, border)


def _part(connection: socket.socket, jpeg: bytes, length: int | None = -1, border: str = "--frame") -> None:
    said = len(jpeg) if length == -1 else length
    line = "" if said is None else f"Content-Length: {said}\r\n"
    connection.sendall(f"{border}\r\nContent-Type: image/jpeg\r\n{line}\r\n".encode() + jpeg + b"\r\n")


def _pour(connection: socket.socket, data: bytes) -> None:
    sent = 0
    while sent < MAX_SENT:
        connection.sendall(data)
        sent += len(data)


def damaged(connection: socket.socket, draw: random.Random, jpeg: bytes) -> None:
    """Send one JPEG repeatedly, often damaged: every frame shown must be the undamaged one."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
    for _ in range(1000):
        time.sleep(0.004)
        start = draw.randrange(len(jpeg) // 3, len(jpeg) * 3 // 4)
        # A small cut may leave the same number of blocks: 3 of 300 cuts of a larger JPEG were not noticed.
        end = draw.randrange(start + len(jpeg) // 5, len(jpeg) - 10)
        one = draw.choice(
            (
                jpeg,
                jpeg[:start],
                jpeg[:start] + bytes(len(jpeg) - start),
                jpeg[:start] + jpeg[-2:],
                jpeg[:start] + jpeg[end:],
                b"",
            )
        )
        _part(connection, one, draw.choice((None, len(one), 0)))


# RTSP

CODECS = (
    "H264/90000",
    "H265/90000",
    "JPEG/90000",
    "MP4V-ES/90000",
    "MPV/90000",
    "VP8/90000",
    "VP9/90000",
    "AV1/90000",
    "H263-1998/90000",
    "theora/90000",
    "raw/90000",
    "X-QT/90000",
    "SV3V-ES/90000",
    "x-asf-pf/1000",
    "jpeg2000/90000",
    "H264/0",
    "H264/4294967295",
)


def rtsp(connection: socket.socket, draw: random.Random, units: list[AccessUnit], trap: str) -> None:
    """Answer RTSP's requests, sometimes wrongly, then play damaged media."""
    reader = connection.makefile("rb")
    wrong = draw.choice((*[None] * 9, "OPTIONS", "DESCRIBE", "SETUP", "PLAY"))
    with reader:
        while line := reader.readline():
            method, cseq = line.split(b" ")[0].decode("latin-1"), b"0"
            while (header := reader.readline()).strip():
                if header.lower().startswith(b"cseq:"):
                    cseq = header[5:].strip()
            answer = _answer(draw, method, cseq, trap)
            if method == wrong:
                answer = _wrong(draw, answer, cseq, trap)
            connection.sendall(answer)
            if method == "PLAY":
                _play(connection, draw, units, trap)
                return


PLAIN_SDP = (
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:video\r\n"
)
WRAP_S = (1 << 32) / 90_000
"""After this time RTP timestamps begin again."""


def odd_times(connection: socket.socket, draw: random.Random, units: list[AccessUnit]) -> None:
    """Answer RTSP's requests, then play undamaged media in real time, with wrong timestamps."""
    reader = connection.makefile("rb")
    with reader:
        while line := reader.readline():
            method, cseq = line.split(b" ")[0], b"0"
            while (header := reader.readline()).strip():
                if header.lower().startswith(b"cseq:"):
                    cseq = header[5:].strip()
            body = PLAIN_SDP if method == b"DESCRIBE" else b""
            head = b"RTSP/1.0 200 OK\r\nCSeq: " + cseq + b"\r\nSession: 1;timeout=60\r\n"
            if method == b"SETUP":
                head += b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            kind = b"Content-Type: application/sdp\r\n" if body else b""
            connection.sendall(head + kind + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            if method == b"PLAY":
                _play_oddly(connection, draw, units)
                return


def _play_oddly(connection: socket.socket, draw: random.Random, units: list[AccessUnit]) -> None:
    said = _wrong_times(draw)
    reports = draw.choice((0.0, 0.1))
    sequence = 0
    for number in range(200):
        time.sleep(0.02)
        if draw.random() < reports:  # a sender report (RFC 3550, 6.4.1) with any times
            report = b"\x80\xc8\0\x06\x12\x34\x56\x78" + draw.randbytes(20)
            connection.sendall(b"$\x01" + len(report).to_bytes(2) + report)
        unit = units[number % len(units)]
        at_s = said(number, number * 0.02) % WRAP_S
        for packet in rtp_packets(AccessUnit(unit.nals, at_s, key=unit.key), sequence):
            connection.sendall(b"$\0" + len(packet).to_bytes(2) + packet)
            sequence += 1


def _wrong_times(draw: random.Random) -> Callable[[int, float], float]:
    """Return a function (number of a frame, its true time in seconds) -> the time that its timestamp says."""
    away = draw.choice((25.0, 3600.0, 37_600.0, 47_000.0)) * draw.choice((-1, 1))
    since, every = draw.randrange(2, 50), draw.randrange(2, 30)
    rate = draw.choice((0.3, 0.84, 0.99, 1.01, 1.2, 4.0))
    return draw.choice(
        (
            lambda number, at: at + away * (number == since),
            lambda number, at: at + away * (number % every == 0),
            lambda number, at: at + away * (number >= since),
            lambda number, at: at + away * (number // every % 2),
            lambda _, at: at * rate,
            lambda _, at: min(at, since * 0.02),
            lambda _, at: WRAP_S - 0.5 + at,
            lambda _, at: WRAP_S / 2 - 0.5 + at,
            lambda number, at: at - 0.1 * (number % every),
        )
    )


def _answer(draw: random.Random, method: str, cseq: bytes, trap: str) -> bytes:
    head, body = b"RTSP/1.0 200 OK\r\nCSeq: " + cseq + b"\r\nSession: 1;timeout=60\r\n", b""
    if method == "DESCRIBE":
        body = _sdp(draw, trap)
        head += b"Content-Type: application/sdp\r\n"
        if draw.random() < 0.2:
            head += f"Content-Base: rtsp://{trap.rpartition('/')[2]}/\r\n".encode()
    elif method == "SETUP":
        head += b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _sdp(draw: random.Random, trap: str) -> bytes:
    fmtp = draw.choice(
        (
            "packetization-mode=1",
            "packetization-mode=1;sprop-parameter-sets=Z0IAHpWoKA9k,aM48gA==",
            "packetization-mode=255;sprop-parameter-sets=" + "A" * draw.choice((3, 1000, 20_000)),
            "sprop-vps=QAE=;sprop-sps=QgE=;sprop-pps=RAE=;sprop-max-don-diff=32767",
            "config=000001B003000001B509000001000000012000C48881F4514043C1463F;profile-level-id=3",
        )
    )
    media = "".join(
        f"m=video 0 RTP/AVP {draw.choice((*[96] * 12, 26, 32, 33, 200, -1))}\r\n"
        f"a=rtpmap:96 {draw.choice(CODECS) if draw.random() < 0.4 else CODECS[0]}\r\na=fmtp:96 {fmtp}\r\n"
        f"a=framesize:96 {draw.choice((*['96-64'] * 5, '65535-65535'))}\r\n"
        f"a=control:{draw.choice(('video', 'video', trap, 'x' * 3000, ''))}\r\n"
        for _ in range(draw.choice((*[1] * 9, 2, 200)))
    )
    sdp = f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n{media}".encode()
    return mutated(draw, sdp, sdp, trap) if draw.random() < 0.3 else sdp


def _wrong(draw: random.Random, answer: bytes, cseq: bytes, trap: str) -> bytes:
    place = trap.rpartition("/")[2]
    return draw.choice(
        (
            lambda: mutated(draw, answer, answer, trap),
            lambda: (
                b"RTSP/1.0 302 Moved\r\nCSeq: " + cseq + f"\r\nLocation: rtsp://{place}/x\r\n\r\n".encode()
            ),
            lambda: answer.replace(b"Content-Length: ", b"Content-Length: 99999999"),
            lambda: b"RTSP/1.0 200 OK\r\n" + b"X: y\r\n" * 100_000,
            lambda: b"$\0\xff\xff" + draw.randbytes(70_000),
            lambda: (
                b"RTSP/1.0 401 No\r\nCSeq: "
                + cseq
                + b'\r\nWWW-Authenticate: Digest realm="'
                + b"r" * 9000
                + b'"\r\n\r\n'
            ),
            lambda: b"",
        )
    )()


def _play(connection: socket.socket, draw: random.Random, units: list[AccessUnit], trap: str) -> None:
    sequence = draw.choice((0, 65_530))
    rate = draw.choice((0.0, 0.02, 0.2, 0.9))
    slips = draw.choice((0.0, 0.0, 0.05, 0.5))
    endless = draw.randrange(20, 200) if draw.random() < 0.2 else -1
    pace = draw.choice((1.0, 1.0, 1.0, 0.84, 0.0))
    for number in range(1000):
        time.sleep(0.004)
        unit = units[number % len(units)]
        if number == endless:
            _endless_unit(connection, sequence)
        at_s = pace * number / 10 * (draw.choice((0, -1, 1e9)) if draw.random() < slips else 1)
        if draw.random() < slips / 5:
            at_s += 37_600.0
        unit = AccessUnit(unit.nals, at_s, key=unit.key)
        packets = rtp_packets(unit, sequence)
        sequence += len(packets)
        for whole in packets:
            packet = whole
            if draw.random() < rate:
                packet = draw.choice(
                    (
                        b"",
                        packet * 2,
                        packet[: draw.randrange(len(packet))],
                        packet[:12] + draw.randbytes(draw.choice((0, 1, 2, 500))),
                        mutated(draw, packet, packet, trap),
                        mutated(draw, packet, packet, trap),
                        mutated(draw, packet, packet, trap),
                    )
                )
            channel = draw.choice((0, 1, 255)) if draw.random() < rate / 4 else 0
            length = draw.randrange(65_536) if draw.random() < rate / 20 else len(packet) & 0xFFFF
            connection.sendall(b"$" + bytes([channel]) + length.to_bytes(2, "big") + packet[:65_535])
        if draw.random() < rate / 50:
            connection.sendall(
                draw.choice(
                    (
                        b"RTSP/1.0 200 OK\r\nCSeq: 5\r\nContent-Length: 2000000000\r\n\r\n",
                        f"REDIRECT {trap} RTSP/1.0\r\nCSeq: 9\r\nLocation: {trap}\r\n\r\n".encode(),
                        b"SET_PARAMETER * RTSP/1.0\r\nCSeq: 9\r\nContent-Length: 30000000\r\n\r\n",
                        b"\r\n" * 1000,
                    )
                )
            )


def _endless_unit(connection: socket.socket, sequence: int) -> None:
    """Send an access unit (FU-A, RFC 6184) that never ends."""
    head = (9_000_000).to_bytes(4) + b"\x12\x34\x56\x78"
    sent = 0
    while sent < MAX_SENT:
        start = 0x80 if not sent else 0
        packet = bytes([0x80, 96]) + (sequence & 0xFFFF).to_bytes(2) + head + bytes([0x7C, start | 5])
        packet += b"\x55" * 60_000
        connection.sendall(b"$\0" + len(packet).to_bytes(2) + packet)
        sent += len(packet)
        sequence += 1
