"""The S3 store: MinIO, AWS S3 and compatible servers, over miniopy-async.

A put is one request: signed, checked by the server against a digest of the body, and complete when the server
has confirmed it. A repeat overwrites the same key with the same bytes, so it is always safe to put again
after an unknown result (a timeout, a lost connection).

Errors are translated only here (`s3errors` has the tables):

    StoreUnavailable   temporary: put again later
    StoreRefused       our setup: credentials, permissions, bucket, region, clock; the same for every record
    RecordRejected     this object, permanently

The response does not tell whether `AccessDenied`, or an unknown refusal, is about our setup or the object.
Then the store puts its probe, which carries the same kinds of headers (tags, encryption). If the probe is
accepted, it puts the object again; if that is refused again, the object is rejected. A missing bucket is
created, if allowed, when a put or the probe finds that it is missing: this needs no permission to list, and
no request at the start.

Deadlines: a put has `put_timeout_s` for each started MiB of its body; the body of a get has the same; every
other request has `put_timeout_s`. There are no retries here: backoff is the caller's.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, BinaryIO, NoReturn, Self

import aiohttp
from miniopy_async.api import Minio
from miniopy_async.commonconfig import Tags
from miniopy_async.credentials.credentials import Credentials
from miniopy_async.credentials.providers import StaticProvider
from miniopy_async.helpers import check_bucket_name
from miniopy_async.sse import Sse, SseKMS, SseS3

from async_motion.core.options import (
    CONNECT_TIMEOUT_S,
    ENCRYPTION,
    PATH_STYLE,
    PUT_TIMEOUT_S,
    REGION,
    STORE_CREDENTIALS,
    UPLOADS,
    PathStyle,
    StoreCredentials,
)
from async_motion.errors import (
    AsyncMotionError,
    RecordRejected,
    SettingsError,
    StoreRefused,
    StoreUnavailable,
    TlsFileError,
)
from async_motion.store.s3credentials import Rotating
from async_motion.store.s3errors import CREDENTIALS, S3Answer, S3Verdict, parse_etag
from async_motion.store.s3wire import (
    AUTHORITIES,
    MAX_BODY_BYTES,
    BodyTooLarge,
    TooManyInterim,
    Wire,
    answered,
)
from async_motion.tls import TlsFiles, cause, client_context

log = logging.getLogger(__name__)

PROBE = b"async_motion may write here\n"

_MIB = 1024 * 1024
_SINGLE_PART = 5 * _MIB  # below this, miniopy-async takes no other part size
_MAX_LINK_S = 7 * 24 * 3600.0  # what the signature's version allows


class _Client(Minio):
    """A Minio client that signs the SHA-256 from an object's metadata, and sends it as a checksum.

    The server checks the body against both, over http and https; a bucket with Object Lock requires a
    checksum. miniopy-async would hash each body again, in a thread: a sixth of the CPU time of a put.
    `_build_headers` and `_execute` are private: the dependency is pinned to 1.23.
    """

    async def ask(
        self, method: str, bucket: str, key: str | None = None, *, query: dict[str, Any] | None = None
    ) -> aiohttp.ClientResponse:
        """Send a request whose public call hides the answer or our errors; return the answer."""
        return await self._execute(method, bucket, key, query_params=query)

    async def _build_headers(
        self,
        host: str,
        headers: Any,  # a mapping, of three kinds
        body: bytes | BinaryIO | None,
        creds: Credentials | None,
    ) -> tuple[dict[str, str], datetime]:
        known = (headers or {}).get("X-Amz-Meta-sha256")
        if known is None or creds is None:
            return await super()._build_headers(host, headers, body, creds)
        digest = bytes.fromhex(known[0])
        # Without credentials it would compute only Content-MD5; with that present, it hashes nothing.
        made, date = await super()._build_headers(host, {**headers, "Content-MD5": "known"}, body, None)
        del made["Content-MD5"]
        made["x-amz-content-sha256"] = digest.hex()
        made["x-amz-checksum-sha256"] = base64.b64encode(digest).decode()
        if creds.session_token:
            made["X-Amz-Security-Token"] = creds.session_token
        return made, date


class MinioStore:
    """One bucket. `async with` opens the session; nothing is sent before the first call."""

    def __init__(
        self,
        *,
        endpoint: str,
        bucket: str,
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
        credentials: StoreCredentials = STORE_CREDENTIALS,
        secret_name: str | None = None,
        secure: bool = False,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        region: str = REGION,
        create_bucket: bool = True,
        path_style: PathStyle = PATH_STYLE,
        concurrency: int = UPLOADS,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        put_timeout_s: float = PUT_TIMEOUT_S,
        tags: bool = False,
        encryption: str = ENCRYPTION,
        probe_key: str = "async_motion_probe.txt",
        link_endpoint: str | None = None,
    ) -> None:
        """Check the values; touch neither the network nor a file.

        `endpoint` is ``host[:port]``. `path_style` "auto" puts the bucket into the host for AWS and into
        the path elsewhere. `probe_key` must not be a dot-file: proxies deny those. `encryption` is ``none``,
        ``sse-s3`` or ``sse-kms:<key id>``. `link_endpoint` is the base URL of presigned links, for readers
        that reach the server by another address.
        Raises SettingsError.
        """
        self.bucket = bucket
        self._name = f"{'https' if secure else 'http'}://{endpoint}"
        self._secure = secure
        self._tls_files = TlsFiles(ca_file=ca_file, cert_file=cert_file, key_file=key_file)
        self._create_bucket = create_bucket
        self._put_timeout_s = put_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._tags = tags
        self._sse = _encryption(encryption)
        self._probe_key = probe_key
        # Two more than the puts, so that a probe and a reader never wait for a slow put.
        self._wire = Wire(concurrency=concurrency + 2, connect_timeout_s=connect_timeout_s)
        self._rotating: Rotating | None = None
        provider: StaticProvider | Rotating
        if credentials == "static":
            if not access_key or not secret_key:
                raise SettingsError("the S3 store needs both access_key and secret_key")
            provider = StaticProvider(access_key, secret_key, session_token)
        else:
            provider = self._rotating = Rotating(credentials, region=region, secret_name=secret_name)
        if "://" in endpoint:
            raise SettingsError("endpoint: expected host[:port]; `secure` selects TLS")
        try:
            check_bucket_name(bucket, strict=True)
            self._client = _Client(
                endpoint,
                secure=secure,
                region=region,
                credentials=provider,
                session=self._wire,  # type: ignore[arg-type]  # it uses request() and close() alone
                server_url=link_endpoint,
            )
        except ValueError as exc:
            raise SettingsError(f"endpoint, region or bucket: {exc}") from exc
        if path_style is True:
            self._client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        elif path_style is False:
            self._client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]

    async def __aenter__(self) -> Self:
        """Open the session. Raises SettingsError if a certificate or key file cannot be used."""
        tls = None
        if self._secure:
            try:
                tls = await asyncio.to_thread(client_context, self._tls_files, bundle=AUTHORITIES)
            except TlsFileError as exc:
                raise SettingsError(f"minio.{exc}") from exc
        self._wire.open(tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._wire.close()
        if self._rotating is not None:
            await self._rotating.close()

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> str:
        """Store `data` under `key`, and return its etag without quotes. A repeat overwrites.

        `metadata` is ASCII; its `sha256`, if present, is the hex digest of `data`. `tags` are sent only if
        the constructor's `tags` is true.
        Raises StoreUnavailable (the object may or may not be stored), StoreRefused, RecordRejected.
        """

        async def write() -> str:
            return await self._write(key, data, content_type, metadata, tags)

        try:
            return await write()
        except StoreRefused as exc:
            answer = _answer(exc)
            if _says(answer, "NoSuchBucket"):
                await self._make_bucket()
                return await write()
            if answer is None or answer.verdict is not S3Verdict.DOUBTFUL:
                raise
        await self.probe()
        try:
            return await write()
        except StoreRefused as exc:
            answer = _answer(exc)
            if answer is None or answer.verdict is not S3Verdict.DOUBTFUL:
                raise
            accepted = "(while the probe was accepted)"
            raise RecordRejected(
                f"{key}: {answer.words()} {accepted}", reason=f"{answer.cause} {accepted}"
            ) from exc

    async def get(self, key: str) -> bytes:
        """Return the object's bytes.

        Raises RecordRejected if there is none, StoreUnavailable, StoreRefused.
        """
        async with self._request("get", key, self._put_timeout_s):
            response = await self._client.get_object(self.bucket, key)
        size = min(response.content_length or 0, MAX_BODY_BYTES)
        async with response, self._request("get", key, self._time_for(size)):
            return await response.read()

    async def delete(self, key: str) -> None:
        """Remove the object; a missing object is no error."""
        try:
            async with self._request("delete", key, self._put_timeout_s):
                await self._client.remove_object(self.bucket, key)
        except RecordRejected:
            log.debug("%s: nothing to delete at %s", self._name, key)

    async def probe(self) -> None:
        """Test with a put whether puts are accepted; no permission to list or read is needed.

        Leaves a small object at the probe key. Raises StoreUnavailable, StoreRefused.
        """

        async def write() -> str:
            return await self._write(
                self._probe_key, PROBE, "text/plain", {"kind": "probe"}, {"kind": "probe"}
            )

        try:
            try:
                await write()
            except StoreRefused as exc:
                if not _says(_answer(exc), "NoSuchBucket"):
                    raise
                await self._make_bucket()
                await write()
        except RecordRejected as exc:
            # The probe is a plain object: a server that rejects it would reject every record.
            raise StoreRefused(f"{self._name}: the probe was rejected: {exc}") from exc

    async def link(self, key: str, expires_s: float) -> str | None:
        """Return a presigned GET URL, valid for `expires_s` seconds (clamped to 1 s .. 7 days)."""
        expires = timedelta(seconds=min(max(1.0, expires_s), _MAX_LINK_S))
        async with self._request("link", key, self._put_timeout_s):
            return await self._client.presigned_get_object(self.bucket, key, expires=expires)

    async def find(self, prefix: str = "") -> AsyncIterator[str]:
        """Yield the keys that begin with `prefix`, sorted. Needs the permission to list."""
        listing = aiter(self._client.list_objects(self.bucket, prefix=prefix or None, recursive=True))
        while True:
            async with self._request("list", prefix, self._put_timeout_s):
                found = await anext(listing, None)
            if found is None:
                return
            if found.object_name is not None:
                yield found.object_name

    async def _write(
        self,
        key: str,
        data: bytes,
        content_type: str,
        metadata: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> str:
        """Put once. Raises as `put`; if the server answered, the S3Answer is the `__cause__`."""
        async with self._request("put", key, self._time_for(len(data))):
            result = await self._client.put_object(
                self.bucket,
                key,
                io.BytesIO(data),
                len(data),
                content_type,
                metadata={"sha256": metadata.get("sha256") or _sha256(data), **metadata},
                sse=self._sse,
                tags=_tags(tags) if self._tags and tags else None,
                # Always one part: a multipart upload needs more permissions, and its etag is no digest.
                part_size=max(len(data), _SINGLE_PART),
            )
        etag = parse_etag(result.etag)
        if not etag:
            # A captive portal or a web server may answer 200 to any request.
            raise StoreUnavailable(f"{self._name}: the answer to a put has no ETag: is this an S3 server?")
        return etag

    async def _make_bucket(self) -> None:
        if not self._create_bucket:
            raise StoreRefused(
                f"{self._name}: bucket {self.bucket} does not exist: create it, or set create_bucket"
            )
        try:
            async with self._request("make", self.bucket, self._put_timeout_s):
                await self._client.make_bucket(self.bucket)
        except (StoreRefused, RecordRejected) as exc:
            answer = _answer(exc)
            if _says(answer, "BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                # Another instance created it first. If another account owns it, the next put is refused.
                return
            why = answer.words() if answer else exc
            raise StoreRefused(
                f"{self._name}: bucket {self.bucket} does not exist, and cannot be created: {why}"
            ) from exc
        log.info("%s: bucket %s created", self._name, self.bucket)

    def _time_for(self, size: int) -> float:
        return self._put_timeout_s * max(1, -(-size // _MIB))

    @asynccontextmanager
    async def _request(self, verb: str, key: str, limit_s: float) -> AsyncIterator[None]:
        """Run the body for at most `limit_s`, and translate its errors.

        An error before the response is the request's fault; one after it is the server's.
        """
        answered.set(False)
        try:
            async with asyncio.timeout(limit_s):
                yield
        except S3Answer as exc:
            self._answered(verb, key, exc)
        except aiohttp.ConnectionTimeoutError as exc:
            raise StoreUnavailable(
                f"{self._name}: no connection within {self._connect_timeout_s:g} s"
            ) from exc
        except TimeoutError as exc:
            raise StoreUnavailable(f"{self._name}: {verb} {key}: no answer within {limit_s:g} s") from exc
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as exc:
            origin = getattr(exc, "certificate_error", None) or exc.os_error
            why = str(origin)
            if isinstance(origin, ssl.SSLError):
                host = str(exc.host)
                why = cause(origin, peer="store", host=host, section="minio", files=self._tls_files)
            raise StoreUnavailable(f"{self._name}: {why}") from exc
        except aiohttp.ClientConnectorDNSError as exc:
            raise StoreUnavailable(f"{self._name}: the host name is not known ({exc.os_error})") from exc
        except aiohttp.ClientProxyConnectionError as exc:
            message = f"cannot connect to the proxy of HTTPS_PROXY ({exc.os_error})"
            raise StoreUnavailable(f"{self._name}: {message}") from exc
        except aiohttp.ClientConnectorError as exc:
            raise StoreUnavailable(f"{self._name}: cannot connect ({exc.os_error})") from exc
        except aiohttp.ClientError as exc:
            raise StoreUnavailable(f"{self._name}: {verb} {key}: {_broken(exc)}") from exc
        except (AsyncMotionError, asyncio.CancelledError):
            raise
        except Exception as exc:
            if answered.get():
                # miniopy-async does not validate responses: parsing one may raise anything.
                raise StoreUnavailable(
                    f"{self._name}: {verb} {key}: the answer cannot be read ({type(exc).__name__})"
                ) from exc
            if isinstance(exc, ValueError):
                raise RecordRejected(f"{key}: {exc}", reason=str(exc)) from exc
            raise

    def _answered(self, verb: str, key: str, answer: S3Answer) -> NoReturn:
        """Raise the error for the server's answer to `verb`."""
        message = f"{self._name}: {verb} {key}: {answer.words()}"
        log.debug("%s (HTTP %d)", message, answer.status)
        if answer.code in CREDENTIALS and self._rotating is not None:
            self._rotating.forget()
        match answer.verdict:
            case S3Verdict.UNAVAILABLE:
                raise StoreUnavailable(message, retry_after_s=answer.retry_after_s) from answer
            case S3Verdict.REFUSED:
                # The same for every key: without the key, the message changes only when the cause does.
                message = f"{self._name}: {answer.words()}"
                raise StoreRefused(message, retry_after_s=answer.retry_after_s) from answer
            case S3Verdict.DOUBTFUL:
                raise StoreRefused(message, retry_after_s=answer.retry_after_s) from answer
            case S3Verdict.REJECTED:
                raise RecordRejected(f"{key}: {answer.words()}", reason=answer.cause) from answer


