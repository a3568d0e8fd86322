"""Behind a path prefix, as Home Assistant's ingress sets it: in an iframe, the user named by the proxy.

The proxy compresses what it streams, as Home Assistant before 2026.11 does (`should_compress` of its
`hassio`): news and images would wait in the compressor.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from threading import Event, Thread

import aiohttp
import pytest
from aiohttp import web
from playwright.sync_api import Browser, expect

from tests.browser.conftest import CONFIG
from tests.support.ports import free_port
from tests.support.service import Service
from tests.support.wait import eventually

PREFIX = "/api/hassio_ingress/t0ken-of-the-session"
PERSON = {"X-Remote-User-Id": "7", "X-Remote-User-Display-Name": "Ada", "X-Ingress-Path": PREFIX}


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that requires a token, and trusts the proxy on this machine."""
    service = Service({}, tmp_path_factory.mktemp("behind"))
    rest = "token: t0ken-of-the-page, trusted_proxies: [127.0.0.1], remote_user: admin"
    service.config.write_text(CONFIG.format(web=f"port: {free_port()}, {rest}", mqtt=free_port(), store=""))
    with service:
        service.wait_for_log("porch: watching", within_s=120)
        yield service


@pytest.fixture(scope="module")
def ingress(behind: Service) -> Iterator[str]:
    """A stand-in for Home Assistant and its Supervisor: adds prefix and user headers, compresses, streams."""
    inner = behind.wait_for_log("web pages at").rpartition(" ")[2]
    port, ready, over = free_port(), Event(), Event()

    async def pass_on(request: web.Request) -> web.StreamResponse:
        path = request.raw_path.removeprefix(PREFIX).lstrip("/")
        kept = {
            k: v for k, v in request.headers.items() if not k.lower().startswith(("x-remote", "x-ingress"))
        }
        headers = {**kept, **PERSON, "X-Forwarded-Host": request.host, "X-Forwarded-For": "192.0.2.7"}
        body = await request.read()
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as session,
            session.request(
                request.method, inner + path, headers=headers, data=body or None, allow_redirects=False
            ) as answer,
        ):
            response = web.StreamResponse(status=answer.status, headers=answer.headers)
            if answer.status == 200 and not answer.content_type.startswith(("image/", "video/")):
                response.headers.pop("Content-Length", None)
                response.enable_compression()
            await response.prepare(request)
            async for part in answer.content.iter_any():
                await response.write(part)
            return response

    async def frame(_: web.Request) -> web.Response:
        text = (
            f'<!doctype html><title>Home</title><iframe src="{PREFIX}/" width="1000" height="700"></iframe>'
        )
        return web.Response(text=text, content_type="text/html")

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/", frame)
        app.router.add_route("*", PREFIX + "/{path:.*}", pass_on)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        ready.set()
        await asyncio.to_thread(over.wait)
        await runner.cleanup()

    thread = Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    yield f"http://127.0.0.1:{port}"
    over.set()
    thread.join(10)


def test_every_task_works_in_home_assistants_frame(chromium: Browser, ingress: str, behind: Service) -> None:
    with chromium.new_context(viewport={"width": 1100, "height": 800}) as context:
        page = context.new_page()
        outside: list[str] = []
        failed: list[str] = []
        page.on(
            "request",
            lambda request: (
                outside.append(request.url)
                if not request.url.startswith((f"{ingress}{PREFIX}/", "blob:"))
                and request.url != f"{ingress}/"
                else None
            ),
        )
        page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
        page.goto(ingress)
        frame = page.frame_locator("iframe")
        expect(frame.locator("[data-camera=porch] img")).to_have_attribute("src", re.compile("^blob:"))
        frame.locator("[data-camera=porch]").click()
        # Neither verdicts nor the stream come through: both are requested instead.
        expect(frame.locator(".verdict")).to_be_visible()
        image = frame.locator(".frame.big > img")
        expect(image).to_have_attribute("src", re.compile("^blob:"))
        shown = image.get_attribute("src")
        assert shown is not None
        expect(image).not_to_have_attribute("src", shown)
        for tab in ("Events", "Health", "Zones", "Settings"):
            frame.locator("nav.tabs").get_by_text(tab).click()
            # The previous page has the same elements: the next steps must not act on it.
            expect(frame.locator("nav.tabs [aria-current]")).to_have_text(tab)
            expect(frame.locator("h1").first).to_be_visible()
        frame.locator("nav.chips").get_by_text("Front porch").click()
        frame.locator("#field-name").fill("Porch by ingress")
        frame.locator("#field-name").press("Tab")
        frame.get_by_role("button", name="Save 1 change").click()
        behind.wait_for_log("reload: porch: changed in place")
        assert "Porch by ingress" in behind.config.read_text()
        assert outside == []
        assert failed == []


def test_an_event_is_deleted_after_a_question(chromium: Browser, ingress: str, behind: Service) -> None:
    behind.wait_for_log("yard: motion ended", within_s=180)
    with chromium.new_context() as context:
        page = context.new_page()
        inside = f"{ingress}{PREFIX}/"

        def stored() -> int:
            return len(page.request.get(f"{inside}api/v1/events?camera=yard").json()["events"])

        eventually(lambda: stored() > 0, within_s=60, what="a stored event")
        page.goto(f"{inside}events?camera=yard")
        page.locator("event-grid .card:not(:has(.pill))").last.click()
        page.wait_for_url(re.compile(r"event\?camera="))
        address = page.url
        page.click("event-actions >> text=Delete")
        page.click("dialog >> text=Keep it")
        assert page.request.get(address).ok
        page.click("event-actions >> text=Delete")
        page.click("dialog .danger")
        page.wait_for_url(re.compile("events"))
        assert page.request.get(address).status == 404


def test_beside_the_proxy_a_person_logs_in_and_out(chromium: Browser, behind: Service) -> None:
    inner = behind.wait_for_log("web pages at").rpartition(" ")[2]
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(inner)
        expect(page.get_by_label("Token")).to_be_visible()
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("not one of the tokens")
        page.get_by_label("Token").fill("t0ken-of-the-page")
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("[data-camera=porch]")).to_be_visible()
        assert page.evaluate("document.cookie") == "", "scripts do not see it"
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Token")).to_be_visible()
        page.goto(inner + "events")
        expect(page.get_by_label("Token")).to_be_visible()
