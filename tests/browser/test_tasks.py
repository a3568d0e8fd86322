"""The tasks of a user, done as a user does them: look, find, draw, tune."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from async_motion.settings import load
from tests.support.service import Service
from tests.support.wait import eventually


def test_the_wall_shows_new_frames_by_itself(page: Page, base: str) -> None:
    page.goto(base)
    first = page.locator("[data-camera=porch]").get_attribute("data-tag")
    expect(page.locator("[data-camera=porch]")).not_to_have_attribute("data-tag", first or "")
    expect(page.locator("[data-camera=porch] img")).to_have_attribute("src", re.compile("^blob:"))


def test_a_camera_with_its_layers_and_graph(page: Page, base: str) -> None:
    page.goto(base + "camera?name=porch")
    expect(page.locator(".verdict")).to_be_visible()
    page.click("text=Verdict")
    expect(page.locator(".verdict")).to_have_count(0)
    page.click("text=Background")
    expect(page.locator("img[alt='background of the detector']")).to_be_visible()
    expect(page.locator("svg.graph polyline")).to_have_attribute("points", re.compile(r"\d+,\d+"))
    width = page.evaluate("document.querySelector('.frame img').naturalWidth")
    assert width == 960


def test_an_event_is_found_watched_and_fetched(page: Page, base: str, tmp_path: Path) -> None:
    page.goto(base + "events")
    page.locator("event-grid .card").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.locator("event-grid .card:not(:has(.pill))").last.press("Enter")
    page.wait_for_url(re.compile("event\\?camera="))
    expect(page.locator(".player")).to_be_visible()
    page.keyboard.press("Home")
    expect(page.locator(".player")).to_contain_text("1/")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".player")).to_contain_text("2/")
    page.click("[aria-label=Play]")
    expect(page.locator("[aria-label=Play]")).to_be_visible()
    page.click(".player >> text=Boxes")
    expect(page.locator(".layer .box")).to_have_count(0)
    page.click(".player >> text=Boxes")
    for name in ("ZIP", "Clip"):
        with page.expect_download() as download:
            page.click(f"a:has-text('{name}')")
        download.value.save_as(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "ZIP") as archive:
        assert archive.testzip() is None
        assert any(name.endswith("event.json") for name in archive.namelist())
    assert b"ftyp" in (tmp_path / "Clip").read_bytes()[:16]


def test_an_event_has_a_link_for_a_phone(page: Page, base: str, store: tuple[str, str]) -> None:
    page.goto(base + "events?camera=porch")
    page.locator("event-grid .card:not(:has(.pill))").last.click()
    page.click("event-actions >> text=Link")
    if not store[0]:
        expect(page.locator(".note")).to_contain_text("it is a directory")
        return
    url = page.get_by_label("Link", exact=True).input_value()
    assert page.request.get(url).body()[:2] == b"\xff\xd8"


def test_a_cameras_page_shows_events_as_they_begin(page: Page, base: str) -> None:
    page.goto(base + "camera?name=porch")
    cards = page.locator("live-camera .card")
    expect(cards.locator("img").first).to_be_visible()
    newest = cards.first.get_attribute("href") or ""
    expect(cards.first).not_to_have_attribute("href", newest, timeout=60_000)


def test_a_stream_that_is_not_answered_is_asked_for_again(page: Page, base: str) -> None:
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.resource_type)
        if len(asked) != 2:  # the second is held
            route.fulfill(content_type="text/plain", body="no image")

    page.clock.install(time=0)
    page.clock.pause_at(1)
    page.route("**/stream", answer)
    page.goto(base + "camera?name=porch")
    # Only now: without the first news in time, the page would no longer ask for a stream.
    expect(page.locator("live-camera .verdict")).to_be_visible(timeout=60_000)
    for _ in range(600):
        if len(asked) > 2:
            break
        page.wait_for_timeout(100)
        if len(asked) == 2:
            page.clock.fast_forward(5000)
    assert asked[:3] == ["image", "fetch", "fetch"]


def test_a_reader_s_key_deletes_nothing_and_the_page_says_so(
    page: Page, base: str, store: tuple[str, str]
) -> None:
    if not store[0]:
        pytest.skip("the directory needs no key")
    page.goto(base + "events?camera=yard")
    page.locator("event-grid .card:not(:has(.pill))").last.click()
    page.wait_for_url(re.compile("event\\?camera="))
    page.click("event-actions >> text=Delete")
    with page.expect_response(lambda answer: answer.request.method == "DELETE") as answer:
        page.click("dialog .danger")
    assert answer.value.status == 503
    expect(page.locator(".note")).to_contain_text("s3:DeleteObject")
    assert page.request.get(page.url).ok


def test_zones_are_drawn_by_mouse_and_keyboard_tried_and_saved(
    page: Page, base: str, service: Service
) -> None:
    page.goto(base + "zones?camera=porch")
    page.get_by_role("button", name="Zone", exact=True).click()
    point = page.locator("[data-point='0']")
    expect(point).to_be_focused()
    before = point.get_attribute("cx")
    assert before is not None
    page.keyboard.press("ArrowLeft")
    expect(point).not_to_have_attribute("cx", before)
    page.keyboard.press("Control+z")
    expect(point).to_have_attribute("cx", before)
    page.keyboard.press("Control+y")
    expect(point).not_to_have_attribute("cx", before)
    stage = page.locator("zone-editor .overlay").bounding_box()
    handle = point.bounding_box()
    assert stage is not None
    assert handle is not None
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(stage["x"] + 3, stage["y"] + 3, steps=4)
    page.mouse.up()
    expect(point, "it snaps to the corner").to_have_attribute("cx", "0%")
    expect(point).to_have_attribute("cy", "0%")
    point.focus()
    page.keyboard.press("Insert")
    expect(page.locator("[data-point]")).to_have_count(5)
    page.keyboard.press("Delete")
    expect(page.locator("[data-point]")).to_have_count(4)
    page.fill("#zone-name", "Not A Name")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("ul.problem")).to_contain_text("Not A Name")
    page.fill("#zone-name", "drive")
    page.get_by_role("button", name="Mask", exact=True).click()
    corner = page.locator("[data-point='1']").bounding_box()
    assert corner is not None
    page.mouse.move(corner["x"] + corner["width"] / 2, corner["y"] + corner["height"] / 2)
    page.mouse.down()
    page.mouse.move(stage["x"] + 0.71 * stage["width"], stage["y"] + 0.55 * stage["height"], steps=4)
    page.mouse.up()
    expect(page.locator("[data-point='1']"), "it snaps to the zone's side").to_have_attribute("cx", "70%")
    page.get_by_role("button", name="Try on the last events").click()
    expect(page.locator("section[role=status]")).to_contain_text("would")
    expect(page.locator("section[role=status]")).to_contain_text("By zone: drive ")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".note")).to_contain_text("porch: changed in place")
    settings = load(service.config, {})
    detect = settings.cameras["porch"].detect
    assert detect.zones["drive"].polygon[0] == (0.0, 0.0)
    assert len(detect.masks) == 1
    text = service.config.read_text()
    assert "# beside the door" in text
    assert "# enough" in text


def test_zones_are_drawn_by_touch(chromium: Browser, base: str) -> None:
    with chromium.new_context(
        viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    ) as context:
        page = context.new_page()
        page.goto(base + "zones?camera=yard")
        finger = context.new_cdp_session(page)

        def stroke(x: float, y: float, by: tuple[float, float]) -> None:
            """Swipe fast: the finger still moves when it lifts."""
            places = [(x + by[0] * part, y + by[1] * part) for part in (0, 0.5, 1)]
            for kind, place in zip(
                ("touchStart", "touchMove", "touchMove", "touchEnd"), (*places, None), strict=True
            ):
                points = [{"x": place[0], "y": place[1]}] if place else []
                finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        page.get_by_role("button", name="Zone", exact=True).tap()
        point = page.locator("[data-point='2']")
        before = point.get_attribute("cx")
        assert before is not None
        point.scroll_into_view_if_needed()
        box = point.bounding_box()
        assert box is not None
        stroke(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, (24, 0))
        expect(point).not_to_have_attribute("cx", before)
        # A browser takes a fast swipe for a fling, and the next tap for the one that stops it.
        page.get_by_role("button", name="Remove point").tap()
        expect(page.locator("[data-point]")).to_have_count(3)
        # Beside the shapes, a swipe on the image scrolls the page.
        page.evaluate("scrollTo(0, 0)")
        stage = page.locator("zone-editor .overlay").bounding_box()
        assert stage is not None
        stroke(stage["x"] + 12, stage["y"] + stage["height"] - 12, (0, -120))
        page.wait_for_function("scrollY > 20")


def test_a_saved_zone_keeps_what_the_page_does_not_show(page: Page, base: str, service: Service) -> None:
    page.goto(base + "zones?camera=yard")
    page.locator("[data-point='0']").focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".note")).to_contain_text("yard: ")
    text = service.config.read_text()
    assert "name: Garden path   # of slate" in text
    zones = load(service.config, {}).cameras["yard"].detect.zones
    assert zones["path"].polygon == ((0.695, 0.1), (0.9, 0.1), (0.9, 0.4))
    # What was written by hand, and not read again, is not shown: it cannot be overwritten.
    service.config.write_text(text.replace("[0.9, 0.4]", "[0.95, 0.45]"))
    page.reload()
    expect(page.locator("[role=alert]")).to_contain_text("Read the file again")
    page.get_by_role("button", name="Zone", exact=True).click()
    page.fill("#zone-name", "pond")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("ul.problem")).to_contain_text("has changed in the meantime")
    assert "[0.95, 0.45]" in service.config.read_text()
    page.once("dialog", lambda dialog: dialog.accept())  # the shape that was not saved
    page.goto(base + "settings")
    page.get_by_role("button", name="Read the file again").click()
    expect(page.locator(".note")).to_contain_text("yard: ")
    page.goto(base + "zones?camera=yard")
    page.locator("polygon[data-shape]").focus()
    page.keyboard.press("Delete")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".note")).to_contain_text("yard: ")
    assert not load(service.config, {}).cameras["yard"].detect.zones


def test_settings_are_changed_with_reasons_where_they_are_wrong(
    page: Page, base: str, service: Service
) -> None:
    page.goto(base + "settings?camera=yard")
    page.fill("#field-detect-fps", "fast")
    page.locator("#field-detect-fps").press("Tab")
    page.get_by_role("button", name="Save 1 change").click()
    expect(page.locator("ul.problem")).to_contain_text("fps")
    page.fill("#field-detect-fps", "4")
    page.locator("#field-detect-fps").press("Tab")
    page.get_by_role("button", name="What would it do?").click()
    expect(page.locator(".note").last).to_contain_text("yard: restarted")
    page.get_by_role("button", name="Save 1 change").click()
    eventually(lambda: load(service.config, {}).cameras["yard"].detect.fps == 4, what="the file")
    service.wait_for_log("yard: watching", times=2)


def test_a_camera_is_added_after_a_look_and_removed(page: Page, base: str, service: Service) -> None:
    page.goto(base + "settings?new=1")
    page.fill("#new-name", "gate")
    page.fill("#field-source", "demo:")
    page.locator("#field-source").press("Tab")
    page.get_by_role("button", name="Show a frame").click()
    expect(page.locator("img.probe")).to_be_visible()
    page.get_by_role("button", name="Add the camera").click()
    service.wait_for_log("gate: watching")
    page.wait_for_url(re.compile("zones\\?camera=gate"))
    page.goto(base + "settings?camera=gate")
    page.get_by_role("button", name="Remove the camera").click()
    page.locator("dialog[open] .danger").click()
    service.wait_for_log("reload: gate: removed")


def test_a_new_event_appears_by_itself(page: Page, base: str) -> None:
    page.goto(base + "events")
    newest = page.locator("event-grid .card").first.get_attribute("data-id")
    expect(page.locator("event-grid .card").first).not_to_have_attribute(
        "data-id", newest or "", timeout=60_000
    )
