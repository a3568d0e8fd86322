"""The head of a JPEG with an EXIF orientation."""

from __future__ import annotations

import struct


def exif(orientation: int, order: str = "<") -> bytes:
    """Return the head of a JPEG with this EXIF `orientation` (1..8) in this byte order (struct's sign)."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    body = b"Exif\0\0" + head + struct.pack(f"{order}H", 1) + entry + bytes(4)
    jfif = b"\xff\xe0\x00\x04ab"
    return b"\xff\xd8" + jfif + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + b"\xff\xdb\x00\x02"
