"""How coarsely an H.264 picture was quantised, read from its first slice's header without decoding anything.

A packet's size alone says little where the encoder holds the bit rate: when more happens it quantises more
coarsely, and the packets stay as they were. Size and quantiser together say how much there was to tell: six
steps of the quantiser halve the bytes, about. Only the few fields before the quantiser are read (ITU-T H.264,
7.3.2 and 7.3.3), from the first bytes of a packet; whatever is unusual, or damaged, has no answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SLICE, KEY_SLICE, SEQUENCE, PICTURE = 1, 5, 7, 8
"""Kinds of units in a stream."""

HEAD = 64
"""Bytes of a unit that are looked at: a slice's header is shorter."""
MAX_UNITS = 16
MAX_REFERENCES = 32
HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128})


class _Bits:
    """Reads a unit bit by bit. Raises ValueError at its end."""

    def __init__(self, unit: bytes) -> None:
        plain = unit.replace(b"\x00\x00\x03", b"\x00\x00")
        self._value = int.from_bytes(plain, "big")
        self._left = len(plain) * 8

    def take(self, count: int) -> int:
        """Return the next `count` bits as a number."""
        self._left -= count
        if self._left < 0:
            raise ValueError("the unit ends here")
        return (self._value >> self._left) & ((1 << count) - 1)

    def number(self) -> int:
        """Return the next Exp-Golomb number, 0 or more."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """Return the next signed Exp-Golomb number."""
        code = self.number()
        return (code + 1) // 2 if code % 2 else -(code // 2)


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What the sequence's parameters say of a slice's header. `order_bits`: None where it holds no order."""

    frame_bits: int
    order_bits: int | None
    frames_only: bool
    colour: bool


@dataclass(frozen=True, slots=True)
class _Picture:
    """What the picture's parameters say of it."""

    cabac: bool
    order_of_fields: bool
    references: int
    weighted: bool
    quantiser: int
    redundant: bool


class Quantisers:
    """Reads the quantiser of one stream's pictures. `extradata` is what its container says of the stream."""

    def __init__(self, extradata: bytes | None) -> None:
        self._sequence: _Sequence | None = None
        self._picture: _Picture | None = None
        self._prefix = 0
        """Bytes of a unit's length in front of it; 0: start codes stand between units."""
        if extradata and extradata[0] == 1 and len(extradata) > 6:
            self._prefix = (extradata[4] & 3) + 1
            for unit in _described(extradata):
                self._note(unit)
        elif extradata:
            for unit in _between_start_codes(extradata):
                self._note(unit)

    def of(self, packet: bytes | memoryview) -> int | None:
        """Return the quantiser (0..51 for 8 bits) of a packet's first slice; None where it cannot be told."""
        units = _prefixed(packet, self._prefix) if self._prefix else _between_start_codes(packet)
        for unit in units:
            kind = unit[0] & 31
            if kind in (SEQUENCE, PICTURE):
                self._note(unit)
            elif kind in (SLICE, KEY_SLICE):
                try:
                    return self._read(unit)
                except ValueError:
                    return None
        return None

    def _note(self, unit: bytes) -> None:
        try:
            if unit[0] & 31 == SEQUENCE:
                self._sequence = _read_sequence(_Bits(unit))
            elif unit[0] & 31 == PICTURE:
                self._picture = _read_picture(_Bits(unit))
        except ValueError:
            self._sequence = self._picture = None

    def _read(self, unit: bytes) -> int | None:
        sequence, picture = self._sequence, self._picture
        if sequence is None or picture is None:
            return None
        bits = _Bits(unit)
        header = bits.take(8)
        is_reference, is_key = bool(header & 0x60), header & 31 == KEY_SLICE
        bits.number()  # the first macroblock
        predicted, alone = 0, 2
        kind = bits.number() % 5
        bits.number()  # the picture's parameters
        bits.take(sequence.frame_bits)
        if not sequence.frames_only and bits.take(1):
            bits.take(1)
        if is_key:
            bits.number()
        if sequence.order_bits is not None:
            bits.take(sequence.order_bits)
            if picture.order_of_fields:
                bits.signed()
        if picture.redundant:
            bits.number()
        if kind == predicted:
            self._skip_references(bits, sequence, picture)
        elif kind != alone:
            return None  # predicted from both sides: its size does not compare with the others'
        if is_reference:
            _skip_marking(bits, is_key)
        if picture.cabac and kind != alone:
            bits.number()
        return picture.quantiser + bits.signed()

    @staticmethod
    def _skip_references(bits: _Bits, sequence: _Sequence, picture: _Picture) -> None:
        count = bits.number() + 1 if bits.take(1) else picture.references
        if count > MAX_REFERENCES:
            raise ValueError("more references than there can be")
        if bits.take(1):
            last = 3
            while bits.number() != last:
                bits.number()
        if picture.weighted:
            bits.number()
            if sequence.colour:
                bits.number()
            for _ in range(count):
                if bits.take(1):
                    bits.signed(), bits.signed()
                if sequence.colour and bits.take(1):
                    for _ in range(4):
                        bits.signed()


