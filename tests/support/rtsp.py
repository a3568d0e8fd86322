"""RTSP servers for tests.

There are three, because none covers everything. `gstreamer` (Debian's: TCP, UDP, basic auth) and `toolkit`
(from pip, TCP only) are processes that can be frozen with SIGSTOP. `Scripted` runs in this process and sends
exactly the packets, valid or not, that a test wants.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import av
from av.bitstream import BitStreamFilterContext

from tests.support.ports import free_port

SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = str(Path(__file__).with_name("rtsp_server.py"))


class Server:
    """A server process that can be stopped, resumed and killed."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def stop(self) -> None:
        """Freeze the process: its connections stay open without traffic."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@contextmanager
def _serve(command: list[str], port: int) -> Iterator[Server]:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    server = Server(process, port)
    try:
        deadline = time.monotonic() + 20
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                said = process.stderr.read().decode(errors="replace") if process.stderr else ""
                raise RuntimeError(f"the RTSP server did not start: {said[-2000:]}")
            time.sleep(0.02)
        yield server
    finally:
        server.kill()
        if process.stderr:
            process.stderr.close()


def has_gstreamer() -> bool:
    """Return whether Debian's GStreamer RTSP server is installed."""
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    try:
        return subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def gstreamer(
    clip: Path, *, port: int | None = None, login: str | None = None, codec: str = "h264"
) -> Iterator[Server]:
    """Serve `clip` as `/clip`, from its start for each client; `login` is `user:password`.

    `clip` is an MP4 with `codec` h264 or hevc, or an AVI with mjpeg.
    """
    chosen = port or free_port()
    command = [SYSTEM_PYTHON, SERVER, "gstreamer", str(clip), str(chosen), login or "", codec]
    with _serve(command, chosen) as server:
        yield server


@contextmanager
def toolkit(folder: Path, *, port: int | None = None) -> Iterator[Server]:
    """Serve each MP4 of `folder` as `/<name>` over TCP; `/<name>/play_count_0` repeats it forever."""
    chosen = port or free_port()
    with _serve([sys.executable, SERVER, "toolkit", str(folder), str(chosen)], chosen) as server:
        yield server


# The scripted server.


class AccessUnit:
    """The NAL units of one access unit, with its time in seconds."""

    def __init__(self, nals: list[bytes], at_s: float, *, key: bool) -> None:
        self.nals = nals
        self.at_s = at_s
        self.key = key


def access_units(clip: Path) -> list[AccessUnit]:
    """Return the access units of an H.264 clip, each keyframe with its parameter sets."""
    units: list[AccessUnit] = []
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        annexb = BitStreamFilterContext("h264_mp4toannexb", stream)
        for packet in container.demux(stream):
            at_s = float(packet.pts * packet.time_base) if packet.pts is not None else 0.0
            key = packet.is_keyframe
            for out in annexb.filter(packet) if packet.size else []:
                parts = bytes(out).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
                units.append(AccessUnit([part for part in parts if part], at_s, key=key))
    return units


def rtp_packets(unit: AccessUnit, sequence: int, *, most: int = 1200) -> list[bytes]:
    """Return one access unit as RTP packets (RFC 6184; FU-A for NAL units above `most` bytes)."""
    payloads: list[bytes] = []
    for nal in unit.nals:
        if len(nal) <= most:
            payloads.append(nal)
            continue
        head, body = nal[0], nal[1:]
        pieces = [body[i : i + most] for i in range(0, len(body), most)]
        for number, piece in enumerate(pieces):
            start, end = number == 0, number == len(pieces) - 1
            fu = bytes([(head & 0xE0) | 28, (start << 7) | (end << 6) | (head & 0x1F)])
            payloads.append(fu + piece)
    packets = []
    ticks = int(unit.at_s * 90000) & 0xFFFFFFFF
    for number, payload in enumerate(payloads):
        marker = 0x80 if number == len(payloads) - 1 else 0
        header = bytes([0x80, 96 | marker]) + ((sequence + number) & 0xFFFF).to_bytes(2, "big")
        packets.append(header + ticks.to_bytes(4, "big") + b"\x12\x34\x56\x78" + payload)
    return packets


class Client:
    """One connection after `PLAY`, through which a script sends. `port` is the client's UDP media port."""

    def __init__(
        self, connection: socket.socket, stopping: threading.Event, port: int, channel: int = 0
    ) -> None:
        self._connection = connection
        self._channel = bytes([channel])
        self._stopping = stopping
        self._sequence = 0
        self.port = port

    def say(self, data: bytes) -> None:
        """Send these bytes unchanged."""
        self._connection.sendall(data)

    def reset(self) -> None:
        """Reset the connection."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def send(
        self, unit: AccessUnit, *, spoil: Callable[[bytes], bytes | None] = lambda packet: packet
    ) -> None:
        """Send one access unit now; `spoil` may change a packet, or drop it by returning None."""
        packets = rtp_packets(unit, self._sequence)
        self._sequence += len(packets)
        for packet in packets:
            if (spoilt := spoil(packet)) is not None:
                self._connection.sendall(b"$" + self._channel + len(spoilt).to_bytes(2, "big") + spoilt)

    def wait(self, seconds: float) -> None:
        """Wait. Raises ConnectionError if the server is closed meanwhile."""
        if self._stopping.wait(seconds):
            raise ConnectionError("the test is over")

    def play(
        self,
        units: list[AccessUnit],
        *,
        start_s: float = 0.0,
        pace: float = 1.0,
        spoil: Callable[[bytes], bytes | None] = lambda packet: packet,
    ) -> float:
        """Send access units at `pace` times real time, the first at PTS `start_s`; return the end's PTS."""
        began = time.monotonic()
        step = units[1].at_s - units[0].at_s if len(units) > 1 else 0.1
        at_s = start_s
        for unit in units:
            at_s = start_s + unit.at_s - units[0].at_s
            self.wait(max(0.0, began + (at_s - start_s) / pace - time.monotonic()))
            self.send(AccessUnit(unit.nals, at_s, key=unit.key), spoil=spoil)
        return at_s + step


