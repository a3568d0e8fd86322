"""A real service with synthetic cameras, and a real browser that opens its pages.

The store is SeaweedFS, with keys that have exactly the rights that `async-motion policy minio` prints for the
uploader and, with `--reader`, for the pages. `ASYNC_MOTION_PAGE_STORE=directory` takes the directory, as the
tests behind a proxy always do.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from async_motion.app.rights import s3_policy
from async_motion.errors import StoreRefused, StoreUnavailable
from async_motion.settings import load
from async_motion.store.minio_reader import MinioReader
from tests.support.need import need
from tests.support.npm import package
from tests.support.ports import free_port
from tests.support.s3 import run, seaweedfs
from tests.support.service import Service
from tests.support.wait import eventually

AXE = "axe-core@4.11"
SIZES = {"phone": (320, 640), "desk": (1440, 900)}
SCHEMES = ("light", "dark")
CONFIG = """\
# The cameras of the test.
instance: edge1
web: {{{web}}}   # the page
{store}\
mqtt: {{port: {mqtt}}}
cameras:
  porch:
    name: Front porch   # beside the door
    source: "demo:"
    event: {{off_delay: 2s, frames: {{every: 300ms}}}}
    detect:
      fps: 5      # enough
  yard:
    source: "demo:"
    detect:
      zones:
        path:
          name: Garden path   # of slate
          polygon: [[0.7, 0.1], [0.9, 0.1], [0.9, 0.4]]
"""


HERE = Path(__file__).parent

# A loaded machine is slow: wait long enough.
expect.set_options(timeout=30_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    path = shutil.which("chromium")
    need(path is not None, "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The script that checks accessibility; npm fetches it once into the machine's cache."""
    return (package(AXE) / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The settings of the store: a line of its own, and keys of `web`."""
    if os.environ.get("ASYNC_MOTION_PAGE_STORE") == "directory":
        yield "", ""
        return
    folder = tmp_path_factory.mktemp("seaweedfs")
    bucket = "motion-of-the-pages"
    # Without credentials: they are drawn when the server starts, with these policies.
    (folder / "variables.yaml").write_text(
        f"instance: edge1\nminio: {{bucket: {bucket}, endpoint: 's3.example.com', region: us-east-1, "
        "create_bucket: false, access_key: any, secret_key: any-of-8-letters}\n"
    )
    settings = load(folder / "variables.yaml", {})
    policies = [s3_policy(settings, reader=reader) for reader in (False, True)]
    with seaweedfs(folder / "server", policies=policies) as server:
        uploader, reader = server.users

        async def make() -> None:
            async with server.raw() as client:
                await client.make_bucket(bucket)

        async def may_list() -> bool:
            """Return whether the policies are in force, shortly after the server's first answer."""
            async with MinioReader(bucket=bucket, **reader.arguments()) as store:
                try:
                    await store.page("edge1/")
                except (StoreRefused, StoreUnavailable):
                    return False
                return True

        run(make())
        eventually(lambda: run(may_list()), within_s=60, what="the policies")
        where = f"bucket: {bucket}, create_bucket: false, endpoint: '{server.endpoint}', region: us-east-1"
        keys = "access_key: {0.access_key}, secret_key: {0.secret_key}"
        yield (
            f"minio: {{{where}, {keys.format(uploader)}}}\n",
            f", store: {{{keys.format(reader)}}}",
        )


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, store: tuple[str, str]) -> Iterator[Service]:
    """The service, once its first event has ended and is stored."""
    service = Service({}, tmp_path_factory.mktemp("service"))
    line, keys = store
    web = f"port: {free_port()}{keys}"
    service.config.write_text(CONFIG.format(web=web, mqtt=free_port(), store=line))
    with service:
        service.wait_for_log("porch: motion ended", within_s=180)
        url = service.wait_for_log("web pages at").rpartition(" ")[2]
        eventually(lambda: _ended(url), within_s=60, what="a stored event")
        yield service
        # Viewing pages must log no errors.
        assert [entry for entry in service.log() if entry["level"] == "error"] == []


def _ended(url: str) -> bool:
    with urlopen(f"{url}api/v1/events") as answer:
        return any(event["ended_at"] for event in json.load(answer)["events"])


@pytest.fixture(scope="session")
def base(service: Service) -> str:
    """The base URL of the pages."""
    return service.wait_for_log("web pages at").rpartition(" ")[2]


class Seen:
    """Errors of a page, and its requests to other hosts."""

    def __init__(self, page: Page, base: str) -> None:
        self.errors: list[str] = []
        self.foreign: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._said)
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((base, "blob:", "data:")) else self.foreign.append(request.url)
            ),
        )

    def _said(self, message: ConsoleMessage) -> None:
        # Browsers also log the 422 for invalid settings, the 409 for a link to a directory, and the 503 for a
        # key that may not delete.
        refused = any(
            status in message.text for status in ("422 (Unprocessable", "409 (Conflict)", "503 (Service")
        )
        if message.type == "error" and not refused:
            self.errors.append(message.text)


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A desktop browser in the light scheme that accepts downloads."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, base: str) -> Iterator[Page]:
    """A page of that browser; the test fails on any error in it and on any request to another host."""
    page = context.new_page()
    seen = Seen(page, base)
    yield page
    assert seen.errors == []
    assert seen.foreign == []
