"""TLS with certificates as plain `openssl` makes them: who is trusted, and what is said where not."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from async_motion.errors import TlsFileError
from async_motion.tls import (
    TlsFiles,
    cause,
    client_context,
    file_expires_at,
    not_after,
    peer_expires_at,
    renew,
    server_context,
)
from tests.support.s3 import require
from tests.support.tls import Authority, make_authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("other"))


def files(authority: Authority) -> TlsFiles:
    return TlsFiles(ca_file=str(authority.ca_file))


def server_files(authority: Authority, *, wants_clients: bool = False) -> TlsFiles:
    ca_file = str(authority.ca_file) if wants_clients else None
    return TlsFiles(ca_file=ca_file, cert_file=str(authority.cert_file), key_file=str(authority.key_file))


def made_at(folder: Path, offset: str, days: int) -> Authority:
    """Return an authority whose clock was off when it made its certificates."""
    require("faketime", "install the system's package faketime")
    made = make_authority(folder)
    command = ["faketime", "-f", offset, "openssl", "x509", "-req", "-in", "server.csr", "-out", "server.pem"]
    command += ["-days", str(days), "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
    command += ["-extfile", "server.ext"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    return made


@contextmanager
def serving(context: ssl.SSLContext | None) -> Iterator[int]:
    """Yield a port of 127.0.0.1 that shakes hands, then says a line and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listening.accept()
                except OSError:
                    return
                with suppress(OSError), plain:
                    if context is None:
                        plain.sendall(b"SSH-2.0-none of it\r\n")
                        continue
                    with context.wrap_socket(plain, server_side=True) as peer:
                        peer.sendall(b"a line\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def shake(port: int, tls: TlsFiles, host: str = "127.0.0.1") -> None:
    context = client_context(tls)
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as peer,
    ):
        assert peer.recv(100)


def refusal(port: int, tls: TlsFiles, host: str = "127.0.0.1") -> str:
    with pytest.raises(ssl.SSLError) as caught:
        shake(port, tls, host)
    return cause(caught.value, peer="store", host=host, section="minio", files=tls)


def test_a_plain_openssl_authority_is_trusted_on_every_python(authority: Authority) -> None:
    with serving(server_context(server_files(authority))) as port:
        shake(port, files(authority))


def test_a_server_with_a_ca_file_requires_a_client_certificate(authority: Authority) -> None:
    ca = str(authority.ca_file)
    ours = TlsFiles(ca_file=ca, cert_file=ca, key_file=str(authority.ca_file.with_name("ca.key")))
    with serving(server_context(server_files(authority, wants_clients=True))) as port:
        shake(port, ours)


def test_an_unknown_authority_is_distinguished_from_a_wrong_ca_file(
    authority: Authority, other: Authority
) -> None:
    tls = server_files(authority)
    with serving(server_context(tls)) as port:
        assert "name it in minio.ca_file" in refusal(port, TlsFiles())
        said = refusal(port, files(other))
        assert f"not issued by the authority in minio.ca_file ({other.ca_file})" in said


def test_another_name_is_reported_with_that_name(authority: Authority) -> None:
    tls = server_files(authority)
    with serving(server_context(tls)) as port:
        assert "it is not valid for nas.example" in refusal(port, files(authority), "nas.example")
        assert "it is not valid for 192.0.2.7" in refusal(port, files(authority), "192.0.2.7")


@pytest.mark.parametrize(("offset", "said"), [("+9d", "not valid yet"), ("-9d", "has expired")])
def test_a_wrong_clock_is_named(tmp_path: Path, offset: str, said: str) -> None:
    made = made_at(tmp_path, offset, 3)
    tls = server_files(made)
    with serving(server_context(tls)) as port:
        words = refusal(port, files(made))
    assert said in words
    assert f"clock says {datetime.now(UTC):%Y-%m}" in words
    assert "NTP" in words


def test_a_peer_that_speaks_no_tls(authority: Authority) -> None:
    with serving(None) as port:
        assert "does not speak TLS on this port" in refusal(port, files(authority))


def test_a_server_that_requires_a_client_certificate(authority: Authority) -> None:
    with serving(server_context(server_files(authority, wants_clients=True))) as port:
        assert "requires a client certificate: see minio.cert_file" in refusal(port, files(authority))


def test_insecure_takes_any_certificate(authority: Authority) -> None:
    tls = server_files(authority)
    with serving(server_context(tls)) as port:
        shake(port, TlsFiles(insecure=True), "nas.example")


@pytest.mark.parametrize("key", ["ca_file", "cert_file"])
def test_files_that_cannot_be_used_are_named(tmp_path: Path, key: str) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")

    def with_file(path: str) -> TlsFiles:
        return TlsFiles(ca_file=path) if key == "ca_file" else TlsFiles(cert_file=path)

    with pytest.raises(TlsFileError, match=rf"^{key}.*nonsense\.pem.*PEM form"):
        client_context(with_file(str(nonsense)))
    with pytest.raises(TlsFileError, match=rf"^{key}: /not/there: no such file"):
        client_context(with_file("/not/there"))


def test_when_a_certificate_ends(authority: Authority, other: Authority) -> None:
    ends = file_expires_at(str(authority.cert_file))
    assert ends is not None
    assert timedelta(days=1) < ends - datetime.now(UTC) <= timedelta(days=2)
    tls = server_files(authority)
    with serving(server_context(tls)) as port:
        # Also where it is not trusted: it is read, nothing is sent.
        assert peer_expires_at("127.0.0.1", port, files(other)) == ends
    with serving(None) as port:
        assert peer_expires_at("127.0.0.1", port, TlsFiles(), timeout_s=2) is None
    assert file_expires_at(str(authority.key_file)) is None
    assert file_expires_at("/not/there") is None


@pytest.mark.parametrize("days", [2, 20_000])  # from 2050 on the year has four digits
def test_the_end_is_what_openssl_says(tmp_path: Path, days: int) -> None:
    openssl = require("openssl", "install the system's package openssl")
    command = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", str(days)]
    subprocess.run(
        [openssl, *command, "-keyout", "k.pem", "-out", "c.pem"],
        cwd=tmp_path, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    said = subprocess.run(
        [openssl, "x509", "-in", "c.pem", "-noout", "-enddate"],
        cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    expected = datetime.strptime(said.strip(), "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    assert file_expires_at(str(tmp_path / "c.pem")) == expected


@pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x03\x02\x01\x01", b"\x30\x82\xff", bytes(range(200))])
def test_a_file_that_is_not_a_certificate_is_a_value_error(der: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        not_after(der)


def test_a_renewed_certificate_serves_new_connections(
    authority: Authority, other: Authority, tmp_path: Path
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(authority.cert_file, cert)
    shutil.copy(authority.key_file, key)
    tls = TlsFiles(cert_file=str(cert), key_file=str(key))
    context = server_context(tls)
    with serving(context) as port:
        shake(port, files(authority))
        shutil.copy(other.cert_file, cert)
        shutil.copy(other.key_file, key)
        renew(context, tls)
        shake(port, files(other))
