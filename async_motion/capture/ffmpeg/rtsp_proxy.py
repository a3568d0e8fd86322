"""A proxy between FFmpeg and an RTSP camera: the camera cannot send FFmpeg to another address.

FFmpeg (libavformat/rtsp.c) follows a 3xx answer to OPTIONS or DESCRIBE to any host and port, and takes the
camera's password along. With UDP it sends its receiver reports to the `source` in the answer to SETUP. No
option forbids either. Asking the camera beforehand helps only if it is honest: a hostile one answers FFmpeg
differently. Checking FFmpeg's sockets afterwards is too late. So FFmpeg knows only the loopback: it connects
to this proxy, and the proxy connects to the camera.

    FFmpeg ──▶ 127.0.0.1:any ──[ RtspProxy, a thread ]──(TLS for rtsps://)──▶ the camera's host and port

- FFmpeg acts on an answer only once its last line is there, and sends PLAY only after all answers that could
  redirect it. Until then, all bytes from the camera are searched before they are passed on: a status that is
  not 1xx, 2xx, 4xx or 5xx, anywhere in the bytes, ends the connection. Answers are not parsed: a second
  parser might read them differently from FFmpeg.
- With UDP, `source` is renamed in the answers to SETUP, and the ports of `media_relay` are inserted
  before each `server_port`. A camera that names no `server_port` gets no reports: PLAY is refused.
- FFmpeg supports only Digest with MD5. A challenge for SHA-256 is passed on as one for MD5, and FFmpeg's
  response is replaced by the one that the camera asked for (see `login`).
- After PLAY, bytes are passed on as they come, both ways, until either side closes. The bytes since the last
  complete frame are bounded (see `meter`): FFmpeg would buffer them without limit.

The camera sees `rtsp://127.0.0.1:port/path` in the requests, as if it were behind a forwarded port. As with
FFmpeg alone, certificates are not verified.
"""

from __future__ import annotations

import re
import selectors
import socket
import ssl
import threading
from contextlib import nullcontext, suppress

from async_motion.capture.address import Address
from async_motion.capture.connect import connect
from async_motion.capture.ffmpeg.media_relay import MediaRelay
from async_motion.capture.login import HASHES, Challenge, Login, challenges, digest_response, login_of, wire
from async_motion.capture.meter import ByteMeter
from async_motion.capture.spec import CaptureSpec
from async_motion.errors import CameraRefused, CameraUnavailable

MAX_TALK = 256 * 1024
"""Maximum bytes from a camera before PLAY; FFmpeg keeps some of them in memory."""

LINE = 4096
"""FFmpeg reads no more than this of a line."""

CHUNK = 64 * 1024

# Like FFmpeg, ignore carriage returns and end a word at a blank. Match each word with the next one of its
# line; the look-ahead also finds overlapping pairs. Each byte is read at most twice, so that a camera cannot
# stall the service with input that makes the expression backtrack.
_WORDS = re.compile(rb"(?<![^ \t\n])([^ \t\n]++)[ \t]++(?=([^ \t\n]*+)[ \t\n])")
_NUMBER = re.compile(rb"[\v\f]*[+-]?\d")
_HARMLESS = re.compile(rb"[1245]\d\d")

_SOURCE, _SERVER_PORT = b"source=", b"server_port="

_CHALLENGE = b"www-authenticate:"


