"""Find JPEGs in a stream of bytes by their own markers (ISO/IEC 10918-1, annex B).

The bytes between them (multipart boundaries, headers, wrong lengths, garbage) are ignored. A JPEG is whole
when its segments lead from SOI through a frame header and a scan to EOI. One that another SOI interrupts, or
whose segments are invalid, is damaged. So is one for which no quantisation table has come yet: decoders show
it as plain grey. Tables may come in an earlier JPEG of the same stream (annex B.5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto

from async_motion.capture.meter import MAX_FRAME_BYTES

SOI = b"\xff\xd8\xff"
SOS, EOI, DHP, DQT = 0xDA, 0xD9, 0xDE, 0xDB
SOF = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers of frame headers: the range without DHT, JPG and DAC."""
LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
"""Frame headers of JPEGs without a DCT, which need no quantisation tables."""

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A marker in entropy-coded data: neither a stuffed byte nor RSTn. Fill bytes before it do not belong to it:
`\xff+` would search a run of them once for each of its bytes."""

_NOT_FILL = re.compile(rb"[^\xff]")


class TooLong(Exception):
    """More bytes than a frame may have, and no JPEG is complete."""


class _Step(Enum):
    """The next step while no JPEG has ended."""

    GO_ON = auto()
    NEED_MORE = auto()


class JpegScanner:
    """Finds JPEGs in bytes as they arrive."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = bytearray()
        self._at = 0
        """How far the JPEG at the beginning of `_bytes` was parsed; 0: no SOI was found yet."""
        self._in_scan = False
        self._frame: int | None = None
        """The marker of the frame header."""
        self._has_scan = False
        self._has_own_tables = False
        self._has_tables = False
        """Whether quantisation tables came in a JPEG that was not dropped."""

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        """Take the next bytes; yield each whole JPEG, and None for each damaged one. Raises TooLong."""
        self._bytes += data
        while not isinstance(found := self._next(), _Step):
            yield found
        if len(self._bytes) > self._max_bytes:
            raise TooLong

    @property
    def inside(self) -> bool:
        """Whether a JPEG has begun and is not complete."""
        return self._at > 0

    def _next(self) -> bytes | _Step | None:
        """Return a whole JPEG, None for a damaged one, or NEED_MORE."""
        if not self._at:
            start = self._bytes.find(SOI)
            if start < 0:
                del self._bytes[: max(0, len(self._bytes) - len(SOI) + 1)]
                return _Step.NEED_MORE
            del self._bytes[:start]
            self._at = 2
            self._in_scan = self._has_scan = self._has_own_tables = False
            self._frame = None
        while True:
            step = self._scan() if self._in_scan else self._segment()
            if step is not _Step.GO_ON:
                return step

    def _segment(self) -> bytes | _Step | None:
        """Parse one marker segment."""
        data, at = self._bytes, self._at
        if data[at : at + 2] == b"\xff\xff":
            at = self._at = after_fill(data, at)
        if at + 1 >= len(data):
            return _Step.NEED_MORE
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0x00, 0xD8):
            self._drop(at)
            return None
        if marker == EOI:
            return self._complete(at + 2)
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            self._at = at + 2
            return _Step.GO_ON
        if at + 4 > len(data):
            return _Step.NEED_MORE
        length = int.from_bytes(data[at + 2 : at + 4])
        if length < 2:
            self._drop(at + 2)
            return None
        if at + 2 + length > len(data):
            return _Step.NEED_MORE
        if marker in SOF:
            self._frame = marker
        self._has_own_tables = self._has_own_tables or marker == DQT
        if marker == SOS:
            self._in_scan = self._has_scan = True
        self._at = at + 2 + length
        return _Step.GO_ON

    def _scan(self) -> bytes | _Step | None:
        """Find the end of entropy-coded data."""
        found = _MARKER.search(self._bytes, self._at)
        if found is None:
            # The last byte may be the beginning of a marker.
            self._at = max(self._at, len(self._bytes) - self._bytes.endswith(b"\xff"))
            return _Step.NEED_MORE
        self._at = found.start()
        self._in_scan = False
        return _Step.GO_ON

    def _complete(self, end: int) -> bytes | None:
        self._has_tables = self._has_tables or self._has_own_tables
        scanned = self._has_scan and self._frame is not None
        whole = scanned and (self._has_tables or self._frame in LOSSLESS)
        jpeg = bytes(self._bytes[:end]) if whole else None
        del self._bytes[:end]
        self._at = 0
        return jpeg

    def _drop(self, at: int) -> None:
        """Drop the damaged bytes, up to where the next JPEG may begin."""
        del self._bytes[: max(2, at)]
        self._at = 0


def after_fill(data: bytes | bytearray, at: int) -> int:
    """Return the place of the last 0xFF of the run that begins at `at`: a marker's first byte."""
    found = _NOT_FILL.search(data, at)
    return (len(data) if found is None else found.start()) - 1
