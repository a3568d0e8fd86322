"""`async-motion report`: the page is well-formed and self-contained, and agrees with the bucket."""

from __future__ import annotations

import base64
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from async_motion.cli import main, report
from async_motion.core.day_log import (
    HourLog,
    Outage,
    SubjectLog,
    day_log_key,
    encode_day_line,
    pack_day_log,
)
from async_motion.core.model import Box, EndReason
from async_motion.retrieval.report import heat_map
from tests.support.bucket import INSTANCE, fill, make_event
from tests.support.still import walking_square
from tests.support.zone import local_zone

DAY = datetime(2026, 10, 24, 22, tzinfo=UTC)  # Sunday 25 October 2026 in Berlin: 25 hours


@pytest.fixture(autouse=True)
def berlin() -> Iterator[None]:
    with local_zone("Europe/Berlin"):
        yield


@pytest.fixture
def config(tmp_path: Path) -> Path:
    jpegs, boxes = walking_square(3)
    ends = (EndReason.QUIET, EndReason.MAX_LENGTH, EndReason.CAMERA_LOST)
    events = [
        make_event(
            camera=camera,
            at=DAY + timedelta(hours=hour, minutes=30),
            salt=hour,
            jpegs=jpegs,
            boxes=boxes[:1],
            zones=["drive"],
            no=no,
            size=(640, 360),
            reason=ends[hour % 3],
        )
        for camera in ("porch", "yard")
        for no, hour in ((1, 2), (2, 3), (5, 24))
    ]
    fill(tmp_path / "objects", *events)
    file = tmp_path / "v.yaml"
    file.write_text(f"instance: {INSTANCE}\ndirectory: {{path: {tmp_path / 'objects'}}}\n")
    return file


