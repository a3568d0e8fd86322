"""The HTTP session that miniopy-async uses.

miniopy-async's own session retries HTTP 5xx five times in quick succession, ignores Retry-After, and follows
redirects with a signature that no longer matches. `Wire` replaces it and sends each request once: delivery
does the backoff. `Minio` takes a session as an argument, and uses only its `request` and `close`.

    success        the response; at most `MAX_BODY_BYTES` of its body are read, and only for GET and POST
    anything else  `S3Answer`, with the server's error

Large bodies are sent as `BytesIO`, in chunks: aiohttp warns about `bytes` above `_MAX_WHOLE_BYTES`.
"""

from __future__ import annotations

import io
import ssl
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies_environment

import aiohttp
import certifi

from async_motion.store.no_proxy import is_excluded
from async_motion.store.s3errors import S3Answer

if TYPE_CHECKING:
    # The types that miniopy-async passes; aiohttp depends on both packages.
    from aiohttp.connector import Connection
    from multidict import CIMultiDict
    from yarl import URL

MAX_BODY_BYTES = 64 * 1024 * 1024
"""The longest body that is read, far longer than any frame or page of a listing."""
MAX_INTERIM = 32
_MAX_ERROR_BYTES = 64 * 1024
_MAX_WHOLE_BYTES = 1024 * 1024
_CHUNK_BYTES = 256 * 1024
_SUCCESS = frozenset({200, 204, 206})


AUTHORITIES = certifi.where()
"""CA bundle trusted in addition to the system's: slim container images have none."""


answered: ContextVar[bool] = ContextVar("answered", default=False)
"""Whether this context's request has been answered: later errors are the server's fault."""


class BodyTooLarge(aiohttp.ClientPayloadError):
    """A body is longer than `MAX_BODY_BYTES`."""


class TooManyInterim(aiohttp.ClientPayloadError):
    """A server sends interim responses (1xx) in place of an answer."""


class BoundedResponse(aiohttp.ClientResponse):
    """A response with bounds that aiohttp does not have, regardless of its headers.

    Its body is never read beyond `MAX_BODY_BYTES`; at most `MAX_INTERIM` interim responses precede it.
    """

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Read the head of the answer. Raises TooManyInterim, aiohttp.ClientError."""
        protocol = connection.protocol
        if protocol is None:
            return await super().start(connection)
        read, left = protocol.read, MAX_INTERIM + 1  # and the final answer

        async def bounded() -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise TooManyInterim(f"more than {MAX_INTERIM} interim responses (1xx) and no answer")
            return await read()

        protocol.read = bounded  # type: ignore[method-assign]  # aiohttp skips 1xx without a limit
        try:
            return await super().start(connection)
        finally:
            del protocol.read

    async def read(self) -> bytes:
        """Return the whole body. Raises BodyTooLarge, aiohttp.ClientError."""
        if self._body is None:
            body = await beginning_of(self, MAX_BODY_BYTES + 1)
            if len(body) > MAX_BODY_BYTES:
                self.close()
                raise BodyTooLarge(f"the answer is longer than {MAX_BODY_BYTES // 2**20} MiB")
            self._body = body
        return self._body


class Wire:
    """A session for miniopy-async that sends each request once. Open it in the running loop."""

    def __init__(self, *, concurrency: int, connect_timeout_s: float) -> None:
        self._limit = concurrency
        # No `total`: a request's deadline depends on its body, so the store sets it around the call.
        # No `sock_read`: its timer also runs while the body is still being sent.
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._proxies = getproxies_environment()

    def open(self, tls: ssl.SSLContext | None) -> None:
        """Create the session, without connecting."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._limit, ssl=True if tls is None else tls),
            timeout=self._timeout,
            # Return objects as they are stored, and ignore a proxy's cookies.
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=BoundedResponse,
        )

    async def request(
        self,
        method: str,
        url: URL,
        *,
        data: bytes | io.BytesIO | None = None,
        headers: CIMultiDict[str] | None = None,
    ) -> aiohttp.ClientResponse:
        """Send one request. Raises S3Answer, aiohttp.ClientError, TimeoutError."""
        if self._session is None:
            raise RuntimeError("the store is not open: use it as an async context manager")
        body = io.BytesIO(data) if isinstance(data, bytes) and len(data) > _MAX_WHOLE_BYTES else data
        response = await self._session.request(
            method, url, data=body, headers=headers, allow_redirects=False, proxy=self._proxy(url)
        )
        answered.set(True)
        if response.status in _SUCCESS and method == "GET":
            return response
        async with response:
            if response.status in _SUCCESS and method == "POST":
                await response.read()
                return response
            beginning = await beginning_of(response, _MAX_ERROR_BYTES)
            if response.status in _SUCCESS:
                # The headers are enough; if the body is longer than this, the connection is closed.
                return response
            raise S3Answer.read(response.status, response.headers, beginning, datetime.now(UTC))

    def _proxy(self, url: URL) -> str | None:
        """Return the proxy of `HTTPS_PROXY` for an https URL that `NO_PROXY` does not exclude, or None.

        http never uses it: Docker's client sets proxies in every container, and a store that is reached
        without TLS is on the local network.
        """
        proxy = self._proxies.get("https")
        if url.scheme != "https" or not proxy:
            return None
        if is_excluded(url.host or "", url.port, self._proxies.get("no", "")):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"

    async def close(self) -> None:
        """Close the session and its connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def beginning_of(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Return at most the first `max_bytes` of a body, which may be of any size."""
    beginning = bytearray()
    while len(beginning) < max_bytes:
        chunk = await response.content.read(min(_CHUNK_BYTES, max_bytes - len(beginning)))
        if not chunk:
            break
        beginning += chunk
    return bytes(beginning)
