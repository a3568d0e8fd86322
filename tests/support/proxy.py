"""A TCP proxy that injects faults into any protocol, and can answer HTTP requests itself.

    async with Proxy("127.0.0.1", port) as proxy:      # clients use proxy.host, proxy.port
        proxy.hold()                     # no byte passes; connections stay open
        proxy.release()
        proxy.cut(up=1000)               # reset each connection after 1000 bytes towards the server
        proxy.cut(down=0)                # the server gets the request, its answer is lost
        proxy.limit(rate=10_000)         # bytes per second, each way; or delay_s for each chunk
        await proxy.close_port()         # connection refused, open connections too, until open_port()
        proxy.reset()                    # reset all open connections now
        proxy.answer(503, path="/x", headers={"Retry-After": "7"}, times=1)
        proxy.edit(make)                 # each connection's bytes towards the server go through make()
        proxy.heal()                     # end all of the above

Faults apply to open connections too. `answer` and `edit` need the beginning of a connection, so they reset
the open ones. While there are answers, each connection carries one request.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

Edit = Callable[[bytes], tuple[bytes, bytes]]
"""Maps bytes from the client to (bytes for the server, bytes to answer the client at once)."""

_CHUNK = 64 * 1024
_MAX_HEAD = 64 * 1024


@dataclass(kw_only=True)
class Answer:
    """The proxy's answer to requests with `path` in their first line, `times` times (None: always)."""

    status: int
    path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    times: int | None = None
    raw: bytes | None = None
    """Sent unchanged instead of a response."""
    given: int = 0

    def bytes(self) -> bytes:
        """Return the encoded response."""
        if self.raw is not None:
            return self.raw
        lines = [f"HTTP/1.1 {self.status} Because", f"Content-Length: {len(self.body)}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


@dataclass(kw_only=True, eq=False)
class _Link:
    """One connection through the proxy, with the number of bytes each way."""

    near: asyncio.StreamWriter
    task: asyncio.Task[None] | None
    far: asyncio.StreamWriter | None = None
    edit: Edit | None = None
    passed: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})

    def reset(self) -> None:
        for writer in (self.near, self.far):
            if writer is not None:
                _reset(writer)


class Proxy:
    """Forwards connections to `target_host:target_port`. `async with` opens the port."""

    host = "127.0.0.1"

    def __init__(self, target_host: str, target_port: int, *, port: int = 0) -> None:
        self.port = port
        self.connections = 0
        """Number of connections accepted so far."""
        self._target = (target_host, target_port)
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._going = asyncio.Event()
        self._going.set()
        self._cuts: dict[str, int | None] = {"up": None, "down": None}
        self._rate: float | None = None
        self._delay_s = 0.0
        self._answers: list[Answer] = []
        self._edit: Callable[[], Edit] | None = None

    async def __aenter__(self) -> Self:
        await self.open_port()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close_port()

    async def open_port(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, self.host, self.port, limit=_MAX_HEAD)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close_port(self) -> None:
        """Refuse connections, reset the open ones, and wait for their end."""
        self.release()
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
            self.reset()
            ending = [link.task for link in self._links if link.task is not None]
            if ending:
                await asyncio.wait(ending)
            await server.wait_closed()

    def hold(self) -> None:
        """Stop forwarding. Connections are accepted and stay open."""
        self._going.clear()

    def release(self) -> None:
        """Forward again, including the bytes that waited."""
        self._going.set()

    def reset(self) -> None:
        """Reset every open connection on both sides."""
        for link in list(self._links):
            link.reset()

    def cut(self, *, up: int | None = None, down: int | None = None) -> None:
        """Reset each connection after `up` bytes to, or `down` bytes from, the server."""
        self._cuts = {"up": up, "down": down}

    def limit(self, *, rate: float | None = None, delay_s: float = 0.0) -> None:
        """Forward at most `rate` bytes per second each way; delay each chunk by `delay_s`."""
        self._rate = rate
        self._delay_s = delay_s

    def answer(
        self,
        status: int,
        *,
        path: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        times: int | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        """Answer HTTP requests here. The first matching answer is used; `Answer.given` counts its uses."""
        made = Answer(status=status, path=path, headers=headers or {}, body=body, times=times, raw=raw)
        self._answers.append(made)
        self.reset()
        return made

    def edit(self, make: Callable[[], Edit]) -> None:
        """Give each new connection an editor from `make`; reset the open ones."""
        self._edit = make
        self.reset()

    def heal(self) -> None:
        """End all faults. A closed port stays closed; connections with an editor are reset."""
        if self._edit is not None:
            self._edit = None
            self.reset()
        self._answers.clear()
        self.cut()
        self.limit()
        self.release()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        edit = self._edit() if self._edit is not None else None
        link = _Link(near=writer, task=asyncio.current_task(), edit=edit)
        self._links.add(link)
        try:
            head = b""
            if self._answers:
                head = await reader.readuntil(b"\r\n\r\n")
                answer = self._fitting(head)
                if answer is not None:
                    await self._going.wait()
                    await self._say(answer, head, reader, writer)
                    return
                # Without this, a second request on the connection would pass unseen.
                head = head[:-2] + b"Connection: close\r\n\r\n"
            far_reader, link.far = await asyncio.open_connection(*self._target)
            if head:
                link.far.write(head)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(link, "up", reader, link.far), name="proxy-up")
                tasks.create_task(self._pump(link, "down", far_reader, writer), name="proxy-down")
        except* (OSError, asyncio.IncompleteReadError):
            # One side is closed, so close the other.
            link.reset()
        finally:
            self._links.discard(link)
            for each in (writer, link.far):
                if each is not None:
                    each.close()

    def _fitting(self, head: bytes) -> Answer | None:
        line = head.partition(b"\r\n")[0].decode("latin-1")
        for answer in self._answers:
            if answer.path in line and (answer.times is None or answer.given < answer.times):
                answer.given += 1
                return answer
        return None

    async def _say(
        self, answer: Answer, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Read the request's body, then send the answer: a response before the body is another fault."""
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                await reader.readexactly(int(value))
        writer.write(answer.bytes())
        await writer.drain()

    async def _pump(
        self, link: _Link, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(_CHUNK):
            await self._going.wait()
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            if way == "up" and link.edit is not None:
                data, back = link.edit(data)
                link.near.write(back)
            cut = self._cuts[way]
            if cut is not None and link.passed[way] + len(data) >= cut:
                writer.write(data[: max(0, cut - link.passed[way])])
                await writer.drain()
                link.reset()
                return
            await self._write(link, way, data, writer)
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()

    async def _write(self, link: _Link, way: str, data: bytes, writer: asyncio.StreamWriter) -> None:
        while data:
            # Read the bytes of 0.1 s at a time.
            size = len(data) if self._rate is None else max(1, int(self._rate / 10))
            piece, data = data[:size], data[size:]
            await self._going.wait()
            writer.write(piece)
            await writer.drain()
            link.passed[way] += len(piece)
            if self._rate is not None:
                await asyncio.sleep(len(piece) / self._rate)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a TCP reset."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
