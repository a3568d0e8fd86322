"""What an HTTP camera sends where it cannot be read: the reason, for the operator.

It is taken from the first bytes: a Content-Type is often wrong.
"""

from __future__ import annotations

from async_motion.capture.http.jpeg_scanner import SOF, SOS, after_fill

_MAGIC = (
    (0, b"\x89PNG\r\n", "a PNG image"),
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBPVP8", "a WebP image"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftyphei", "a HEIF image"),
    (0, b"\x1f\x8b", "compressed data"),
    (0, b"%PDF", "a document"),
)
"""(offset, bytes there, name)."""

DECODABLE = frozenset(range(0xC0, 0xC4))
"""SOF0 to SOF3. FFmpeg decodes neither hierarchical JPEGs nor arithmetic coding."""


def not_video(first: bytes) -> str | None:
    """Return what an answer with these first bytes is, None if it may be video."""
    for at, magic, name in _MAGIC:
        if first.startswith(magic, at):
            return name
    text = first.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")):
        return "a web page"
    if text.startswith((b"<?xml", b"{", b"[")):
        return "text"
    return None


def not_decodable(jpeg: bytes, max_pixels: int) -> str | None:
    """Return why a whole JPEG cannot be decoded, None if nothing in its frame header is against it."""
    at = 2
    while at + 9 <= len(jpeg) and jpeg[at] == 0xFF and (marker := jpeg[at + 1]) != SOS:
        if marker in SOF:
            height, width = (int.from_bytes(jpeg[at + place : at + place + 2]) for place in (5, 7))
            if marker not in DECODABLE:
                return f"JPEGs of a kind that cannot be decoded here (SOF{marker - 0xC0})"
            if width * height > max_pixels:
                return f"images of {width}x{height}, more than max_pixels ({max_pixels}) allows"
            return None
        if marker == 0xFF:
            at = after_fill(jpeg, at)
        else:
            at += 2 + int.from_bytes(jpeg[at + 2 : at + 4])
    return None
