"""Stills with an EXIF orientation (1..8), of each format."""

from __future__ import annotations

import struct
import zlib


def tiff(orientation: int, order: str = "<") -> bytes:
    """Return a TIFF structure with this `orientation` in this byte order (struct's sign)."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return head + struct.pack(f"{order}H", 1) + entry + bytes(4)


def exif(orientation: int, order: str = "<") -> bytes:
    """Return the head of a JPEG with this EXIF `orientation`."""
    body = b"Exif\0\0" + tiff(orientation, order)
    jfif = b"\xff\xe0\x00\x04ab"
    return b"\xff\xd8" + jfif + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + b"\xff\xdb\x00\x02"


def png_with_exif(png: bytes, orientation: int) -> bytes:
    """Return a PNG with this orientation in an eXIf chunk behind its header."""
    data = b"eXIf" + tiff(orientation)
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    return png[:33] + chunk + png[33:]


def webp_with_exif(webp: bytes, orientation: int, *, size: tuple[int, int]) -> bytes:
    """Return a simple WebP file of `size` (width, height) in the extended format, with this orientation."""
    width, height = size
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    data = tiff(orientation)
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + bytes([8, 0, 0, 0]) + sides
    body += webp[12:] + bytes(len(webp) % 2)
    body += b"EXIF" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body
