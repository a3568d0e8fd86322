"""Size and cost of the page: ``python -m tests.benchmarks.page [--seconds 10] [--events 1500]``.

Script and style, gzipped; the service's CPU with and without a viewer of one camera; a day of many events in
Debian's Chromium: the time from navigation to the first images, and the DOM nodes of the page. The store is a
directory, with the index as delivery writes it.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import sync_playwright

from tests.support.bucket import INSTANCE, fill, make_event
from tests.support.ports import free_port
from tests.support.service import ROOT, Service

STATIC = ROOT / "async_motion/web/static"
ROUNDS = 7
SHOWN = """() => {
  const images = [...document.querySelectorAll('event-grid img')].filter((img) => {
    const box = img.getBoundingClientRect();
    return box.top < innerHeight && box.bottom > 0;
  });
  return images.length > 0 && images.every((img) => img.complete && img.naturalWidth > 0);
}"""


def weight() -> int:
    """Return the total bytes of scripts and styles, each file gzipped."""
    files = [path for path in STATIC.rglob("*") if path.suffix in (".js", ".css")]
    return sum(len(gzip.compress(path.read_bytes())) for path in files)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share(pid: int, seconds: float) -> float:
    """Return the share of a core that a process uses over `seconds`."""
    before, began = cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_s(pid) - before) / (time.monotonic() - began)


def viewing(service: Service, base: str, seconds: float) -> tuple[float, float]:
    """Return the service's shares of a core without a viewer and with one viewer of a camera's stream."""
    alone = share(service.pid, seconds)
    with urllib.request.urlopen(f"{base}api/v1/cameras/porch/stream") as stream:
        ends, before, began = time.monotonic() + seconds, cpu_s(service.pid), time.monotonic()
        while time.monotonic() < ends:
            stream.read1(65536)
        return alone, (cpu_s(service.pid) - before) / (time.monotonic() - began)


def a_day(folder: Path, count: int) -> str:
    """Fill a directory store with a day of events; return the day."""
    noon = datetime.now(UTC).replace(hour=0, minute=1, second=0, microsecond=0) - timedelta(days=1)
    noise = np.random.default_rng(1).integers(0, 255, (90, 160, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", cv2.resize(noise, (1280, 720)))[1].tobytes()
    gap = timedelta(seconds=86_000 / count)
    events = [make_event(at=noon + gap * n, salt=n, no=n + 1, jpegs=[jpeg]) for n in range(count)]
    fill(folder, *events, index=events)
    return noon.date().isoformat()


def first_images(base: str, day: str) -> tuple[list[float], int]:
    """Return the ms until a browser shows a day's images, for each round, and the page's DOM nodes."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        taken = []
        nodes = 0
        for _ in range(ROUNDS):
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            began = time.monotonic()
            page.goto(f"{base}events?day={day}", wait_until="commit")
            page.wait_for_function(SHOWN)
            taken.append((time.monotonic() - began) * 1000)
            nodes = int(page.evaluate("document.querySelectorAll('*').length"))
            page.close()
        browser.close()
    return taken, nodes


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.page", description="The page's figures."
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--events", type=int, default=1500)
    args = parser.parse_args()
    print(f"script and style, gzipped: {weight() / 1024:.1f} KiB")
    settings = {
        "instance": INSTANCE,
        "web": {"port": free_port()},
        "mqtt": {"port": free_port()},
        "cameras": {"porch": {"source": "demo:"}},
    }
    with tempfile.TemporaryDirectory() as folder:
        day = a_day(Path(folder) / "data/objects", args.events)
        with Service(settings, Path(folder)) as service:
            base = service.wait_for_log("web pages at").rpartition(" ")[2]
            service.wait_for_log("porch: watching")
            alone, viewed = viewing(service, base, args.seconds)
            print(f"the service's share of a core: {alone:.1%}, with a viewer {viewed:.1%}")
            taken, nodes = first_images(base, day)
            print(f"first images of a day with {args.events} events: {taken[0]:.0f} ms, "
                  f"then {statistics.median(taken[1:]):.0f} ms; {nodes} nodes")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
