"""Take the screenshots of a real Home Assistant: `python -m tests.home_assistant.screenshots [FOLDER]`.

The real service watches its demo camera, a real Home Assistant finds it by discovery, and headless Chromium
opens the device pages and the shipped dashboard. They go into `config/homeassistant/pictures`. Takes
about 2 minutes.

    HA_PYTHON   the interpreter of Home Assistant's environment (make_venv.sh makes it)
    CHROMIUM    the browser, if it is not `chromium` or `google-chrome` on the path

A screenshot is taken while a person is in full view, once the page shows the expected text, nothing on it is
still loading, and two screenshots are the same. No request leaves 127.0.0.1: logos that Home Assistant would
fetch are left out.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from aiohttp import ClientSession, ClientWebSocketResponse

from tests.home_assistant.ha_harness import HomeAssistant
from tests.support.mqtt import Mosquitto
from tests.support.ports import free_port
from tests.support.service import ROOT, Service
from tests.support.wait import eventually_async

SHIPPED = ROOT / "config" / "homeassistant"
INSTANCE, CAMERA = "edge1", "porch"
"""The names in the shipped dashboard."""
ZONES = {
    "drive": [[0, 0.7], [1, 0.62], [1, 0.97], [0, 0.97]],
    "door": [[0.08, 0.4], [0.35, 0.4], [0.35, 0.95], [0.08, 0.95]],
}
EVENTS = 5
"""Events that must be shown before the screenshots."""
HISTORY_H = 75 / 3600
"""Hours of the dashboard's history: no longer than the stage has run by then."""
IN_VIEW = 4
"""Index of an event's frame that shows a person in full view, not at the frame's edge."""
VIEWPORT_HEIGHT = 2400
"""Higher than any page: a screenshot ends below the last card."""
MARGIN = 16
REST_S = 0.3
"""A page without movement for this long is at rest."""
MAX_BYTES = 250_000
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)

LOOK = """(() => {
  const all = [];
  const walk = (root) => {
    for (const element of root.querySelectorAll("*")) {
      all.push(element);
      if (element.shadowRoot) walk(element.shadowRoot);
    }
  };
  walk(document);
  const own = (element) => [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
  const busy = ["HA-SPINNER", "HA-CIRCULAR-PROGRESS", "HASS-LOADING-SCREEN"];
  const states = document.querySelector("home-assistant")?.hass?.states ?? {};
  return {
    motion: states["binary_sensor.CAMERA_motion"]?.state,
    image: states["image.CAMERA_last_motion_image"]?.attributes.object_key,
    text: all.filter((element) => !["STYLE", "SCRIPT"].includes(element.tagName))
      .flatMap(own).map((node) => node.data.trim()).filter(Boolean).join("\\n"),
    loading: all.filter((element) => busy.includes(element.tagName)
      || (element.tagName === "IMG" && !element.complete)).map((element) => element.tagName),
    bottom: Math.max(0, ...all.filter((element) => element.tagName === "HA-CARD")
      .map((element) => element.getBoundingClientRect().bottom)),
  };
})()""".replace("CAMERA", CAMERA)
"""What the page knows of the camera, what it says and is still loading, where its last card ends; through all
shadow roots."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A page of the frontend, its width in px, and the text that it shows when complete."""

    name: str
    path: str
    width: int
    says: tuple[str, ...]


# ---- the browser


class Page:
    """One page of a browser, driven through the DevTools protocol."""

    def __init__(self, connection: ClientWebSocketResponse) -> None:
        self._connection = connection
        self._numbers = count(1)

    async def do(self, method: str, **parameters: Any) -> Any:
        """Send one command and return its result; skip events."""
        number = next(self._numbers)
        await self._connection.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await self._connection.receive_json(timeout=60)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    async def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression; None while the page changes."""
        answer = await self.do("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    async def open(self, url: str) -> None:
        """Go to `url` and wait until its document is loaded."""
        await self.do("Page.navigate", url=url)
        ready = f"location.href === {json.dumps(url)} && document.readyState === 'complete'"
        await eventually_async(lambda: self.evaluate(ready), what=url)

    async def look(self, width: int, height: float) -> bytes:
        """Return the upper left part of the page as a PNG."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        return base64.b64decode((await self.do("Page.captureScreenshot", clip=clip))["data"])