class RtspProxy:
    """One connection to a camera, for one connection of FFmpeg to `url`.

    Ends by itself when FFmpeg or the camera closes, and by `close`.
    """

    def __init__(self, address: Address, spec: CaptureSpec, meter: ByteMeter | None = None) -> None:
        """Connect to the camera; blocks. `meter` is reset by each frame.

        Raises CameraUnavailable, CameraRefused.
        """
        self.problem: str | None = None
        """Why the camera's bytes were not passed on; None while there is no problem."""
        self._camera = connect(address, spec.open_timeout_s, spec.sockets)
        self._meter = meter or ByteMeter()
        udp = spec.transport == "udp"
        # FFmpeg's media sockets have the address family of its connection.
        six = udp and self._camera.family == socket.AF_INET6
        host = "::1" if six else "127.0.0.1"
        try:
            source = self._camera.getpeername()[0]
            self._door = socket.create_server(
                (host, 0), family=socket.AF_INET6 if six else socket.AF_INET, backlog=1
            )
        except OSError as exc:  # it has hung up already, or there are no handles left
            self._camera.close()
            raise CameraUnavailable(f"{address.shown}: cannot be reached ({exc.strerror})") from None
        login = login_of(address.url)
        self._login = LoginTranslator(login) if login is not None else None
        self._media = MediaRelay(source, self._camera.family, self._meter) if udp else None
        self._handshake: _Handshake | None = _Handshake(self._media, self._login)
        self._client: socket.socket | None = None
        self._door.settimeout(spec.open_timeout_s)
        port = self._door.getsockname()[1]
        self.url = _pointed_at(address.url, f"[{host}]:{port}" if six else f"{host}:{port}")
        threading.Thread(target=self._run, name=f"rtsp_proxy[{spec.camera}]", daemon=True).start()

    def close(self) -> None:
        """End both connections, from any thread; does not wait."""
        for one in (self._door, self._client, self._camera):
            if one is not None:
                # Not `close`: the thread may be inside a call on the socket, and closes it. Nor TLS's own
                # `shutdown`: what the thread sends after that would go in plain text.
                with suppress(OSError):
                    socket.socket.shutdown(one, socket.SHUT_RDWR)

    def _run(self) -> None:
        with suppress(OSError), self._camera, self._media or nullcontext():
            with self._door:
                client, _ = self._door.accept()
            with client, selectors.DefaultSelector() as selector:
                client.settimeout(None)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._client = client
                selector.register(client, selectors.EVENT_READ)
                selector.register(self._camera, selectors.EVENT_READ)
                if self._media is not None:
                    self._media.register(selector)
                try:
                    self._pass_on(client, selector)
                except CameraRefused as exc:
                    self.problem = str(exc)

    def _pass_on(self, client: socket.socket, selector: selectors.BaseSelector) -> None:
        """Pass bytes on until either side closes. Raises CameraRefused for bytes that FFmpeg must not get."""
        camera = self._camera
        while True:
            # TLS may hold decrypted bytes while its socket is not readable.
            pending = isinstance(camera, ssl.SSLSocket) and camera.pending() > 0
            ready: set[object] = {key.fileobj for key, _ in selector.select(0 if pending else None)}
            if self._media is not None:
                self._media.pass_on(ready)
            if client in ready:
                data = client.recv(CHUNK)
                if not data:
                    return
                if self._media is not None:
                    data = self._media.asked(data)
                if self._handshake is not None and self._handshake.asked(data):
                    client.sendall(self._handshake.rest())
                    self._handshake = None
                camera.sendall(data if self._login is None else self._login.asked(data))
            if camera in ready or pending:
                heard = _hear(camera)
                if heard is None:
                    continue
                if not heard:
                    return
                if self._handshake is not None:
                    heard = self._handshake.answered(heard)
                elif not self._meter.count(len(heard)):
                    raise CameraRefused(self._meter.problem)
                client.sendall(heard)


def _hear(camera: socket.socket) -> bytes | None:
    """Return the received bytes, empty at the end; None if TLS has received no complete record."""
    if not isinstance(camera, ssl.SSLSocket):
        return camera.recv(CHUNK)
    camera.setblocking(False)
    try:
        return camera.recv(CHUNK)
    except ssl.SSLWantReadError:
        return None
    finally:
        camera.setblocking(True)


class _Handshake:
    """The exchange before PLAY.

    `media` relays the packets with UDP, else it is None. `login` translates challenges.
    """

    def __init__(self, media: MediaRelay | None, login: LoginTranslator | None = None) -> None:
        self._login = login
        self._media = media
        self._requests = b""
        self._answers = b""
        self._said = 0
        self._setting_up = False
        self._has_port = False
        self._held = b""

    def asked(self, data: bytes) -> bool:
        """Take bytes from FFmpeg; return whether it sends PLAY. Raises CameraRefused if it must not."""
        self._requests = self._requests[-LINE:] + data
        lines = self._requests.split(b"\n")
        self._setting_up = self._setting_up or any(line.startswith(b"SETUP ") for line in lines)
        plays = any(line.startswith(b"PLAY ") for line in lines)
        if plays and self._media is not None and not self._has_port:
            raise CameraRefused("names no UDP port for media (server_port): use capture.transport: tcp")
        return plays

    def answered(self, data: bytes) -> bytes:
        """Take bytes from the camera; return those to pass on to FFmpeg. Raises CameraRefused."""
        bare = data.replace(b"\r", b"")
        self._answers = self._answers[-2 * LINE :] + bare
        self._said += len(data)
        if self._said > MAX_TALK:
            raise CameraRefused("sends endless answers but never plays")
        for first, word in _WORDS.findall(self._answers):
            if b"RTSP/" in first and _NUMBER.match(word) and not _HARMLESS.fullmatch(word):
                raise CameraRefused("redirects to another address, which is not followed")
        if self._login is not None:
            data = self._login.answered(data)
            bare = data.replace(b"\r", b"")
        if self._media is None:
            return data
        if not self._setting_up:
            # FFmpeg would take an answer that precedes its request for the answer to it.
            if _SOURCE in self._answers:
                raise CameraRefused("names another address for its media before SETUP")
            return data
        bare = self._held + bare
        kept = max(_overlap(bare, _SOURCE), _overlap(bare, _SERVER_PORT))
        bare, self._held = bare[: len(bare) - kept], bare[len(bare) - kept :]
        self._has_port = self._has_port or _SERVER_PORT in bare
        self._media.answered(self._answers)
        return bare.replace(_SOURCE, b"origin=").replace(_SERVER_PORT, self._media.transport)

    def rest(self) -> bytes:
        """Return the bytes held back: the beginning of a word or a line whose end has not arrived."""
        return (self._login.rest() if self._login is not None else b"") + self._held


