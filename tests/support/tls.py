"""A private certificate authority for tests, and a TLS front for servers without TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.s3 import require


@dataclass(frozen=True, kw_only=True)
class Authority:
    """PEM files: the authority's certificate, and a certificate with its key for 127.0.0.1 and localhost."""

    ca_file: Path
    cert_file: Path
    key_file: Path

    def server_context(self) -> ssl.SSLContext:
        """Return the TLS context of a server with this certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert_file, self.key_file)
        return context


def make_authority(folder: Path) -> Authority:
    """Make an authority and a server's certificate in `folder`, with new keys."""
    openssl = require("openssl", "install the system's package openssl")
    folder.mkdir(parents=True, exist_ok=True)
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True, timeout=60)

    # Without keyUsage, as plain `openssl req` creates it; Python 3.13 refuses that by default.
    run(
        "req",
        "-x509",
        *new_key,
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-days",
        "2",
        "-subj",
        "/CN=test",
    )
    extensions = "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n"
    extensions += "authorityKeyIdentifier=keyid\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n"
    (folder / "server.ext").write_text(extensions)
    run("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "server.ext"]
    run("x509", "-req", "-in", "server.csr", "-out", "server.pem", "-days", "2", *signing)
    return Authority(
        ca_file=folder / "ca.pem", cert_file=folder / "server.pem", key_file=folder / "server.key"
    )


@contextlib.asynccontextmanager
async def tls_front(authority: Authority, port: int, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Yield a port of `host` that terminates TLS and forwards to `port`."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pump(reader, far_writer), name="tls-front-out")
            tasks.create_task(pump(far_reader, writer), name="tls-front-back")

    server = await asyncio.start_server(serve, host, 0, ssl=authority.server_context())
    async with server:
        yield server.sockets[0].getsockname()[1]
