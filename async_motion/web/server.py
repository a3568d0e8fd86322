"""A small HTTP server beside the service: it shows the state, and changes nothing.

    GET /          the status page, for people
    GET /metrics   for Prometheus
    GET /healthz   200 while the event loop turns: a supervisor may restart us when this stops answering
    GET /readyz    200 while everything works; 503 says what does not: an alarm, no reason for a restart

- All of it is read from one mapping, asked for at each request (see `Snapshot`): nothing is kept here, so
  that memory does not grow with time or readers.
- With a token, `/` and `/metrics` want it, as ``Authorization: Bearer …`` or ``?token=…``. The two health
  answers do not, so that probes need no secret; they then say no more than yes or no.
- Without a token, on the loopback address, only requests to a loopback name are answered: otherwise any web
  page could read ours in the browser of whoever sits at this machine (DNS rebinding).
- A port that is taken is no reason not to watch cameras: one warning, and the service goes on without this.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from async_motion.web.metrics import Metrics
from async_motion.web.page import render
from async_motion.web.state import Snapshot, troubles

log = logging.getLogger(__name__)

BEAT_S: Final = 1.0
"""How often the event loop's delay is measured."""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_OPEN: Final = frozenset({"/healthz", "/readyz"})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Web:
    """Serves the pages while `run` runs. `token` None or empty: none is wanted. `port` 0: any free one."""

    def __init__(self, *, host: str, port: int, token: str | None, snapshot: Snapshot) -> None:
        self._host = host
        self._port = port
        self._token = token.encode() if token else None
        self._snapshot = snapshot
        self._metrics = Metrics(snapshot, lambda: self._lag_s)
        self._lag_s = 0.0
        self.url: str | None = None
        """Where the pages are, while they are served."""

    async def run(self) -> None:
        """Serve until cancelled. Returns at once, with a warning in the log, when the port cannot be had."""
        app = web.Application(middlewares=[self._guard], client_max_size=1024)
        app.router.add_get("/", self._page)
        app.router.add_get("/metrics", self._metrics_page)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.on_response_prepare.append(_add_headers)
        # No access log: a token may stand in the address.
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, self._host, self._port, backlog=16).start()
            except OSError as exc:
                log.warning("no web pages: %s (web.host, web.port)", _why(exc, self._host, self._port))
                return
            host = f"[{self._host}]" if ":" in self._host else self._host
            self.url = f"http://{host}:{runner.addresses[0][1]}"
            log.info("web pages at %s/", self.url)
            await self._beat()
        finally:
            self.url = None
            await runner.cleanup()

    async def _beat(self) -> None:
        """Measure how late the event loop wakes us: what it takes longer, everything takes longer."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self._lag_s = max(0.0, loop.time() - due)

    # ---- who may read ----

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._token is None:
            if _is_loopback(self._host) and not _is_loopback(request.url.host or ""):
                raise web.HTTPForbidden(
                    text="asked by another name than localhost: set web.token to allow that\n"
                )
        elif request.path not in _OPEN and not self._has_token(request):
            raise web.HTTPUnauthorized(
                text="expected the token: Authorization: Bearer <token>, or ?token=<token>\n",
                headers={"WWW-Authenticate": 'Bearer realm="async_motion"'},
            )
        return await handler(request)

    def _has_token(self, request: web.Request) -> bool:
        assert self._token is not None
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        tokens = [given.strip()] if scheme.lower() == "bearer" else []
        tokens.append(request.query.get("token", ""))
        # Constant in time: how long a wrong token took says nothing about the right one.
        return any(hmac.compare_digest(token.encode("utf-8", "replace"), self._token) for token in tokens)

    # ---- what they read ----

    async def _page(self, request: web.Request) -> web.Response:
        del request
        return web.Response(text=render(self._snapshot()), content_type="text/html", charset="utf-8")

    async def _metrics_page(self, request: web.Request) -> web.Response:
        body, content_type = self._metrics.expose(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _healthz(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        reasons = troubles(self._snapshot())
        answer: dict[str, Any] = {"status": "not ready" if reasons else "ready"}
        if self._token is None or self._has_token(request):
            answer["reasons"] = reasons
        return web.json_response(answer, status=503 if reasons else 200)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    del request
    response.headers.update(_HEADERS)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _why(exc: OSError, host: str, port: int) -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken by another program"
    if exc.errno in (errno.EADDRNOTAVAIL, None):  # None: asyncio's own, since Python 3.13
        return f"this machine has no address {host}"
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"no right to open port {port} on {host}"
    return f"port {port} on {host} cannot be opened ({exc.strerror or exc})"
