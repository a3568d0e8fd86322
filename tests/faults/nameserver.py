"""A name server that can die, and the words that make one process ask it alone.

The service runs in a mount namespace of its own, where /etc/resolv.conf and /etc/nsswitch.conf are ours: it
resolves names as it always does, with the C library, its time-outs and its caches.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import struct
from pathlib import Path
from typing import Literal, Self

STORE_NAME, BROKER_NAME = "store.test", "broker.test"

Mood = Literal["answers", "silent", "fails", "knows nothing"]
"""Everything is 127.0.0.1; no answer; SERVFAIL; NXDOMAIN."""

_CODES: dict[Mood, int] = {"answers": 0, "fails": 2, "knows nothing": 3}
_A = 1


class NameServer(asyncio.DatagramProtocol):
    """UDP port 53 of a loopback address of our own. `async with` opens it."""

    def __init__(self) -> None:
        pid = os.getpid()
        self.address = f"127.53.{pid >> 8 & 0xFF}.{pid & 0xFF or 1}"
        self.mood: Mood = "answers"
        self.refused = 0
        """How many queries got no good answer."""
        self._transport: asyncio.DatagramTransport | None = None

    @staticmethod
    def possible() -> bool:
        """Return whether this machine lets us make one."""
        return os.geteuid() == 0 and shutil.which("unshare") is not None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self.address, 53))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._transport is not None:
            self._transport.close()

    def wrapper(self, folder: Path) -> list[str]:
        """Return the words before a command that make it ask here. Its pid is the command's own."""
        (folder / "resolv.conf").write_text(f"nameserver {self.address}\n")
        (folder / "nsswitch.conf").write_text("hosts: dns\n")
        binds = [
            f"mount --bind {shlex.quote(str(folder / name))} /etc/{name}"
            for name in ("resolv.conf", "nsswitch.conf")
        ]
        # "slave": what is unmounted outside is unmounted for the service too.
        return [
            "unshare",
            "-m",
            "--propagation",
            "slave",
            "sh",
            "-ec",
            f'{"; ".join(binds)}; exec "$@"',
            "sh",
        ]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one question."""
        if self.mood != "answers":
            self.refused += 1
        if self.mood == "silent" or self._transport is None:
            return
        end = data.index(0, 12) + 5
        question, (kind,) = data[12:end], struct.unpack("!H", data[end - 4 : end - 2])
        # Of IPv6 we know nothing, which is an answer too.
        found = self.mood == "answers" and kind == _A
        head = data[:2] + struct.pack("!HHHHH", 0x8180 | _CODES[self.mood], 1, int(found), 0, 0)
        answer = b"\xc0\x0c" + struct.pack("!HHIH", _A, 1, 0, 4) + bytes([127, 0, 0, 1]) if found else b""
        self._transport.sendto(head + question + answer, addr)
