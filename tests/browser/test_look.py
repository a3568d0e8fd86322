"""Every page, at both sizes and in both schemes: accessible, no foreign requests, no horizontal overflow."""

from __future__ import annotations

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
