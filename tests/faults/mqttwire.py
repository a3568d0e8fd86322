"""As much of MQTT 5's wire format as it takes to refuse a publish in a broker's place."""

from __future__ import annotations

from dataclasses import dataclass, field

PUBLISH, PUBACK = 3, 4
QUOTA_EXCEEDED = 0x97


@dataclass
class Refusing:
    """Bytes of one connection, from the client to the broker: publishes stop here and are refused.

    `reason` is the code of the PUBACK that the client gets. All else goes on.
    """

    reason: int
    refused: int = 0
    _buffer: bytearray = field(default_factory=bytearray)

    def __call__(self, data: bytes) -> tuple[bytes, bytes]:
        """Take bytes; return what goes on to the broker and what goes back to the client."""
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
    """Return the bytes of the packet that begins here, None while too little is known."""
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
