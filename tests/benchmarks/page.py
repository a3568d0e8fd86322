"""Size and cost of the page: ``python -m tests.benchmarks.page [--seconds 10] [--events 1500]
[--objects 1000000 | --kept FOLDER]``.

Script and style, gzipped; the service's CPU with and without a viewer of one camera; a day of many events in
Debian's Chromium: the time until all images of the first screen are shown, from the page of cameras and in a
new page of the browser, and the DOM nodes of the page; beside it the time that an empty answer and the same
files from a static server take, and the service's CPU for a page. The store is a directory, with the index as
delivery writes it; or, with ``--kept``, the SeaweedFS that ``tests.benchmarks.retrieval --keep FOLDER`` has
filled: the day is added to it, and removed at the end.

On a machine with other work, ``chrt --rr 5`` before the command gives it the cores for that minute.

An image on the screen: a camera sends a counter as black and white blocks, and a script in the browser reads
them from the stream that the page shows. The time begins when the camera sends an image, so it is an upper
bound of the time since it was judged.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import Browser, sync_playwright

from async_motion.retrieval import EventReader
from async_motion.store.minio_reader import MinioReader
from tests.benchmarks.retrieval import CAMERAS, peak_kib, put_all
from tests.support.bucket import INSTANCE, MadeEvent, fill, index_objects, make_event
from tests.support.http_camera import HttpCamera, Visit, answered
from tests.support.ports import free_port
from tests.support.s3 import S3Server, seaweedfs
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
WATCH = """(() => {
  const look = () => {
    if ((SHOWN)()) window.shownAt = performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})()"""
"""Sets `shownAt`, the ms from the beginning of the navigation to the frame in which SHOWN holds."""

BITS = 12
READ = """(bits) => {
  const image = document.querySelector('.frame > img');
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [bits, 1];
  const pen = canvas.getContext('2d', { willReadFrequently: true });
  window.seen = {};
  const look = () => {
    pen.drawImage(image, 0, 0, bits, 1);
    const pixels = pen.getImageData(0, 0, bits, 1).data;
    let number = 0;
    for (let bit = 0; bit < bits; bit += 1) number = 2 * number + (pixels[4 * bit] > 127 ? 1 : 0);
    window.seen[number] ??= Date.now();
    requestAnimationFrame(look);
  };
  look();
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


def a_day(count: int, ago: int, cameras: Sequence[str]) -> tuple[str, list[MadeEvent]]:
    """Return a day of the past and its events, by turns on each camera."""
    noon = datetime.now(UTC).replace(hour=0, minute=1, second=0, microsecond=0) - timedelta(days=ago)
    noise = np.random.default_rng(1).integers(0, 255, (90, 160, 3), np.uint8)
    jpegs = [cv2.imencode(".jpg", cv2.resize(noise, (1280, 720)))[1].tobytes()]
    gap = timedelta(seconds=86_000 / count)
    return noon.date().isoformat(), [
        make_event(camera=cameras[n % len(cameras)], at=noon + gap * n, salt=n, no=n + 1, jpegs=jpegs)
        for n in range(count)
    ]


@contextmanager
def kept_server(folder: Path, day: str, events: Sequence[MadeEvent]) -> Iterator[dict[str, Any]]:
    """Run the filled SeaweedFS with a day of events added; yield the settings of its store."""
    bucket, objects = json.loads((folder / "filled.json").read_text())
    with seaweedfs(folder / "weed") as server:
        index = index_objects(events, writer="b00001")
        added = [(key, *each) for event in events for key, each in event.objects.items()]
        asyncio.run(put_all(server, bucket, added + [(key, *each) for key, each in index.items()]))
        print(f"{objects} objects and {len(added) + len(index)} of the day, in SeaweedFS")
        print(f"requests for the day's events, each time: {asyncio.run(requests(server, bucket, day))}")
        keys = server.admin.arguments()
        try:
            yield {"minio": {"bucket": bucket, "create_bucket": False, **keys}}
        finally:
            asyncio.run(remove(server, bucket, [key for key, *_ in added] + list(index)))


async def requests(server: S3Server, bucket: str, day: str) -> list[dict[str, int]]:
    """Return the requests of a reader for a day's events: the first time, and again."""
    since, counts = datetime.fromisoformat(day).replace(tzinfo=UTC), []
    async with MinioReader(bucket=bucket, concurrency=16, **server.admin.arguments()) as store:
        reader = EventReader(store, instance=INSTANCE, max_cached_lines=16_384)
        for _ in range(2):
            before = dict(reader.requests.sent)
            found = [each async for each in reader.events(since=since, until=since + timedelta(days=1))]
            counts.append({kind: sent - before[kind] for kind, sent in reader.requests.sent.items()})
            counts[-1]["events"] = len(found)
    return counts


async def remove(server: S3Server, bucket: str, keys: list[str]) -> None:
    async with MinioReader(bucket=bucket, concurrency=16, **server.admin.arguments()) as store:
        for at in range(0, len(keys), 1000):
            await store.remove(keys[at : at + 1000])


def earlier_days(folder: Path, day: str, objects: int, count: int) -> None:
    """Add days of `count` events of 20 frames before `day`, with their index, to a total of `objects` frames.

    The frames are hard links: a million files of ordinary size need more than a disk has free.
    """
    at = datetime.fromisoformat(day).replace(tzinfo=UTC, minute=1)
    frame = folder.parent / "frame"
    for number in range(objects // (20 * count)):
        at -= timedelta(days=1)
        gap = timedelta(seconds=86_000 / count)
        events = [make_event(at=at + gap * n, salt=n, no=n + 1) for n in range(count)]
        fill(folder, index=events)
        # A file has at most 65,000 links.
        frame.with_name(f"frame{number}").write_bytes(b"jpeg")
        for event in events:
            place = folder / event.folder
            place.mkdir(parents=True)
            for seq in range(20):
                os.link(frame.with_name(f"frame{number}"), place / f"{seq:06d}.jpg")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Open Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


def first_images(
    browser: Browser, address: str, *, after: str = "", shown: str = SHOWN
) -> tuple[list[float], int]:
    """Return the ms until the browser shows a page's images, for each round, and the page's DOM nodes.

    `after`: the page from which a person comes; blank: none, so the browser also starts a renderer.
    """
    taken = []
    nodes = 0
    for _ in range(ROUNDS):
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        if after:
            page.goto(after)
        page.add_init_script(WATCH.replace("SHOWN", shown))
        page.goto(address, wait_until="commit")
        page.wait_for_function("() => window.shownAt")
        taken.append(float(page.evaluate("window.shownAt")))
        nodes = int(page.evaluate("document.querySelectorAll('*').length"))
        page.close()
    return taken, nodes


@contextmanager
def static_copy(browser: Browser, address: str) -> Iterator[str]:
    """Serve a page's files as they are, from memory; yield its address."""
    files: dict[str, tuple[str, bytes]] = {}
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    answers: list[Any] = []
    page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108  # it sets an attribute
    page.goto(address)
    page.wait_for_function(SHOWN)
    for answer in answers:
        path = "/" + answer.url.split("/", 3)[3]
        if "news" not in path:
            files[path] = (answer.headers.get("content-type", ""), answer.body())
    page.close()

    def serve(visit: Visit) -> None:
        kind, body = files.get(visit.head.split()[1], ("text/plain", b""))
        visit.send(answered(kind, body))

    with HttpCamera(serve) as server:
        yield "/".join(server.url.split("/")[:3]) + "/" + address.split("/", 3)[3]


class CountingCamera:
    """An MJPEG camera whose images are a counter, one every 200 ms. `sent` holds when each was sent."""

    def __init__(self) -> None:
        self.sent: dict[int, float] = {}

    def __call__(self, visit: Visit) -> None:
        """Answer a request until the connection ends."""
        visit.send(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n")
        number = 0
        while True:
            number += 1
            bits = [number >> BITS - 1 - bit & 1 for bit in range(BITS)]
            image = np.repeat(np.array(bits, np.uint8) * 200 + 20, 1280 // BITS)[None].repeat(720, 0)
            jpeg = cv2.imencode(".jpg", image)[1].tobytes()
            head = f"--b\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.sent[number] = time.time()
            visit.send(head.encode() + jpeg + b"\r\n")
            visit.wait(0.2)


def to_screen(browser: Browser, base: str, camera: CountingCamera, seconds: float) -> list[float]:
    """Return for each image the ms from the camera's sending to the screen of the camera's page, sorted."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{base}camera?name=counter")
    page.wait_for_function("document.querySelector('.frame > img')?.naturalWidth > 0")
    page.evaluate(READ, BITS)
    page.wait_for_timeout(seconds * 1000)
    seen = page.evaluate("window.seen")
    page.close()
    # The first was there before the script began.
    return sorted(
        at - 1000 * camera.sent[int(n)] for n, at in list(seen.items())[1:] if int(n) in camera.sent
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.page", description="The page's figures."
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--events", type=int, default=1500)
    parser.add_argument("--objects", type=int, default=0, help="frames of earlier days in the same store")
    parser.add_argument("--kept", type=Path, metavar="FOLDER", help="a server that retrieval has kept")
    args = parser.parse_args()
    print(f"script and style, gzipped: {weight() / 1024:.1f} KiB")
    # The frames of the kept server are no JPEGs, and go back a year.
    day, events = a_day(args.events, 400, CAMERAS) if args.kept else a_day(args.events, 1, ("porch",))
    with tempfile.TemporaryDirectory() as name:
        if args.kept is not None:
            with kept_server(args.kept, day, events) as store:
                measure(Path(name), day, args, store)
        else:
            objects = Path(name) / "data/objects"
            fill(objects, *events, index=events)
            earlier_days(objects, day, args.objects, args.events)
            measure(Path(name), day, args, {})
    return 0


def measure(folder: Path, day: str, args: argparse.Namespace, store: dict[str, Any]) -> None:
    """Run the service on a store with a day of events, and print the figures."""
    counter = CountingCamera()
    with chromium() as browser, HttpCamera(counter) as camera:
        settings = {
            "instance": INSTANCE,
            "web": {"port": free_port()},
            "mqtt": {"port": free_port()},
            "cameras": {
                "porch": {"source": "demo:"},
                "counter": {"source": camera.url, "detect": {"fps": 10}},
            },
        }
        with Service(settings | store, folder) as service:
            base = service.wait_for_log("web pages at").rpartition(" ")[2]
            service.wait_for_log("porch: watching")
            alone, viewed = viewing(service, base, args.seconds)
            print(f"the service's share of a core: {alone:.1%}, with a viewer {viewed:.1%}")
            peak = peak_kib(service.pid)
            address = f"{base}events?day={day}"
            used, began = cpu_s(service.pid), time.monotonic()
            taken, nodes = first_images(browser, address)
            used = cpu_s(service.pid) - used - alone * (time.monotonic() - began)
            come, _ = first_images(browser, address, after=base)
            empty, _ = first_images(browser, f"{base}healthz", shown="() => true")
            with static_copy(browser, address) as copy:
                floor, _ = first_images(browser, copy)
            print(f"first images of a day with {args.events} events: from the page of cameras "
                  f"{listed(come)} ms; in a new page {listed(taken)} ms, where an empty answer takes "
                  f"{listed(empty)} ms, the same files from a static server {listed(floor)} ms")  # fmt: skip
            after = peak_kib(service.pid)
            print(f"{nodes} nodes; {used / ROUNDS * 1000:.0f} ms of the service's CPU for a page; "
                  f"its memory at most {peak / 1024:.0f}, then {after / 1024:.0f} MiB")  # fmt: skip
            late = to_screen(browser, base, counter, args.seconds)
            print(f"from the camera to the screen: median {statistics.median(late):.0f} ms, "
                  f"95 % within {late[int(0.95 * len(late))]:.0f} ms, {len(late)} images")  # fmt: skip


def listed(taken: list[float]) -> str:
    """Return the first time and the median of the others, in ms."""
    return f"{taken[0]:.0f}, then {statistics.median(taken[1:]):.0f} ({min(taken):.0f} to {max(taken):.0f})"


if __name__ == "__main__":
    sys.exit(main())
