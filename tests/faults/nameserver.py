"""A name server that can fail, and a command prefix that makes one process use only this server.

The service runs in its own mount namespace with our /etc/resolv.conf and /etc/nsswitch.conf. It resolves
names as usual, with the C library, its time-outs and its caches.
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
"""The answer to every query: 127.0.0.1; none; SERVFAIL; NXDOMAIN."""

_CODES: dict[Mood, int] = {"answers": 0, "fails": 2, "knows nothing": 3}
_A = 1


class NameServer(asyncio.DatagramProtocol):
    """A DNS server on UDP port 53 of its own loopback address. `async with` opens it."""

    def __init__(self) -> None:
        pid = os.getpid()
        self.address = f"127.53.{pid >> 8 & 0xFF}.{pid & 0xFF or 1}"
        self.mood: Mood = "answers"
        self.refused = 0
        """Number of queries without a successful answer."""
        self._transport: asyncio.DatagramTransport | None = None

    @staticmethod
    def possible() -> bool:
        """Return whether this machine allows it."""
        return os.geteuid() == 0 and shutil.which("unshare") is not None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self.address, 53))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._transport is not None:
            self._transport.close()

    def wrapper(self, folder: Path) -> list[str]:
        """Return a command prefix that makes the command use this server. Its pid is the command's own."""
        (folder / "resolv.conf").write_text(f"nameserver {self.address}\n")
        (folder / "nsswitch.conf").write_text("hosts: dns\n")
        binds = [
            f"mount --bind {shlex.quote(str(folder / name))} /etc/{name}"
            for name in ("resolv.conf", "nsswitch.conf")
        ]
        # "slave": an unmount outside also applies to the service's namespace.
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
        """Answer one query."""
        if self.mood != "answers":
            self.refused += 1
        if self.mood == "silent" or self._transport is None:
            return
        end = data.index(0, 12) + 5
        question, (kind,) = data[12:end], struct.unpack("!H", data[end - 4 : end - 2])
        # Queries for IPv6 get an empty answer.
        found = self.mood == "answers" and kind == _A
        head = data[:2] + struct.pack("!HHHHH", 0x8180 | _CODES[self.mood], 1, int(found), 0, 0)
        answer = b"\xc0\x0c" + struct.pack("!HHIH", _A, 1, 0, 4) + bytes([127, 0, 0, 1]) if found else b""
        self._transport.sendto(head + question + answer, addr)