def _skip_marking(bits: _Bits, is_key: bool) -> None:
    if is_key:
        bits.take(2)
    elif bits.take(1):
        while operation := bits.number():
            if operation != 5:
                bits.number()
            if operation == 3:
                bits.number()


def _read_sequence(bits: _Bits) -> _Sequence:
    bits.take(8)
    profile = bits.take(8)
    bits.take(16)
    bits.number()
    colour = True
    if profile in HIGH_PROFILES:
        chroma = bits.number()
        if chroma == 3:
            raise ValueError("planes may be apart")
        colour = chroma != 0
        bits.number()
        bits.number()
        bits.take(1)
        if bits.take(1):
            raise ValueError("scaling lists")
    frame_bits = bits.number() + 4
    order = bits.number()
    if order == 1:
        raise ValueError("an order of pictures that nobody uses")
    order_bits = bits.number() + 4 if order == 0 else None
    bits.number()
    bits.take(1)
    bits.number()
    bits.number()
    return _Sequence(frame_bits, order_bits, bool(bits.take(1)), colour)


def _read_picture(bits: _Bits) -> _Picture:
    bits.take(8)
    bits.number()
    bits.number()
    cabac, order_of_fields = bool(bits.take(1)), bool(bits.take(1))
    if bits.number():
        raise ValueError("groups of slices")
    references = bits.number() + 1
    bits.number()
    weighted = bool(bits.take(1))
    bits.take(2)
    quantiser = 26 + bits.signed()
    bits.signed()
    bits.signed()
    bits.take(2)
    return _Picture(cabac, order_of_fields, references, weighted, quantiser, bool(bits.take(1)))


def _described(extradata: bytes) -> Iterator[bytes]:
    """Yield the parameters that an MP4's description of a stream holds."""
    at = 5
    for mask in (31, 255):
        if at >= len(extradata):
            return
        count, at = extradata[at] & mask, at + 1
        for _ in range(min(count, MAX_UNITS)):
            size = int.from_bytes(extradata[at : at + 2], "big")
            if unit := extradata[at + 2 : at + 2 + size]:
                yield unit
            at += 2 + size


def _prefixed(packet: bytes | memoryview, prefix: int) -> Iterator[bytes]:
    """Yield the heads of a packet's units, each behind its length."""
    at = 0
    for _ in range(MAX_UNITS):
        start = at + prefix
        if start >= len(packet):
            return
        size = int.from_bytes(packet[at:start], "big")
        if unit := bytes(packet[start : start + min(size, HEAD)]):
            yield unit
        at = start + size


def _between_start_codes(packet: bytes | memoryview) -> Iterator[bytes]:
    """Yield the heads of the units at a packet's beginning."""
    # A camera's parameters and messages come to a few hundred bytes; the first slice stands behind them.
    beginning = bytes(packet[:4096])
    at = beginning.find(b"\x00\x00\x01")
    for _ in range(MAX_UNITS):
        if at < 0 or at + 3 >= len(beginning):
            return
        following = beginning.find(b"\x00\x00\x01", at + 3)
        end = len(beginning) if following < 0 else following
        yield beginning[at + 3 : min(end, at + 3 + HEAD)]
        at = following
