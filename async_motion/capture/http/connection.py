"""HTTP GET from a camera over our own connection: no redirects, no compression, every wait bounded.

FFmpeg's HTTP client follows redirects, decompresses, allocates as much memory as a header claims, and
supports only Digest with MD5. So FFmpeg gets its bytes from here and does not know the address.
"""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import time
from typing import Any, Protocol, cast
from urllib.parse import quote, urlsplit

from async_motion import __version__
from async_motion.capture.address import Address
from async_motion.capture.connect import PORTS, connect
from async_motion.capture.login import Authorization, best, challenges, login_of, wire
from async_motion.capture.spec import CaptureSpec
from async_motion.errors import CameraRefused, CameraUnavailable

POLL_S = 0.2
"""How soon a wait for bytes notices that the reader must stop."""

CHUNK = 64 * 1024

UNQUOTED = "!#$%&'()*+,/:;=?@[]~"
"""Characters that an address may hold as they are (RFC 3986), and the `%` of what is quoted already."""

REFUSALS = {
    400: "the camera does not understand the request (400)",
    401: "wrong user or password (401)",
    403: "this user may not see the stream (403)",
    404: "no such stream (404)",
}


class Waiting(Protocol):
    """How a reader waits."""

    @property
    def stopping(self) -> bool:
        """Whether the reader should close what it holds and return."""

    def reader_wait(self, seconds: float) -> bool:
        """Wait on purpose, without this counting as a stall. Return whether the reader should go on."""


class Stopped(Exception):
    """The reader was told to stop."""


