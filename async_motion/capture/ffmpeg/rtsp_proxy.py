"""Between FFmpeg and an RTSP camera: bytes pass, the way to another address does not.

FFmpeg (libavformat/rtsp.c) goes where a 3xx answer to OPTIONS or DESCRIBE points, any host and any port, and
takes the camera's password along; with UDP it sends its receiver reports to whatever the answer to SETUP
names as `source`. No option forbids either. To ask the camera beforehand helps only against an honest one:
another answers FFmpeg otherwise than us. To look at FFmpeg's sockets afterwards is too late. So FFmpeg knows
no address but the loopback: we connect to the camera, it connects to us, and this proxy stands in between.

    FFmpeg ──▶ 127.0.0.1:any ──[ RtspProxy, a thread ]──(TLS for rtsps://)──▶ the camera's host and port

- FFmpeg acts on an answer only when its last line is there, and sends PLAY only after all answers that could
  lead it away. Up to then all that the camera says is searched before it is passed on: a status that is not
  1xx, 2xx, 4xx or 5xx, wherever in the bytes it stands, ends the connection. Answers are not parsed: there is
  no second parser that might see something else than FFmpeg does.
- With UDP, `source` is renamed in the answers to SETUP, and the camera's own address set before each
  `server_port`. Without a `server_port` FFmpeg would report to a port of the loopback: then it does not play.
- FFmpeg knows Digest with MD5 only. A challenge for SHA-256 is passed on as one for MD5, and FFmpeg's
  response
  replaced by the one that the camera asked for (see `login`).
- After PLAY bytes are passed on as they come, both ways, until either side closes. Those that come without
  completing a frame are bounded (see `meter`): FFmpeg would collect them without end.

The camera sees `rtsp://127.0.0.1:port/path` in the requests, as one behind a forwarded port sees another
host. As with FFmpeg by itself, a certificate is not verified.
"""

from __future__ import annotations

import re
import selectors
import socket
import ssl
import threading
from contextlib import suppress

from async_motion.capture.address import Address
from async_motion.capture.connect import connect
from async_motion.capture.login import HASHES, Challenge, Login, challenges, digest_response, login_of
from async_motion.capture.meter import ByteMeter
from async_motion.capture.spec import CaptureSpec
from async_motion.errors import CameraRefused, CameraUnavailable

MAX_TALK = 256 * 1024
"""Bytes that a camera may say before it plays; FFmpeg keeps some of them in memory."""

LINE = 4096
"""FFmpeg reads no more than this of a line."""

CHUNK = 64 * 1024

