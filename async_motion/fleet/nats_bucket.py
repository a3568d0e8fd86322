"""The leases' bucket in NATS JetStream (`nats-py`, the extra `fleet`).

There is one key-value bucket for each instance, replicated over up to three servers; its keys expire after
`ttl_s`. Reads go to the stream's leader: a replica could return an expired lease. The connection reconnects
by itself. Each request has a deadline; NATS errors become `LeaseUnavailable` or `KeyTaken` here.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.kv import KeyValue

from async_motion.errors import LeaseUnavailable
from async_motion.fleet.leases import Entry, KeyTaken

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_S = 2.0
"""Time limit for connecting to one server; nats-py accepts a float though its type is int."""
MAX_REPLICAS = 3
MAX_BUCKET_BYTES = 16 << 20
"""Maximum size of a bucket: enough for thousands of cameras."""
MAX_VALUE_BYTES = 16 << 10

_TROUBLE = (nats.errors.Error, TimeoutError, OSError)


class NatsBucket:
    """One bucket; open it with `async with`. Every call raises LeaseUnavailable if no server answers.

    `servers` are URLs (`nats://host:4222`, `tls://…`). `credentials` is a NATS credentials file.
    """

    def __init__(
        self,
        servers: Sequence[str],
        name: str,
        *,
        ttl_s: float,
        worker: str,
        credentials: Path | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._servers = list(servers)
        self._name = name
        self._ttl_s = ttl_s
        self._timeout_s = max(ttl_s / 3, 0.5)
        self._worker = worker
        self._credentials = credentials
        self._tls = tls
        self._client: Client | None = None
        self._bucket: KeyValue | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            with suppress(*_TROUBLE):
                async with asyncio.timeout(CONNECT_S):
                    await self._client.close()

    async def create(self, key: str, value: bytes) -> int:
        """Write a key that does not exist; return its revision. Raises KeyTaken, LeaseUnavailable."""
        bucket = await self._open()
        try:
            return await self._ask(bucket.create(key, value))
        except _Missing as exc:
            # The key expired between nats-py's write and its second read: the next attempt gets it.
            raise KeyTaken from exc

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write a key whose revision is `revision`; return the new one. Raises KeyTaken, LeaseUnavailable."""
        bucket = await self._open()
        return await self._ask(bucket.update(key, value, last=revision))

    async def put(self, key: str, value: bytes) -> int:
        """Write a key unconditionally; return its revision. Raises LeaseUnavailable."""
        bucket = await self._open()
        return await self._ask(bucket.put(key, value))

    async def get(self, key: str) -> Entry | None:
        """Return a key's entry; None if it does not exist or was deleted. Raises LeaseUnavailable."""
        bucket = await self._open()
        try:
            entry = await self._ask(bucket.get(key))
        except _Missing:
            return None
        return Entry(key=key, value=entry.value or b"", revision=entry.revision or 0)

    async def delete(self, key: str, revision: int) -> None:
        """Delete a key whose revision is `revision`. Raises KeyTaken, LeaseUnavailable."""
        bucket = await self._open()
        await self._ask(bucket.delete(key, last=revision))

    async def watch(self) -> AsyncIterator[Entry | None]:
        """Yield every key, then None, then each change.

        Raises LeaseUnavailable, also after `ttl_s` without a change.
        """
        bucket = await self._open()
        watcher: Any = await self._ask(bucket.watchall())
        try:
            while True:
                try:
                    found = await watcher.updates(timeout=self._ttl_s)
                    _stop_if_cancelled()
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
                        revision=int(found.revision or 0),
                    )
        finally:
            with suppress(*_TROUBLE):
                await watcher.stop()

    async def _open(self) -> KeyValue:
        async with self._opening:
            if self._bucket is None:
                self._client = self._client or await self._connect()
                self._bucket = await self._ask(self._make_bucket(self._client))
            return self._bucket

    async def _connect(self) -> Client:
        options: dict[str, Any] = {}
        if self._credentials is not None:
            options["user_credentials"] = str(self._credentials)
        if self._tls is not None:
            options["tls"] = self._tls
        client = Client()
        try:
            async with asyncio.timeout(2 * CONNECT_S):
                await client.connect(
                    self._servers,
                    name=f"async_motion {self._worker}",
                    connect_timeout=CONNECT_S,  # type: ignore[arg-type]
                    reconnect_time_wait=0.25,  # type: ignore[arg-type]
                    max_reconnect_attempts=-1,
                    ping_interval=max(1, round(self._ttl_s / 3)),
                    max_outstanding_pings=2,
                    error_cb=_on_error,
                    **options,
                )
        except _TROUBLE as exc:
            with suppress(*_TROUBLE):
                await client.close()
            raise LeaseUnavailable(f"no NATS server answers: {_words(exc)}") from exc
        return client

    async def _make_bucket(self, client: Client) -> KeyValue:
        stream = client.jetstream(timeout=self._timeout_s)
        try:
            bucket = await stream.key_value(self._name)
        except nats.js.errors.BucketNotFoundError:
            bucket = await stream.create_key_value(
                bucket=self._name,
                ttl=self._ttl_s,
                history=1,
                direct=False,
                replicas=min(MAX_REPLICAS, len(self._servers)),
                max_bytes=MAX_BUCKET_BYTES,
                max_value_size=MAX_VALUE_BYTES,
            )
        ttl_s = (await bucket.status()).ttl or 0.0
        if abs(ttl_s - self._ttl_s) > 0.001:
            raise LeaseUnavailable(
                f"bucket {self._name} has a time to live of {ttl_s:g} s, fleet.ttl is {self._ttl_s:g} s:"
                f" give all workers the same, stop them, and delete the bucket (nats kv del {self._name})"
            )
        return bucket

    async def _ask(self, request: Awaitable[T]) -> T:
        """Return the answer to one request within its deadline; translate NATS errors."""
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await request
        except nats.js.errors.KeyWrongLastSequenceError as exc:
            raise KeyTaken from exc
        except (nats.js.errors.KeyNotFoundError, nats.js.errors.KeyDeletedError) as exc:
            raise _Missing from exc
        except nats.js.errors.APIError as exc:
            if exc.err_code in (10071, 10164):  # wrong last sequence, for a write and for a delete
                raise KeyTaken from exc
            if isinstance(exc, nats.js.errors.NotFoundError):
                # The bucket was deleted meanwhile: the next request creates it again.
                self._bucket = None
            raise LeaseUnavailable(f"the NATS servers refuse: {_words(exc)}") from exc
        except _TROUBLE as exc:
            raise LeaseUnavailable(f"the NATS servers do not answer: {_words(exc)}") from exc
        _stop_if_cancelled()
        return answer


def _stop_if_cancelled() -> None:
    """Raise CancelledError if this task was cancelled.

    nats-py swallows a cancellation in `publish`, and by `asyncio.wait_for` on Python 3.11.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class _Missing(Exception):
    """The key does not exist."""


async def _on_error(exc: Exception) -> None:
    """Log at debug level in place of nats-py: each request reports its own error."""
    log.debug("fleet: %s", _words(exc))


def _words(exc: BaseException) -> str:
    return (str(exc) or type(exc).__name__).splitlines()[0][:200]