class LoginTranslator:
    """Lets FFmpeg, which supports only MD5, log in to a camera that asks for SHA-256."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._challenge: Challenge | None = None
        """The camera's challenge, if FFmpeg was shown MD5 instead."""
        self._md5_too = False
        """Whether this answer also offers MD5."""
        self._held = b""
        self._requests = b""

    def answered(self, data: bytes) -> bytes:
        """Return the camera's bytes with challenges that FFmpeg can answer. Raises CameraRefused."""
        lines = (self._held + data).splitlines(keepends=True)
        self._held = b""
        if lines and not lines[-1].endswith(b"\n"):
            begun = lines[-1].lower()[: len(_CHALLENGE)]
            if _CHALLENGE.startswith(begun) and len(lines[-1]) < LINE:
                self._held = lines.pop()
        return b"".join(map(self._line, lines))

    def rest(self) -> bytes:
        """Return the beginning of a line whose end has not arrived."""
        return self._held

    def asked(self, data: bytes) -> bytes:
        """Take bytes from FFmpeg; return them with the response that the camera asked for."""
        if self._challenge is None and not self._requests:
            return data
        self._requests += data
        passed = []
        while self._requests:
            if self._requests[:1] == b"$":  # a receiver report
                end = 4 + int.from_bytes(self._requests[2:4])
                if len(self._requests) < max(4, end):
                    break
            else:
                end = self._requests.find(b"\r\n\r\n") + 4
                if end < 4:
                    break
            head, self._requests = self._requests[:end], self._requests[end:]
            passed.append(head if head[:1] == b"$" else self._signed(head))
        return b"".join(passed)

    def _line(self, line: bytes) -> bytes:
        if line.startswith(b"RTSP/"):
            self._md5_too = False
        if not line.lower().startswith(_CHALLENGE):
            return line
        offered = challenges([line[len(_CHALLENGE) :].decode("latin-1").strip()])
        digest = next((one for one in offered if one.scheme == "digest"), None)
        if digest is None:
            return line
        if digest.algorithm == "MD5":
            self._md5_too, self._challenge = True, None
            return line
        if self._md5_too:
            return b"X-Not-Answered:" + line[len(_CHALLENGE) :]
        if digest.algorithm not in HASHES:
            raise CameraRefused(f"asks for a login that is not supported ({digest.shown})")
        self._challenge = digest
        return re.sub(rb"(?i)(algorithm\s*=\s*)(\"[^\"]*\"|[^\s,]*)", rb'\1"MD5"', line)

    def _signed(self, request: bytes) -> bytes:
        """Return a request of FFmpeg's with its digest replaced."""
        found = re.search(rb"(?im)^Authorization: Digest (.*?)\r$", request)
        if self._challenge is None or found is None:
            return request
        # FFmpeg does not escape quotes in what it repeats of the camera's challenge: there may be any number.
        challenge = next(iter(challenges(["Digest " + found[1].decode("latin-1")])), Challenge("digest", {}))
        fields = challenge.parameters
        fields["response"] = digest_response(
            self._challenge,
            self._login,
            method=request.split(b" ", 1)[0].decode("latin-1"),
            uri=fields.get("uri", ""),
            qop=fields.get("qop", ""),
            count=fields.get("nc", ""),
            cnonce=fields.get("cnonce", ""),
        )
        fields["algorithm"] = self._challenge.parameters["algorithm"]
        bare = {"algorithm", "qop", "nc"}
        text = ", ".join(
            f"{name}={value}" if name in bare else f'{name}="{value}"' for name, value in fields.items()
        )
        header = wire(f"Authorization: Digest {text}")
        return request[: found.start()] + header + request[found.end() - 1 :]


def _overlap(data: bytes, name: bytes) -> int:
    """Return how many bytes at the end of `data` could be the beginning of `name`."""
    return next((n for n in range(len(name) - 1, 0, -1) if data.endswith(name[:n])), 0)


def _pointed_at(url: str, place: str) -> str:
    """Return `url` with `place` as host and port, and with `rtsp://`: the proxy itself speaks TLS."""
    _, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    login, at, _ = authority.rpartition("@")
    return f"rtsp://{login}{at}{place}{rest[len(authority) :]}"
