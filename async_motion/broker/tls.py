"""The TLS context of a broker connection, with errors that name the setting."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

from async_motion.errors import BrokerRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Paths of PEM files, each optional. `insecure` takes any certificate from the broker: for a lab."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure: bool = False


async def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Read the files and return the context.

    They are read for each connection: the next connection uses renewed ones. Raises BrokerRefused, naming the
    setting, for a file that is missing or is not what it should be.
    """
    return await asyncio.to_thread(_client_context, files)


class _Socket(ssl.SSLSocket):
    """A socket that is closed when its handshake fails: paho forgets about it."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT002  # the signature is ssl's
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _client_context(files: TlsFiles) -> ssl.SSLContext:
    for setting in ("ca_file", "cert_file", "key_file"):
        path = getattr(files, setting)
        if path is not None:
            _must_be_readable(setting, path)
    try:
        context = ssl.create_default_context(cafile=files.ca_file)
    except ssl.SSLError as exc:
        raise BrokerRefused(f"mqtt.tls.ca_file: {files.ca_file}: no certificate in PEM form") from exc
    if files.ca_file is not None:
        # From Python 3.13 on a home-made CA without keyUsage is rejected; it was named by hand, so it is
        # meant.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.sslsocket_class = _Socket
    if files.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if files.cert_file is not None:
        try:
            # An encrypted key must fail here, not ask on the terminal.
            context.load_cert_chain(files.cert_file, files.key_file, password=lambda: b"")
        except ssl.SSLError as exc:
            where = f"{files.cert_file}, {files.key_file or 'no key file'}"
            expected = "expected a certificate and its unencrypted key in PEM form"
            raise BrokerRefused(f"mqtt.tls.cert_file, key_file: {where}: {expected}") from exc
    return context


def _must_be_readable(setting: str, path: str) -> None:
    try:
        Path(path).open("rb").close()
    except OSError as exc:
        raise BrokerRefused(f"mqtt.tls.{setting}: {path}: {(exc.strerror or 'unreadable').lower()}") from exc
