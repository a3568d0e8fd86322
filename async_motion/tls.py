"""TLS for store, broker and pages: contexts, causes of failed handshakes, expiry of certificates.

The rules are the same on every Python. From 3.13 on, Python refuses a CA certificate without `keyUsage`
(VERIFY_X509_STRICT), as plain `openssl req -x509` creates it. A CA that the user names explicitly is trusted,
so this check is off if a `ca_file` is given.

Files are read when a context is created, in the caller's thread: tens of milliseconds.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from async_motion.errors import TlsFileError

NOT_YET_VALID: Final = 9
EXPIRED: Final = 10
UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
OTHER_NAME: Final = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_ codes."""

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"})
_REFUSES_US = frozenset(
    {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE"}
    | {"SSLV3_ALERT_CERTIFICATE_UNKNOWN", "SSLV3_ALERT_CERTIFICATE_EXPIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Paths of PEM files, each optional. `insecure` accepts any certificate from the peer: for tests only."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure: bool = False


def client_context(files: TlsFiles, *, bundle: str | None = None) -> ssl.SSLContext:
    """Return a client's context.

    With a `ca_file`, only that CA is trusted; without, the system's and those in the file `bundle`. Raises
    TlsFileError for a file that is missing or malformed.
    """
    _check_readable(files)
    try:
        context = ssl.create_default_context(cafile=files.ca_file)
    except ssl.SSLError as exc:
        raise TlsFileError(f"ca_file: {files.ca_file}: no certificate in PEM form") from exc
    if files.ca_file is not None:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    elif bundle is not None:
        context.load_verify_locations(bundle)
    if files.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if files.cert_file is not None:
        _load_own(context, files)
    return context


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a server's context with `cert_file` and `key_file`.

    With a `ca_file`, clients must present a certificate of that CA. Raises TlsFileError.
    """
    _check_readable(files)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load_own(context, files)
    if files.ca_file is not None:
        try:
            context.load_verify_locations(files.ca_file)
        except ssl.SSLError as exc:
            raise TlsFileError(f"ca_file: {files.ca_file}: no certificate in PEM form") from exc
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def renew(context: ssl.SSLContext, files: TlsFiles) -> None:
    """Reload a server context's certificate and key, for new connections. Raises TlsFileError."""
    _check_readable(files)
    _load_own(context, files)


def cause(exc: ssl.SSLError, *, peer: str, host: str, section: str, files: TlsFiles) -> str:
    """Return why a handshake with `peer` (a word such as "broker") at `host` failed, and how to fix it.

    `section` is the settings' section with the files, such as ``mqtt.tls``.
    """
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the {peer}'s certificate is not trusted: {_verdict(exc, host, section, files)}"
    reason = exc.reason or ""
    if reason in _NO_TLS:
        return f"TLS failed: the {peer} does not speak TLS on this port"
    if reason in _REFUSES_US:
        ours = "refuses our certificate" if files.cert_file else "requires a client certificate"
        return f"TLS failed: the {peer} {ours}: see {section}.cert_file ({reason.lower()})"
    return f"TLS failed ({reason.lower() or 'handshake'})"


def _verdict(exc: ssl.SSLCertVerificationError, host: str, section: str, files: TlsFiles) -> str:
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    if exc.verify_code == NOT_YET_VALID:
        return f"it is not valid yet; this machine's clock says {now}: set the clock (NTP)"
    if exc.verify_code == EXPIRED:
        return f"it has expired; this machine's clock says {now}: renew it, or set the clock (NTP)"
    if exc.verify_code in UNKNOWN_AUTHORITY:
        if files.ca_file is not None:
            return f"it was not issued by the authority in {section}.ca_file ({files.ca_file})"
        return f"its authority is not trusted here: name it in {section}.ca_file ({exc.verify_message})"
    if exc.verify_code in OTHER_NAME:
        return f"it is not valid for {host}: use one of its names, or renew it"
    return exc.verify_message


# ---- expiry of certificates ----


def file_expires_at(path: str) -> datetime | None:
    """Return when the first certificate in a PEM file expires; None if none can be read."""
    try:
        text = Path(path).read_text(encoding="ascii", errors="replace")
        begin = text.index("-----BEGIN CERTIFICATE-----")
        end = text.index("-----END CERTIFICATE-----", begin) + len("-----END CERTIFICATE-----")
        return not_after(ssl.PEM_cert_to_DER_cert(text[begin:end]))
    except (OSError, ValueError):
        return None


def peer_expires_at(host: str, port: int, files: TlsFiles, *, timeout_s: float = 5.0) -> datetime | None:
    """Return when a TLS server's certificate expires, trusted or not; None if there is none. Blocks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # only read the certificate; no data is sent
    try:
        if files.cert_file is not None:
            _load_own(context, files)
        with (
            socket.create_connection((host, port), timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=host) as peer,
        ):
            der = peer.getpeercert(binary_form=True)
        return not_after(der) if der else None
    except (OSError, ValueError, TlsFileError):
        return None


def not_after(der: bytes) -> datetime:
    """Return `notAfter` of a DER certificate (X.509, RFC 5280). Raises ValueError for malformed data."""
    try:
        certificate = next(_elements(der))[1]
        fields = list(_elements(next(_elements(certificate))[1]))
        # [0] version is optional; then serial number, algorithm, issuer, validity.
        validity = fields[4 if fields[0][0] == 0xA0 else 3][1]
        tag, value = list(_elements(validity))[1]
        text = value.decode("ascii")
        if tag == 0x17:  # UTCTime: two-digit year, 1950 to 2049
            text = ("20" if int(text[:2]) < 50 else "19") + text
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except (IndexError, StopIteration, UnicodeDecodeError) as exc:
        raise ValueError("no certificate") from exc


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each element of a DER sequence."""
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(der[at : at + size], "big")
            at += size
        yield tag, der[at : at + length]
        at += length


# ---- files ----


def _load_own(context: ssl.SSLContext, files: TlsFiles) -> None:
    assert files.cert_file is not None
    try:
        # An encrypted key must fail here instead of prompting on the terminal.
        context.load_cert_chain(files.cert_file, files.key_file, password=lambda: b"")
    except ssl.SSLError as exc:
        where = f"{files.cert_file}, {files.key_file or 'no key file'}"
        expected = "expected a certificate and its unencrypted key in PEM form"
        raise TlsFileError(f"cert_file, key_file: {where}: {expected}") from exc


def _check_readable(files: TlsFiles) -> None:
    for setting in ("ca_file", "cert_file", "key_file"):
        path = getattr(files, setting)
        if path is None:
            continue
        try:
            Path(path).open("rb").close()
        except OSError as exc:
            raise TlsFileError(f"{setting}: {path}: {(exc.strerror or 'unreadable').lower()}") from exc
