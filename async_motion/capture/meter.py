"""The bound on the bytes that a camera may send without completing a frame: FFmpeg has none."""

from __future__ import annotations

MAX_FRAME_BYTES = 32 * 1024 * 1024
"""The maximum size of an encoded frame: one of 33 megapixels takes about 10 MB."""

MAX_OPENING_BYTES = 2 * MAX_FRAME_BYTES
"""The bound before the first frame: FFmpeg reads ahead to probe the stream."""


class ByteMeter:
    """Counts the bytes since the last frame. One thread counts, another resets."""

    def __init__(self) -> None:
        self._bytes = 0
        self._limit = MAX_OPENING_BYTES

    def count(self, size: int) -> bool:
        """Count received bytes; return whether they are within the bound."""
        self._bytes += size
        return self._bytes <= self._limit

    def reset(self) -> None:
        """Reset the count, as a frame is complete."""
        self._bytes = 0
        self._limit = MAX_FRAME_BYTES

    @property
    def problem(self) -> str:
        """The text of the error when the bound is exceeded."""
        return f"sends more than {self._limit >> 20} MiB without completing a frame"
