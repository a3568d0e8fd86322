"""How a source is parsed, and which protocols FFmpeg may open for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from async_motion.capture.address import SourceKind, attempt_of, parse, transport_of
from async_motion.capture.spec import CaptureSpec
from async_motion.errors import SettingsError


@pytest.mark.parametrize(
    ("source", "kind", "live"),
    [
        ("rtsp://u:p@192.0.2.1/stream1", SourceKind.RTSP, True),
        ("RTSP://192.0.2.1:554/stream1?x=1", SourceKind.RTSP, True),
        ("rtsps://192.0.2.1/stream1", SourceKind.RTSP, True),
        ("http://192.0.2.1/mjpg", SourceKind.HTTP, True),
        ("https://192.0.2.1/mjpg", SourceKind.HTTP, True),
        ("usb:0", SourceKind.USB, True),
        ("/dev/video12", SourceKind.USB, True),
        ("demo:", SourceKind.DEMO, True),
        ("clips/one.mp4", SourceKind.FILE, False),
        ("file:///srv/one.mp4", SourceKind.FILE, False),
    ],
)
def test_kinds(source: str, kind: SourceKind, live: bool) -> None:
    address = parse(source)
    assert address.kind is kind
    assert address.live is live


def test_a_folder_is_a_folder_of_stills(tmp_path: Path) -> None:
    assert parse(str(tmp_path)).kind is SourceKind.STILLS


def test_the_number_of_a_device() -> None:
    assert parse("/dev/video12").url == "12"


def test_passwords_are_not_shown() -> None:
    address = parse("rtsp://admin:geheim@192.0.2.1/s?token=abc")
    assert "geheim" not in address.shown
    assert "abc" not in address.shown
    assert "geheim" not in repr(address)
    assert "geheim" not in repr(CaptureSpec(camera="porch", source=address.url))


@pytest.mark.parametrize("source", ["ftp://192.0.2.1/x", "concat://a", "rtmp://192.0.2.1/x", "rtsp:///x"])
def test_others_are_refused(source: str) -> None:
    with pytest.raises(SettingsError, match="expected"):
        parse(source)


@pytest.mark.parametrize("source", ["rtsp://u:geheim@[::1/x", "rtsp://u:geheim@h\u2100st/x"])
def test_an_invalid_address_is_refused_without_its_password(source: str) -> None:
    with pytest.raises(SettingsError, match="expected") as caught:
        parse(source)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("source", ["rtsp://h/x", "rtsps://h/x", "http://h/x", "https://h/x", "x.mp4"])
def test_each_scheme_reaches_only_what_it_needs(source: str) -> None:
    spec = CaptureSpec(camera="porch", source=source)
    attempt = attempt_of(parse(source), spec)
    allowed = set(attempt.options["protocol_whitelist"].split(","))
    expected = {"rtsp": {"rtsp", "tcp", "udp", "rtp"}, "http": {"none"}, "x.mp": {"file"}}
    assert allowed == expected[source[:4]]
    listed = attempt.options.get("format_whitelist", attempt.container or "rtsp").split(",")
    assert set(listed).isdisjoint({"hls", "dash", "concat", "sdp", "image2", "tty", "lavfi"})


def test_a_files_name_is_not_a_protocol() -> None:
    spec = CaptureSpec(camera="porch", source="concat:a.mp4|b.mp4")
    attempt = attempt_of(parse(spec.source), spec)
    assert attempt.url == "file:concat:a.mp4|b.mp4"


def test_transport() -> None:
    spec = CaptureSpec(camera="porch", source="rtsp://h/x", transport="udp")
    assert attempt_of(parse(spec.source), spec).options["rtsp_transport"] == "udp"
    assert transport_of(parse(spec.source), spec) == "udp"
    assert transport_of(parse("RTSPS://h/x"), spec) == "tcp"
