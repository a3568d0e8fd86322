"""The part of MQTT 5's wire format that is needed to refuse a PUBLISH in place of a broker."""

from __future__ import annotations

from dataclasses import dataclass, field

PUBLISH, PUBACK = 3, 4
QUOTA_EXCEEDED = 0x97


@dataclass
class Refusing:
    """Filters one connection's bytes from client to broker: each PUBLISH is refused here.

    `reason` is the reason code of the PUBACK for the client. All other packets are passed on.
    """

    reason: int
    refused: int = 0
    _buffer: bytearray = field(default_factory=bytearray)

    def __call__(self, data: bytes) -> tuple[bytes, bytes]:
        """Return (bytes for the broker, bytes for the client) for bytes from the client."""
        self._buffer += data
        onward, back = bytearray(), bytearray()
        while (size := packet_size(self._buffer)) is not None and size <= len(self._buffer):
            packet = bytes(self._buffer[:size])
            del self._buffer[:size]
            if packet[0] >> 4 == PUBLISH and packet[0] >> 1 & 3 == 1:
                self.refused += 1
                back += bytes([PUBACK << 4, 3]) + packet_id(packet) + bytes([self.reason])
            else:
                onward += packet
        return bytes(onward), bytes(back)


def packet_size(data: bytes | bytearray) -> int | None:
    """Return the size in bytes of the packet that begins here; None if `data` is too short to know."""
    length = 0
    for index, byte in enumerate(data[1:5]):
        length |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return 2 + index + length
    return None


def packet_id(publish: bytes) -> bytes:
    """Return the two bytes of a PUBLISH's packet id."""
    start = next(index for index in range(1, 5) if publish[index] < 0x80) + 1
    topic = int.from_bytes(publish[start : start + 2], "big")
    return publish[start + 2 + topic : start + 4 + topic]
