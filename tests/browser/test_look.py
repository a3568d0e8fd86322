"""Every page, at both sizes and in both schemes: accessible, no foreign requests, no horizontal overflow."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import SCHEMES, SIZES, Seen

PAGES = {
    "live": "",
    "camera": "camera?name=porch",
    "events": "events",
    "zones": "zones?camera=porch",
    "settings": "settings",
    "settings of a camera": "settings?camera=porch",
    "a new camera": "settings?new=1",
    "health": "health",
    "login": "login?token=",
    "nothing": "camera?name=nothing",
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_pages_are_for_everyone(chromium: Browser, base: str, axe: str, size: str, scheme: Any) -> None:
    width, height = SIZES[size]
    found: dict[str, Any] = {}
    # Only the test injects axe: the pages' own Content-Security-Policy would block it.
    with chromium.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, bypass_csp=True
    ) as context:
        page = context.new_page()
        event = page.request.get(f"{base}api/v1/events?limit=1").json()["events"][0]
        pages = {**PAGES, "event": f"event?camera={event['camera']}&id={event['event_id']}"}
        for name, path in pages.items():
            page.goto(base + path, wait_until="load")
            page.wait_for_timeout(300)
            wide = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wide <= 0, f"{name} is {wide} pixels too wide"
            page.evaluate(axe)
            result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            violations = [
                f"{each['id']}: {node['target']} {node.get('failureSummary', '')}"
                for each in result["violations"]
                for node in each["nodes"]
            ]
            if violations:
                found[name] = violations
        # Prove that axe finds a violation when there is one.
        page.evaluate("document.body.append(document.createElement('img'))")
        ids = page.evaluate("axe.run(document).then(({violations}) => violations.map(({id}) => id))")
        assert "image-alt" in ids
    assert found == {}


@pytest.mark.parametrize("path", PAGES.values())
def test_pages_ask_for_nothing_foreign_and_break_no_policy(chromium: Browser, base: str, path: str) -> None:
    with chromium.new_context() as context:
        page = context.new_page()
        seen = Seen(page, base)
        page.goto(base + path, wait_until="load")
        page.wait_for_timeout(300)
        expected = ["404 (Not Found)"] if "nothing" in path else []
        assert [error for error in seen.errors if not any(words in error for words in expected)] == []
        assert seen.foreign == []


@pytest.mark.parametrize(("width", "zoom"), [(390, "200%"), (720, "100%"), (1440, "200%")])
def test_nothing_is_cut_off_when_all_or_the_text_is_twice_as_large(
    chromium: Browser, base: str, width: int, zoom: str
) -> None:
    """A browser that enlarges 1440 pixels to 200 % has 720; larger text alone grows with the root's size."""
    with chromium.new_context(viewport={"width": width, "height": 700}) as context:
        page = context.new_page()
        event = page.request.get(f"{base}api/v1/events?limit=1").json()["events"][0]
        pages = {**PAGES, "event": f"event?camera={event['camera']}&id={event['event_id']}"}
        for name, path in pages.items():
            page.goto(base + path, wait_until="load")
            page.evaluate("(size) => { document.documentElement.style.fontSize = size }", zoom)
            page.evaluate(
                "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
            )
            wide = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wide <= 0, f"{name} is {wide} pixels too wide"


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_scrolls_no_table_sideways(chromium: Browser, base: str, width: int) -> None:
    with chromium.new_context(viewport={"width": width, "height": 800}) as context:
        page = context.new_page()
        page.goto(base + "health")
        tables = page.locator(".scroll")
        expect(tables.first.get_by_role("row").first).to_be_attached()
        for table in tables.all():
            assert table.evaluate("(one) => one.scrollWidth - one.clientWidth") <= 0
        # Still a table to a screen reader, and each value says what it is.
        row = page.get_by_role("row", name=re.compile("Front porch"))
        expect(row.get_by_role("cell")).to_have_count(7)
        assert "Stored" in row.get_by_role("cell").nth(4).evaluate(
            "(cell) => getComputedStyle(cell, '::before').content"
        )


@pytest.mark.parametrize(("motion", "moves"), [("reduce", False), ("no-preference", True)])
def test_nothing_moves_for_a_person_who_wants_less_motion(
    chromium: Browser, base: str, motion: Any, moves: bool
) -> None:
    with chromium.new_context(reduced_motion=motion) as context:
        page = context.new_page()
        for path in ("", "events", "health", "camera?name=porch"):
            page.goto(base + path)
            assert page.evaluate("document.getAnimations().length") == 0
        # A note is all that moves at all.
        page.evaluate(
            """() => {
              const note = document.createElement('div');
              note.className = 'note';
              document.getElementById('notes').append(note);
            }"""
        )
        names = page.locator(".note").evaluate("(note) => getComputedStyle(note).animationName")
        assert (names != "none") == moves


def test_with_the_system_s_colours_what_is_chosen_still_shows(chromium: Browser, base: str) -> None:
    with chromium.new_context(forced_colors="active") as context:
        page = context.new_page()
        page.goto(base + "camera?name=porch")
        colour = "(one) => getComputedStyle(one).backgroundColor"
        chips = page.locator(".layers .chip")
        chosen = page.locator(".layers .chip[aria-pressed=true]").first
        other = page.locator(".layers .chip[aria-pressed=false]").first
        expect(chips.first).to_be_visible()
        assert chosen.evaluate(colour) != other.evaluate(colour)
        tab = page.locator(".tabs a[aria-current]")
        assert tab.evaluate(colour) != page.locator(".tabs a:not([aria-current])").first.evaluate(colour)
        dot = "(one) => getComputedStyle(one, '::before').backgroundColor"
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert page.locator("#status").evaluate(dot) != ground


def test_pages_read_without_script(chromium: Browser, base: str) -> None:
    with chromium.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(base)
        assert "Front porch" in page.inner_text("main")
        page.goto(base + "events")
        page.click("event-grid .card:not(:has(.pill)) >> nth=0")
        expect(page.locator("main")).to_contain_text("Why it ended")
        page.goto(base + "settings")
        assert "Changing needs JavaScript" in page.inner_text("main")
        page.set_viewport_size({"width": 320, "height": 640})
        for path in PAGES.values():
            page.goto(base + path)
            assert page.locator("html").evaluate("(page) => page.scrollWidth - page.clientWidth") <= 0, path