class HttpConnection:
    """Sends GET requests to one address; the connection is reused while the camera keeps it open."""

    def __init__(self, address: Address, spec: CaptureSpec, waiting: Waiting) -> None:
        self._address = address
        self._spec = spec
        self._waiting = waiting
        self._socket: socket.socket | None = None
        self._answer: Response | None = None
        self._authorization: Authorization | None = None

    def get(self) -> Response:
        """Send a request; return the answer to it. Raises CameraUnavailable, CameraRefused, Stopped."""
        for attempt in range(3):
            kept = self._socket is not None
            try:
                answer = self._ask()
            except (OSError, http.client.HTTPException) as exc:
                self.close()
                if kept and attempt == 0:
                    continue  # The camera closed a connection that it had kept.
                raise self._translated(exc) from None
            if answer.status != 401 or not self._log_in(answer):
                self._check(answer)
                return answer
            self.close()
        raise CameraRefused(f"{self._address.shown}: {REFUSALS[401]}")

    def close(self) -> None:
        """Close the connection, and the answer that was being read from it."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask(self) -> Response:
        if self._socket is None:
            self._socket = connect(self._address, self._spec.open_timeout_s, self._spec.sockets)
        parts = urlsplit(self._address.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        target = quote(target, safe=UNQUOTED)
        host = (parts.hostname or "").encode("idna").decode()
        port = parts.port or PORTS[self._address.scheme]
        place = f"[{host}]" if ":" in host else host
        lines = [
            f"GET {target} HTTP/1.1",
            f"Host: {place}" if port == PORTS[self._address.scheme] else f"Host: {place}:{port}",
            f"User-Agent: async_motion/{__version__}",
            "Accept: multipart/x-mixed-replace, image/jpeg, video/*, */*",
            "Accept-Encoding: identity",
        ]
        if self._authorization is not None:
            lines.append(f"Authorization: {self._authorization.header('GET', target)}")
        self._socket.sendall(wire("\r\n".join(lines) + "\r\n\r\n"))
        if self._answer is not None:
            self._answer.close()
        self._answer = Response(self._socket, self._waiting, self._spec.stall_timeout_s)
        return self._answer

    def _log_in(self, answer: Response) -> bool:
        """Choose a challenge; return whether to repeat the request with it. Raises CameraRefused."""
        login = login_of(self._address.url)
        offered = challenges(answer.headers("WWW-Authenticate"))
        stale = any(one.parameters.get("stale", "").lower() == "true" for one in offered)
        if login is None or (self._authorization is not None and not stale):
            return False
        challenge = best(offered)
        if challenge is None:
            asked = ", ".join(sorted({one.shown for one in offered}))
            raise CameraRefused(
                f"{self._address.shown}: asks for a login that is not supported ({asked or 'none is named'})"
            )
        self._authorization = Authorization(login, challenge)
        return True

    def _check(self, answer: Response) -> None:
        """Raise CameraUnavailable or CameraRefused for a status other than 2xx, or for compressed data."""
        shown, status = self._address.shown, answer.status
        if 200 <= status < 300:
            if answer.header("Content-Encoding").lower() not in ("", "identity"):
                self.close()
                raise CameraRefused(f"{shown}: sends compressed data, although none was requested")
            return
        self.close()
        if status in (301, 302, 303, 307, 308):
            raise CameraRefused(f"{shown}: redirects to another address, which is not followed; use that one")
        if status == 429:
            raise CameraUnavailable(f"{shown}: gets too many requests (429)")
        if status >= 500:
            raise CameraUnavailable(f"{shown}: has an internal error ({status})")
        raise CameraRefused(f"{shown}: {REFUSALS.get(status, f'the camera refuses the request ({status})')}")

    def _translated(self, exc: Exception) -> CameraUnavailable:
        shown = self._address.shown
        if isinstance(exc, TimeoutError):
            return CameraUnavailable(f"{shown}: timed out")
        if isinstance(exc, http.client.RemoteDisconnected | ConnectionError):
            return CameraUnavailable(f"{shown}: closed the connection")
        if isinstance(exc, http.client.HTTPException):
            return CameraRefused(f"{shown}: does not answer in HTTP")
        return CameraUnavailable(f"{shown}: cannot be reached or read ({type(exc).__name__})")


class Response:
    """One answer. `read` returns its body as it arrives."""

    def __init__(self, connection: socket.socket, waiting: Waiting, timeout_s: float) -> None:
        """Read the head. Raises OSError, HTTPException, Stopped."""
        self._bytes = _Bytes(connection, waiting, timeout_s)
        self._answer = http.client.HTTPResponse(cast(socket.socket, self._bytes), method="GET")
        try:
            self._answer.begin()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Discard the rest of the body; the connection stays open. Otherwise the garbage collector warns."""
        self._answer.close()

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._answer.status

    @property
    def ended(self) -> bool:
        """Whether all of the body was read."""
        return self._answer.isclosed() or self._answer.length == 0

    @property
    def reusable(self) -> bool:
        """Whether the next request may use the same connection."""
        return self.ended and not self._answer.will_close

    def header(self, name: str) -> str:
        """Return a header's value, empty without it."""
        return self._answer.getheader(name) or ""

    def headers(self, name: str) -> list[str]:
        """Return the values of all headers of this name."""
        return self._answer.headers.get_all(name) or []

    def read(self) -> bytes:
        """Return the next bytes of the body, empty at its end. Raises OSError, HTTPException, Stopped."""
        return self._answer.read1(CHUNK)


class _Bytes(io.RawIOBase):
    """A socket's bytes as a file. Waits in steps of `POLL_S`, at most `timeout_s` for the next bytes."""

    def __init__(self, connection: socket.socket, waiting: Waiting, timeout_s: float) -> None:
        self._connection = connection
        self._waiting = waiting
        self._timeout_s = timeout_s
        connection.setblocking(False)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the buffered file from which `http.client` reads."""
        return io.BufferedReader(self, CHUNK)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        deadline = time.monotonic() + self._timeout_s
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        while True:
            if self._waiting.stopping:
                raise Stopped
            try:
                return self._connection.recv_into(buffer)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            if time.monotonic() >= deadline:
                raise TimeoutError("no bytes")
            poll.poll(POLL_S * 1000)
