"""`async-motion report`: the page is well-formed and self-contained, and agrees with the bucket."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from async_motion.cli import main, report
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
    assert [title for title in hours if "02:00" in title] == ["porch, Sun 02:00: 1 events"] * 2
    assert hours[24] == "porch, Sun 23:00: 1 events"
    row = re.findall(r'<tr><th scope="row">yard</th>(.*?)</tr>', text)[1]
    assert row == "".join(f"<td>{n}</td>" for n in ("2", "–", "1", "–", "–", "2"))
    # The page loads nothing from outside.
    assert page.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert "url(" not in text
    for address in page.addresses:
        data = np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR) is not None
    assert len(page.addresses) == 6 + 2, "the best frames and two heat maps"


def test_a_week_and_one_camera(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "week.html"
    assert run(config, "--week", "2026-10-28", "--camera", "yard", "--out", out) == 0
    page = Page(out.read_text(encoding="utf-8"))
    assert "22 October 2026 to 29 October 2026" in page.words
    assert len(page.titles) == 7 * 24 + 1
    assert "porch" not in page.words


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
