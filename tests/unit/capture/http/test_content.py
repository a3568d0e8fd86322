"""What an HTTP camera sends, by its first bytes and its JPEGs' frame headers."""

from __future__ import annotations

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.capture.http.content import not_decodable, not_video
from async_motion.capture.http.jpeg_scanner import SOI
from tests.support.video import ground

IMAGE = ground(96, 64)
JPEG = cv2.imencode(".jpg", IMAGE)[1].tobytes()
HEADER = JPEG.index(b"\xff\xc0")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".avif"])
def test_images_that_are_no_jpeg_are_named(suffix: str) -> None:
    if not cv2.haveImageWriter(f"x{suffix}"):
        pytest.skip(f"this OpenCV writes no {suffix}")
    said = not_video(cv2.imencode(suffix, IMAGE)[1].tobytes()[:64])
    assert said is not None
    assert suffix[1:] in said.lower()


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (b"<!DOCTYPE html><title>Login</title>", "a web page"),
        (b"\xef\xbb\xbf\r\n <HTML>", "a web page"),
        (b'{"error": 1}', "text"),
        (b"<?xml version='1.0'?><MPD/>", "text"),
        (b"\x1f\x8b\x08", "compressed data"),
        (b"GIF89a", "a GIF image"),
        (b"", None),
        (JPEG[:64], None),
        (b"\0\0\0\x20ftypisom", None),
        (b"\x47\x40\0\x10" + bytes(184), None),
        (b"\x1aE\xdf\xa3", None),
    ],
)
def test_what_an_answer_is(first: bytes, said: str | None) -> None:
    assert not_video(first) == said


def with_header(marker: int = 0xC0, width: int = 96, height: int = 64) -> bytes:
    size = height.to_bytes(2) + width.to_bytes(2)
    return JPEG[:HEADER] + bytes((0xFF, marker)) + JPEG[HEADER + 2 : HEADER + 5] + size + JPEG[HEADER + 9 :]


def test_what_ffmpeg_decodes_is_let_through() -> None:
    assert with_header() == JPEG
    for marker in (0xC0, 0xC1, 0xC2, 0xC3):
        assert not_decodable(with_header(marker), 96 * 64) is None


def test_kinds_and_sizes_that_cannot_be_decoded_are_named() -> None:
    assert not_decodable(with_header(0xC9), 1 << 25) == "JPEGs of a kind that cannot be decoded here (SOF9)"
    said = not_decodable(with_header(0xC0, 60000, 50000), 33554432)
    assert said == "images of 60000x50000, more than max_pixels (33554432) allows"
    for fill in (b"\xff\xff", b"\xff" * 100_000):
        assert not_decodable(JPEG[:2] + fill + JPEG[2:], 96 * 64 - 1) is not None, "fill bytes"


@given(st.binary(max_size=64), st.integers(0, len(JPEG)))
def test_any_bytes_are_survived(junk: bytes, cut: int) -> None:
    for data in (junk, SOI + junk, JPEG[:cut] + junk):
        not_video(data)
        not_decodable(data, 1)
