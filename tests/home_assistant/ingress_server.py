"""Home Assistant's own ingress view, with a stand-in for the Supervisor: run by Home Assistant's Python.

    python ingress_server.py FOLDER PORT PAGE

    browser ──▶ HassIOIngress, 127.0.0.1:PORT ──▶ the stand-in ──▶ PAGE

Like the Supervisor (its `api/ingress.py`), the stand-in names the user, passes on the bare content type, and
streams what has no length. `/` is a page with the frame in which Home Assistant shows an app.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, web
from homeassistant.components.hassio.ingress import HassIOIngress  # type: ignore[import-not-found]
from homeassistant.core import HomeAssistant  # type: ignore[import-not-found]

SESSION = "t0ken-of-the-session"
PREFIX = f"/api/hassio_ingress/{SESSION}"
PERSON = {"X-Remote-User-Id": "7", "X-Remote-User-Name": "ada", "X-Remote-User-Display-Name": "Ada"}
NOT_PASSED_ON = {"content-length", "content-encoding", "transfer-encoding", "accept-encoding"}
MAX_SIMPLE = 4_194_000


async def main() -> None:
    """Serve until killed."""
    folder, port, page = sys.argv[1], int(sys.argv[2]), sys.argv[3].rstrip("/")
    async with ClientSession(
        cookie_jar=DummyCookieJar(), auto_decompress=False, timeout=ClientTimeout(total=None)
    ) as session:

        async def supervise(request: web.Request) -> web.StreamResponse:
            headers = {
                name: text for name, text in request.headers.items() if name.lower() not in NOT_PASSED_ON
            }
            async with session.request(
                request.method, f"{page}/{request.match_info['path']}", params=request.query,
                headers=headers | PERSON, data=await request.read() or None, allow_redirects=False,
            ) as answer:  # fmt: skip
                kept = {
                    name: text
                    for name, text in answer.headers.items()
                    if name.lower() not in NOT_PASSED_ON | {"content-type"}
                }
                if request.method == "HEAD" or answer.status in (204, 304):
                    return web.Response(status=answer.status, headers=kept)
                if answer.content_length is not None and answer.content_length <= MAX_SIMPLE:
                    return web.Response(
                        status=answer.status, headers=kept, content_type=answer.content_type,
                        body=await answer.read(),
                    )  # fmt: skip
                response = web.StreamResponse(status=answer.status, headers=kept)
                response.content_type = answer.content_type
                await response.prepare(request)
                async for data, _ in answer.content.iter_chunks():
                    await response.write(data)
                return response

        async def frame(_: web.Request) -> web.Response:
            shown = f'<iframe src="{PREFIX}/" width="1000" height="700"></iframe>'
            return web.Response(text=f"<!doctype html><title>Home</title>{shown}", content_type="text/html")

        inner = await _serve(
            0, lambda app: app.router.add_route("*", "/ingress/{token}/{path:.*}", supervise)
        )
        home = HomeAssistant(folder)
        view = HassIOIngress(f"127.0.0.1:{inner}", session)

        def install(app: web.Application) -> None:
            app.router.add_get("/", frame)
            view.register(home, app, app.router)

        await _serve(port, install)
        await asyncio.Event().wait()


async def _serve(port: int, install: Callable[[web.Application], object]) -> int:
    """Serve an application on a port, 0: any free one; return it."""
    app = web.Application()
    install(app)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return int(runner.addresses[0][1])


if __name__ == "__main__":
    asyncio.run(main())