Script = Callable[[Client], object]


class Scripted:
    """An RTSP server in a thread, TCP only. `script` serves one client at a time; its return closes.

    `status` is DESCRIBE's status. `replies` maps a method to a whole response that replaces the usual one;
    `{cseq}` in it is replaced by the request's CSeq. `tls` makes it rtsps. `udp` is the Transport header of
    SETUP's response for media by UDP, with `{ports}` for the client's. `piece` is the maximum number of
    response bytes sent at once. `connections` counts. `digest` names the digest algorithms for a login as
    `viewer` with `secret`. `mute_track`: the first of two video tracks never sends. `parameter_sets` (SPS and
    PPS) go into the SDP.
    """

    def __init__(
        self,
        script: Script,
        *,
        status: str = "200 OK",
        replies: Mapping[str, str] = MappingProxyType({}),
        tls: ssl.SSLContext | None = None,
        udp: str | None = None,
        piece: int | None = None,
        digest: Sequence[str] = (),
        mute_track: bool = False,
        parameter_sets: Sequence[bytes] = (),
    ) -> None:
        self.parameter_sets = parameter_sets
        self.script = script
        self.digest = digest
        self.mute_track = mute_track
        self.status = status
        self.replies = replies
        self.tls = tls
        self.udp = udp
        self.piece = piece
        self.connections = 0
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"rtsp{'s' if self.tls else ''}://127.0.0.1:{self.port}/cam"

    def close(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        with suppress(OSError):
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
        with connection, suppress(OSError):
            reader = connection.makefile("rb")
            ports = "0-1"
            while (request := self._request(reader)) is not None:
                method, headers = request
                ports = headers.get("transport", f"client_port={ports}").partition("client_port=")[2] or ports
                answer = self._answer(method, headers.get("cseq", "0"), ports)
                if self.mute_track and headers["url"].endswith("video"):
                    answer = answer.replace(b"interleaved=0-1", b"interleaved=2-3")
                if self.digest and not self._is_allowed(method, headers.get("authorization", "")):
                    answer = self._challenge(headers.get("cseq", "0"))
                    method = "refused"
                piece = self.piece or len(answer)
                for start in range(0, len(answer), piece):
                    connection.sendall(answer[start : start + piece])
                if method == "PLAY":
                    port = int(ports.partition("-")[0])
                    self.script(Client(connection, self._stopping, port, 2 if self.mute_track else 0))
                    return
                if method == "TEARDOWN":
                    return

    def _sprop(self) -> str:
        sets = ",".join(base64.b64encode(one).decode() for one in self.parameter_sets)
        return f";sprop-parameter-sets={sets}" if sets else ""

    def _challenge(self, cseq: str) -> bytes:
        offers = "".join(
            f'WWW-Authenticate: Digest realm="cam", nonce="5ae62bb6", algorithm={one}\r\n'
            for one in self.digest
        )
        return f"RTSP/1.0 401 Unauthorized\r\nCSeq: {cseq}\r\n{offers}\r\n".encode()

    def _is_allowed(self, method: str, header: str) -> bool:
        said = {
            name: quoted or plain
            for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^,\s]+))', header)
        }
        algorithm = said.get("algorithm", "MD5")
        if algorithm not in self.digest:
            return False

        def hashed(text: str) -> str:
            return hashlib.new(algorithm.replace("-", ""), text.encode()).hexdigest()

        secret, request = hashed("viewer:cam:secret"), hashed(f"{method}:{said.get('uri', '')}")
        return said.get("response") == hashed(f"{secret}:{said.get('nonce', '')}:{request}")

    @staticmethod
    def _request(reader: Any) -> tuple[str, dict[str, str]] | None:
        line = reader.readline().decode(errors="replace")
        if not line:
            return None
        headers = {"url": line.split()[1] if len(line.split()) > 1 else ""}
        while (header := reader.readline().decode(errors="replace").strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        return line.partition(" ")[0], headers

    def _answer(self, method: str, cseq: str, ports: str) -> bytes:
        if method in self.replies:
            return self.replies[method].replace("{cseq}", cseq).encode()
        head, body = "RTSP/1.0 200 OK", ""
        extra: list[str] = []
        if method == "OPTIONS":
            extra = ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"]
        elif method == "DESCRIBE":
            head = f"RTSP/1.0 {self.status}"
            if self.status.startswith("200"):
                body = (
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\n"
                    + ("m=video 0 RTP/AVP 26\r\na=control:mute\r\n" if self.mute_track else "")
                    + "m=video 0 RTP/AVP 96\r\n"
                    "c=IN IP4 0.0.0.0\r\na=rtpmap:96 H264/90000\r\n"
                    f"a=fmtp:96 packetization-mode=1{self._sprop()}\r\na=control:video\r\n"
                )
                extra = ["Content-Type: application/sdp"]
        elif method == "SETUP":
            tcp = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"
            extra = [self.udp.replace("{ports}", ports) if self.udp else tcp, "Session: 1;timeout=60"]
        elif method == "PLAY":
            extra = ["Session: 1", "Range: npt=0.000-"]
        lines = [head, f"CSeq: {cseq}", *extra, f"Content-Length: {len(body)}", "", body]
        return "\r\n".join(lines).encode()
