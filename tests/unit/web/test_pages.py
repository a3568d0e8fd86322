"""The pages without script: their text, with everything escaped and every URL relative."""

# ruff: noqa: SLF001  (the files that the site has read)

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import pytest

from async_motion.web.pages import ago, duration, local, offset, percent, size
from async_motion.web.site import CameraFacts, ZoneFacts
from tests.support.bucket import make_event
from tests.unit.web.kit import FLEET, NOW, Stage, camera, detection, frame, get, serving

VOID = {"meta", "link", "input", "img", "br", "hr"}
SVG = {"path", "rect", "circle", "use", "line", "polygon", "polyline"}


class Texts(HTMLParser):
    """Collect the visible text, the elements and the URLs of a page; fail on an unclosed element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.elements: list[str] = []
        self.addresses: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []
        self.text = " ".join(self.seen)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        assert not any(name.startswith("on") or name == "style" for name, _ in attrs), "the policy forbids it"
        self.addresses += [text or "" for name, text in attrs if name in ("href", "src", "action")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.seen.append(" ".join(data.split()))


PAGES = ("/", "/camera?name=porch", "/events", "/health", "/login", "/nothing")


async def page(stage: Stage, path: str) -> Texts:
    async with serving(stage) as session:
        _, text = await get(session, path, Accept="text/html")
    return Texts(text)


@pytest.mark.parametrize("path", PAGES)
async def test_every_address_is_relative(path: str) -> None:
    stage = Stage()
    found = await page(stage, path)
    assert found.addresses or path == "/login"
    for address in found.addresses:
        parts = urlsplit(address)
        assert not parts.scheme, address
        assert not parts.netloc, address
        assert not address.startswith("/"), address


async def test_live_shows_every_camera() -> None:
    stage = Stage()
    stage.cameras["yard"] = CameraFacts(title="Yard", enabled=False)
    async with serving(stage) as session:
        stage.live.judged("porch", frame(), detection())
        stage.live.motion("porch", True)
        found = Texts((await get(session, "/"))[1])
    for words in ("Front porch", "watching", "4 events today", "Yard", "Switched off"):
        assert words in found.text
    assert "api/v1/cameras/porch/picture?width=640" in found.addresses


async def test_a_camera_that_is_not_there_is_a_page_that_says_so() -> None:
    async with serving() as session:
        status, text = await get(session, "/camera?name=nix", Accept="text/html")
        assert status == 404
        assert "There is no such camera" in Texts(text).text


async def test_a_shape_may_have_any_number_of_points() -> None:
    """The settings bound it by their own size alone."""
    stage = Stage()
    shape = tuple((n / 200, 0.5 * (n % 2)) for n in range(200))
    stage.cameras["porch"] = CameraFacts(
        title="Porch", masks=(shape,) * 2, zones={"all": ZoneFacts(polygon=shape)}
    )
    async with serving(stage) as session:
        for path in ("/", "/camera?name=porch", "/api/v1/cameras"):
            assert (await get(session, path))[0] == 200, path


async def test_an_offline_camera_shows_its_last_image_instead_of_a_stream() -> None:
    for status, source in (("watching", "stream"), ("offline", "picture?width=960")):
        stage = Stage(cameras={"porch": camera(status=status, problem=None)})
        async with serving(stage) as session:
            stage.live.judged("porch", frame(), detection())
            found = Texts((await get(session, "/camera?name=porch"))[1])
        assert f"api/v1/cameras/porch/{source}" in found.addresses


async def test_another_day_keeps_the_filters() -> None:
    async with serving() as session:
        _, text = await get(session, "/events?day=2026-11-20&percent=5&min_duration=2&camera=porch")
    form = text.partition('class="inline"')[2].partition("</form>")[0]
    assert dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)) == {
        "camera": "porch",
        "percent": "5",
        "min_duration": "2",
    }


async def test_many_cameras_have_eight_rows_and_the_rest_in_a_fold() -> None:
    stage = Stage()
    stage.cameras = {f"cam{n}": CameraFacts(title=f"Camera {n}") for n in range(10)}
    stage.bucket.add(make_event(camera="cam9", at=NOW))
    day = NOW.astimezone().date().isoformat()
    seen = (await page(stage, f"/events?day={day}")).seen
    assert (
        seen.index("Camera 9")
        < seen.index("Camera 0")
        < seen.index("2 more cameras")
        < seen.index("Camera 7")
    )


def test_times_are_of_the_services_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Vienna")
    time.tzset()
    try:
        assert local("2026-11-22T07:31:12.345Z") == "2026-11-22 08:31:12"
        assert local("nonsense") == "nonsense"
        assert offset(NOW) == 60
        assert offset(NOW.replace(month=7)) == 120
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_health_in_an_operators_words() -> None:
    stage = Stage(store={"problem": "connection refused"})
    text = (await page(stage, "/health")).text
    for words in (
        "3 frames wait, the oldest for 12 s",
        "244 KiB",
        "2 GiB",
        "80 ms",
        "connection refused",
        "0.1.0",
    ):
        assert words in text


async def test_health_shows_a_fleet() -> None:
    said = (await page(Stage(fleet=FLEET), "/health")).text
    for part in ("no worker has yard", "west speaks for the instance", "east", "41"):
        assert part in said
    assert "Fleet" not in (await page(Stage(), "/health")).text


@pytest.mark.parametrize(
    ("spool", "words"),
    [
        ({"records": 0, "bytes": 0, "max_bytes": 1 << 30}, "nothing waits"),
        ({"records": 1, "oldest_age_s": 200_000}, "1 frame waits, the oldest for 2 days"),
        ({"records": 0, "set_aside": 2}, "2 set aside"),
        ({"records": 0, "problem": "the disk is full"}, "the disk is full"),
        (None, "Spool not known"),
    ],
)
async def test_the_spool_in_words(spool: object, words: str) -> None:
    assert words in (await page(Stage(spool=spool), "/health")).text


@pytest.mark.parametrize(
    "strange",
    [{}, {"spool": None, "cameras": None}, {"spool": "ok", "started_at": "then"}, {"cameras": {"porch": {}}}],
)
@pytest.mark.parametrize("path", PAGES)
async def test_what_is_missing_in_the_state_is_left_out(strange: dict[str, Any], path: str) -> None:
    stage = Stage()
    stage.state.state = strange
    async with serving(stage) as session:
        assert (await get(session, path))[0] in (200, 303, 404)


@pytest.mark.parametrize("path", PAGES)
async def test_every_text_is_escaped(path: str) -> None:
    evil = "<script>alert(1)</script>\"'&</script>"
    numbers = {"fps": 1.0, "score": 0.0, "events_today": 1}
    states = {name: camera(**dict.fromkeys(camera(), evil)) | numbers for name in ("porch", evil)}
    stage = Stage(
        instance=evil, version=evil, started_at=evil, store={"problem": evil}, broker=evil,
        spool={"records": evil, "problem": evil}, cameras=states,
    )  # fmt: skip
    stage.cameras = {
        name: CameraFacts(title=evil, zones={evil: ZoneFacts(polygon=((0, 0), (1, 0), (1, 1)))})
        for name in ("porch", evil)
    }
    found = await page(stage, path)
    scripts = found.elements.count("script")
    assert scripts == {"/camera?name=porch": 2, "/login": 0}.get(path, 1), "a login goes on at once"
    if path != "/login":
        assert path == "/nothing" or "alert(1)" in found.text


def test_figures_as_people_say_them() -> None:
    assert ago("2026-11-22T07:21:12Z", NOW) == "10 min ago"
    assert ago("2026-11-22T07:31:11.5Z", NOW) == "just now"
    assert duration(0.08) == "80 ms"
    assert size(250_000) == "244 KiB"
    assert percent(0.002) == "0.2 %"


async def test_static_files_are_few_small_and_asked_for_again() -> None:
    async with serving(Stage(), token="t") as session:
        async with session.get("/static/style.css") as answer:
            assert answer.status == 200
            assert answer.content_type == "text/css"
            tag = answer.headers["ETag"]
        async with session.get("/static/style.css", headers={"If-None-Match": tag}) as answer:
            assert answer.status == 304
        for path in ("/static/../server.py", "/static/%2e%2e/auth.py", "/static/vendor/lit-html.LICENSE"):
            assert (await get(session, path))[0] in (401, 404), path


def test_script_and_style_stay_within_60_kb() -> None:
    import gzip

    from async_motion.web.pages import Static

    files = Static()._files
    total = sum(len(gzip.compress(content)) for content, _ in files.values())
    assert total <= 60_000
    for name, (content, kind) in files.items():
        for address in re.findall(rb"https?://[^\s\"'`)]+", content):
            assert address.startswith(b"http://www.w3.org/"), (name, address, kind)
