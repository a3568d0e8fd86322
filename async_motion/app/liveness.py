"""Liveness: reports to the supervisor, and a watchdog that ends a service that hangs.

- **systemd** (`Type=notify`): READY once the settings are valid and the spool is open, WATCHDOG from the
  event loop itself, STOPPING. Without `$NOTIFY_SOCKET` nothing is sent.
- **`async-motion health`** connects to a Unix socket of this machine, so that no proxy, TLS, token, bound
  address or occupied port can interfere. The event loop answers; a loop that hangs does not. The socket's
  name derives from the path of the settings file, so that the command need not read that file.
- **The watchdog** is a thread. If the event loop has not run for `HANG_S`, it ends the process with every
  thread's traceback and exit code 1, so that the restart policy applies. Accepted records are in the spool.
  The thread counts its own wake-ups: time in which the whole process was stopped does not count.
  If C code never releases the GIL, `faulthandler` ends the process after `FROZEN_S`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from async_motion.app.health_socket import ANSWER

log = logging.getLogger(__name__)

BEAT_S: Final = 1.0
HANG_S: Final = 60.0
"""An event loop that has not run for this long is taken for hung."""
FROZEN_S: Final = 600.0
"""The same for the whole interpreter. Longer, since time in which the process was stopped counts here."""
LAST_WORDS_S: Final = 2.0


class Liveness:
    """The liveness of one service. `address` None: no socket (tests, other platforms)."""

    def __init__(
        self,
        *,
        address: str | None = None,
        env: Mapping[str, str] = os.environ,
        hang_s: float = HANG_S,
        beat_s: float = BEAT_S,
    ) -> None:
        self._address = address
        self._notify_socket = env.get("NOTIFY_SOCKET")
        self._hang_s = hang_s
        self._beat_s = beat_s
        self._beats = 0
        self._over = threading.Event()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Run heartbeat, socket and watchdog while the context is open."""
        server = await self._serve()
        beating = asyncio.create_task(self._beat(), name="heartbeat")
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        try:
            yield
        finally:
            self._over.set()
            faulthandler.cancel_dump_traceback_later()
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating
            if server is not None:
                server.close()
                self._remove_socket()

    def ready(self, status: str) -> None:
        """Tell the supervisor that the service is up. `status` is for `systemctl status`."""
        self._notify(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Tell the supervisor that a reload has begun; `ready` ends it."""
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Tell the supervisor that the service is stopping."""
        self._notify("STOPPING=1")

    async def _serve(self) -> asyncio.Server | None:
        if self._address is None:
            return None

        async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                writer.write(ANSWER)
                await writer.drain()
            writer.close()

        self._remove_socket()
        try:
            return await asyncio.start_unix_server(answer, self._address, backlog=4)
        except OSError as exc:
            # Another service runs with the same settings file. Only `async-motion health` needs the socket.
            log.warning("async-motion health cannot ask this service: %s", exc.strerror or exc)
            return None

    def _remove_socket(self) -> None:
        if self._address is not None and not self._address.startswith("\0"):
            Path(self._address).unlink(missing_ok=True)

    async def _beat(self) -> None:
        while True:
            self._beats += 1
            self._notify("WATCHDOG=1")
            await asyncio.sleep(self._beat_s)

    def _watch(self) -> None:
        """End the process when the event loop hangs. Runs in a thread of its own."""
        seen, without_beat = -1, 0.0
        while not self._over.wait(self._beat_s):
            with suppress(OSError, RuntimeError, ValueError):  # standard error may have no file
                faulthandler.dump_traceback_later(FROZEN_S, exit=True)
            if self._beats != seen:
                seen, without_beat = self._beats, 0.0
                continue
            without_beat += self._beat_s
            if without_beat >= self._hang_s:
                log.critical(
                    "the event loop has hung for %.0f s: ending; what was accepted stays in the spool",
                    without_beat,
                )
                # Standard error may be stalled too: do not wait for the traceback.
                dump = threading.Thread(target=dump_traceback, daemon=True)
                dump.start()
                dump.join(LAST_WORDS_S)
                # Imported here to keep `async-motion health` cheap.
                from async_motion.logs import flush_logging  # noqa: PLC0415

                flush_logging(LAST_WORDS_S)
                os._exit(1)

    def _notify(self, message: str) -> None:
        if not self._notify_socket:
            return
        address = self._notify_socket
        if address.startswith("@"):
            address = f"\0{address[1:]}"
        # A supervisor that does not read must not block the event loop.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.setblocking(False)
            peer.sendto(message.encode(), address)


def dump_traceback() -> None:
    """Write the stacks of all threads to standard error."""
    with suppress(OSError, RuntimeError, ValueError):  # standard error may have no file
        faulthandler.dump_traceback(all_threads=True)
