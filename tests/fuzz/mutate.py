"""Almost valid input: seeds of every container, and mutations of their bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import cv2

from tests.support.video import crossing, ground, scene, write_clip

SIZE = (96, 64)

CLIPS = {
    "h264.mp4": ("libx264", "yuv420p"),
    "h264.mkv": ("libx264", "yuv420p"),
    "h264.ts": ("libx264", "yuv420p"),
    "h264.h264": ("libx264", "yuv420p"),
    "h264.flv": ("libx264", "yuv420p"),
    "high.mkv": ("libx264", "yuv444p"),
    "hevc.mp4": ("libx265", "yuv420p"),
    "mpeg4.avi": ("mpeg4", "yuv420p"),
    "mjpeg.avi": ("mjpeg", "yuvj420p"),
    "mjpeg.mov": ("mjpeg", "yuvj422p"),
    "ffv1.mkv": ("ffv1", "yuv422p"),
    "vp9.mkv": ("libvpx-vp9", "yuv420p"),
    "mpeg2.mpg": ("mpeg2video", "yuv420p"),
}
"""Small clips in the containers of files and camera answers; those that cannot be made here are left out."""

QUIET = {"libx265": {"x265-params": "log-level=none"}}

STILLS = (".jpg", ".png", ".bmp", ".webp")

TOKENS = (
    b"#EXTM3U\n#EXTINF:2,\n{trap}\n",
    b"ffconcat version 1.0\nfile '{trap}'\n",
    b"{trap}",
    b"dref",
    b"alis",
    b"rmra",
    b"url ",
    b"\0\0\0\1",
    b"\0\0\1\xb3",
    b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03",
    b"RIFF\xff\xff\xff\xff",
    b"--frame\r\n",
    b"$\0\xff\xff",
)
"""Tokens that parsers look for, or that lead elsewhere; `{trap}` is an address that must not be contacted."""

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def corpus(folder: Path) -> dict[str, bytes]:
    """Make the clips and stills in `folder`; return their bytes by name."""
    found: dict[str, bytes] = {}
    for name, (codec, pixels) in CLIPS.items():
        box = crossing(SIZE, start_s=0.2, length_s=1.0)
        images = scene(seconds=1.2, fps=10, size=SIZE, box=box, noise=2)
        try:
            path = write_clip(
                folder / name, images, fps=10, gop=4, codec=codec, pixels=pixels, options=QUIET.get(codec)
            )
        except (ValueError, OSError, LookupError):
            continue
        found[name] = path.read_bytes()
    for suffix in STILLS:
        made, data = cv2.imencode(suffix, ground(*SIZE))
        assert made
        found[f"still{suffix}"] = data.tobytes()
    return found


def flip(draw: random.Random, data: bytearray, _other: bytes) -> None:
    for _ in range(draw.choice((1, 1, 4, 32, max(1, len(data) // 100)))):
        at = draw.randrange(len(data))
        data[at] ^= 1 << draw.randrange(8)


def number(draw: random.Random, data: bytearray, _other: bytes) -> None:
    width = draw.choice((1, 2, 4, 8))
    value = (draw.choice(NUMBERS) + draw.choice((-1, 0, 0, 1))) % (1 << 8 * width)
    at = draw.randrange(len(data))
    data[at : at + width] = value.to_bytes(width, draw.choice(("big", "little")))


def cut(draw: random.Random, data: bytearray, _other: bytes) -> None:
    at = draw.randrange(len(data))
    del data[at : at + draw.choice((1, 4, 100, len(data) // 4 + 1))]


def truncate(draw: random.Random, data: bytearray, _other: bytes) -> None:
    del data[draw.randrange(1, len(data) + 1) :]


def repeat(draw: random.Random, data: bytearray, _other: bytes) -> None:
    at = draw.randrange(len(data))
    piece = data[at : at + draw.choice((1, 16, 1000))]
    data[at:at] = piece * draw.choice((1, 2, 50))


def splice(draw: random.Random, data: bytearray, other: bytes) -> None:
    at, start = draw.randrange(len(data)), draw.randrange(len(other))
    data[at : at + draw.choice((0, 500))] = other[start : start + draw.choice((16, 500, 5000))]


def token(draw: random.Random, data: bytearray, _other: bytes) -> None:
    at = draw.choice((0, draw.randrange(len(data))))
    word = draw.choice(TOKENS)
    data[at : at + (len(word) if draw.random() < 0.5 else 0)] = word


def noise(draw: random.Random, data: bytearray, _other: bytes) -> None:
    at = draw.randrange(len(data))
    data[at : at + draw.choice((4, 64, 2000))] = draw.randbytes(draw.choice((4, 64, 2000)))


MUTATIONS: tuple[Callable[[random.Random, bytearray, bytes], None], ...] = (
    flip,
    flip,
    number,
    number,
    cut,
    truncate,
    repeat,
    splice,
    token,
    noise,
)


def mutated(draw: random.Random, data: bytes, other: bytes, trap: str) -> bytes:
    """Return `data` after a few mutations; pieces of `other` are spliced in."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        draw.choice(MUTATIONS)(draw, changed, other)
        if not changed:
            return b""
    return bytes(changed).replace(b"{trap}", trap.encode())