class Page(HTMLParser):
    """Collects the addresses, titles and text of a page; fails on scripts and unclosed tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.titles: list[str] = []
        self.words = ""
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self.addresses += [said[name] or "" for name in ("src", "href") if name in said]
        self.titles += [said["title"] or ""] if "title" in said else []
        assert tag != "script"
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def run(config: Path, *options: object) -> int:
    return main(["report", "--config", str(config), *map(str, options)])


def test_a_day_of_25_hours(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "day.html"
    assert run(config, "--day", "2026-10-25", "--out", out) == 0
    assert capsys.readouterr().out == f"{out}\n"
    text = out.read_text(encoding="utf-8")
    page = Page(text)
    assert "Motion at edge1, Sunday 25 October 2026" in page.words
    hours = [title for title in page.titles if title.startswith("porch")]
    assert len(hours) == 25
    assert [title for title in hours if "02:00" in title] == ["porch, Sun 02:00: 1 event"] * 2
    assert hours[24] == "porch, Sun 23:00: 1 event"
    row = re.findall(r'<tr><th scope="row">yard</th>(.*?)</tr>', text)[1]
    assert row == "".join(f"<td>{n}</td>" for n in ("2", "–", "1", "–", "–", "2"))
    # The page loads nothing from outside.
    assert page.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert "url(" not in text
    assert "has no day log of this time" in page.words
    for address in page.addresses:
        data = np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR) is not None
    assert len(page.addresses) == 6 + 2, "the best frames and two heat maps"


def test_a_week_and_one_camera(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "week.html"
    assert run(config, "--week", "2026-10-28", "--camera", "yard", "--out", out) == 0
    page = Page(out.read_text(encoding="utf-8"))
    assert "22 October 2026 to 28 October 2026" in page.words
    assert len(page.titles) == 7 * 24 + 1
    assert "porch" not in page.words


@pytest.fixture
def logged(config: Path, tmp_path: Path) -> Path:
    """Add a day log: three hours of two cameras, with losses, suppressed frames and outages."""
    at = DAY + timedelta(hours=2)
    hour = HourLog(
        watched_s=1800.0,
        frames=9000,
        suppressed=Counter(masked=31, below_area=2),
        stretches=Counter(masked=4, below_area=1),
        scene_changes=Counter(light=2),
        lost=Counter(too_slow=1200),
    )
    away = Outage(kind="offline", began=at, ended=at + timedelta(minutes=7), problem="<no> route")
    store = Outage(kind="store", began=at, ended=at + timedelta(minutes=190), problem="Access Denied.")
    service = SubjectLog(hours={1: HourLog(watched_s=3600.0, lost=Counter(age=5))}, outages=[store])
    lines = [
        encode_day_line(None, service),
        encode_day_line(
            "porch",
            SubjectLog(hours={1: hour, 2: hour}, outages=[away], unlisted=Counter(offline=3), unlisted_s=9.0),
        ),
        encode_day_line("shed", SubjectLog(hours={1: hour})),
    ]
    file = tmp_path / "objects" / day_log_key("", INSTANCE, at.date(), "a41c07")
    file.parent.mkdir(parents=True)
    file.write_bytes(pack_day_log(lines))
    return config


def test_what_was_watched_lost_and_suppressed(logged: Path, tmp_path: Path) -> None:
    out = tmp_path / "day.html"
    assert run(logged, "--day", "2026-10-25", "--out", out) == 0
    text = out.read_text(encoding="utf-8")
    assert len(Page(text).addresses) == 6 + 2

    def row(camera: str, after: str) -> list[str]:
        part = text[text.index(f"<h2>{after}") :]
        found = re.search(rf'<tr><th scope="row">{camera}</th>(.*?)</tr>', part)
        assert found is not None
        return re.findall(r"<td>(.*?)</td>", found[1])

    lost = "2,400 machine too slow"
    assert row("porch", "Watched") == ["4.0%", "60 min", "–", "4 × (7 min)", "18,000", lost]
    assert row("shed", "Watched")[0] == "2.0%", "a camera without an event"
    assert row("yard", "Watched")[0] == "0.0%", "a camera without a log"
    assert row("porch", "Suppressed") == ["2 × (4)", "–", "8 × (62)", "–", "–"]
    assert row("porch offline", "Outages") == ["02:00:00", "7 min", "&lt;no&gt; route"]
    assert row("store", "Outages") == ["02:00:00", "3 h 10 min", "Access Denied."]
    assert "Lost after the spool had accepted them: 5 too old in the spool." in text
    assert "porch: 4 light; shed: 2 light" in text
    assert "And 3 shorter." in text


def test_the_report_as_text(logged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(logged, "--day", "2026-10-25", "--text") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Motion at edge1, Sunday 25 October 2026 (local time, UTC+0200 to UTC+0100)"
    assert lines[1].startswith("6 events, 3 cameras, ")
    assert lines[3].split() == ["camera", "events", "motion", "frames", "busiest", "hour", "zones"]
    assert lines[4].split()[:2] == ["porch", "3"]
    tables = "\n".join(" ".join(line.split()) for line in lines)
    # What the page has, but for images.
    assert (
        "camera quiet again cut for length camera lost service stopped not ended not in the bucket" in tables
    )
    assert "porch 4.0% – 4 × (7 min) 2,400 machine too slow 2 too small, 8 in a mask" in tables
    assert "Changes of the whole scene: porch: 4 light; shed: 2 light." in lines
    assert lines[-1] == "and 3 shorter"
    assert any(line.endswith("7 min  <no> route") for line in lines)
    assert any(line.endswith("3 h 10 min  Access Denied.") for line in lines)
    assert run(logged, "--day", "2026-10-25", "--text", "--png", "x.png") == 2
    assert capsys.readouterr().err == "--text: expected without --png and --links: it has no images\n"


def test_an_empty_day_is_reported(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "day.html"
    assert run(config, "--day", "2026-01-01", "--out", out) == 0
    assert "Nothing moved" in Page(out.read_text(encoding="utf-8")).words
    assert capsys.readouterr().err == "no events\n"


def test_wrong_usage_is_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "--day", "soon") == 2
    assert capsys.readouterr().err.startswith("--day: soon: expected a day")
    assert run(config, "--camera", "<b>") == 2
    assert capsys.readouterr().err == "<b>: expected a name (a-z 0-9 _ -)\n"


def test_heat_is_where_the_boxes_were() -> None:
    ground = np.full((360, 640, 3), 90, np.uint8)
    drawn = heat_map([Box(0.5, 0.5, 0.2, 0.2)] * 3, ground)
    assert drawn[210, 380, 2] > drawn[210, 380, 0] + 40, "red in the middle"
    assert np.array_equal(drawn[20, 20], ground[20, 20])
    assert np.array_equal(heat_map([], ground), ground)


@pytest.mark.skipif(not any(map(shutil.which, report.BROWSERS)), reason="chromium is not installed")
def test_a_screenshot_of_the_page(config: Path, tmp_path: Path) -> None:
    assert run(config, "--day", "2026-10-25", "--out", tmp_path / "d.html", "--png", tmp_path / "d.png") == 0
    image = cv2.imread(str(tmp_path / "d.png"))
    assert image is not None
    assert image.shape[1] == 1280
    assert 800 < image.shape[0] < 6000


def test_without_a_browser_the_page_is_there_still(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "BROWSERS", ())
    assert run(config, "--day", "2026-10-25", "--out", tmp_path / "d.html", "--png", tmp_path / "d.png") == 1
    assert "chromium is not installed" in capsys.readouterr().err
    assert (tmp_path / "d.html").exists()
