"""The TLS context of a broker connection."""

from __future__ import annotations

import asyncio
import ssl

from async_motion.errors import BrokerRefused, TlsFileError
from async_motion.tls import TlsFiles, client_context


class _Socket(ssl.SSLSocket):
    """A socket that is closed when its handshake fails: paho forgets about it."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT002  # the signature is ssl's
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


async def broker_context(files: TlsFiles) -> ssl.SSLContext:
    """Read the files and return the context. They are read for each connection: renewed ones are picked up.

    Raises BrokerRefused, naming the setting, for a file that is missing or is not what it should be.
    """
    try:
        context = await asyncio.to_thread(client_context, files)
    except TlsFileError as exc:
        raise BrokerRefused(f"mqtt.tls.{exc}") from exc
    context.sslsocket_class = _Socket
    return context