@contextlib.asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Page]:
    """Run Chromium with a new profile in `folder`; yield its first page."""
    names = (os.environ.get("CHROMIUM", "chromium"), "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    assert program is not None, "no Chromium: set CHROMIUM"
    process = await asyncio.create_subprocess_exec(
        program,
        *FLAGS,
        f"--user-data-dir={folder}",
        "about:blank",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {"TZ": "UTC", "LANGUAGE": "en"},
    )
    try:
        port_file = folder / "DevToolsActivePort"
        await eventually_async(port_file.exists, within_s=60, what="Chromium")
        port = int(port_file.read_text().split()[0])
        async with ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                page = next(target for target in await answer.json() if target["type"] == "page")
            # A screenshot is larger than aiohttp's limit for a message.
            async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as connection:
                yield Page(connection)
    finally:
        process.terminate()
        await process.wait()


# ---- the screenshots


async def log_in(page: Page, ha: HomeAssistant) -> None:
    """Store in the browser what the frontend's login would store, and hide its side bar."""
    home = f"http://127.0.0.1:{ha.http_port}"
    tokens = {
        "access_token": ha.token,
        "token_type": "Bearer",
        "refresh_token": "",
        "expires_in": 10**8,
        "expires": 10**14,  # ms since 1970
        "hassUrl": home,
        "clientId": f"{home}/",
    }
    await page.open(f"{home}/manifest.json")
    for key, value in {"hassTokens": tokens, "dockedSidebar": "always_hidden"}.items():
        await page.evaluate(f"localStorage.setItem({json.dumps(key)}, {json.dumps(json.dumps(value))})")


async def photograph(page: Page, home: str, shot: Shot) -> bytes:
    """Return a PNG of the whole page, once it is complete and at rest."""
    await page.do(
        "Emulation.setDeviceMetricsOverride",
        width=shot.width,
        height=VIEWPORT_HEIGHT,
        deviceScaleFactor=1,
        mobile=False,
    )
    await page.open(home + shot.path)
    before = b""

    async def complete() -> bytes | None:
        nonlocal before
        await asyncio.sleep(REST_S)
        seen = await page.evaluate(LOOK)
        if (
            seen is None
            or seen["loading"]
            or seen.get("motion") != "on"
            or int(Path(seen["image"]).stem) < IN_VIEW
            or not all(text in seen["text"] for text in shot.says)
        ):
            return None
        assert "Unavailable" not in seen["text"], seen["text"]
        last, before = before, await page.look(shot.width, seen["bottom"] + MARGIN)
        return before if before == last else None

    image = await eventually_async(complete, within_s=120, what=f"{shot.path} at rest")
    assert image is not None
    return image


def packed(png: bytes) -> bytes:
    """Return the PNG, recompressed at the highest level."""
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    done, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done
    return data.tobytes()


async def photograph_all(ha: HomeAssistant, shots: list[Shot], folder: Path, target: Path) -> None:
    """Write each shot as `target`/name.png."""
    async with browser(folder) as page:
        await log_in(page, ha)
        for shot in shots:
            png = packed(await photograph(page, f"http://127.0.0.1:{ha.http_port}", shot))
            assert len(png) <= MAX_BYTES, f"{shot.name}: {len(png)} bytes"
            path = target / f"{shot.name}.png"
            path.write_bytes(png)
            print(f"{path}: {len(png) // 1000} kB")


# ---- the stage


def dashboard() -> dict[str, Any]:
    """Return the shipped dashboard with a history of minutes, not of a day: the stage has just started."""
    shipped: dict[str, Any] = yaml.safe_load((SHIPPED / "dashboard.yaml").read_text("utf-8"))
    for section in shipped["views"][0]["sections"]:
        for card in section["cards"]:
            if card["type"] == "history-graph":
                card["hours_to_show"] = HISTORY_H
    return shipped


@contextlib.contextmanager
def stage(folder: Path) -> Iterator[HomeAssistant]:
    """Run broker, Home Assistant and the service with its demo camera, until enough events are shown."""
    settings = {
        "instance": INSTANCE,
        "directory": {"path": "objects"},
        "spool": {"path": "spool.db"},
        "web": {"port": free_port()},
        "cameras": {
            CAMERA: {
                "source": "demo:",
                "detect": {"zones": {name: {"polygon": polygon} for name, polygon in ZONES.items()}},
                "event": {"off_delay": "4s"},
            }
        },
    }
    with (
        Mosquitto(folder / "broker") as broker,
        HomeAssistant(
            mqtt_port=broker.port,
            python=os.environ["HA_PYTHON"],
            workdir=folder / "home",
            extra_yaml="frontend:\nhistory:\nlogbook:\n",
        ) as ha,
        Service({**settings, "mqtt": {"host": "127.0.0.1", "port": broker.port}}, folder / "service"),
    ):
        ha.ws(type="lovelace/config/save", config=dashboard())
        # Devices that Home Assistant discovers on this machine must not show up here.
        ha.call_service("persistent_notification", "dismiss_all")
        ha.wait_for_state(f"sensor.{CAMERA}_events_today", str(EVENTS), timeout=180)
        yield ha


def main() -> None:
    """Take all screenshots again."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED / "pictures"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="screenshots-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        with stage(folder) as ha:
            hub, camera = (
                ha.device(identifier)
                for identifier in (f"async_motion:{INSTANCE}", f"async_motion:{INSTANCE}:{CAMERA}")
            )
            assert hub is not None
            assert camera is not None
            device = "/config/devices/device"
            shots = [
                Shot("camera", f"{device}/{camera['id']}", 1060, ("Motion event", "Sensitivity")),
                Shot("service", f"{device}/{hub['id']}", 1060, ("Upload queue", "Restart capture")),
                Shot("dashboard", "/lovelace/cameras", 1200, ("Porch", "Sensitivity")),
            ]
            asyncio.run(photograph_all(ha, shots, folder / "browser", target))


if __name__ == "__main__":
    main()
