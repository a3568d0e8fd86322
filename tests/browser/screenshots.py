"""Make the README's screenshots with the synthetic camera: `python -m tests.browser.screenshots`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright

from tests.support.ports import free_port
from tests.support.service import ROOT, Service
from tests.support.wait import eventually

FOLDER = ROOT / "config/pictures"
DESK: ViewportSize = {"width": 1200, "height": 380}
PHONE: ViewportSize = {"width": 390, "height": 760}
SETTINGS = {
    "instance": "home",
    "cameras": {
        name: {"name": title, "source": "demo:", "event": {"off_delay": "2s", "frames": {"every": "500ms"}}}
        for name, title in (("garden", "Garden"), ("drive", "Drive"), ("porch", "Front porch"))
    },
}


def main() -> int:
    """Write the screenshots."""
    FOLDER.mkdir(exist_ok=True)
    ports = {"web": {"port": free_port()}, "mqtt": {"port": free_port()}}
    with tempfile.TemporaryDirectory() as folder, Service({**SETTINGS, **ports}, Path(folder)) as service:
        base = service.wait_for_log("web pages at").rpartition(" ")[2]
        service.wait_for_log("garden: motion ended", times=3, within_s=120)
        with sync_playwright() as playwright:
            path = shutil.which("chromium")
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            desk = browser.new_page(viewport=DESK, color_scheme="light")
            desk.goto(base)
            service.wait_for_log("garden: motion started", times=4, within_s=60)
            desk.wait_for_selector(".card.moving")
            desk.wait_for_timeout(2500)
            desk.screenshot(path=FOLDER / "live.jpg", type="jpeg", quality=85)
            eventually(lambda: desk.request.get(f"{base}api/v1/events").json()["events"], what="events")
            phone = browser.new_page(viewport=PHONE, color_scheme="dark", device_scale_factor=2)
            phone.goto(f"{base}events")
            phone.click("event-grid .card:not(:has(.pill))")
            phone.wait_for_selector(".player")
            phone.wait_for_timeout(1500)
            phone.screenshot(path=FOLDER / "event.jpg", type="jpeg", quality=85)
            browser.close()
    print(f"written: {FOLDER}/live.jpg, {FOLDER}/event.jpg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