# As FFmpeg reads an answer: carriage returns count for nothing, a word ends at a blank. Each word with the
# next one of its line; the look-ahead finds pairs that overlap, too. Nothing is looked at more than twice: a
# camera must not hold up the service with what makes an expression slow.
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
        """Why the camera was not let through to FFmpeg."""
        self._camera = connect(address, spec.open_timeout_s)
        self._meter = meter or ByteMeter()
        udp = spec.transport == "udp"
        # FFmpeg's sockets for media are of the family of its connection.
        six = udp and self._camera.family == socket.AF_INET6
        host = "::1" if six else "127.0.0.1"
        try:
            source = self._camera.getpeername()[0] if udp else None
            self._door = socket.create_server(
                (host, 0), family=socket.AF_INET6 if six else socket.AF_INET, backlog=1
            )
        except OSError as exc:  # it has hung up already, or there are no handles left
            self._camera.close()
            raise CameraUnavailable(f"{address.shown}: cannot be reached ({exc.strerror})") from None
        login = login_of(address.url)
        self._login = LoginTranslator(login) if login is not None else None
        self._handshake: _Handshake | None = _Handshake(source, self._login)
        self._client: socket.socket | None = None
        self._door.settimeout(spec.open_timeout_s)
        port = self._door.getsockname()[1]
        self.url = _pointed_at(address.url, f"[{host}]:{port}" if six else f"{host}:{port}")
        threading.Thread(target=self._run, name=f"rtsp_proxy[{spec.camera}]", daemon=True).start()

    def close(self) -> None:
        """End both connections, from any thread; does not wait."""
        for one in (self._door, self._client, self._camera):
            if one is not None:
                # Not `close`: that is the thread's, which may be in the middle of a call on it. Nor TLS's own
                # `shutdown`: what the thread sends after that would go in plain text.
                with suppress(OSError):
                    socket.socket.shutdown(one, socket.SHUT_RDWR)

    def _run(self) -> None:
        with suppress(OSError), self._camera:
            with self._door:
                client, _ = self._door.accept()
            with client, selectors.DefaultSelector() as selector:
                client.settimeout(None)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._client = client
                selector.register(client, selectors.EVENT_READ)
                selector.register(self._camera, selectors.EVENT_READ)
                try:
                    self._pass_on(client, selector)
                except CameraRefused as exc:
                    self.problem = str(exc)

    def _pass_on(self, client: socket.socket, selector: selectors.BaseSelector) -> None:
        """Pass bytes on until either side closes. Raises CameraRefused for what FFmpeg must not hear."""
        camera = self._camera
        while True:
            # TLS may have more in hand than its socket shows.
            pending = isinstance(camera, ssl.SSLSocket) and camera.pending() > 0
            ready = {key.fileobj for key, _ in selector.select(0 if pending else None)}
            if client in ready:
                data = client.recv(CHUNK)
                if not data:
                    return
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
    """Return what has come, empty at the end, None where it was only TLS's own."""
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
    """What is said before PLAY.

    `source`: the camera's numeric address, where media comes by UDP. `login` translates challenges.
    """

    def __init__(self, source: str | None, login: LoginTranslator | None = None) -> None:
        self._login = login
        self._source = source.encode() if source is not None else None
        self._requests = b""
        self._answers = b""
        self._said = 0
        self._setting_up = False
        self._has_port = False
        self._held = b""

    def asked(self, data: bytes) -> bool:
        """Take what FFmpeg says; return whether it plays from now on. Raises CameraRefused if it must not."""
        self._requests = self._requests[-LINE:] + data
        lines = self._requests.split(b"\n")
        self._setting_up = self._setting_up or any(line.startswith(b"SETUP ") for line in lines)
        plays = any(line.startswith(b"PLAY ") for line in lines)
        if plays and self._source is not None and not self._has_port:
            raise CameraRefused("names no port for media by UDP (server_port): use capture.transport: tcp")
        return plays

    def answered(self, data: bytes) -> bytes:
        """Take what the camera says; return what FFmpeg may hear of it. Raises CameraRefused."""
        bare = data.replace(b"\r", b"")
        self._answers = self._answers[-2 * LINE :] + bare
        self._said += len(data)
        if self._said > MAX_TALK:
            raise CameraRefused("talks without end and does not play")
        for first, word in _WORDS.findall(self._answers):
            if b"RTSP/" in first and _NUMBER.match(word) and not _HARMLESS.fullmatch(word):
                raise CameraRefused("sends us to another address, where we do not go (redirect)")
        if self._login is not None:
            data = self._login.answered(data)
            bare = data.replace(b"\r", b"")
        if self._source is None:
            return data
        if not self._setting_up:
            # An answer that comes before its question would be taken for it.
            if _SOURCE in self._answers:
                raise CameraRefused("names another address for its media before it was asked")
            return data
        bare = self._held + bare
        kept = max(_overlap(bare, _SOURCE), _overlap(bare, _SERVER_PORT))
        bare, self._held = bare[: len(bare) - kept], bare[len(bare) - kept :]
        self._has_port = self._has_port or _SERVER_PORT in bare
        ours = _SOURCE + self._source + b";" + _SERVER_PORT
        return bare.replace(_SOURCE, b"origin=").replace(_SERVER_PORT, ours)

    def rest(self) -> bytes:
        """Return what was held back: the beginning of a word or a line whose end has not come."""
        return (self._login.rest() if self._login is not None else b"") + self._held


class LoginTranslator:
    """Let FFmpeg, which knows MD5 only, log in to a camera that asks for SHA-256."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._challenge: Challenge | None = None
        """What the camera asked for, where FFmpeg was told MD5."""
        self._md5_too = False
        """Whether this answer also offers what FFmpeg knows."""
        self._held = b""
        self._requests = b""

    def answered(self, data: bytes) -> bytes:
        """Return what the camera says with challenges that FFmpeg can answer. Raises CameraRefused."""
        lines = (self._held + data).splitlines(keepends=True)
        self._held = b""
        if lines and not lines[-1].endswith(b"\n"):
            begun = lines[-1].lower()[: len(_CHALLENGE)]
            if _CHALLENGE.startswith(begun) and len(lines[-1]) < LINE:
                self._held = lines.pop()
        return b"".join(map(self._line, lines))

    def rest(self) -> bytes:
        """Return the beginning of a line whose end has not come."""
        return self._held

    def asked(self, data: bytes) -> bytes:
        """Take what FFmpeg says; return it with the response that the camera asked for."""
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
            raise CameraRefused(f"asks for a login that is not supported ({digest.algorithm[:20]})")
        self._challenge = digest
        return re.sub(rb"(?i)(algorithm\s*=\s*)(\"[^\"]*\"|[^\s,]*)", rb'\1"MD5"', line)

    def _signed(self, request: bytes) -> bytes:
        """Return a request of FFmpeg's with its digest replaced."""
        found = re.search(rb"(?im)^Authorization: Digest (.*?)\r$", request)
        if self._challenge is None or found is None:
            return request
        (said,) = challenges(["Digest " + found[1].decode("latin-1")]) or (Challenge("digest", {}),)
        fields = said.parameters
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
        header = f"Authorization: Digest {text}".encode("latin-1", "replace")
        return request[: found.start()] + header + request[found.end() - 1 :]


def _overlap(data: bytes, name: bytes) -> int:
    """Return how many bytes at the end of `data` could be the beginning of `name`."""
    return next((n for n in range(len(name) - 1, 0, -1) if data.endswith(name[:n])), 0)


def _pointed_at(url: str, place: str) -> str:
    """Return `url` with `place` for its host and port, and plain RTSP: TLS is spoken behind it."""
    _, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    login, at, _ = authority.rpartition("@")
    return f"rtsp://{login}{at}{place}{rest[len(authority) :]}"
