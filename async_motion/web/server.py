"""The HTTP server of the service: pages for people, an API below them, health and metrics.

    GET /          the pages; see `pages`
    GET /api/v1/…  the API; see `api`
    GET /metrics   for Prometheus
    GET /healthz   200 while the event loop runs: a supervisor may restart the service when it stops answering
    GET /readyz    200 while everything works, else 503 with the reasons: raise an alarm, do not restart

- Access is decided in one place, before any handler: see `auth`. Health, readiness, the login form and its
  static files are open; without a role, health and readiness return their status alone.
- Connections, heads and bodies are bounded: see `connections`.
- If the port is taken the service logs one warning and runs without pages: cameras matter more.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.http import HttpProcessingError

from async_motion.errors import AsyncMotionError, TlsFileError
from async_motion.tls import TlsFiles, renew, server_context
from async_motion.web.api import Api
from async_motion.web.api.routing import BASE, VISITOR, ApiError
from async_motion.web.auth import Guard, Role, TooManyWrong, Visitor
from async_motion.web.connections import HEAD_S, Connections, Handshakes, connection_bound
from async_motion.web.listening import listening_socket
from async_motion.web.metrics import Metrics
from async_motion.web.pages import Pages
from async_motion.web.site import Site
from async_motion.web.state import troubles

log = logging.getLogger(__name__)

BEAT_S: Final = 1.0
"""Interval at which the event loop's lag is measured."""
RENEW_S: Final = 600.0
"""Interval at which the pages' certificate is read again."""

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors "
)
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_OPEN: Final = ("/healthz", "/readyz", "/login", "/static/")
_PROBES: Final = ("/healthz", "/readyz")
_PROGRAMS: Final = ("/metrics", *_PROBES, f"{BASE}/")
"""Paths for programs: errors there are JSON, never a form or a page."""