def _answer(exc: BaseException) -> S3Answer | None:
    """Return the server's answer behind `exc`, or None."""
    return exc.__cause__ if isinstance(exc.__cause__, S3Answer) else None


def _says(answer: S3Answer | None, *codes: str) -> bool:
    return answer is not None and answer.code in codes


def _encryption(text: str) -> Sse | None:
    if text == "none":
        return None
    if text == "sse-s3":
        return SseS3()
    kind, _, key_id = text.partition(":")
    if kind == "sse-kms" and key_id:
        return SseKMS(key_id, {})
    raise SettingsError(f"encryption: {text!r}: expected none, sse-s3 or sse-kms:<key id>")


def _tags(tags: Mapping[str, str]) -> Tags:
    made = Tags.new_object_tags()
    for name, value in tags.items():
        made[name] = value
    return made


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _broken(exc: aiohttp.ClientError) -> str:
    """Return why a connection broke: some of aiohttp's messages are empty, some contain whole headers."""
    if isinstance(exc, aiohttp.ServerDisconnectedError):
        return "the server closed the connection"
    if isinstance(exc, aiohttp.ClientOSError):
        return f"the connection broke ({exc.strerror or type(exc).__name__})"
    if isinstance(exc, BodyTooLarge | TooManyInterim):
        return str(exc)
    if isinstance(exc, aiohttp.ClientPayloadError):
        return "the answer broke off"
    if isinstance(exc, aiohttp.ClientHttpProxyError):
        return f"the proxy of HTTPS_PROXY refuses (HTTP {exc.status})"
    if isinstance(exc, aiohttp.ClientResponseError):
        return "the answer is not HTTP"
    return type(exc).__name__
