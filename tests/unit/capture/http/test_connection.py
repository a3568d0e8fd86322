"""GET from a camera: logins, every status, every bound, and no secret in messages."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from contextlib import closing
from typing import Any

import pytest

from async_motion.capture.address import parse
from async_motion.capture.http.connection import HttpConnection, Stopped
from async_motion.capture.spec import CaptureSpec
from async_motion.errors import CameraRefused, CameraUnavailable
from tests.support.http_camera import HttpCamera, Visit, answered


class Patient:
    """Wait as a reader does."""

    def __init__(self) -> None:
        self.stop = threading.Event()

    @property
    def stopping(self) -> bool:
        return self.stop.is_set()

    def reader_wait(self, seconds: float) -> bool:
        return not self.stop.wait(seconds)


def connection(url: str, patient: Patient | None = None, **changes: Any) -> HttpConnection:
    values = {"stall_timeout_s": 0.5, "open_timeout_s": 5.0, **changes}
    spec = CaptureSpec(camera="porch", source=url, **values)
    return HttpConnection(parse(url), spec, patient or Patient())


def with_login(camera: HttpCamera, password: str = "geheim") -> str:
    return f"http://viewer:{password}@{camera.place}/video"


def body_of(url: str) -> bytes:
    with closing(connection(url)) as one:
        answer = one.get()
        body = b""
        while data := answer.read():
            body += data
    return body


def test_what_is_asked_and_what_comes() -> None:
    with HttpCamera(lambda visit: visit.send(answered("image/jpeg", b"abc"))) as camera:
        assert body_of(f"{camera.url}?channel=1") == b"abc"
    (visit,) = camera.visits
    assert visit.head.startswith("GET /video?channel=1 HTTP/1.1")
    assert visit.headers["host"] == camera.place
    assert visit.headers["accept-encoding"] == "identity"


def test_an_address_is_asked_for_byte_for_byte() -> None:
    with HttpCamera(lambda visit: visit.send(answered("image/jpeg", b"abc"))) as camera:
        body_of(f"http://{camera.place}/Hof Süd/a%20b?x=[1]&ü")
    assert camera.visits[0].head.startswith("GET /Hof%20S%C3%BCd/a%20b?x=[1]&%C3%BC HTTP/1.1")


def test_a_chunked_body() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with HttpCamera(lambda visit: visit.send(chunked)) as camera:
        assert body_of(camera.url) == b"abcde"


@pytest.mark.parametrize("algorithms", [("MD5",), ("SHA-256",), ("MD5", "SHA-256"), ("SHA-256", "MD5")])
def test_a_digest_login(algorithms: tuple[str, ...]) -> None:
    def answer(visit: Visit) -> None:
        said = dict(re.findall(r'(\w+)="?([^",]*)', visit.headers.get("authorization", "")))
        name = said.get("algorithm", "")

        def hashed(text: str) -> str:
            return hashlib.new(name.replace("-", ""), text.encode()).hexdigest()

        if name in algorithms:
            secret, request = hashed("viewer:cam:geheim"), hashed("GET:/video")
            parts = (secret, "n1", said["nc"], said["cnonce"], "auth", request)
            if said["response"] == hashed(":".join(parts)):
                visit.send(answered("image/jpeg", b"abc"))
                return
        offers = "".join(
            f'WWW-Authenticate: Digest realm="cam", nonce="n1", qop="auth", algorithm={one}\r\n'
            for one in algorithms
        )
        visit.send(answered("text/html", status="401 Unauthorized", more=offers))

    with HttpCamera(answer) as camera:
        assert body_of(with_login(camera)) == b"abc"
        assert len(camera.visits) == 2
        with pytest.raises(CameraRefused, match=r"wrong user or password \(401\)") as caught:
            body_of(with_login(camera, "falsch"))
        with pytest.raises(CameraRefused, match="401"):
            body_of(camera.url)
    assert "falsch" not in str(caught.value)
    if "SHA-256" in algorithms:
        assert "SHA-256" in camera.visits[1].headers["authorization"]


def test_a_basic_login() -> None:
    def answer(visit: Visit) -> None:
        if visit.headers.get("authorization") == "Basic dmlld2VyOmdlaGVpbQ==":
            visit.send(answered("image/jpeg", b"abc"))
        else:
            visit.send(answered("x", status="401 No", more='WWW-Authenticate: Basic realm="cam"\r\n'))

    with HttpCamera(answer) as camera:
        assert body_of(with_login(camera)) == b"abc"


def test_a_login_that_we_do_not_know_is_named() -> None:
    offer = 'WWW-Authenticate: Digest nonce="1", algorithm=SHA-512-256\r\n'
    answer = answered("x", status="401 No", more=offer)
    with (
        HttpCamera(lambda visit: visit.send(answer)) as camera,
        pytest.raises(CameraRefused, match=r"not supported \(SHA-512-256\)"),
    ):
        body_of(with_login(camera))


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        ("301 Moved", CameraRefused, "redirect"),
        ("400 Bad", CameraRefused, "does not understand"),
        ("403 No", CameraRefused, "may not see"),
        ("404 Not", CameraRefused, "no such stream"),
        ("418 Tea", CameraRefused, "refuses the request"),
        ("429 Slow", CameraUnavailable, "too many requests"),
        ("503 Busy", CameraUnavailable, "internal error"),
    ],
)
def test_every_status(status: str, error: type[Exception], says: str) -> None:
    answer = answered("x", status=status, more="Location: http://127.0.0.1:1/\r\n")
    with (
        HttpCamera(lambda visit: visit.send(answer)) as camera,
        pytest.raises(error, match=says) as caught,
    ):
        body_of(with_login(camera))
    assert type(caught.value) is error
    assert "geheim" not in str(caught.value)
    assert len(camera.visits) == 1


def test_a_compressed_body_is_refused() -> None:
    answer = answered("image/jpeg", b"x" * 100, more="Content-Encoding: gzip\r\n")
    with (
        HttpCamera(lambda visit: visit.send(answer)) as camera,
        pytest.raises(CameraRefused, match="compressed"),
    ):
        body_of(camera.url)


def test_a_response_that_is_not_http_is_refused() -> None:
    with (
        HttpCamera(lambda visit: visit.send(b"SSH-2.0-OpenSSH\r\n\r\n")) as camera,
        pytest.raises(CameraRefused, match="does not answer in HTTP"),
    ):
        body_of(camera.url)


def test_a_head_without_end_is_refused() -> None:
    def answer(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            visit.send(b"X-Header: 1\r\n" * 100)

    with HttpCamera(answer) as camera, pytest.raises(CameraRefused, match="does not answer in HTTP"):
        body_of(camera.url)


def test_silence_is_bounded() -> None:
    with (
        HttpCamera(lambda visit: visit.wait(60)) as camera,
        pytest.raises(CameraUnavailable, match="timed out"),
    ):
        body_of(camera.url)


def test_a_reader_that_is_to_stop_does_not_wait() -> None:
    patient = Patient()
    with HttpCamera(lambda visit: visit.wait(60)) as camera:
        threading.Timer(0.1, patient.stop.set).start()
        began = time.monotonic()
        one = connection(camera.url, patient, stall_timeout_s=30.0)
        with closing(one), pytest.raises(Stopped):
            one.get()
    assert time.monotonic() - began < 15


def test_a_connection_that_was_kept_and_closed_is_made_again() -> None:
    def answer(visit: Visit) -> None:
        visit.send(answered("image/jpeg", b"abc"))
        if visit.number == 2:
            raise ConnectionError("closes what it kept")

    with HttpCamera(answer) as camera:
        one = connection(camera.url)
        for _ in range(4):
            answer_ = one.get()
            while answer_.read():
                pass
            assert answer_.reusable
        one.close()
    assert len(camera.visits) == 4
    assert camera.connections == 2