_BEGUN: Final = web.RequestKey("begun", bool)
"""Set once a response to a request has begun."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Web:
    """Serves the pages while `run` runs. `port` 0: any free one."""

    def __init__(
        self, *, host: str, port: int, guard: Guard, site: Site, tls: TlsFiles | None = None
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._guard = guard
        self._site = site
        self._api = Api(site)
        self._pages = Pages(site, self._api, guard)
        self._metrics = Metrics(site.snapshot, lambda: self._lag_s)
        self._connections = Connections(connection_bound())
        self._lag_s = 0.0
        self.url: str | None = None
        """The URL of the pages while they are served, else None."""

    async def run(self) -> None:
        """Serve until cancelled. Log and return at once if the port or the certificate is unusable."""
        app = self._application()
        # No access log: a URL may contain a token.
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=_http_log(),
            handle_signals=False,
            shutdown_timeout=1.0,
            keepalive_timeout=HEAD_S,
        )
        await runner.setup()
        server = runner.server
        assert server is not None
        try:
            tls = await asyncio.to_thread(server_context, self._tls) if self._tls else None
            ready = listening_socket(self._host, self._port)
            where: dict[str, Any] = {"host": self._host, "port": self._port, "reuse_address": True}
            make = self._connections.factory(server, lambda: list(server.connections))
            handshakes = Handshakes(make, tls) if tls is not None else None
            listening = await asyncio.get_running_loop().create_server(
                make if handshakes is None else handshakes.arrival,
                backlog=16, **({"sock": ready} if ready is not None else where),
            )  # fmt: skip
        except TlsFileError as exc:
            log.error("no web pages: web.tls.%s", exc)
            await runner.cleanup()
            return
        except OSError as exc:
            log.warning("no web pages: %s (web.host, web.port)", _why(exc, self._host, self._port))
            await runner.cleanup()
            return
        try:
            host = f"[{self._host}]" if ":" in self._host else self._host
            self.url = f"{'https' if tls else 'http'}://{host}:{listening.sockets[0].getsockname()[1]}"
            log.info("web pages at %s/", self.url)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._beat(tls), name="web[beat]")
                if self._site.archive is not None:
                    tasks.create_task(self._site.archive.thumbnails.run(), name="web[thumbnails]")
                await asyncio.to_thread(self._pages.compile)
        finally:
            self.url = None
            listening.close()
            if handshakes is not None:
                await handshakes.close()
            await runner.cleanup()

    def _application(self) -> web.Application:
        """Return the application with all routes."""
        app = web.Application(middlewares=[self._serve])
        app.router.add_get("/metrics", self._metrics_page)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._pages.install(app)
        self._api.install(app)
        app.on_response_prepare.append(self._add_headers)
        return app

    async def _beat(self, tls: ssl.SSLContext | None) -> None:
        """Measure the event loop's lag every `BEAT_S`: it delays everything else as much.

        A renewed certificate is loaded every `RENEW_S`; open connections keep the old one.
        """
        loop = asyncio.get_running_loop()
        renew_at = loop.time() + RENEW_S
        while True:
            if tls is not None and self._tls is not None and loop.time() > renew_at:
                renew_at = loop.time() + RENEW_S
                try:
                    await asyncio.to_thread(renew, tls, self._tls)
                except TlsFileError as exc:
                    log.error("the pages keep their old certificate: web.tls.%s", exc)
            due = loop.time() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self._lag_s = max(0.0, loop.time() - due)

    # ---- every request ----

    @web.middleware
    async def _serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        answered = False

        def whole() -> None:
            if not answered:
                self._connections.at_work(request.protocol)

        try:
            response = await self._guarded(request, handler, whole)
        except ApiError as exc:
            response = self._failure(request, exc.status, exc.problem.error, exc.problem.problems)
            response.headers.update(exc.headers)
        except TooManyWrong as exc:
            response = self._failure(request, 429, "too many wrong tokens from this address")
            response.headers["Retry-After"] = str(max(1, round(exc.retry_after_s)))
        except web.HTTPException as exc:
            if exc.status < 400:
                raise
            response = self._failure(request, exc.status, (exc.text or exc.reason).strip())
            response.headers.update({k: v for k, v in exc.headers.items() if k == "Allow"})
        except AsyncMotionError as exc:
            response = self._failure(request, 503, str(exc))
        except ConnectionResetError:
            # The browser has left the page, or reads nothing: no answer can arrive. This is no error.
            if request.transport is not None:
                request.transport.abort()
            response = web.Response(status=204)
        except Exception:
            log.exception("web: %s %s failed: this is a bug", request.method, request.path)
            response = self._failure(request, 500, "this is a bug of async_motion: the log says more")
        finally:
            answered = True
            if request.transport is not None:  # else it is closed
                self._connections.at_rest(request.protocol)
        if _BEGUN in request and not response.prepared and request.transport is not None:
            # A handler failed in the middle of its response: an error would pass for a part of it.
            request.transport.abort()
        visitor = request.get(VISITOR)
        # The last of two cookies would win: a log-in or a log-out sets its own.
        is_free = "Set-Cookie" not in response.headers
        if visitor is not None and visitor.cookie is not None and is_free and _below_base(request):
            self._guard.set_cookie(response, visitor.cookie, secure=visitor.secure)
        return response

    async def _guarded(
        self, request: web.Request, handler: Handler, whole: Callable[[], None]
    ) -> web.StreamResponse:
        """Pass a request to its handler if its role allows it. Raises ApiError, TooManyWrong.

        `whole` is called once its body has arrived, if it is a visitor's.
        """
        visitor = self._guard.visitor(request)
        request[VISITOR] = visitor
        # A stranger's connection may be closed for another one, also in the middle of a form.
        if visitor.role is not Role.NONE:
            request.content.on_eof(whole)  # at once for a request without a body
        is_open = request.path.startswith(_OPEN)
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            route = self._api.find(request)
            known = route is not None or request.path in ("/login", "/logout")
            if known and request.path != "/login" and visitor.role is Role.NONE:
                return self._no_role(request, visitor)
            if known and not self._same_origin(request, visitor):
                raise ApiError(403, "the request comes from another page: expected one of our own")
        elif not is_open and visitor.role is Role.NONE:
            token = request.query.get("token")
            if token is not None and self._guard.wants_token and not request.path.startswith(_PROGRAMS):
                return self._pages.exchange(request, token, request.path.strip("/"))
            return self._no_role(request, visitor)
        route = self._api.find(request)
        if route is not None and visitor.role < route.role:
            raise ApiError(403, f"expected the role {route.role.name.lower()}: a viewer changes nothing")
        return await handler(request)

    def _same_origin(self, request: web.Request, visitor: Visitor) -> bool:
        return self._guard.same_origin(request, visitor)

    def _no_role(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """Return the login form. Raises ApiError (401, 403) for programs, or where no token is set."""
        if not self._guard.wants_token:
            raise ApiError(
                403, "asked by another name than localhost, or through a proxy: set web.token to allow that"
            )
        if request.path.startswith(_PROGRAMS) or request.method != "GET" or visitor.how == "bearer":
            raise ApiError(
                401, "expected the token: Authorization: Bearer <token>",
                headers={"WWW-Authenticate": 'Bearer realm="async_motion"'},
            )  # fmt: skip
        to = request.path.strip("/")
        return self._pages.ask_token(
            request, to=f"{to}?{request.query_string}" if request.query_string else to
        )

    def _failure(self, request: web.Request, status: int, error: str, problems: object = ()) -> web.Response:
        if request.path.startswith(_PROGRAMS) or "text/html" not in request.headers.get("Accept", ""):
            body: dict[str, Any] = {"error": error, "problems": list(problems or ())}  # type: ignore[call-overload]
            return web.json_response(body, status=status)
        return self._pages.failure(request, status, error)

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        request[_BEGUN] = True
        visitor = request.get(VISITOR)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        framed = visitor is not None and visitor.framed
        response.headers["Content-Security-Policy"] = _POLICY + ("'self'" if framed else "'none'")

    # ---- for programs ----

    async def _metrics_page(self, request: web.Request) -> web.Response:
        body, content_type = self._metrics.expose(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _healthz(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        reasons = troubles(self._site.snapshot())
        answer: dict[str, Any] = {"status": "not ready" if reasons else "ready"}
        if request[VISITOR].role >= Role.VIEWER:
            answer["reasons"] = reasons
        return web.json_response(answer, status=503 if reasons else 200)


def _below_base(request: web.Request) -> bool:
    """Return whether a request is for a page: a cookie set elsewhere would have a narrower scope."""
    return "/" not in request.path[1:]


def _http_log() -> logging.Logger:
    """Return aiohttp's log, without errors that any client can provoke with a malformed request."""
    logger = logging.getLogger(f"{__name__}.http")
    logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


def _why(exc: OSError, host: str, port: int) -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken by another program"
    if exc.errno in (errno.EADDRNOTAVAIL, None):  # None: asyncio's own, since Python 3.13
        return f"this machine has no address {host}"
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"no right to open port {port} on {host}"
    return f"port {port} on {host} cannot be opened ({exc.strerror or exc})"
