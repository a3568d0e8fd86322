"""The leases' bucket in NATS JetStream (`nats-py`, the extra `fleet`).

There is one key-value bucket for each instance, replicated over up to three servers; its keys expire after
`ttl_s`. Reads go to the stream's leader: a replica could return an expired lease. Each request has a
deadline; NATS errors become `LeaseUnavailable` or `KeyTaken` here.

The connection reconnects by itself, with the credentials and the TLS context that it began with. nats-py
closes it for good after most errors of a server, such as a user that is refused. So a connection that is
closed, or that was lost for `ttl_s`, is replaced by a new one, which reads the files again.

Epochs are revisions, and readers ignore a lower epoch than they have seen. A bucket that is lost or deleted
must not begin at 1 again: a new one begins at the milliseconds since `FIRST_DAY`. The old one is behind that,
as long as it had fewer than 1000 writes a second. Another bucket in its place, such as an older copy, is
refused while its revisions are lower.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import DiscardPolicy, StreamConfig
from nats.js.kv import KeyValue

from async_motion.errors import LeaseUnavailable, TlsFileError
from async_motion.fleet.credentials import InvalidCredentials, read_credentials
from async_motion.fleet.leases import MAX_VALUE_BYTES, Entry, KeyTaken

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_S = 2.0
"""Time limit for connecting to one server; nats-py accepts a float though its type is int."""
CANCEL_S = 0.1
"""After this time a task that has not ended is cancelled again."""
FIRST_DAY = 1_767_225_600
"""2026-01-01T00:00:00Z in Unix time."""
MAX_REPLICAS = 3
MAX_BUCKET_BYTES = 16 << 20
"""Maximum size of a bucket: enough for thousands of cameras."""
MAX_DUPLICATE_WINDOW_S = 120.0

# nats-py does not translate what a write to a connection that has ended raises: RuntimeError with uvloop,
# TypeError with asyncio of Python 3.13.0. Where no connection has begun it raises AssertionError itself.
_TROUBLE = (nats.errors.Error, TimeoutError, OSError, RuntimeError, TypeError, AssertionError)


class NatsBucket:
    """One bucket; open it with `async with`. Every call raises LeaseUnavailable if no server answers.

    `servers` are URLs (`nats://host:4222`, `tls://…`). `credentials` is a NATS credentials file. `tls`
    returns a context for a new connection; it is called in a thread, and may raise TlsFileError.
    """

    def __init__(
        self,
        servers: Sequence[str],
        name: str,
        *,
        ttl_s: float,
        worker: str,
        credentials: Path | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._servers = list(servers)
        self._name = name
        self._ttl_s = ttl_s
        self._timeout_s = max(ttl_s / 3, 0.5)
        self._patience_s = self._timeout_s
        """Time limit of the next request. A request during an election is lost: after one without an answer
        every second one waits for half, to notice the new leader sooner, also where answers are slow."""
        self._worker = worker
        self._credentials = credentials
        self._tls = tls
        self._wall = wall
        self._newest = 0
        """The highest revision that this worker has seen."""
        self._went_back = False
        """Whether the last write got a lower revision than one that was seen before it."""
        self._client: Client | None = None
        self._bucket: KeyValue | None = None
        self._opening = asyncio.Lock()
        self._lost_at: float | None = None
        """Since when the connection has been lost (event loop time, seconds); None: it is not."""
        self._last_error: Exception | None = None
        """What nats-py reported last: its own exceptions do not tell why no server answers."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._disconnect()

    async def create(self, key: str, value: bytes) -> int:
        """Write a key that does not exist; return its revision. Raises KeyTaken, LeaseUnavailable."""
        bucket = await self._trusted()
        newest = self._newest
        try:
            return self._wrote(await self._ask(bucket.create(key, value)), newest)
        except _Missing as exc:
            # The key expired between nats-py's write and its second read: the next attempt gets it.
            raise KeyTaken from exc

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write a key whose revision is `revision`; return the new one. Raises KeyTaken, LeaseUnavailable."""
        bucket = await self._open()
        newest = self._newest
        return self._wrote(await self._ask(bucket.update(key, value, last=revision)), newest)

    async def put(self, key: str, value: bytes) -> int:
        """Write a key unconditionally; return its revision. Raises LeaseUnavailable."""
        bucket = await self._open()
        newest = self._newest
        return self._wrote(await self._ask(bucket.put(key, value)), newest)

    async def get(self, key: str) -> Entry | None:
        """Return a key's entry; None if it does not exist or was deleted. Raises LeaseUnavailable."""
        bucket = await self._trusted()
        try:
            entry = await self._ask(bucket.get(key))
        except _Missing:
            return None
        return Entry(key=key, value=entry.value or b"", revision=self._saw(entry.revision or 0))

    async def delete(self, key: str, revision: int) -> None:
        """Delete a key whose revision is `revision`. Raises KeyTaken, LeaseUnavailable."""
        bucket = await self._open()
        await self._ask(bucket.delete(key, last=revision))

    async def watch(self) -> AsyncIterator[Entry | None]:
        """Yield every key, then None, then each change.

        Raises LeaseUnavailable, also after `ttl_s` without a change.
        """
        bucket = await self._trusted()
        # A server keeps an abandoned watch for this long, and has room for 1000; nats-py's default is 5 min.
        watcher: Any = await self._ask(bucket.watchall(inactive_threshold=self._ttl_s))
        try:
            while True:
                try:
                    with _kept_cancellation():
                        found = await watcher.updates(timeout=self._ttl_s)
                except TimeoutError:
                    # Workers write every ttl / 3: silence means that the watch is dead.
                    raise LeaseUnavailable("the NATS servers send nothing") from None
                if found is None:
                    yield None
                else:
                    gone = found.operation is not None
                    yield Entry(
                        key=str(found.key),
                        value=b"" if gone or found.value is None else bytes(found.value),
                        revision=self._saw(int(found.revision or 0)),
                        written_s=found.created.timestamp() if found.created is not None else None,
                    )
        finally:
            with _kept_cancellation(), suppress(*_TROUBLE):
                await watcher.stop()

    async def _open(self) -> KeyValue:
        async with self._opening:
            if self._is_over():
                await self._disconnect()
            if self._bucket is None:
                self._client = self._client or await self._connect()
                self._bucket = await self._ask(self._make_bucket(self._client))
            return self._bucket

    async def _trusted(self) -> KeyValue:
        """Return the bucket; raise LeaseUnavailable while it is an older one, as the last write has shown.

        Workers `put` their reports all the time: that write finds out whether it is so still.
        """
        bucket = await self._open()
        if self._went_back:
            raise self._older()
        return bucket

    def _is_over(self) -> bool:
        """Return whether the connection is closed for good, or was lost for too long."""
        if self._client is None or self._client.is_connected:
            return False
        now = asyncio.get_running_loop().time()
        lost_for_long = self._lost_at is not None and now - self._lost_at > self._ttl_s
        return self._client.is_closed or lost_for_long

    async def _disconnect(self) -> None:
        client, self._client, self._bucket, self._lost_at = self._client, None, None, None
        if client is not None:
            with _kept_cancellation():
                await self._close(client)

    @staticmethod
    async def _close(client: Client) -> None:
        with suppress(*_TROUBLE):
            async with asyncio.timeout(CONNECT_S):
                await client.close()

    async def _on_disconnect(self) -> None:
        # A client that was replaced may still call this, late.
        lost = self._client is not None and not self._client.is_connected
        if lost and self._lost_at is None:
            self._lost_at = asyncio.get_running_loop().time()

    async def _on_reconnect(self) -> None:
        self._lost_at = self._last_error = None

    async def _on_error(self, exc: Exception) -> None:
        """Keep an error for the request that fails by it; log it at debug level in place of nats-py."""
        self._last_error = exc
        log.debug("fleet: %s", _words(exc))

    def _why(self, exc: BaseException) -> str:
        """Return why a request failed: without a connection, by what nats-py has reported last."""
        connected = self._client is not None and self._client.is_connected
        return _words(exc if connected or self._last_error is None else self._last_error)

    async def _connect(self) -> Client:
        options: dict[str, Any] = {}
        if self._credentials is not None:
            try:
                credentials = await asyncio.to_thread(read_credentials, self._credentials)
            except InvalidCredentials as exc:
                raise LeaseUnavailable(f"fleet.credentials: {exc}") from exc
            # Not the path: nats-py reads some damaged files forever, and needs nkeys for it.
            options |= {"user_jwt_cb": credentials.token, "signature_cb": credentials.sign}
        if self._tls is not None:
            try:
                options["tls"] = await asyncio.to_thread(self._tls)
            except TlsFileError as exc:
                raise LeaseUnavailable(f"fleet.tls.{exc}") from exc
        self._last_error = None
        with _kept_cancellation():
            return await self._connected(options)

    async def _connected(self, options: dict[str, Any]) -> Client:
        client = Client()

        async def connect() -> BaseException | None:
            try:
                await client.connect(
                    self._servers,
                    name=f"async_motion {self._worker}",
                    connect_timeout=CONNECT_S,  # type: ignore[arg-type]
                    reconnect_time_wait=0.25,  # type: ignore[arg-type]
                    max_reconnect_attempts=-1,
                    ping_interval=max(1, round(self._ttl_s / 3)),
                    max_outstanding_pings=2,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnect,
                    reconnected_cb=self._on_reconnect,
                    **options,
                )
            except _TROUBLE as exc:
                return exc
            return None

        exc: BaseException | None = TimeoutError()
        async with asyncio.TaskGroup() as tasks:
            connecting = tasks.create_task(connect(), name="fleet: connect")
            try:
                await asyncio.wait([connecting], timeout=2 * CONNECT_S)
                if connecting.done():
                    exc = connecting.result()
            finally:
                # More than once: nats-py swallows a cancellation, and then tries its servers for ever.
                while not connecting.done():
                    connecting.cancel()
                    await asyncio.wait([connecting], timeout=CANCEL_S)
                if exc is not None:
                    await self._close(client)
        if exc is not None:
            raise LeaseUnavailable(f"no NATS server answers: {self._why(exc)}") from exc
        self._lost_at = self._last_error = None  # the end of the last connection may have set them
        return client

    async def _make_bucket(self, client: Client) -> KeyValue:
        stream = client.jetstream(timeout=self._timeout_s)
        try:
            bucket = await stream.key_value(self._name)
        except nats.js.errors.BucketNotFoundError:
            with suppress(nats.js.errors.BadRequestError):  # another worker has created it meanwhile
                await stream.add_stream(self._new_bucket())
            bucket = await stream.key_value(self._name)
        ttl_s = (await bucket.status()).ttl or 0.0
        if abs(ttl_s - self._ttl_s) > 0.001:
            raise LeaseUnavailable(
                f"bucket {self._name} has a time to live of {ttl_s:g} s, fleet.ttl is {self._ttl_s:g} s:"
                f" give all workers the same, stop them, and delete the bucket (nats kv del {self._name})"
            )
        return bucket

    def _new_bucket(self) -> StreamConfig:
        """Return the stream of a new bucket (NATS's ADR-8), whose revisions follow those of any earlier one.

        Raises LeaseUnavailable while this machine's clock is not set.
        """
        since_ms = round((self._wall() - FIRST_DAY) * 1000)
        if since_ms <= 0:
            raise LeaseUnavailable("this machine's clock is not set: cannot create the leases' bucket")
        return StreamConfig(
            name=f"KV_{self._name}",
            subjects=[f"$KV.{self._name}.>"],
            first_seq=max(since_ms, self._newest + 1),
            max_age=self._ttl_s,
            duplicate_window=min(self._ttl_s, MAX_DUPLICATE_WINDOW_S),
            max_msgs_per_subject=1,
            max_bytes=MAX_BUCKET_BYTES,
            max_msg_size=MAX_VALUE_BYTES,
            num_replicas=min(MAX_REPLICAS, len(self._servers)),
            discard=DiscardPolicy.NEW,
            allow_rollup_hdrs=True,
            allow_direct=False,
            deny_delete=True,
        )

    def _wrote(self, revision: int, newest: int) -> int:
        """Return the revision of a write; `newest` is the highest that was seen before it.

        Raises LeaseUnavailable if it is not higher: this is another bucket of that name, or an older copy,
        and readers would ignore its epochs.
        """
        self._went_back = revision <= newest
        if self._went_back:
            self._bucket = None  # look at its settings too
            raise self._older()
        return self._saw(revision)

    def _older(self) -> LeaseUnavailable:
        return LeaseUnavailable(
            f"bucket {self._name} was replaced: its revisions are lower than before;"
            f" delete it (nats kv del {self._name}), and a worker makes a new one"
        )

    def _saw(self, revision: int) -> int:
        self._newest = max(self._newest, revision)
        return revision

    async def _ask(self, request: Awaitable[T]) -> T:
        """Return the answer to one request within its deadline; translate NATS errors."""
        with _kept_cancellation():
            limit_s = self._patience_s
            try:
                async with asyncio.timeout(limit_s):
                    answer = await request
            except nats.js.errors.KeyWrongLastSequenceError as exc:
                self._patience_s = self._timeout_s
                raise KeyTaken from exc
            except (nats.js.errors.KeyNotFoundError, nats.js.errors.KeyDeletedError) as exc:
                self._patience_s = self._timeout_s
                raise _Missing from exc
            except nats.js.errors.APIError as exc:
                self._patience_s = self._timeout_s
                if exc.err_code in (10071, 10164):  # wrong last sequence, for a write and for a delete
                    raise KeyTaken from exc
                if isinstance(exc, nats.js.errors.NotFoundError):
                    # The bucket was deleted meanwhile: the next request creates it again.
                    self._bucket = None
                raise LeaseUnavailable(f"the NATS servers refuse: {_words(exc)}") from exc
            except nats.errors.MaxPayloadError as exc:
                min_kib = MAX_VALUE_BYTES >> 10
                raise LeaseUnavailable(
                    f"max_payload of the NATS servers is too small; expected {min_kib} KiB or more"
                ) from exc
            except _TROUBLE as exc:
                # By this request's own limit: several may fail at once.
                short_s = self._timeout_s / 2
                self._patience_s = short_s if limit_s > short_s else self._timeout_s
                if isinstance(exc, nats.js.errors.NoStreamResponseError):
                    self._bucket = None  # it may be gone too: look for it again
                raise LeaseUnavailable(f"the NATS servers do not answer: {self._why(exc)}") from exc
            self._patience_s = self._timeout_s
            return answer


@contextmanager
def _kept_cancellation() -> Iterator[None]:
    """Raise CancelledError at the end, also in place of an error, if this task was cancelled.

    nats-py swallows a cancellation in `publish`, and by `asyncio.wait_for` on Python 3.11.
    """
    try:
        yield
    finally:
        _stop_if_cancelled()


def _stop_if_cancelled() -> None:
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class _Missing(Exception):
    """The key does not exist."""


def _words(exc: BaseException) -> str:
    return (str(exc) or type(exc).__name__).splitlines()[0][:200]
