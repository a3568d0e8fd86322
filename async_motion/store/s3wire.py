"""The one HTTP session that miniopy-async works through, seen from its side.

miniopy-async brings a session that answers HTTP 5xx with five fast retries of its own, ignores Retry-After
and follows redirects with a signature that no longer fits. `Wire` stands in its place (its constructor takes
a session; it uses `request` and `close` alone) and does each request once: the backoff is delivery's.

    success        the response, its body read unless the method is GET
    anything else  `S3Answer`, with what the server said

Large bodies go out as `BytesIO`, in chunks: aiohttp warns about `bytes` above `_MAX_WHOLE_BYTES`.
"""

from __future__ import annotations

import io
import ssl
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

_MAX_ERROR_BYTES = 64 * 1024
_MAX_WHOLE_BYTES = 1024 * 1024
_SUCCESS = frozenset({200, 204, 206})


AUTHORITIES = certifi.where()
"""Trusted beside the system's: slim images bring none of their own."""


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
            # An object comes back as it is stored, and a proxy's cookies are nobody's business.
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
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
        if response.status in _SUCCESS and method == "GET":
            return response
        async with response:
            if response.status in _SUCCESS:
                await response.read()
                return response
            beginning = await _beginning(response)
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


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """Return the first bytes of a body: an error page may be of any size."""
    beginning = bytearray()
    while len(beginning) < _MAX_ERROR_BYTES:
        chunk = await response.content.read(_MAX_ERROR_BYTES - len(beginning))
        if not chunk:
            break
        beginning += chunk
    return bytes(beginning)
