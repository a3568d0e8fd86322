"""The HTTP session that miniopy-async works through.

miniopy-async brings a session that answers HTTP 5xx with five fast retries of its own, ignores Retry-After
and follows redirects with a signature that no longer fits. `Wire` stands in its place (its constructor takes
a session; it uses `request` and `close` alone) and does each request once: the backoff is delivery's.

    success        the response; of its body at most `MAX_BODY_BYTES` are read, and only for GET and POST
    anything else  `S3Answer`, with what the server said

Large bodies go out as `BytesIO`, in chunks: aiohttp warns about `bytes` above `_MAX_WHOLE_BYTES`.
"""

from __future__ import annotations

import io
import ssl
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
import certifi

from async_motion.store.s3errors import S3Answer

if TYPE_CHECKING:
    # aiohttp's own: what miniopy-async hands over.
    from multidict import CIMultiDict
    from yarl import URL

MAX_BODY_BYTES = 64 * 1024 * 1024
"""The longest body that is read: no frame and no page of a listing comes near it."""
_MAX_ERROR_BYTES = 64 * 1024
_MAX_WHOLE_BYTES = 1024 * 1024
_CHUNK_BYTES = 256 * 1024
_SUCCESS = frozenset({200, 204, 206})


AUTHORITIES = certifi.where()
"""Trusted beside the system's: slim images bring none of their own."""


answered: ContextVar[bool] = ContextVar("answered", default=False)
"""Whether the request of this context has had an answer: what fails from then on is the server's."""


class BodyTooLarge(aiohttp.ClientPayloadError):
    """A body is longer than `MAX_BODY_BYTES`."""


class BoundedResponse(aiohttp.ClientResponse):
    """A response whose body is never read beyond `MAX_BODY_BYTES`, whatever its headers promise."""

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
    """A session for miniopy-async: one request each, judged at once. Open it in the running loop."""

    def __init__(self, *, concurrency: int, connect_timeout_s: float) -> None:
        self._limit = concurrency
        # The time for a whole request depends on its body: the store sets it around the call. `sock_read`
        # would not do: its clock runs while the body is still being sent.
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._proxies = getproxies_environment()

    def open(self, tls: ssl.SSLContext | None) -> None:
        """Make the session. Nothing is connected yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._limit, ssl=True if tls is None else tls),
            timeout=self._timeout,
            # An object comes back as it is stored; a proxy's cookies are ignored.
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
                # Its headers say all; a longer body costs the connection.
                return response
            raise S3Answer.read(response.status, response.headers, beginning, datetime.now(UTC))

    def _proxy(self, url: URL) -> str | None:
        """Return the proxy of `HTTPS_PROXY` for an https address that `NO_PROXY` does not except.

        Not for http: Docker's client puts proxies into every container, and a store that is asked in clear
        text stands beside us.
        """
        proxy = self._proxies.get("https")
        if url.scheme != "https" or not proxy or proxy_bypass(url.host or ""):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"

    async def close(self) -> None:
        """Close the session and its connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def beginning_of(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Return at most `max_bytes` of a body: a page may be of any size."""
    beginning = bytearray()
    while len(beginning) < max_bytes:
        chunk = await response.content.read(min(_CHUNK_BYTES, max_bytes - len(beginning)))
        if not chunk:
            break
        beginning += chunk
    return bytes(beginning)
