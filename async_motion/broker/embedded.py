"""The embedded broker, for a machine without one: rumqttd (iotcore) in a child process, on 127.0.0.1 only.

It speaks MQTT 3.1.1 and 5 on one port, has no login and no persistence: `BrokerClient` publishes everything
retained again. The child inherits our listening socket. When it restarts, the port stays the same and no
connection is refused. The child ends with us, even when we are killed.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import random
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final

from async_motion.core.backoff import Backoff
from async_motion.core.children import child_environment
from async_motion.core.options import MQTT_PORT
from async_motion.errors import BrokerUnavailable

log = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
SCRIPT: Final = Path(__file__).with_name("embedded_process.py")
START_S: Final = 20.0
STOP_S: Final = 5.0


class EmbeddedBroker:
    """`async with EmbeddedBroker() as (host, port)`: keeps a broker running inside the block.

    `port` is the first choice; `PORTS_TRIED` ports are tried in turn. 0: any free port. Raises
    BrokerUnavailable when all of them are taken. A broker that fails is started again, with backoff.
    """

    PORTS_TRIED: ClassVar[int] = 20
    MAX_PACKET: ClassVar[int] = 4 << 20
    """The largest packet that it accepts, in bytes. It is not announced; a larger one ends the connection."""

    def __init__(self, port: int = MQTT_PORT) -> None:
        self._port = port
        self._listening: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._started = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id, while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def __aenter__(self) -> tuple[str, int]:
        self._listening = listening = _listen(self._port, self.PORTS_TRIED)
        port = int(listening.getsockname()[1])
        await self._tasks.__aenter__()
        self._keeper = self._tasks.create_task(self._keep_running(listening), name="embedded-broker")
        other = f" ({self._port} is taken)" if self._port not in (0, port) else ""
        try:
            async with asyncio.timeout(START_S):
                await self._started.wait()
            log.info("embedded broker: MQTT 3.1.1 and 5 on %s:%d%s", HOST, port, other)
        except TimeoutError:
            log.warning("embedded broker: not started on %s:%d after %.0f s", HOST, port, START_S)
        except BaseException:
            await self._stop()
            raise
        return HOST, port

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
        try:
            # The block's own error is not passed to the group, which would wrap it.
            await self._tasks.__aexit__(None, None, None)
        finally:
            if self._listening is not None:
                self._listening.close()

    async def _keep_running(self, listening: socket.socket) -> None:
        backoff = Backoff(draw=random.random, first_s=0.2, max_s=30.0)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                code = await self._run_once(listening)
            except OSError as exc:
                trouble = f"cannot be started: {(exc.strerror or type(exc).__name__).lower()}"
            else:
                trouble = f"ended with code {code}"
            if loop.time() - began > backoff.max_s:
                backoff.reset()
            delay_s = backoff.next_s()
            log.warning("embedded broker: %s; starting it again in %.1f s", trouble, delay_s)
            await asyncio.sleep(delay_s)

    async def _run_once(self, listening: socket.socket) -> int:
        options = json.dumps({"fd": listening.fileno(), "max_packet": self.MAX_PACKET})
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # without -P, the script's folder would be on its import path
            str(SCRIPT),
            options,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=[listening.fileno()],
            env=child_environment(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._process = process
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                if line == b"ready\n":
                    self._started.set()
                else:
                    log.debug("embedded broker: %s", line.decode(errors="replace").rstrip())
            return await process.wait()
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Stop the child and wait for it, so that no zombie remains."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _listen(first: int, tried: int) -> socket.socket:
    """Return a listening socket on the first free port from `first` on; 0: any."""
    last = first if first == 0 else min(first + tried - 1, 65535)
    for port in range(first, last + 1):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
            sock.listen(128)
        except OSError as exc:
            sock.close()
            if exc.errno in (errno.EADDRINUSE, errno.EACCES):
                continue
            raise BrokerUnavailable(f"embedded broker: {HOST}:{port}: {exc.strerror}") from exc
        sock.setblocking(False)
        return sock
    raise BrokerUnavailable(f"embedded broker: ports {first} to {last} are taken: set mqtt.port or mqtt.host")
