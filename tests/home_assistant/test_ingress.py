"""The page inside Home Assistant: its own ingress view, a stand-in for the Supervisor, and a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.async_api import async_playwright, expect

from tests.support.need import need
from tests.support.ports import free_port
from tests.support.service import Service
from tests.support.wait import eventually

SERVER = Path(__file__).with_name("ingress_server.py")
PATIENCE_MS = 60_000


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Service]:
    """A service as the app starts it: it wants a token, and trusts the Supervisor alone."""
    web = {"port": free_port(), "token": "t0ken-of-the-page", "trusted_proxies": ["127.0.0.1"]}
    settings = {
        "instance": "edge1",
        "web": {**web, "remote_user": "admin"},
        "mqtt": {"port": free_port()},
        "cameras": {"porch": {"name": "Front porch", "source": "demo:", "event": {"off_delay": "2s"}}},
    }
    with Service(settings, tmp_path / "service") as service:
        service.wait_for_log("porch: watching", within_s=180)
        yield service


@pytest.fixture
def home_url(behind: Service, ha_python: str, tmp_path: Path) -> Iterator[str]:
    """The address of Home Assistant's server, with the page in a frame."""
    port, folder = free_port(), tmp_path / "home"
    folder.mkdir()
    page = behind.wait_for_log("web pages at").rpartition(" ")[2]
    # An interpreter in another Debian does not see the sources.
    script = Path(shutil.copy(SERVER, tmp_path))
    url = f"http://127.0.0.1:{port}/"

    def answers() -> bool:
        try:
            with urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, TimeoutError):
            assert process.poll() is None, "Home Assistant's server has ended"
            return False

    with subprocess.Popen([ha_python, script, folder, str(port), page], cwd=tmp_path) as process:
        try:
            eventually(answers, within_s=180, what="Home Assistant's server")
            yield url
        finally:
            process.kill()


async def test_the_page_works_in_home_assistants_own_ingress(home_url: str, behind: Service) -> None:
    path = shutil.which("chromium")
    need(path is not None, "chromium")
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1100, "height": 800})
        page.set_default_timeout(PATIENCE_MS)
        errors: list[str] = []
        foreign: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((home_url, f"blob:{home_url}"))
                else foreign.append(request.url)
            ),
        )
        await page.goto(home_url)
        frame = page.frame_locator("iframe")
        await frame.locator("[data-camera=porch]").click()
        # Ingress drops the stream's boundary: the page requests each image instead, at the camera's rate.
        image = frame.locator(".frame.big > img")
        for _ in range(3):
            await expect(image).to_have_attribute("src", re.compile("^blob:"))
            shown = await image.get_attribute("src")
            await expect(image).not_to_have_attribute("src", shown or "")
        # The next image may be replacing this one: an image that is being loaded has no width yet.
        await expect(image).to_have_js_property("naturalWidth", 960)
        await expect(frame.locator(".verdict")).to_be_visible()
        await expect(frame.locator("live-camera")).not_to_contain_text("no free stream")
        for tab in ("Events", "Health", "Zones", "Settings"):
            await frame.locator("nav.tabs").get_by_text(tab).click()
            await expect(frame.locator("nav.tabs [aria-current]")).to_have_text(tab)
            await expect(frame.locator("h1").first).to_be_visible()
        await frame.locator("nav.chips").get_by_text("Front porch").click()
        await frame.locator("#field-name").fill("Porch by ingress")
        await frame.locator("#field-name").press("Tab")
        await frame.get_by_role("button", name="Save 1 change").click()
        behind.wait_for_log("reload: porch: changed in place", within_s=60)
        await expect(frame.locator(".note").last).to_contain_text("changed in place")
        await browser.close()
    assert errors == []
    assert foreign == []
