"""Settings through the API: shown without secrets, checked, saved or refused with reasons; zone previews."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.detection.zones import Polygon, Zone
from async_motion.core.model import Box, Detection, Luma
from async_motion.errors import CameraUnavailable, SettingsConflict, SettingsError
from async_motion.web import editor as editing
from async_motion.web.api.judging import judge, smallest
from async_motion.web.api.models import ShapesBody
from tests.support.bucket import make_event
from tests.support.scenes import texture
from tests.unit.web.kit import NOW, TOKEN, VIEWER, Stage, bearer, get, serving
from tests.unit.web.test_pages import Texts


def field(*place: str, **values: Any) -> editing.EditorField:
    blank = {"kind": "text", "choices": (), "default": "", "hint": "", "help": "", "required": False}
    return editing.EditorField(place=place, **{**blank, **values})


class FakeEditor:
    """An editor that records each save; raises `error` if set."""

    def __init__(self) -> None:
        self.saved: list[tuple[str, list[editing.Edit], bool]] = []
        self.error: Exception | None = None
        self.unread: frozenset[str] = frozenset()

    def fields(self) -> list[editing.EditorField]:
        return [
            field("web", "port", default="8585", hint="a whole number"),
            field("cameras", "*", "source", kind="secret", required=True),
        ]

    async def current(self) -> editing.Current:
        self._fail()
        return editing.Current(
            version="v1", file="variables.yaml", values={"web.port": "9000"},
            secrets={"cameras.porch.source": "rtsp://192.0.2.1"}, environment={}, cameras=["porch"],
            problem="variables.yaml:3: <b>wrong</b>", unread=self.unread,
        )  # fmt: skip

    async def save(
        self, version: str, changes: Sequence[editing.Edit], *, dry_run: bool
    ) -> editing.EditOutcome:
        self._fail()
        self.saved.append((version, list(changes), dry_run))
        return editing.EditOutcome(done=["porch: changed in place"], problems=[], version="v2")

    async def reload(self) -> editing.EditOutcome:
        return editing.EditOutcome(done=[], problems=["variables.yaml:3: wrong"])

    async def probe(self, source: str) -> bytes:
        self._fail()
        return f"picture of {source}".encode()

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


def staged() -> tuple[Stage, FakeEditor]:
    stage = Stage()
    editor = FakeEditor()
    stage.editor = editor
    return stage, editor


CHANGE = {"version": "v1", "changes": [{"place": ["web", "port"], "value": "9001"}]}


async def test_settings_are_shown_and_saved() -> None:
    stage, editor = staged()
    async with serving(stage) as session:
        shown = json.loads((await get(session, "/api/v1/settings"))[1])
        assert shown["values"] == {"web.port": "9000"}
        async with session.put("/api/v1/settings", json=CHANGE) as answer:
            assert await answer.json() == {"done": ["porch: changed in place"], "version": "v2"}
        assert editor.saved == [("v1", [editing.Edit(place=["web", "port"], value="9001")], False)]
        async with session.post("/api/v1/settings/probe", json={"source": "demo:"}) as answer:
            assert await answer.read() == b"picture of demo:"


@pytest.mark.parametrize(
    ("error", "status"),
    [(SettingsConflict("changed meanwhile"), 409), (SettingsError("a: wrong", "b: wrong"), 422)],
)
async def test_what_cannot_be_saved_is_reported_line_by_line(error: SettingsError, status: int) -> None:
    stage, editor = staged()
    editor.error = error
    async with serving(stage) as session, session.put("/api/v1/settings", json=CHANGE) as answer:
        assert answer.status == status
        body = await answer.json()
        assert body["problems"] == (list(error.problems) if status == 422 else [])


async def test_a_camera_without_a_frame_is_reported() -> None:
    stage, editor = staged()
    editor.error = CameraUnavailable("connection refused")
    async with serving(stage) as session:
        async with session.post("/api/v1/settings/probe", json={"source": "rtsp://x"}) as answer:
            assert answer.status == 422
            assert "connection refused" in await answer.text()
        async with session.post("/api/v1/settings/reload") as answer:
            assert answer.status == 422
            assert (await answer.json())["problems"] == ["variables.yaml:3: wrong"]


async def test_a_viewer_sees_neither_settings_nor_the_editor() -> None:
    stage, editor = staged()
    async with serving(stage, token=TOKEN, viewer_token=VIEWER) as session:
        for path in ("/api/v1/settings", "/settings", "/zones"):
            assert (await get(session, path, **bearer(VIEWER)))[0] == 403
            assert (await get(session, path, **bearer(TOKEN)))[0] == 200
        async with session.put("/api/v1/settings", json=CHANGE, headers=bearer(VIEWER)) as answer:
            assert answer.status == 403
        assert editor.saved == []
        home = Texts((await get(session, "/", **bearer(VIEWER)))[1])
        assert "settings" not in home.addresses
        assert "zones" not in home.addresses


async def test_shapes_that_are_not_those_of_the_file_cannot_be_saved() -> None:
    """They would replace what was written into the file by hand."""
    stage, editor = staged()
    async with serving(stage) as session:
        for unread, version in ((frozenset[str](), "v1"), (frozenset({"porch"}), "")):
            editor.unread = unread
            status, text = await get(session, "/zones?camera=porch")
            assert status == 200
            assert f'"version": "{version}"' in text
            assert ("Read the file again" in text) == bool(unread)


async def test_the_page_of_settings_shows_the_last_reload_and_no_secret() -> None:
    stage, _ = staged()
    async with serving(stage) as session:
        page = Texts((await get(session, "/settings"))[1])
        assert "variables.yaml:3: <b>wrong</b>" in page.text
        assert "9000" in page.text
        assert "b" not in page.elements


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'{"version": 1}', b"[" * 100_000])
async def test_an_invalid_body_is_reported(body: bytes) -> None:
    stage, _ = staged()
    async with serving(stage) as session:
        headers = {"Content-Type": "application/json"}
        async with session.put("/api/v1/settings", data=body, headers=headers) as answer:
            assert answer.status == 400
        async with session.put("/api/v1/settings", data=b"x" * 600_000, headers=headers) as answer:
            assert answer.status == 413
        async with session.put("/api/v1/settings", data=b"{}") as answer:
            assert answer.status == 415


# ---- zone previews ----


def shapes(**values: Any) -> ShapesBody:
    return ShapesBody.model_validate({"min_area": 0.002, **values})


# A box at the left with a tenth of it in motion, in each of two frames.
FRAMES = make_event(at=NOW, boxes=[Box(0.1, 0.6, 0.2, 0.2)], scores=[0.004, 0.004]).frames
LEFT: list[list[float]] = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
RIGHT: list[list[float]] = [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]
# The upper half of the box, and the lower three quarters.
UPPER: list[list[float]] = [[0, 0], [1, 0], [1, 0.7], [0, 0.7]]
MOST: list[list[float]] = [[0, 0.65], [1, 0.65], [1, 1], [0, 1]]


@pytest.mark.parametrize(
    ("asked", "reported", "zones"),
    [
        (shapes(), True, ()),
        (shapes(min_area=0.005), False, ()),
        (shapes(min_area=0.0039), True, ()),
        (shapes(masks=[LEFT]), False, ()),
        (shapes(masks=[RIGHT]), True, ()),
        (shapes(masks=[UPPER], min_area=0.0018), True, ()),
        (shapes(masks=[UPPER], min_area=0.003), False, ()),
        (shapes(min_area=0.05, min_area_far=0.001, horizon=0.79), True, ()),
        # Its lower half is masked, so its lower edge is farther away.
        (shapes(masks=[MOST], min_area=0.05, min_area_far=0.0005, horizon=0.66), True, ()),
        (shapes(zones={"left": {"polygon": LEFT}, "right": {"polygon": RIGHT}}), True, ("left",)),
        # Half of a region's own pixels are enough to touch a zone.
        (shapes(zones={"upper": {"polygon": UPPER}}), True, ("upper",)),
        (shapes(masks=[UPPER], zones={"upper": {"polygon": UPPER}}, min_area=0.001), True, ()),
        # A zone's own minimum area holds for what lies mostly in it, and nowhere else.
        (shapes(zones={"left": {"polygon": LEFT, "min_area": 0.5}}), False, ()),
        (shapes(zones={"right": {"polygon": RIGHT, "min_area": 0.5}}), True, ()),
        (shapes(min_area=0.5, zones={"left": {"polygon": LEFT, "min_area": 0.001}}), True, ("left",)),
        (shapes(zones={"a": {"polygon": LEFT}, "b": {"polygon": MOST, "min_area": 0.5}}), False, ()),
        # Of two, the first in the settings decides.
        (
            shapes(
                zones={
                    "a": {"polygon": LEFT, "min_area": 0.001},
                    "b": {"polygon": MOST, "min_area": 0.5},
                }
            ),
            True,
            ("a", "b"),
        ),
    ],
)
def test_an_event_as_it_would_have_been(asked: ShapesBody, reported: bool, zones: tuple[str, ...]) -> None:
    [verdict] = judge([FRAMES], asked)
    assert (verdict.reported, verdict.zones) == (reported, zones)


def test_a_score_is_a_share_of_what_the_old_masks_left() -> None:
    asked = shapes(min_area=0.003)
    assert judge([FRAMES], asked)[0].reported
    assert not judge([FRAMES], asked, masks=[RIGHT])[0].reported


def test_shapes_and_boxes_at_the_border_are_judged() -> None:
    edges = [Box(0.0, 0.0, 1.0, 1.0), Box(0.999, 0.999, 0.001, 0.001), Box(1.0, 1.0, 0.0, 0.0)]
    frames = make_event(at=NOW, boxes=edges, scores=[0.9, 0.0]).frames
    [verdict, none] = judge(
        [frames, []], shapes(zones={"all": {"polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}})
    )
    assert verdict.zones == ("all",)
    assert not none.reported


@pytest.mark.parametrize("size", [16, 24, 40])
def test_the_estimate_says_what_the_detector_would(size: int) -> None:
    """A square walks by, judged by the detector without shapes; then by both with other shapes."""
    scene = texture()
    luma = [scene] * 15
    for step in range(28):
        image = scene.copy()
        image[120 : 120 + size, 10 * step : 10 * step + size] = 255
        luma.append(image)
    zone = {"polygon": LEFT, "min_area": 0.006}
    for asked in (
        shapes(),
        shapes(masks=[LEFT]),
        shapes(min_area=0.006),
        shapes(min_area=0.02, min_area_far=0.0005, horizon=0.5),
        shapes(zones={"left": {"polygon": LEFT}, "right": {"polygon": RIGHT}}),
        shapes(zones={"left": zone}),
        shapes(min_area=0.006, zones={"left": zone | {"min_area": 0.001}}),
    ):
        before = [each for each in detections(luma, shapes()) if each.motion]
        after = [each for each in detections(luma, asked) if each.motion]
        frames = [replace(FRAMES[0], score=each.score, boxes=each.boxes) for each in before]
        [verdict] = judge([frames], asked)
        assert verdict.reported == bool(after), asked
        assert set(verdict.zones) == {zone for each in after for zone in each.zones}, asked


def detections(luma: Sequence[Luma], asked: ShapesBody) -> list[Detection]:
    """Return the detector's verdicts on frames 0.2 s apart."""

    def polygon(points: Sequence[Sequence[float]]) -> Polygon:
        return tuple((x, y) for x, y in points)

    settings = DetectorSettings(
        min_area=asked.min_area,
        min_area_far=asked.min_area_far,
        horizon=asked.horizon,
        masks=tuple(polygon(points) for points in asked.masks),
        zones=tuple(
            Zone(name=name, polygon=polygon(zone.polygon), min_area=zone.min_area)
            for name, zone in asked.zones.items()
        ),
    )
    detector = Detector(settings)
    return [detector.update(plane, number / 5) for number, plane in enumerate(luma)]


def test_the_smallest_area_grows_from_the_horizon_down() -> None:
    asked = shapes(min_area=0.01, min_area_far=0.0001, horizon=0.5)
    assert smallest(0.2, asked) == pytest.approx(0.0001)
    assert smallest(0.75, asked) == pytest.approx(0.055**2)
    assert smallest(1.0, asked) == pytest.approx(0.01)


async def test_zones_are_judged_against_the_last_events() -> None:
    stage, _ = staged()
    for number in range(3):
        boxes = [Box(0.6 if number else 0.1, 0.6, 0.2, 0.2)]
        stage.bucket.add(make_event(at=NOW - timedelta(hours=number + 1), salt=number, boxes=boxes))
    async with serving(stage) as session:
        body = {"masks": [LEFT], "zones": {}, "min_area": 0.002}
        async with session.post("/api/v1/cameras/porch/zones/try", json=body) as answer:
            judged = (await answer.json())["events"]
    assert [each["reported"] for each in judged] == [False, True, True]
